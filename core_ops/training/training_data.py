"""The user's images as latents, and the noised batches drawn from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..conditioning import Denoiser, TextConditioning
from ..losses import diffusion_loss
from ..noising import NoiseSchedule
from ..prompts.token_rows import TokenRow


@dataclass(frozen=True)
class TrainingImages:
    """Encoded images.

    latents: [I, C, h, w], in the U-Net's scale, on its device.
    rows: distinct prompts; row_of_image: which of them describes each image, [I].
    masks: weight of each latent cell, [I, 1, h, w] in 0…1, or None.
    """

    latents: Tensor
    rows: Sequence[TokenRow]
    row_of_image: Tensor
    masks: Tensor | None = None


@dataclass(frozen=True)
class NoisedBatch:
    """One draw of Eq. 1's expectation, and the distinct prompts in it.

    row_of_sample: [B], points into `rows`. drawn_rows: where those are among the rows of all images.
    """

    z_t: Tensor
    t: Tensor
    target: Tensor
    mask: Tensor | None
    rows: Sequence[TokenRow]
    row_of_sample: Tensor
    drawn_rows: Tensor

    def diffusion_loss(self, denoiser: Denoiser, text: TextConditioning) -> Tensor:
        """Eq. 1 on this batch; `text` holds one output row for each of `rows`."""
        return diffusion_loss(denoiser(self.z_t, self.t, self.text_of_samples(text)), self.target, self.mask)

    def text_of_samples(self, text: TextConditioning) -> TextConditioning:
        return text if len(self.rows) == 1 else text[self.row_of_sample]


def draw_batch(
    images: TrainingImages, schedule: NoiseSchedule, batch_size: int, generator: torch.Generator
) -> NoisedBatch:
    """Draws images (each as often as the others, up to one), t uniform over all timesteps, and ε.

    Drawn on the CPU, so that a seed means the same numbers on every device.
    """
    count = images.latents.shape[0]
    rounds = [torch.randperm(count, generator=generator) for _ in range(-(-batch_size // count))]
    chosen = torch.cat(rounds)[:batch_size]
    t = torch.randint(schedule.timesteps, (batch_size,), generator=generator)
    noise = torch.randn((batch_size, *images.latents.shape[1:]), generator=generator)

    device = images.latents.device
    rows, row_of_sample = torch.unique(images.row_of_image[chosen], return_inverse=True)
    chosen, t, noise = chosen.to(device), t.to(device), noise.to(device)
    z = images.latents[chosen]
    return NoisedBatch(
        z_t=schedule.add_noise(z, noise, t),
        t=t,
        target=schedule.target(z, noise, t),
        mask=None if images.masks is None else images.masks[chosen],
        rows=[images.rows[index] for index in rows.tolist()],
        row_of_sample=row_of_sample.to(device),
        drawn_rows=rows.to(device),
    )
