"""The papers' terms as plain loops in float64, differentiable, written from the formulas.

B batch, H heads, P pixels, N tokens, D width. Maps are attention probabilities [B, H, P, N], one per layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Positions = Sequence[int]


def context_positions(end: int, span: Positions) -> list[int]:
    """Every position from start-of-text to the first end-of-text, inclusive, but for the span."""
    return [position for position in range(end + 1) if position not in span]


def embedding_loss(output: Tensor, reference: Tensor, pairs: Sequence[tuple[int, int]], formulation: str) -> Tensor:
    """CoRe Eq. 3. output, reference: [N, D]; pairs: a context token's positions in the one and the other."""
    a = torch.stack([output[i] for i, _ in pairs]).double()
    b = torch.stack([reference[j] for _, j in pairs]).double()
    if formulation == "reference_code":  # The released program's cosine runs over the tokens of one feature.
        a, b = a.T, b.T
    total = a.new_zeros(())
    for x, y in zip(a, b, strict=True):
        total = total + 1 - (x * y).sum() / ((x * x).sum().sqrt() * (y * y).sum().sqrt())
    return total / len(a)


def attention_loss(
    maps: Sequence[Tensor], reference: Sequence[Tensor], pairs: Sequence[tuple[int, int]], formulation: str
) -> Tensor:
    """CoRe Eq. 4. The released program squares per layer and sample, sums the batch, averages the layers."""
    batch, layers = len(maps[0]), len(maps)
    total = torch.zeros((), dtype=torch.float64)
    for sample in range(batch):
        for i, j in pairs:
            differences = [
                a[sample, :, :, i].double().mean() - b[sample, :, :, j].double().mean()
                for a, b in zip(maps, reference, strict=True)
            ]
            if formulation == "paper":
                total = total + (sum(differences) / layers) ** 2 / batch
            else:
                total = total + sum(difference**2 for difference in differences) / layers
    return total / len(pairs)


def attention_regularizer(
    maps: Sequence[Tensor], concept: Positions, category: Positions, mean_weight: float, variance_weight: float
) -> Tensor:
    """AttnDreamBooth's regularizer; the map of a span of several tokens is the mean of their maps."""
    total = torch.zeros((), dtype=torch.float64)
    for layer in maps:
        for sample in layer.double():
            moments = []
            for span in (concept, category):
                values = torch.stack([sample[:, :, position].flatten() for position in span]).mean(0)
                mean = values.sum() / len(values)
                moments.append((mean, ((values - mean) ** 2).sum() / (len(values) - 1)))
            (mean, variance), (category_mean, category_variance) = moments
            total = total + mean_weight * (mean - category_mean) ** 2
            total = total + variance_weight * (variance - category_variance) ** 2
    return total / len(maps)


def signal_rate(t: int) -> float:
    """ᾱ_t of Stable Diffusion's schedule: 1000 betas, linear in their square root from 0.00085 to 0.012."""
    product = 1.0
    for step in range(t + 1):
        root = math.sqrt(0.00085) + (math.sqrt(0.012) - math.sqrt(0.00085)) * step / 999
        product *= 1 - root * root
    return product


def noised(latents: Tensor, noise: Tensor, timesteps: Sequence[int]) -> Tensor:
    """z_t = √ᾱ_t z + √(1-ᾱ_t) ε, sample by sample; what ε and v models take as input."""
    rows = []
    for z, epsilon, t in zip(latents, noise, timesteps, strict=True):
        rate = signal_rate(int(t))
        rows.append(math.sqrt(rate) * z.double() + math.sqrt(1 - rate) * epsilon.double())
    return torch.stack(rows)


def target(latents: Tensor, noise: Tensor, timesteps: Sequence[int], prediction: str) -> Tensor:
    """ε, or v = √ᾱ_t ε - √(1-ᾱ_t) z. prediction: "epsilon" or "v_prediction"."""
    if prediction == "epsilon":
        return noise.double()
    rows = []
    for z, epsilon, t in zip(latents, noise, timesteps, strict=True):
        rate = signal_rate(int(t))
        rows.append(math.sqrt(rate) * epsilon.double() - math.sqrt(1 - rate) * z.double())
    return torch.stack(rows)


def diffusion_loss(prediction: Tensor, wanted: Tensor, mask: Tensor | None = None) -> Tensor:
    """CoRe Eq. 1. mask [B, 1, h, w]: the weighted mean of the squared error, every latent channel alike."""
    batch, channels, height, width = prediction.shape
    weights = torch.ones(batch, 1, height, width) if mask is None else mask
    total, mass = torch.zeros((), dtype=torch.float64), 0.0
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                error = (prediction[b, :, y, x].double() - wanted[b, :, y, x].double()) ** 2
                total = total + float(weights[b, 0, y, x]) * error.sum()
                mass += float(weights[b, 0, y, x]) * channels
    return total / mass


def norm_rescaled(after: Tensor, before: Tensor) -> Tensor:
    """CoRe Eq. 6: each vector of `after` [vectors, width] with the length it has in `before`."""
    rows = []
    for new, old in zip(after.double(), before.double(), strict=True):
        rows.append(new * math.sqrt(float((old * old).sum())) / math.sqrt(float((new * new).sum())))
    return torch.stack(rows)


def anchor_loss(vectors: Tensor, start: Tensor) -> Tensor:
    """Cross Initialization: mean length of what each vector moved; the program's distance adds 1e-6 to each number."""
    lengths = [
        sum((a - b + 1e-6) ** 2 for a, b in zip(new, old, strict=True)) ** 0.5
        for new, old in zip(vectors.double(), start.double(), strict=True)
    ]
    return sum(lengths) / len(lengths)


def semantic_preservation(with_concept: Tensor, without: Tensor) -> Tensor:
    """ClassDiffusion: mean over prompts of 1 − cos of two text features, [P, D] each."""
    distances = []
    for a, b in zip(with_concept.double(), without.double(), strict=True):
        product = sum(x * y for x, y in zip(a, b, strict=True))
        lengths = sum(x * x for x in a) ** 0.5 * sum(y * y for y in b) ** 0.5
        distances.append(1 - product / lengths)
    return sum(distances) / len(distances)


def attention_to_end(maps: Sequence[Tensor], concept: Positions, end: int) -> Tensor:
    """ViCo: per layer and sample the mean over pixels of the squared difference of two maps, each over its highest."""
    total = torch.zeros((), dtype=torch.float64)
    for layer in maps:
        for sample in layer.double():
            mean_of_heads = sum(sample) / len(sample)
            own = sum(mean_of_heads[:, i] for i in concept) / len(concept)
            other = mean_of_heads[:, end].detach()
            total = total + ((own / max(own) - other / max(other)) ** 2).mean() / len(layer)
    return total


def spherical_step(vector: Tensor, gradient: Tensor, prior: Tensor, rate: float, kappa: float) -> Tensor:
    """Directional Textual Inversion: one update of v [width], given ∂L/∂v; its length stays."""
    length = math.sqrt(sum(float(x) ** 2 for x in vector))
    v = [float(x) / length for x in vector]
    g = [length * float(x) - kappa * float(mu) for x, mu in zip(gradient, prior, strict=True)]
    along = sum(a * b for a, b in zip(g, v, strict=True))
    g = [a - along * b for a, b in zip(g, v, strict=True)]
    steepness = math.sqrt(sum(a * a for a in g))
    moved = [b - rate * a / (steepness + 1e-8) for a, b in zip(g, v, strict=True)]
    reach = math.sqrt(sum(a * a for a in moved))
    return torch.tensor([length * a / reach for a in moved])
