"""The attention probe on real ComfyUI models, held to the unprobed sampling and to a diffusers U-Net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from families.build import FAMILIES
from families.load import load_family
from torch import Tensor

PROMPT = "a photo of a Patchwork dog, on the (beach:1.2) with a dog"
NEGATIVE = "blurry"
SEED = 7


@dataclass(frozen=True)
class Loaded:
    name: str
    model: Any
    clip: Any


@pytest.fixture(scope="module")
def families() -> dict[str, Loaded]:
    """Loaded when first asked for."""

    class Lazy(dict):
        def __missing__(self, name: str) -> Loaded:
            model, clip, _ = load_family(name)
            self[name] = Loaded(name, model, clip)
            return self[name]

    return Lazy()


@pytest.fixture(scope="module")
def sd1(families) -> Loaded:
    return families["sd1"]


def probed(loaded: Loaded, conditioning: Any = None, model: Any = None, **inputs: Any) -> tuple[Any, Any]:
    """The node's two outputs."""
    from core_personalization.nodes.attention_probe import ContextAttentionProbe

    with torch.inference_mode():
        output = ContextAttentionProbe.execute(
            model or loaded.model, loaded.clip, conditioning, **{"prompt": PROMPT, **inputs}
        )
    return output.args


def encode(loaded: Loaded, text: str) -> Any:
    with torch.inference_mode():
        return loaded.clip.encode_from_tokens_scheduled(loaded.clip.tokenize(text))


@dataclass(frozen=True)
class Sampling:
    sampler: str = "euler"
    cfg: float = 3.0
    batch: int = 1
    steps: int = 2
    height: int = 8
    width: int = 12
    seed: int = SEED


def sample(loaded: Loaded, model: Any, sampling: Sampling, positive: Any = None, negative: Any = None) -> Tensor:
    """As core's KSampler node does."""
    import comfy.sample

    shape = sampling.batch, 4, sampling.height, sampling.width
    with torch.inference_mode():
        latent = torch.zeros(shape)
        return comfy.sample.sample(
            model,
            comfy.sample.prepare_noise(latent, sampling.seed),
            sampling.steps,
            sampling.cfg,
            sampling.sampler,
            "normal",
            positive or encode(loaded, PROMPT),
            negative or encode(loaded, NEGATIVE),
            latent,
            disable_pbar=True,
            seed=sampling.seed,
        )


def compare_probed(loaded: Loaded, sampling: Sampling, model: Any = None) -> tuple[float, Any]:
    """Largest difference between the latents with and without probe, and what the probe saw."""
    model = model or loaded.model
    plain = sample(loaded, model, sampling)
    with_probe, probe = probed(loaded, model=model)
    latents = sample(loaded, with_probe, sampling)
    assert plain.abs().max() > 0.1
    return float((plain - latents).abs().max()), probe.captured(latents)


def assert_whole(captured: Any) -> None:
    assert torch.allclose(captured.shares().sum(dim=1), torch.ones(captured.images), atol=1e-5)
    assert not captured.note


@pytest.mark.parametrize("name", list(FAMILIES))
def test_the_probe_does_not_change_the_latents(families, name):
    difference, captured = compare_probed(families[name], Sampling())
    assert difference < 1e-4
    assert_whole(captured)
    assert captured.steps == (1, 2)


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "ddim", "heun"])
@pytest.mark.parametrize(("cfg", "batch"), [(1.0, 3), (4.0, 1)])
def test_nor_with_other_samplers_without_cfg_or_with_several_images(sd1, sampler, cfg, batch):
    difference, captured = compare_probed(sd1, Sampling(sampler, cfg, batch))
    assert difference < 1e-4
    assert captured.images == batch
    assert_whole(captured)
