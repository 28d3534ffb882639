"""ComfyUI's own loader and sampler, in this process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..comfyui import start

LATENT_CHANNELS, PIXELS = 4, 8
"""Of the latents of all models that the pack trains; the second are a latent's side's."""


class HostSampler:
    """A checkpoint as ComfyUI loads it. base: ComfyUI's base folder; prompts find embeddings in there. side: of its
    pictures, in pixels. at_once: pictures that are drawn as one batch."""

    def __init__(self, checkpoint: Path, base: Path, side: int = 64, at_once: int = 10) -> None:
        self.side, self._at_once = side, at_once
        start(base)
        from comfy import sample

        self._sample = sample
        self.model, self.clip, self.vae = load(checkpoint)

    @torch.inference_mode()
    def encode(self, prompt: str, clip: Any = None) -> Any:
        """By the checkpoint's text encoder, or by one made of it."""
        clip = clip or self.clip
        return clip.encode_from_tokens_scheduled(clip.tokenize(prompt))

    @torch.inference_mode()
    def sample(
        self, model: Any, conditionings: Iterable[Any], seeds: Sequence[int], steps: int = 25, guidance: float = 3.0,
        clip: Any = None,
    ) -> Tensor:  # fmt: skip
        """One picture of each conditioning with the noise of its own seed: [B, 3, side, side] in 0…1.

        model: the checkpoint's, or one made of it. clip: of the empty negative prompt, likewise. ComfyUI keeps a
        batch's rows apart. Conditionings are asked for batch by batch.
        """
        pairs = zip(conditionings, seeds, strict=True)
        batches = tqdm(range(0, len(seeds), self._at_once), desc=f"{len(seeds)} pictures", leave=False)
        negative = self.encode("", clip)
        return torch.cat(
            [self._batch(model, list(islice(pairs, self._at_once)), negative, (steps, guidance)) for _ in batches]
        )

    def _batch(
        self, model: Any, pairs: Sequence[tuple[Any, int]], negative: Any, sampling: tuple[int, float]
    ) -> Tensor:
        conditionings, seeds = zip(*pairs, strict=True)
        positive = conditionings[0] if len(pairs) == 1 else _as_one(conditionings)
        one = torch.zeros(1, LATENT_CHANNELS, self.side // PIXELS, self.side // PIXELS)
        noise = torch.cat([self._sample.prepare_noise(one, seed) for seed in seeds])
        z = self._sample.sample(
            model, noise, *sampling, "euler", "normal", positive, negative,
            torch.zeros_like(noise), disable_pbar=True, seed=0,
        )  # fmt: skip
        return self._decoded(z)

    @torch.inference_mode()
    def through_vae(self, images: Tensor) -> Tensor:
        """images [B, H, W, 3] in 0…1, encoded and decoded: [B, 3, H, W]."""
        return self._decoded(self.vae.encode(images))

    def _decoded(self, z: Tensor) -> Tensor:
        return self.vae.decode(z).movedim(-1, 1).clamp(0, 1).float().cpu()


def load(checkpoint: Path) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE, by ComfyUI's own loader."""
    import folder_paths
    from comfy import sd

    embeddings = folder_paths.get_folder_paths("embeddings")
    return sd.load_checkpoint_guess_config(str(checkpoint), embedding_directory=embeddings)[:3]


def _as_one(conditionings: Sequence[Any]) -> Any:
    """Texts of one length side by side; what Stable Diffusion XL reads beside them is left out."""
    text = torch.cat([conditioning[0][0] for conditioning in conditionings])
    options = {name: value for name, value in conditionings[0][0][1].items() if name != "pooled_output"}
    return [[text, options]]
