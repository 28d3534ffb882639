"""Settings of "CoRe Train Embedding": the paper's defaults, and what each input means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ...core_ops.pictures import Fit
from ...core_ops.prompts.prompt_templates import PROMPT_SETS, parse_templates, prompt_set
from ...core_ops.recipes.attndreambooth import AttnDreamBoothConfig
from ...core_ops.recipes.context_regularization import (
    ATTENTION,
    EMBEDDING,
    PUBLISHED_WEIGHTS,
    ContextRegularizationConfig,
)
from ...core_ops.recipes.cross_initialization import ANCHOR_WEIGHT
from ...core_ops.recipes.vico_regularization import TO_END_WEIGHT
from ...core_ops.training.objective import BALANCED, FIXED
from ...core_ops.training.optimization import KAPPA
from ..host.models.denoiser import UNetPlan
from ..host.models.module_copy import computed_dtype, dtype_for
from ..settings import choice, integer, like, number, switch, text, unread
from ..training.concept_preview import preview_templates
from ..training.shared_settings import SharedSettings
from .methods import ATTNDREAMBOOTH, CORE, METHODS, EmbeddingMethod

OWN_PROMPTS = "own"
PAPER, STAGE_1 = METHODS[CORE].published, METHODS[ATTNDREAMBOOTH].published


@dataclass(frozen=True)
class EmbeddingSettings:
    concept_name: str = text(
        "my-concept",
        help="Name of the embedding file and of the trigger: embedding:NAME. Letters, digits, '-', '_' and '.'.",
    )
    super_category: str = text(
        "dog",
        help=(
            "What kind of thing it is, in one or a few plain words: dog, teapot, teddy bear. The embedding starts from "
            "it, and it takes the concept's place in the reference prompts."
        ),
    )
    method: str = choice(
        tuple(METHODS),
        help=" ".join(method.help for method in METHODS.values())
        + " Choosing one fills in its steps, batch size, learning rate and augmentation.",
        fills={name: method.published for name, method in METHODS.items()},
        shows={name: method.inputs for name, method in METHODS.items()},
    )
    prompt_set: str = choice(
        (*PROMPT_SETS, OWN_PROMPTS),
        help=(
            "Prompts that CoRe regularizes with: for living things and dolls, for objects, for people, for anything, "
            "for a style of pictures, or your own."
        ),
        shows={OWN_PROMPTS: ["own_prompts"]},
    )
    steps: int = integer(
        PAPER["steps"],
        low=1,
        high=100_000,
        help=f"Optimizer steps. Paper: {PAPER['steps']} (AttnDreamBooth stage 1: {STAGE_1['steps']}).",
    )
    batch_size: int = integer(
        PAPER["batch_size"],
        low=1,
        high=256,
        help=(
            f"Noised pictures per step. Paper: {PAPER['batch_size']} (AttnDreamBooth stage 1: "
            f"{STAGE_1['batch_size']}). Lower it to save memory."
        ),
    )
    learning_rate: float = number(
        PAPER["learning_rate"],
        low=1e-7,
        high=1.0,
        step=1e-4,
        help=(
            f"AdamW's rate. Paper: {PAPER['learning_rate']} (AttnDreamBooth stage 1: {STAGE_1['learning_rate']}). "
            "Where the direction alone is learned: radians per step."
        ),
    )
    resolution: int = like(SharedSettings, "resolution")
    seed: int = like(SharedSettings, "seed")
    overwrite: bool = switch(False, help="Replace an embedding of the same name.")
    caption_template: str = like(SharedSettings, "caption_template")
    vectors: int = integer(
        1,
        low=1,
        high=64,
        help="Vectors in the embedding, each takes one of 75 places in a prompt. Paper: 1.",
        advanced=True,
    )
    initial_words: str = text(
        "", help="Words to start the embedding from. Empty: the super-category, as in the paper.", advanced=True
    )
    weighting: str = choice(
        (FIXED, BALANCED),
        help=(
            "fixed: embedding_weight and attention_weight, as published. balanced (ours): each follows the gradients, "
            "so that its term has embedding_share or attention_share of them."
        ),
        advanced=True,
        shows={BALANCED: ["embedding_share", "attention_share"]},
    )
    embedding_weight: float = number(
        PUBLISHED_WEIGHTS[EMBEDDING],
        low=0.0,
        high=1e6,
        step=1e-5,
        help=f"λ_emb, weight of the context embedding regularization. Paper: {PUBLISHED_WEIGHTS[EMBEDDING]}.",
        advanced=True,
    )
    attention_weight: float = number(
        PUBLISHED_WEIGHTS[ATTENTION],
        low=0.0,
        high=1e9,
        step=1e-3,
        help=f"λ_attn, weight of the context attention regularization. Paper: {PUBLISHED_WEIGHTS[ATTENTION]}.",
        advanced=True,
    )
    embedding_share: float = number(
        0.1,
        low=0.0,
        high=0.9,
        step=0.01,
        help="Share of the averaged gradient on the embedding for λ_emb's term, when balanced. 0.3 if a LoRA follows.",
        advanced=True,
    )
    attention_share: float = number(
        0.1,
        low=0.0,
        high=0.9,
        step=0.01,
        help="Share of the averaged gradient on the embedding for λ_attn's term, when balanced. 0.3 if a LoRA follows.",
        advanced=True,
    )
    rescale_from: float = number(
        0.4,
        low=0.0,
        high=1.0,
        step=0.05,
        help="Where the embedding begins to keep its norm, as a part of the steps. Paper: 0.4, step 120 of 300.",
        advanced=True,
    )
    rescale_to: float = number(
        0.6,
        low=0.0,
        high=1.0,
        step=0.05,
        help="Where its norm is no longer kept, as a part of the steps; 0: never kept. Paper: 0.6, step 180 of 300.",
        advanced=True,
    )
    regularization_batch: int = integer(
        ContextRegularizationConfig.regularization_batch,
        low=0,
        high=256,
        help="Pictures of the batch that the attention regularization uses; 0 for all, as in the paper.",
        advanced=True,
    )
    alignment_mean: float = number(
        AttnDreamBoothConfig.mean_weight,
        low=0.0,
        high=1e6,
        step=0.1,
        help=f"AttnDreamBooth: weight of the maps' mean. Paper, stage 1: {AttnDreamBoothConfig.mean_weight}.",
        advanced=True,
    )
    alignment_variance: float = number(
        AttnDreamBoothConfig.variance_weight,
        low=0.0,
        high=1e6,
        step=0.1,
        help=f"AttnDreamBooth: weight of the maps' variance. Paper, stage 1: {AttnDreamBoothConfig.variance_weight:g}.",
        advanced=True,
    )
    anchor_weight: float = number(
        ANCHOR_WEIGHT,
        low=0.0,
        high=1e3,
        step=1e-5,
        help=f"Cross Initialization: weight of staying near the start. Paper: {ANCHOR_WEIGHT}.",
        advanced=True,
    )
    end_weight: float = number(
        TO_END_WEIGHT,
        low=0.0,
        high=1e6,
        step=1e-4,
        help=f"ViCo: weight of looking where end-of-text looks. Paper: {TO_END_WEIGHT}.",
        advanced=True,
    )
    direction_prior: float = number(
        KAPPA,
        low=0.0,
        high=1e3,
        step=1e-5,
        help=f"Directional Textual Inversion: κ, pull towards the super-category's direction. Paper: {KAPPA}.",
        advanced=True,
    )
    fit: Fit = like(SharedSettings, "fit")
    augmentation: int = like(SharedSettings, "augmentation")
    use_masks: bool = like(SharedSettings, "use_masks")
    precision: str = like(SharedSettings, "precision")
    gradient_checkpointing: bool = like(SharedSettings, "gradient_checkpointing")
    checkpointing_levels: int = like(SharedSettings, "checkpointing_levels")
    offload: float = like(SharedSettings, "offload")
    schedule: str = like(SharedSettings, "schedule")
    warmup: float = like(SharedSettings, "warmup")
    weight_decay: float = like(SharedSettings, "weight_decay")
    min_snr_gamma: float = like(SharedSettings, "min_snr_gamma")
    ema_decay: float = like(SharedSettings, "ema_decay")
    gradient_accumulation: int = like(SharedSettings, "gradient_accumulation")
    max_gradient_norm: float = like(SharedSettings, "max_gradient_norm")
    preview_every: int = integer(
        150, low=0, high=100_000, help="Steps between live previews of the concept; 0 for none.", advanced=True
    )
    preview_steps: int = like(SharedSettings, "preview_steps")
    preview_guidance: float = like(SharedSettings, "preview_guidance")
    preview_size: int = like(SharedSettings, "preview_size")
    hold_out: bool = like(SharedSettings, "hold_out")
    save_every: int = integer(
        50,
        low=0,
        high=100_000,
        help="Steps between saved states to go on from, each with the embedding as it is; 0 for none.",
        advanced=True,
    )
    clear_steps: bool = like(SharedSettings, "clear_steps")
    start: str = like(SharedSettings, "start")
    preview_negative: str = like(SharedSettings, "preview_negative")
    own_prompts: str = text(
        "", help="One prompt per line, each with {} once. Used when prompt_set is 'own'.", multiline=True
    )
    preview_prompts: str = like(SharedSettings, "preview_prompts")

    def __post_init__(self) -> None:
        if not self.super_category.strip():
            raise ValueError("super_category: it is empty; name the kind of thing, such as 'dog'.")
        if self.rescale_to and self.rescale_from > self.rescale_to:
            raise ValueError(
                f"rescale_from: {self.rescale_from} comes after rescale_to {self.rescale_to}; "
                "lower it, or set rescale_to to 0 for no rescaling."
            )
        if self.weighting == BALANCED and self.embedding_share + self.attention_share >= 1:
            raise ValueError("embedding_share: together with attention_share it must stay below 1; lower one of them.")
        preview_templates(self)

    @property
    def chosen_method(self) -> EmbeddingMethod:
        return METHODS[self.method]

    @property
    def unread(self) -> set[str]:
        """Settings that do nothing with what the others are, such as those that only other methods read."""
        return unread(self)

    @property
    def rescaled_steps(self) -> tuple[int, int]:
        """The first step in which v keeps its norm, counted from 1, and the last; 0 for none (it always keeps it)."""
        if "rescale_to" in self.unread:
            return 1, 0
        return max(round(self.rescale_from * self.steps), 1), round(self.rescale_to * self.steps)

    @property
    def fixed_regularizers(self) -> tuple[str, ...]:
        """CoRe's terms that have a weight which does not follow the gradients."""
        weights = {EMBEDDING: self.embedding_weight, ATTENTION: self.attention_weight}
        fixed = self.chosen_method.draws_prompts and self.weighting == FIXED
        return tuple(name for name, weight in weights.items() if fixed and weight > 0)

    @property
    def published_rate(self) -> float:
        return self.chosen_method.published["learning_rate"]

    def prompt_templates(self) -> tuple[str, ...]:
        """Prompts that the method regularizes v in; none where it does not."""
        if not self.chosen_method.draws_prompts:
            return ()
        return parse_templates(self.own_prompts) if self.prompt_set == OWN_PROMPTS else prompt_set(self.prompt_set)

    def unet_plan(self, model: Any, device: torch.device | None = None) -> UNetPlan:
        """How the copy of the MODEL's U-Net computes; device: its own, by default."""
        return UNetPlan(
            dtype_for(self.precision, model.load_device, computed_dtype(model)),
            recomputed_levels=self.checkpointing_levels if self.gradient_checkpointing else None,
            offload=self.offload,
            device=device,
        )
