"""What hypothesis gives to our nodes' inputs, by their types: much that people would never type or connect."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st

PIECES = (
    *("{}", "{}", "{}", "{2}", "{3}", "{0}", "{ }", "{{}}", "{", "}", "%s", "$x"),
    *("(", ")", "((", "))", "\\(", "\\)"),
    *("({}:1.3)", "(red:1.1)", "(red:nan)", "(red:-1e999)", "(:1.2)", ":", "[", "]"),
    *("embedding:", "embedding:x", "embedding:../../x", "embedding:core_concept_slot", "embedding:core_place_0"),
    *("embedding:fuzzed", "embedding:{}", "EMBEDDING:x", "embedding:x,", "embedding:<", "embedding:con"),
    *("a", "dog", "a photo of a", "in the jungle", ",", ".", "'s", "|", "&", "<b>", "<|endoftext|>", "<|startoftext|>"),
    *("\0", "\a", "\x1b[31m", "\u202e", "\u200b", "\ufeff", "\ud7ff", "\U0010ffff", "é", "e\u0301", "ﬁ"),
    *("😀", "👨‍👩‍👧", "שלום", "مرحبا", "狗", "ÿ", "İ", "\n", "\r\n", "\t", "\u2028", "# x", "../..", "C:\\x", "nul"),
)  # fmt: skip
LONG = ("very " * 2000, "a {} " + "very " * 2000, "x" * 2000, "{}" * 5000, "(" * 1000, "😀" * 10_000, "\n" * 10_000)


def texts() -> st.SearchStrategy[str]:
    """No lone surrogates: they do not survive the way from the browser."""
    composed = st.builds(str.join, st.sampled_from([" ", " ", "", ", "]), st.lists(st.sampled_from(PIECES), max_size=8))
    letters = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
    return st.one_of(composed, composed, letters, st.sampled_from(LONG))


def numbers() -> st.SearchStrategy[Any]:
    """Also of the wrong type, as other nodes hand them over."""
    whole = st.one_of(st.integers(-2, 20), st.integers(), st.booleans())
    return st.one_of(whole, st.floats(), st.floats(-1, 2), st.sampled_from([None, "", "7", [], math.pi]))


@st.composite
def images(
    draw: st.DrawFn, channels: tuple[int, ...] = (1, 2, 3, 3, 3, 4, 5), sides: tuple[int, ...] = ()
) -> torch.Tensor:
    """[B, H, W, C]"""
    side = st.sampled_from(sides or (0, 1, 7, 8, 9, 63, 64, 64, 65, 130))
    count = draw(st.sampled_from([0, 1, 1, 1, 2, 3, 200]))
    shape = 1, draw(side), draw(side), draw(st.sampled_from(channels))
    picture = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    picture = draw(st.sampled_from([1.0, 1.0, 1.0, 0.0, -3.0, 1e30])) * picture
    if picture.numel():
        picture.view(-1)[0] = draw(st.sampled_from([0.5, 0.5, 0.5, 0.5, math.nan, math.inf, -math.inf]))
    dtype = draw(st.sampled_from([torch.float32, torch.float32, torch.float32, torch.float16, torch.float64]))
    return picture.to(dtype).expand(count, -1, -1, -1)


def masks() -> st.SearchStrategy[torch.Tensor]:
    """[B, H, W]"""
    return images(channels=(1,), sides=(64, 64, 64, 63, 8)).map(lambda image: image[..., 0])


@st.composite
def latents(draw: st.DrawFn) -> dict[str, Any]:
    shape = draw(st.lists(st.sampled_from([0, 1, 2, 4, 4, 4, 8, 16]), min_size=1, max_size=5))
    return {"samples": draw(st.sampled_from([0.0, 1.0, math.nan])) * torch.ones(shape)}


@st.composite
def concepts(draw: st.DrawFn) -> Any:
    from core_personalization.nodes.concept import Concept

    keys = draw(st.sampled_from([("clip_l",), ("clip_l",), ("clip_l",), ("clip_h",), ("clip_l", "clip_g")]))
    shape = draw(st.sampled_from([(1, 768), (1, 768), (2, 768), (76, 768), (0, 768), (1, 1280), (768,)]))
    vectors = {key: draw(st.sampled_from([0.02, 0.02, math.nan, 1e38])) * torch.ones(shape) for key in keys}
    name = draw(st.one_of(st.sampled_from(["fuzzed", "other"]), texts()))
    category = draw(st.one_of(st.sampled_from(["dog", "teddy bear"]), texts()))
    return Concept(name, category, vectors, Path(f"{name[:20]}.safetensors"), draw(st.booleans()))


def conditionings() -> st.SearchStrategy[Any]:
    shapes = st.lists(st.sampled_from([0, 1, 77, 154, 768, 1024]), min_size=1, max_size=4)
    return st.lists(shapes.map(lambda shape: [torch.zeros(()).expand(shape), {}]), max_size=2)


def loras() -> st.SearchStrategy[dict[str, torch.Tensor]]:
    keys = st.one_of(texts(), st.sampled_from(["lora_unet_x.lora_up.weight", "diffusion_model.x.alpha"]))
    values = st.lists(st.integers(0, 4), max_size=3).map(torch.zeros)
    return st.dictionaries(keys, values, max_size=3)


def strategy_for(declared: Any) -> st.SearchStrategy[Any] | None:
    """For an input as its node declares it; None for those that stay as they are."""
    kinds: dict[str, Any] = {
        "IMAGE": images, "MASK": masks, "LATENT": latents, "CORE_CONCEPT": concepts, "CONDITIONING": conditionings,
        "LORA_MODEL": loras, "STRING": texts, "INT": numbers, "FLOAT": numbers,
    }  # fmt: skip
    kind = declared.get_io_type()
    if kind == "COMBO":
        return st.one_of(st.sampled_from(declared.options or [""]), texts())
    if kind == "BOOLEAN":
        return st.booleans()
    return kinds[kind]() if kind in kinds else None
