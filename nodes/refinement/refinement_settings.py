"""Inputs of "CoRe Test-Time Optimize"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...core_ops.embedding_adjustment import NORM, ROTATION
from ...core_ops.losses.context_losses import Formulation
from ...core_ops.recipes.prompt_refinement import ATTENTION, EMBEDDING, PUBLISHED_WEIGHTS
from ...core_ops.training.objective import BALANCED, FIXED, BalancedWeights, FixedWeights
from ..embedding.embedding_settings import EmbeddingSettings
from ..host.models.denoiser import UNetPlan
from ..host.models.module_copy import computed_dtype, dtype_for
from ..settings import choice, integer, like, number, switch, text

PAPER, REFERENCE_CODE = "paper", "reference code"
NONE, TEA = "none", "TEA"
SMALLEST = 16
"""Side in pixels; U-Nets halve their latents."""


@dataclass(frozen=True)
class RefinementSettings:
    steps: int = integer(
        10, low=0, high=10_000, help="Optimizer steps. Paper: 10. 0: the plain prompt, and its figures."
    )
    learning_rate: float = number(
        5e-4,
        low=1e-7,
        high=1.0,
        step=1e-4,
        help="AdamW's constant rate. The authors' program: 0.0005; the paper names none.",
    )
    batch_size: int = integer(
        6, low=1, high=256, help="Noise samples that attention is compared on. Lower it to save memory."
    )
    width: int = integer(
        0,
        low=0,
        high=16384,
        step=8,
        help="Width in pixels of what will be drawn; 0: the model's own. Without latent and images only.",
    )
    height: int = integer(
        0,
        low=0,
        high=16384,
        step=8,
        help="Height in pixels of what will be drawn; 0: the model's own. Without latent and images only.",
    )
    seed: int = integer(
        0, low=0, high=2**63 - 1, help="Seed of the noise. Same seed, same result.", control_after_generate=False
    )
    adjustment: str = choice(
        (NONE, TEA),
        help=(
            "none: the concept as it was learned, as in the paper. TEA: it is first turned towards its super-category, "
            "at once and without a gradient; with steps 0 that is all."
        ),
        shows={TEA: ["tea_rotation", "tea_norm"]},
    )
    tea_rotation: float = number(
        ROTATION,
        low=0.0,
        high=1.0,
        step=0.05,
        help=f"TEA: ρ, part of the way to the super-category's direction. Paper: {ROTATION}.",
        advanced=True,
    )
    tea_norm: float = number(
        NORM,
        low=0.0,
        high=1.0,
        step=0.05,
        help=f"TEA: α, part of the way to the length of the super-category's vector. Paper: {NORM}.",
        advanced=True,
    )
    save_as: str = text(
        "", help="Name to write the refined concept under, as an embedding. Empty: nothing is written.", advanced=True
    )
    overwrite: bool = switch(False, help="Replace an embedding of the name in save_as.", advanced=True)
    lowest_timestep: int = integer(
        900,
        low=0,
        high=999,
        help=(
            "Attention is compared at noise levels from highest_timestep down to this (0: no noise, 999: noise alone). "
            "With a latent or images that show something, 0 to 500 looks at details."
        ),
        advanced=True,
    )
    highest_timestep: int = integer(
        999,
        low=0,
        high=999,
        help="Highest noise level, where samplers begin and the layout is decided: 999.",
        advanced=True,
    )
    trust_limit: float = number(
        0.0,
        low=0.0,
        high=100.0,
        step=0.01,
        help="Limit on how far each vector moves, as a part of its length (0.1: a tenth); 0 for none, as in the paper.",
        advanced=True,
    )
    weighting: str = choice(
        (FIXED, BALANCED),
        help=(
            "fixed: embedding_weight and attention_weight, as published. balanced (ours): attention_weight follows the "
            "gradients, so that attention has attention_share of them."
        ),
        advanced=True,
        shows={BALANCED: ["attention_share"]},
    )
    embedding_weight: float = number(
        PUBLISHED_WEIGHTS[EMBEDDING],
        low=0.0,
        high=1e6,
        step=1e-5,
        help=f"λ_emb. Paper: {PUBLISHED_WEIGHTS[EMBEDDING]}. Only its ratio to λ_attn matters.",
        advanced=True,
    )
    attention_weight: float = number(
        PUBLISHED_WEIGHTS[ATTENTION],
        low=0.0,
        high=1e9,
        step=1e-3,
        help=f"λ_attn. Paper: {PUBLISHED_WEIGHTS[ATTENTION]}. Only its ratio to λ_emb matters.",
        advanced=True,
    )
    attention_share: float = number(
        0.5,
        low=0.05,
        high=0.95,
        step=0.05,
        help="Share of the gradient on the embedding for attention, when balanced.",
        advanced=True,
    )
    formulation: str = choice(
        (PAPER, REFERENCE_CODE),
        help="paper: the terms as the paper writes them. reference code: as the authors' program computes them.",
        advanced=True,
    )
    shared_queries: bool = switch(
        False,
        help=(
            "Ours: the prompt's attention is read off the pass of the prompt with the super-category. No step runs the "
            "U-Net then: nearly the same result in less than half the time."
        ),
        advanced=True,
    )
    optimize_2: bool = switch(True, help="Refine concept_2 as well; off: it stays as it is.", advanced=True)
    optimize_3: bool = switch(True, help="Refine concept_3 as well; off: it stays as it is.", advanced=True)
    precision: str = like(EmbeddingSettings, "precision")
    gradient_checkpointing: bool = switch(
        False, help="Compute the U-Net's blocks twice to keep less memory; slower, same result.", advanced=True
    )
    prompt: str = text(
        "a photo of a {} in the jungle",
        help="The prompt to refine the concept for, with {} once where the concept goes; {2} and {3} for further ones.",
        multiline=True,
    )

    def __post_init__(self) -> None:
        if self.lowest_timestep > self.highest_timestep:
            raise ValueError(
                f"lowest_timestep: {self.lowest_timestep} is above highest_timestep {self.highest_timestep}; lower it."
            )
        for name, pixels in (("width", self.width), ("height", self.height)):
            if 0 < pixels < SMALLEST:
                raise ValueError(f"{name}: {pixels} is too small; give {SMALLEST} or more, or 0 for the model's own.")
        if self.embedding_weight == 0 and self.attention_weight == 0:
            raise ValueError(
                "embedding_weight: both weights are 0, so nothing would change; raise one, or set steps 0."
            )
        if self.embedding_weight == 0 and self.weighting == BALANCED:
            raise ValueError(
                "embedding_weight: it is 0, and balanced weighs L_attn by L_emb's gradient, so nothing would change; "
                "raise it, or choose fixed."
            )

    @property
    def timesteps(self) -> range:
        return range(self.lowest_timestep, self.highest_timestep + 1)

    @property
    def weights(self) -> FixedWeights:
        """λ by term."""
        weights = {EMBEDDING: self.embedding_weight, ATTENTION: self.attention_weight}
        return (
            BalancedWeights({ATTENTION: self.attention_share}, weights)
            if self.weighting == BALANCED
            else FixedWeights(weights)
        )

    @property
    def counted(self) -> list[str]:
        """Terms that count: that none of them rises is seen to."""
        return [name for name, weight in self.weights.weights.items() if weight > 0]

    @property
    def terms_formulation(self) -> Formulation:
        return "paper" if self.formulation == PAPER else "reference_code"

    def unet_plan(self, model: Any) -> UNetPlan:
        """How the copy of the MODEL's U-Net computes."""
        return UNetPlan(
            dtype_for(self.precision, model.load_device, computed_dtype(model)),
            recomputed_levels=0 if self.gradient_checkpointing else None,
        )
