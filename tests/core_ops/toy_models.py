"""A text encoder and a denoiser of a few numbers each, in plain torch, to test recipes and loop without a host."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from core_personalization.core_ops.conditioning import TextConditioning
from core_personalization.core_ops.diffusion_process import NoiseSchedule
from core_personalization.core_ops.prompts.token_rows import AlignedPair, ConceptSlot, TokenRow
from core_personalization.core_ops.training.embedding_problem import ConceptEmbedding
from core_personalization.core_ops.training.training_data import TrainingLatents
from torch import Tensor

WIDTH, LENGTH, TIMESTEPS = 8, 10, 50
START, END, PAD, DOG, BIG = 0, 1, 1, 7, 8


def schedule(prediction: str = "epsilon") -> NoiseSchedule:
    return NoiseSchedule(torch.linspace(0.999, 0.01, TIMESTEPS), prediction)


def row(*words: int | ConceptSlot, span: range = range(0)) -> TokenRow:
    """Start, the words, end, padding; the span counts from the first word."""
    tokens = (START, *words, END, *[PAD] * (LENGTH - len(words) - 2))
    shifted = range(span.start + 1, span.stop + 1) if len(span) else range(0)
    return TokenRow({"toy": tokens}, (1.0,) * LENGTH, shifted, len(words) + 1)


def pair(
    before: Sequence[int], after: Sequence[int], vectors: int = 1, category: Sequence[int] = (DOG,)
) -> AlignedPair:
    slots = [ConceptSlot(index) for index in range(vectors)]
    begin = len(before)
    return AlignedPair(
        row(*before, *slots, *after, span=range(begin, begin + vectors)),
        row(*before, *category, *after, span=range(begin, begin + len(category))),
    )


class ToyTextEncoder:
    """Causal mixing of token vectors: every output depends on all tokens up to its own, as in CLIP."""

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.vocabulary = torch.randn(20, WIDTH, generator=generator)
        self.mixing = torch.tril(torch.rand(LENGTH, LENGTH, generator=generator))
        self.calls = 0

    def encode(self, rows: Sequence[TokenRow], embedding) -> TextConditioning:
        self.calls += 1
        tokens = torch.stack([torch.stack([self._vector(t, embedding) for t in r.tokens["toy"]]) for r in rows])
        output = torch.tanh(self.mixing @ tokens)
        return TextConditioning({"toy": output}, output)

    def _vector(self, token, embedding) -> Tensor:
        return embedding["toy"][token.index] if isinstance(token, ConceptSlot) else self.vocabulary[token]


class ToyDenoiser:
    """Two cross-attention layers on the pixels of a latent."""

    def __init__(self, seed: int = 1, prediction: str = "epsilon") -> None:
        generator = torch.Generator().manual_seed(seed)
        self.schedule = schedule(prediction)
        self.queries = torch.randn(2, 4, WIDTH, generator=generator)
        self.values = torch.randn(2, WIDTH, 4, generator=generator)

    def __call__(self, z_t, t, text) -> Tensor:
        return self.with_attention(z_t, t, text, lambda probabilities: None)[0]

    def with_attention(self, z_t, t, text, statistic):
        keys, values = text.expand(z_t.shape[0]).in_layers(2)
        pixels = z_t.flatten(2).mT  # [B, P, C]
        results = []
        for layer, (query, value) in enumerate(zip(self.queries, self.values, strict=True)):
            probabilities = torch.softmax(pixels @ query @ keys[:, layer].mT, dim=-1)
            results.append(statistic(probabilities.unsqueeze(1)))
            pixels = pixels + probabilities @ (values[:, layer] @ value) * (1 + t.reshape(-1, 1, 1) / TIMESTEPS)
        return pixels.mT.reshape(z_t.shape), results

    def with_queries(self, z_t, t, text):
        keys, values = text.expand(z_t.shape[0]).in_layers(2)
        pixels, asked = z_t.flatten(2).mT, []
        for layer, (query, value) in enumerate(zip(self.queries, self.values, strict=True)):
            asked.append((pixels @ query).detach())
            probabilities = torch.softmax(pixels @ query @ keys[:, layer].mT, dim=-1)
            pixels = pixels + probabilities @ (values[:, layer] @ value) * (1 + t.reshape(-1, 1, 1) / TIMESTEPS)
        return pixels.mT.reshape(z_t.shape), asked

    def attention_of(self, queries, t, text, statistic):
        keys, _ = text.expand(len(t)).in_layers(2)
        return [
            statistic(torch.softmax(asked @ keys[:, layer].mT, dim=-1).unsqueeze(1))
            for layer, asked in enumerate(queries)
        ]


def images(count: int = 3, masked: bool = False) -> TrainingLatents:
    generator = torch.Generator().manual_seed(5)
    latents = torch.randn(count, 4, 3, 3, generator=generator)
    masks = torch.rand(count, 1, 3, 3, generator=generator) if masked else None
    return TrainingLatents(latents, [pair([3], []).concept], torch.zeros(count, dtype=torch.long), masks)


def dog_embedding(encoder: ToyTextEncoder, vectors: int = 1) -> ConceptEmbedding:
    return ConceptEmbedding({"toy": encoder.vocabulary[[DOG] * vectors]})
