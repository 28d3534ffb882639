"""Settings of "U-Net Identity Finetune": what its inputs mean together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from ...core_ops.weights.timestep_rank import RankSchedule
from ..host.models.denoiser import UNetPlan, added_to
from ..host.models.module_copy import computed_dtype, dtype_for
from ..host.models.trainable_unet import ADAPTERS, DORA, FULL, LORA, OFT, SINGULAR_VALUES, T_LORA, WeightChoice
from ..settings import NO_FILE, unread
from ..training.concept_preview import preview_templates
from ..training.optimizers import PRODIGY
from .conflicts import refuse_together
from .presets import CORE, DREAMBOOTH_LORA, PRESETS, SVDIFF
from .widget_settings import SAVE_BOTH, SAVE_LORA, SAVE_TRAINED, SAVE_UNET, FinetuneWidgets

PRODIGY_RATE = 1.0


@dataclass(frozen=True)
class FinetuneSettings(FinetuneWidgets):
    def __post_init__(self) -> None:
        refuse_together(self)
        if self.save in (SAVE_UNET, SAVE_BOTH) and not self.replaces_weights:
            raise ValueError(
                f"save: {self.save!r} needs form {FULL!r} or 'singular values'; {self.form} is saved as a LoRA file: "
                f"choose {SAVE_TRAINED!r}."
            )
        if self.start_from != NO_FILE and self.form != LORA:
            raise ValueError(f"start_from: a LoRA is trained further as one; set form to {LORA!r}, or choose no file.")
        preview_templates(self)

    @property
    def replaces_weights(self) -> bool:
        """Whether the result is whole weights, not an adapter that core applies."""
        return self.form not in ADAPTERS

    @property
    def saves_unet(self) -> bool:
        return self.replaces_weights and self.save != SAVE_LORA

    @property
    def extracts_lora(self) -> bool:
        return self.replaces_weights and self.save in (SAVE_LORA, SAVE_BOTH)

    @property
    def saves_lora(self) -> bool:
        return not self.replaces_weights or self.extracts_lora or self.train_text_encoder

    @property
    def unread(self) -> set[str]:
        """Settings that do nothing with what the others are."""
        return unread(self) if self.saves_lora else {*unread(self), "rank"}

    @property
    def published_rate(self) -> float:
        """Of the preset where it trains this form, else of the form: what learning_rate is to be compared with."""
        return PRODIGY_RATE if self.optimizer == PRODIGY else self._published["learning_rate"]

    @property
    def published_steps(self) -> int:
        """The same, for one concept."""
        return self._published["steps"]

    @property
    def _published(self) -> Mapping[str, Any]:
        preset = PRESETS[self.preset]
        if preset["form"] == self.form:
            return preset
        by_form = {FULL: CORE, SINGULAR_VALUES: SVDIFF, OFT: OFT}
        return PRESETS[by_form.get(self.form, DREAMBOOTH_LORA)]

    @property
    def aligned(self) -> bool:
        return self.alignment_mean > 0 or self.alignment_variance > 0

    @property
    def preserves_semantics(self) -> bool:
        return self.train_embedding and self.semantic_weight > 0

    @property
    def encodes_anew(self) -> bool:
        """Whether the same prompt has another encoding after a step."""
        return self.train_embedding or self.train_text_encoder

    def unet_plan(self, model: Any, device: torch.device | None = None) -> UNetPlan:
        """How the copy of the MODEL's U-Net computes; device: its own, by default.

        Raises ValueError for a precision that the device has not, and a form that the MODEL is not for. fused_backward
        takes no fp16.
        """
        if self.form == DORA and added_to(model):
            raise ValueError(
                "form: DoRA cannot be trained on a model with a T-LoRA; choose LoRA, or connect the model without it."
            )
        loaded = None if self.fused_backward else computed_dtype(model)
        return UNetPlan(
            dtype_for(self.precision, model.load_device, loaded),
            trained=self.weight_choice,
            recomputed_levels=self.checkpointing_levels if self.gradient_checkpointing else None,
            offload=self.offload,
            device=device,
        )

    @property
    def text_choice(self) -> WeightChoice | None:
        """In which form the text encoder is trained: LoRA, or DoRA as the U-Net; None where it is not."""
        if not self.train_text_encoder:
            return None
        if self.form in (LORA, DORA):
            return self.weight_choice
        return replace(self.weight_choice, form=LORA, alpha=float(self.rank), dropout=0.0)

    @property
    def weight_choice(self) -> WeightChoice:
        return WeightChoice(
            self.scope,
            self.form,
            rank=self.rank,
            alpha=self.alpha,
            seed=self.seed,
            dropout=self.dropout,
            least_rank=self.least_rank,
            rank_power=self.rank_power,
        )

    @property
    def rank_schedule(self) -> RankSchedule | None:
        """Of a T-LoRA."""
        return self.weight_choice.schedule if self.form == T_LORA else None
