"""Inputs of "CoRe Test-Time Optimize"."""

from __future__ import annotations

from dataclasses import dataclass

from ...core_ops.losses.context_embedding import Formulation
from ...core_ops.recipes.test_time import ATTENTION, EMBEDDING
from ..embedding.settings import BALANCED, FIXED, EmbeddingSettings
from ..settings import choice, integer, like, number, switch, text

PAPER, REFERENCE_CODE = "paper", "reference code"


@dataclass(frozen=True)
class TestTimeSettings:
    prompt: str = text(
        "a photo of a {} in the jungle",
        "The prompt to mend, with {} once where the concept goes; {2} and {3} for further ones. Spaces around them.",
        multiline=True,
    )
    steps: int = integer(10, 0, 10_000, "Optimizer steps. Paper: 10. 0: the plain prompt, and its figures.")
    learning_rate: float = number(5e-4, 1e-7, 1.0, "AdamW's constant rate. Paper: 0.0005.", 1e-4)
    batch_size: int = integer(6, 1, 256, "Noise samples that attention is compared on. Lower it to save memory.")
    width: int = integer(
        512, 16, 16384, "Width in pixels of what will be drawn. Without latent and images only.", step=8
    )
    height: int = integer(
        512, 16, 16384, "Height in pixels of what will be drawn. Without latent and images only.", step=8
    )
    seed: int = integer(0, 0, 2**63 - 1, "Of the noise. Same seed, same result.", control_after_generate=False)
    save_as: str = text(
        "", "Name to write the refined concept under, as an embedding. Empty: nothing is written.", advanced=True
    )
    overwrite: bool = switch(False, "Replace an embedding of the name in save_as.", advanced=True)
    lowest_timestep: int = integer(
        900,
        0,
        999,
        "Attention is compared at noise levels from highest_timestep down to this (0: no noise, 999: noise alone). "
        "With a latent or images that show something, 0 to 500 looks at details.",
        advanced=True,
    )
    highest_timestep: int = integer(
        999, 0, 999, "Highest noise level, where samplers begin and the layout is decided: 999.", advanced=True
    )
    trust_limit: float = number(
        0.0,
        0.0,
        100.0,
        "Limit on how far each vector moves, as a part of its length (0.1: a tenth); 0 for none, as in the paper.",
        0.01,
        advanced=True,
    )
    weighting: str = choice(
        (FIXED, BALANCED),
        "fixed: the weights below, as published. balanced (ours): attention_weight follows the gradients, so that "
        "attention has the share below.",
        advanced=True,
    )
    embedding_weight: float = number(
        1.5e-4, 0.0, 1e6, "λ_emb. Paper: 0.00015. Only its ratio to λ_attn matters.", 1e-5, advanced=True
    )
    attention_weight: float = number(
        0.05, 0.0, 1e9, "λ_attn. Paper: 0.05. Only its ratio to λ_emb matters.", 1e-3, advanced=True
    )
    attention_share: float = number(
        0.5, 0.05, 0.95, "Share of the gradient on the embedding for attention, when balanced.", 0.05, advanced=True
    )
    formulation: str = choice(
        (PAPER, REFERENCE_CODE),
        "paper: the terms as the paper writes them. reference code: as the authors' program computes them.",
        advanced=True,
    )
    optimize_2: bool = switch(True, "Refine concept_2 as well; off: it stays as it is.", advanced=True)
    optimize_3: bool = switch(True, "Refine concept_3 as well; off: it stays as it is.", advanced=True)
    precision: str = like(EmbeddingSettings, "precision")
    gradient_checkpointing: bool = switch(
        False, "Compute the U-Net's blocks twice to keep less memory; slower, same result.", advanced=True
    )

    def __post_init__(self) -> None:
        if self.lowest_timestep > self.highest_timestep:
            raise ValueError(
                f"lowest_timestep: {self.lowest_timestep} is above highest_timestep {self.highest_timestep}; lower it."
            )
        if self.embedding_weight == 0 and self.attention_weight == 0:
            raise ValueError(
                "embedding_weight: both weights are 0, so nothing would change; raise one, or set steps 0."
            )

    @property
    def timesteps(self) -> range:
        return range(self.lowest_timestep, self.highest_timestep + 1)

    @property
    def weights(self) -> dict[str, float]:
        """λ by term."""
        return {EMBEDDING: self.embedding_weight, ATTENTION: self.attention_weight}

    @property
    def counted(self) -> list[str]:
        """Terms that count: that none of them rises is seen to."""
        return [name for name, weight in self.weights.items() if weight > 0]

    @property
    def terms_formulation(self) -> Formulation:
        return "paper" if self.formulation == PAPER else "reference_code"
