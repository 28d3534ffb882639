"""A probe on a real ComfyUI model: the node, a sampling as core's KSampler does it, and its calls of the U-Net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from families.load import load_family

PROMPT = "a photo of a Patchwork dog, on the (beach:1.2) with a dog"
NEGATIVE = "blurry"
SEED = 7


@dataclass(frozen=True)
class Loaded:
    name: str
    model: Any
    clip: Any


def load(family: str) -> Loaded:
    model, clip, _ = load_family(family)
    return Loaded(family, model, clip)


def probed(loaded: Loaded, conditioning: Any = None, model: Any = None, **inputs: Any) -> tuple[Any, Any]:
    """The node's two outputs."""
    from core_personalization.nodes.insight.attention_probe import ContextAttentionProbe

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
    """As ComfyUI's KSampler node does."""
    import comfy.sample

    s, texts = sampling, (positive or encode(loaded, PROMPT), negative or encode(loaded, NEGATIVE))
    with torch.inference_mode():
        latent = torch.zeros(s.batch, 4, s.height, s.width)
        noise = comfy.sample.prepare_noise(latent, s.seed)
        settings = (s.steps, s.cfg, s.sampler, "normal")
        return comfy.sample.sample(model, noise, *settings, *texts, latent, disable_pbar=True, seed=s.seed)


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


@dataclass(frozen=True)
class Call:
    """One call of the U-Net as the host made it."""

    x: Tensor
    t: Tensor
    context: Tensor
    y: Tensor | None
    parts: list[int]

    def rows(self, part: int, number: int = 0) -> slice:
        """Of the `number`-th chunk of a part."""
        chunk = [i for i, name in enumerate(self.parts) if name == part][number]
        images = len(self.x) // len(self.parts)
        return slice(chunk * images, (chunk + 1) * images)


def record_calls(model: Any) -> list[Call]:
    """Follows the U-Net of a MODEL that is not cloned any more; the list fills while it samples."""
    from comfy.patcher_extension import WrappersMP

    calls: list[Call] = []

    def wrapper(executor, x, t, context, y, control, options, **more):
        calls.append(Call(x.clone(), t.clone(), context.clone(), y, list(options["cond_or_uncond"])))
        return executor(x, t, context, y, control, options, **more)

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", wrapper)
    return calls
