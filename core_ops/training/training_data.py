"""Pictures with captions, their latents, and the noised batches drawn from these."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..conditioning import TextConditioning
from ..diffusion_process import AttentionStatistic, Denoiser, NoiseSchedule
from ..losses.diffusion import diffusion_loss
from ..pictures import Pictures
from ..prompts.token_rows import TokenRow


@dataclass(frozen=True)
class CaptionedPictures:
    """captions: distinct ones. caption_of_picture: which of them describes each picture. templates: their texts, one
    per picture. caption_dropout: how often the last of the captions, which says nothing, takes their place. repeats:
    how often each picture is drawn, compared with the others; empty for all alike.
    """

    pictures: Pictures
    captions: Sequence[TokenRow]
    caption_of_picture: Sequence[int]
    templates: Sequence[str]
    caption_dropout: float = 0.0
    repeats: Sequence[int] = ()

    def with_dropout(self, rate: float, nothing: TokenRow) -> CaptionedPictures:
        """nothing: the caption that says nothing."""
        return replace(self, captions=[*self.captions, nothing], caption_dropout=rate) if rate else self

    def parted(self, place: int) -> tuple[CaptionedPictures, CaptionedPictures]:
        """Those before `place`, and those from there on; both know all captions."""

        def part(of: slice) -> CaptionedPictures:
            masks = None if self.pictures.masks is None else self.pictures.masks[of]
            pictures = Pictures(self.pictures.pixels[of], masks)
            captions, templates, repeats = self.caption_of_picture[of], self.templates[of], self.repeats[of]
            return replace(self, pictures=pictures, caption_of_picture=captions, templates=templates, repeats=repeats)

        return part(slice(place)), part(slice(place, None))


MOST_REPEATED = 100
"""Times the concept with the most pictures, at most, in one round of draws: none is off by more than half a percent."""


def joined(parts: Sequence[CaptionedPictures]) -> CaptionedPictures:
    """Pictures of several concepts, one after another, each concept's drawn as often together as another's.

    A part may be empty, and brings its captions all the same. A picture without a mask has one that leaves out nothing
    where others have masks.
    """
    if len(parts) == 1:
        return parts[0]
    masks = None
    if any(part.pictures.masks is not None for part in parts):
        masks = [
            mask
            for part in parts
            for mask in part.pictures.masks or [torch.ones_like(pixels[:1]) for pixels in part.pictures.pixels]
        ]
    firsts = [sum(len(part.captions) for part in parts[:place]) for place in range(len(parts))]
    return CaptionedPictures(
        Pictures([pixels for part in parts for pixels in part.pictures.pixels], masks),
        captions=[caption for part in parts for caption in part.captions],
        caption_of_picture=[
            first + own for first, part in zip(firsts, parts, strict=True) for own in part.caption_of_picture
        ],
        templates=[template for part in parts for template in part.templates],
        repeats=_even_repeats(parts),
    )


def _even_repeats(parts: Sequence[CaptionedPictures]) -> list[int]:
    """How often each picture is drawn, in lowest terms; empty where all are drawn alike."""
    own = [list(part.repeats) or [1] * len(part.templates) for part in parts if part.templates]
    totals = [sum(repeats) for repeats in own]
    together = min(math.lcm(*totals), MOST_REPEATED * max(totals, default=1))
    even = [each * round(together / total) for repeats, total in zip(own, totals, strict=True) for each in repeats]
    return [] if len(set(even)) <= 1 else [each // math.gcd(*even) for each in even]


@dataclass(frozen=True)
class TrainingLatents:
    """What is trained on.

    latents: [C, h, w] of each picture, in the U-Net's scale, on its device.
    captions: distinct ones; caption_of_latent: which of them describes each latent, [I].
    masks: weight of each latent cell, [1, h, w] in 0…1 of each, or None.
    caption_dropout: how often the last of the captions, which says nothing, takes the place of a picture's own.
    repeats: how often each latent is drawn, compared with the others; empty for all alike.
    """

    latents: Sequence[Tensor]
    captions: Sequence[TokenRow]
    caption_of_latent: Tensor
    masks: Sequence[Tensor] | None = None
    caption_dropout: float = 0.0
    repeats: Sequence[int] = ()


@dataclass(frozen=True)
class NoisedPictures:
    """Those of a batch that have one size. places: in the batch, in its order. caption_of_sample: [b]. weight: of each
    in the loss, [b], or None for all the same. captions: of each. queries: of every cross-attention layer, [b, ...],
    where a pass left them.
    """

    places: Sequence[int]
    z_t: Tensor
    t: Tensor
    target: Tensor
    mask: Tensor | None
    caption_of_sample: Tensor
    weight: Tensor | None = None
    captions: Sequence[TokenRow] = ()
    queries: Sequence[Tensor] = ()

    def text_of(self, text: TextConditioning) -> TextConditioning:
        """Of each picture; `text` holds one output row for each of the batch's captions, or one for all."""
        return text if text.context.shape[0] == 1 else text[self.caption_of_sample]

    def cells(self) -> Tensor:
        """How many of its latents' cells count."""
        return self.z_t.new_tensor(self.z_t[:, 0].numel()) if self.mask is None else self.mask.sum()

    def first(self, count: int) -> NoisedPictures:
        kept = slice(count)
        return NoisedPictures(
            self.places[kept],
            z_t=self.z_t[kept],
            t=self.t[kept],
            target=self.target[kept],
            mask=None if self.mask is None else self.mask[kept],
            caption_of_sample=self.caption_of_sample[kept],
            weight=None if self.weight is None else self.weight[kept],
            captions=self.captions[kept],
            queries=[each[kept] for each in self.queries],
        )


