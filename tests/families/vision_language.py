"""A small Qwen3-VL with handwritten or random weights, loaded as core's CLIP Loader does.

The language model is shrunk through `model_options`, as the diffusion families' text encoders are; the vision tower's
sizes are a table in ComfyUI, which is changed while one is built. All code that runs is the host's.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from unittest import mock

import torch
from torch import Tensor

WIDTH = 64
LANGUAGE = {
    "hidden_size": WIDTH,
    "intermediate_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
VISION = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "depth": 2, "deepstack_visual_indexes": [0]}
NAME = "qwen3vl_8b"
END_OF_TURN = "<|im_end|>"


def load_vision_language(answer: str | None = None, seed: int = 0) -> Any:
    """A CLIP that generates from pictures: `answer`, whatever it is asked, or without one what random weights say.

    The answer's tokens must all be different: each calls for the next.
    """
    import comfy.sd
    from comfy.text_encoders import qwen3vl

    with (
        torch.inference_mode(),
        mock.patch.dict(qwen3vl.QWEN3VL_VISION, {NAME: VISION}),
        mock.patch.dict(qwen3vl.QWEN3VL_VISION_COMMON, num_heads=4),
    ):
        options = {f"{NAME}_model_config": dict(LANGUAGE)}
        shapes = qwen3vl.te(model_type=NAME)(device="meta", dtype=torch.float32, model_options=options)
        weights = _random(getattr(shapes, NAME).transformer.state_dict(), seed)
        if answer is not None:
            _speak(weights, _token_chain(answer))
        return comfy.sd.load_text_encoder_state_dicts([_as_published(weights)], model_options=options)


def _random(shapes: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.ones(value.shape) if "norm" in name else torch.randn(value.shape, generator=generator) / 8
        for name, value in shapes.items()
    }


def _speak(weights: dict[str, Tensor], chain: list[int]) -> None:
    """Blocks that add nothing, and an output that likes best the token after the last one."""
    for name, value in weights.items():
        if name.endswith(("self_attn.o_proj.weight", "mlp.down_proj.weight")):
            value.zero_()
    embeddings = weights["model.embed_tokens.weight"]
    head = weights["model.lm_head.weight"].zero_()
    for current, following in pairwise(chain):
        head[following] = embeddings[current]


def _token_chain(answer: str) -> list[int]:
    """From the last token of the host's prompt, a line break, through the answer to the end of the turn."""
    from comfy.text_encoders import qwen3vl

    tokenizer = getattr(qwen3vl.tokenizer(NAME)(), NAME).tokenizer
    chain = [tokenizer("</think>\n\n")["input_ids"][-1], *tokenizer(answer + END_OF_TURN)["input_ids"]]
    assert len(set(chain)) == len(chain), "a token occurs twice"
    return chain


def _as_published(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names under which the family is published, by which the host recognises it."""

    def published(name: str) -> str:
        if name == "model.lm_head.weight":
            return "lm_head.weight"
        return name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else f"model.{name}"

    return {published(name): value for name, value in weights.items()}
