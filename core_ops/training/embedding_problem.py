"""A concept's trainable embedding v, and what all methods share that train it against noised pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d

from ..conditioning import TextConditioning, TextEncoder
from ..diffusion_process import Denoiser
from ..prompts.token_rows import TokenRow
from .objective import FixedWeights, Gradients, Objective, TrainingStep
from .training_data import NoisedBatch, TrainingLatents, draw_batch
from .training_loop import RandomStreams


class TrainableEmbedding(ABC):
    """What a concept is learned as."""

    @property
    @abstractmethod
    def parameters(self) -> list[Tensor]: ...

    @property
    @abstractmethod
    def vectors(self) -> dict[str, Tensor]:
        """v, or what stands for it in a plain embedding file: [V, width] per text encoder."""

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of `vectors` on the CPU."""
        return {name: value.detach().cpu().clone() for name, value in self.vectors.items()}

    def norms(self) -> dict[str, Tensor]:
        """Norm of each vector, [V, 1] per encoder."""
        return {name: value.detach().norm(dim=-1, keepdim=True) for name, value in self.vectors.items()}

    def mean_norm(self) -> float:
        return float(torch.cat(list(self.norms().values())).mean())


class ConceptEmbedding(TrainableEmbedding):
    """v for every text encoder, [V, width] each, in fp32 whatever precision the models run in."""

    def __init__(self, initial: Mapping[str, Tensor]) -> None:
        self._vectors = {name: value.detach().clone().float().requires_grad_() for name, value in initial.items()}

    @property
    def parameters(self) -> list[Tensor]:
        return list(self._vectors.values())

    @property
    def vectors(self) -> dict[str, Tensor]:
        return self._vectors

    @torch.no_grad()
    def set(self, vectors: Mapping[str, Tensor]) -> None:
        for name, value in self.vectors.items():
            value.copy_(vectors[name])


def spread_over_vectors(word_embeddings: Tensor, vectors: int) -> Tensor:
    """Initial vectors [V, D] from the embeddings of some words [n, D].

    As many vectors as words: the words; fewer: means of neighbours; more: words repeated. Pooled on the CPU: Apple's
    devices pool only to divisors of the length (pytorch #96056).
    """
    words = word_embeddings.float()
    words = words if words.is_meta else words.cpu()
    return adaptive_avg_pool1d(words.T.unsqueeze(0), vectors)[0].T.contiguous().to(word_embeddings.device)


class DetachedText:
    """Separates the graph at the text encoder's output.

    Every term differentiates down to `text` only, or to `vectors`, which are v itself; and their sum goes back through
    the text encoder once.
    """

    def __init__(self, text: TextConditioning, embedding: TrainableEmbedding) -> None:
        self._parameters = embedding.parameters
        self._encoded = [*text.outputs.values(), text.context, *([] if text.pooled is None else [text.pooled])]
        self.vectors = {name: v.detach().requires_grad_() for name, v in embedding.vectors.items()}
        leaves = [tensor.detach().requires_grad_() for tensor in self._encoded]
        outputs = dict(zip(text.outputs, leaves, strict=False))
        context, *pooled = leaves[len(outputs) :]
        self.text = replace(text, outputs=outputs, context=context, pooled=pooled[0] if pooled else None)
        self.leaves = [*leaves, *self.vectors.values()]

    def pull_back(self, gradients: Gradients) -> Gradients:
        """Gradients on v for gradients on `leaves`; may be called again, for the graph is kept."""
        of_text, of_vectors = gradients[: len(self._encoded)], gradients[len(self._encoded) :]
        through = torch.autograd.grad(self._encoded, self._parameters, of_text, retain_graph=True)
        return tuple(one + other for one, other in zip(through, of_vectors, strict=True))

    def step(self, objective: Objective) -> TrainingStep:
        """A step whose terms depend on v through `text` and `vectors` alone."""
        return TrainingStep(objective, self.leaves, self.pull_back)


@dataclass(frozen=True)
class EmbeddingProblem:
    """The frozen models, the pictures' latents, and the embedding to be learned. min_snr: γ of min-SNR weighting of the
    diffusion loss; 0, as published by the methods here, for none.
    """

    encoder: TextEncoder
    denoiser: Denoiser
    latents: TrainingLatents
    embedding: TrainableEmbedding
    min_snr: float = field(default=0.0, kw_only=True)

    def draw(self, batch_size: int, random: RandomStreams) -> NoisedBatch:
        return draw_batch(self.latents, self.denoiser.schedule, batch_size, random["data"], self.min_snr)

    def encode(self, captions: Sequence[TokenRow]) -> DetachedText:
        return DetachedText(self.encoder.encode(captions, self.embedding.vectors), self.embedding)


class EmbeddingRecipe:
    """What recipes share that train v alone; by default nothing happens around an update."""

    def __init__(self, problem: EmbeddingProblem, weights: FixedWeights | None = None) -> None:
        self.problem, self.weights = problem, weights or FixedWeights({})

    @property
    def parameters(self) -> list[Tensor]:
        return self.problem.embedding.parameters

    def diffusion_loss(self, batch: NoisedBatch) -> Tensor:
        """Eq. 1 on a batch with v as it is."""
        text = self.problem.encoder.encode(batch.captions, self.problem.embedding.vectors)
        return batch.diffusion_loss(self.problem.denoiser, text)

    def update(self, step: int) -> AbstractContextManager[None]:
        return nullcontext()

    def observations(self) -> dict[str, float]:
        return {"embedding_norm": self.problem.embedding.mean_norm()}
