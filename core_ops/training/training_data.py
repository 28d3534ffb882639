"""Pictures with captions, their latents, and the noised batches drawn from these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..conditioning import TextConditioning
from ..diffusion_process import Denoiser, NoiseSchedule
from ..losses.diffusion import diffusion_loss
from ..pictures import Pictures
from ..prompts.token_rows import TokenRow


@dataclass(frozen=True)
class CaptionedPictures:
    """captions: distinct ones. caption_of_picture: which of them describes each picture. templates: their texts, one
    per picture.
    """

    pictures: Pictures
    captions: Sequence[TokenRow]
    caption_of_picture: Sequence[int]
    templates: Sequence[str]

    def parted(self, place: int) -> tuple[CaptionedPictures, CaptionedPictures]:
        """Those before `place`, and those from there on; both know all captions."""

        def part(of: slice) -> CaptionedPictures:
            masks = None if self.pictures.masks is None else self.pictures.masks[of]
            pictures = Pictures(self.pictures.pixels[of], masks)
            return CaptionedPictures(pictures, self.captions, self.caption_of_picture[of], self.templates[of])

        return part(slice(place)), part(slice(place, None))


@dataclass(frozen=True)
class TrainingLatents:
    """What is trained on.

    latents: [I, C, h, w], in the U-Net's scale, on its device.
    captions: distinct ones; caption_of_latent: which of them describes each latent, [I].
    masks: weight of each latent cell, [I, 1, h, w] in 0…1, or None.
    """

    latents: Tensor
    captions: Sequence[TokenRow]
    caption_of_latent: Tensor
    masks: Tensor | None = None


@dataclass(frozen=True)
class NoisedBatch:
    """One draw of Eq. 1's expectation, and the distinct captions in it.

    caption_of_sample: [B], points into `captions`. drawn_captions: where those are among all captions.
    """

    z_t: Tensor
    t: Tensor
    target: Tensor
    mask: Tensor | None
    captions: Sequence[TokenRow]
    caption_of_sample: Tensor
    drawn_captions: Tensor

    def diffusion_loss(self, denoiser: Denoiser, text: TextConditioning) -> Tensor:
        """Eq. 1 on this batch; `text` holds one output row for each of `captions`."""
        return diffusion_loss(denoiser(self.z_t, self.t, self.text_of_samples(text)), self.target, self.mask)

    def text_of_samples(self, text: TextConditioning) -> TextConditioning:
        return text if len(self.captions) == 1 else text[self.caption_of_sample]


def draw_batch(
    data: TrainingLatents, schedule: NoiseSchedule, batch_size: int, generator: torch.Generator
) -> NoisedBatch:
    """Draws latents (each as often as the others, up to one), t uniform over all timesteps, and ε.

    Drawn on the CPU, so that a seed means the same numbers on every device.
    """
    count = data.latents.shape[0]
    rounds = [torch.randperm(count, generator=generator) for _ in range(-(-batch_size // count))]
    chosen = torch.cat(rounds)[:batch_size]
    t = torch.randint(schedule.timesteps, (batch_size,), generator=generator)
    noise = torch.randn((batch_size, *data.latents.shape[1:]), generator=generator)
    return noised_batch(data, schedule, chosen, t, noise)


def noised_batch(
    data: TrainingLatents, schedule: NoiseSchedule, chosen: Tensor, t: Tensor, noise: Tensor
) -> NoisedBatch:
    """Of the latents `chosen` [B], at timesteps t [B] with noise [B, C, h, w]; all three on the CPU."""
    device = data.latents.device
    captions, caption_of_sample = torch.unique(data.caption_of_latent[chosen], return_inverse=True)
    chosen, t, noise = chosen.to(device), t.to(device), noise.to(device)
    z = data.latents[chosen]
    return NoisedBatch(
        z_t=schedule.add_noise(z, noise, t),
        t=t,
        target=schedule.target(z, noise, t),
        mask=None if data.masks is None else data.masks[chosen],
        captions=[data.captions[index] for index in captions.tolist()],
        caption_of_sample=caption_of_sample.to(device),
        drawn_captions=captions.to(device),
    )