@dataclass(frozen=True)
class NoisedBatch:
    """One draw of Eq. 1's expectation, size by size, and the distinct captions in it.

    drawn_captions: where those are among all captions.
    """

    parts: Sequence[NoisedPictures]
    captions: Sequence[TokenRow]
    drawn_captions: Tensor

    def first(self, count: int) -> NoisedBatch:
        """Its first `count` samples as they were drawn."""
        counts = [sum(place < count for place in part.places) for part in self.parts]
        parts = [part.first(count) for part, count in zip(self.parts, counts, strict=True) if count]
        return replace(self, parts=parts)

    @property
    def samples(self) -> int:
        return sum(len(part.places) for part in self.parts)

    def diffusion_loss(self, denoiser: Denoiser, text: TextConditioning) -> Tensor:
        """Eq. 1 on this batch; `text` holds one output row for each of `captions`."""
        return self.loss_of([denoiser(part.z_t, part.t, part.text_of(text)) for part in self.parts])

    def loss_of(self, predictions: Sequence[Tensor]) -> Tensor:
        """Eq. 1 of a prediction for each part: the mean over the cells of them all."""
        losses = [
            diffusion_loss(prediction, part.target, part.mask, part.weight)
            for prediction, part in zip(predictions, self.parts, strict=True)
        ]
        if len(losses) == 1:
            return losses[0]
        cells = torch.stack([part.cells() for part in self.parts])
        return (torch.stack(losses) * cells).sum() / cells.sum().clamp(min=1e-6)

    def with_attention(
        self, denoiser: Denoiser, text: TextConditioning, statistic_of: Callable[[NoisedPictures], AttentionStatistic]
    ) -> tuple[list[Tensor], Tensor]:
        """A prediction for each part, and the statistics of all samples [L, B, ...], for `L` layers.

        text: one output row for each of `captions`, or one for all.
        """
        runs = [
            denoiser.with_attention(part.z_t, part.t, part.text_of(text), statistic_of(part)) for part in self.parts
        ]
        return [prediction for prediction, _ in runs], torch.cat([torch.stack(each) for _, each in runs], dim=1)

    def with_queries(self, denoiser: Denoiser, text: TextConditioning) -> tuple[list[Tensor], NoisedBatch]:
        """A prediction for each part, and this batch with the queries of that pass."""
        runs = [denoiser.with_queries(part.z_t, part.t, part.text_of(text)) for part in self.parts]
        parts = [replace(part, queries=queries) for part, (_, queries) in zip(self.parts, runs, strict=True)]
        return [prediction for prediction, _ in runs], replace(self, parts=parts)

    def attention_of(self, denoiser: Denoiser, text: TextConditioning, statistic: AttentionStatistic) -> Tensor:
        """Statistics [L, B, ...] of `text`, one output row, were it asked by the queries that the batch has."""
        runs = [denoiser.attention_of(part.queries, part.t, part.text_of(text), statistic) for part in self.parts]
        return torch.cat([torch.stack(each) for each in runs], dim=1)


