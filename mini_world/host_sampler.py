"""ComfyUI's own loader and sampler, in this process. COMFYUI_PATH names the ComfyUI."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LATENT_SIDE, LATENT_CHANNELS = 8, 4


def decoded(vae: Any, z: Tensor) -> Tensor:
    """What the host's VAE makes of latents: pictures [B, 3, H, W] in 0…1, on the CPU."""
    return vae.decode(z).movedim(-1, 1).clamp(0, 1).float().cpu()


class HostSampler:
    """A checkpoint as ComfyUI loads it. Its modules are imported here, because they read the command line.

    base: a folder for ComfyUI's models, input and output, in place of its own; prompts find embeddings in there.
    """

    def __init__(self, checkpoint: Path, base: Path | None = None) -> None:
        host = os.environ.get("COMFYUI_PATH")
        if not host:
            raise ValueError("COMFYUI_PATH is not set. It must name a ComfyUI folder.")
        sys.path.insert(0, host)
        from comfy import options

        options.enable_args_parsing(False)
        from comfy.cli_args import args

        args.cpu = not torch.cuda.is_available()
        args.base_directory = None if base is None else str(base)
        import folder_paths
        from comfy import sample, sd

        self._sample = sample
        embeddings = folder_paths.get_folder_paths("embeddings")
        self.model, self.clip, self.vae = sd.load_checkpoint_guess_config(
            str(checkpoint), embedding_directory=embeddings
        )[:3]

    @torch.inference_mode()
    def pictures(self, prompts: Sequence[str], seed: int, steps: int = 25, guidance: float = 3.0) -> Tensor:
        """One picture of each prompt: [B, 3, 64, 64] in 0…1."""
        return torch.cat([self._picture(prompt, seed + i, steps, guidance) for i, prompt in enumerate(prompts)])

    def _picture(self, prompt: str, seed: int, steps: int, guidance: float) -> Tensor:
        latent = torch.zeros(1, LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE)
        noise = self._sample.prepare_noise(latent, seed)
        sampled = self._sample.sample(
            self.model, noise, steps, guidance, "euler", "normal", self._read(prompt), self._read(""), latent,
            disable_pbar=True, seed=seed,
        )  # fmt: skip
        return decoded(self.vae, sampled)

    def _read(self, prompt: str) -> Any:
        return self.clip.encode_from_tokens_scheduled(self.clip.tokenize(prompt))