def draw_batch(
    data: TrainingLatents, schedule: NoiseSchedule, batch_size: int, generator: torch.Generator, min_snr: float = 0.0
) -> NoisedBatch:
    """Draws latents (each as often as the others, up to one, or as its repeats say), t uniform over all timesteps, and
    ε; which captions are left out, where some are.

    Drawn on the CPU, so that a seed means the same numbers on every device. min_snr: γ of min-SNR weighting, 0 for
    none.
    """
    places = torch.arange(len(data.latents))
    if data.repeats:
        places = places.repeat_interleave(torch.tensor(data.repeats))
    rounds = [torch.randperm(len(places), generator=generator) for _ in range(-(-batch_size // len(places)))]
    chosen = places[torch.cat(rounds)[:batch_size]]
    t = torch.randint(schedule.timesteps, (batch_size,), generator=generator)
    noise = draw_noise(data, chosen, generator)
    captions = data.caption_of_latent[chosen]
    if data.caption_dropout:
        left_out = torch.rand(batch_size, generator=generator) < data.caption_dropout
        captions = captions.masked_fill(left_out, len(data.captions) - 1)
    return noised_batch(data, schedule, chosen, t, noise, captions, min_snr)


def draw_noise(data: TrainingLatents, chosen: Tensor, generator: torch.Generator) -> Sequence[Tensor]:
    """ε on the CPU, in the size of each of the latents `chosen` [B]."""
    sizes = [data.latents[index].shape for index in chosen.tolist()]
    if len(set(sizes)) == 1:
        return torch.randn((len(sizes), *sizes[0]), generator=generator).unbind()
    return [torch.randn(size, generator=generator) for size in sizes]


def noised_batch(
    data: TrainingLatents,
    schedule: NoiseSchedule,
    chosen: Tensor,
    t: Tensor,
    noise: Sequence[Tensor],
    captions: Tensor | None = None,
    min_snr: float = 0.0,
) -> NoisedBatch:
    """Of the latents `chosen` [B], at timesteps t [B] with noise [C, h, w] of each; all on the CPU.

    captions: which of them describes each sample, [B]; each latent's own by default.
    """
    caption_of = data.caption_of_latent[chosen] if captions is None else captions
    there, caption_of_sample = torch.unique(caption_of, return_inverse=True)
    drawn = [data.captions[index] for index in there.tolist()]
    by_size: dict[torch.Size, list[int]] = {}
    for place, index in enumerate(chosen.tolist()):
        by_size.setdefault(data.latents[index].shape, []).append(place)

    parts = []
    for places in by_size.values():
        indices = chosen[places].tolist()
        z = torch.stack([data.latents[index] for index in indices])
        at, ε = t[places].to(z.device), torch.stack([noise[place] for place in places]).to(z.device)
        part = NoisedPictures(
            places,
            z_t=schedule.add_noise(z, ε, at),
            t=at,
            target=schedule.target(z, ε, at),
            mask=None if data.masks is None else torch.stack([data.masks[index] for index in indices]),
            caption_of_sample=caption_of_sample[places].to(z.device),
            weight=schedule.min_snr(at, min_snr) if min_snr else None,
            captions=[drawn[index] for index in caption_of_sample[places].tolist()],
        )
        parts.append(part)
    return NoisedBatch(parts, captions=drawn, drawn_captions=there.to(data.latents[0].device))
