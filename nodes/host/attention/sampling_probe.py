"""Cross-attention of chosen words, noted while any of the host's samplers draws with a MODEL.

The probe adds only wrappers to the MODEL, and puts its taps around the cross-attention anew for every call of the
U-Net: so it finds patches that were set before it and after it, and leaves nothing behind. The host's own attention,
or the patch that is there, makes the output; the probabilities are computed beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....core_ops.captured_attention import CapturedAttention
from ..run_control import show_text
from .attention_plan import WatchPlan
from .attention_run import AttentionRun
from .sampling_wrappers import EVALUATION, PREDICTION, SAMPLING, UNET_CALL, with_wrappers

NOTHING_SAMPLED = (
    "no sampling has gone through this probe's model yet. Connect the probe's model output to the sampler whose latent "
    "comes in here. If that is so, ComfyUI took the picture from its cache: change the sampler's seed and run again."
)
NOT_FINISHED = "the last sampling through its model was cancelled or failed, and its maps are gone; run it again."
SAME_LATENT_TOLERANCE = 1e-2
"""Relative; a host that hands latents on in fp16 rounds them."""


class AttentionProbe:
    """What flows as CORE_PROBE: holds the maps of the last whole sampling with the MODEL that `attach` returned."""

    def __init__(self, plan: WatchPlan, node_id: str | None = None) -> None:
        self.plan = plan
        self._node_id = node_id
        self._captured: CapturedAttention | None = None
        self._latents: Tensor | None = None
        self._missing = NOTHING_SAMPLED
        self._run: AttentionRun | None = None

    def attach(self, model: ModelPatcher) -> ModelPatcher:
        """A clone of the MODEL that fills this probe; the model itself and its weights stay as they are."""
        stages: dict[str, Callable] = {
            PREDICTION: AttentionRun.predict,
            EVALUATION: AttentionRun.evaluate,
            UNET_CALL: AttentionRun.call_unet,
        }
        wrappers = {kind: partial(self._follow, stage) for kind, stage in stages.items()}
        return with_wrappers(model, "core_attention_probe", {SAMPLING: self._sample, **wrappers})

    def captured(self, latents: Tensor, where: str = "probe") -> CapturedAttention:
        """The maps of the sampling that made `latents`; raises ValueError when the probe holds no or other maps."""
        if self._captured is None or self._latents is None:
            raise ValueError(f"{where}: {self._missing}")
        given, sampled = latents.float().cpu(), self._latents
        tolerance = SAME_LATENT_TOLERANCE * float(sampled.nan_to_num(0, 0, 0).abs().max())
        if given.shape != sampled.shape or not torch.allclose(given, sampled, rtol=0, atol=tolerance, equal_nan=True):
            latent = where.replace("probe", "latent")
            raise ValueError(
                f"{latent}: it is not what the last sampling through the {where}'s model ended with. Connect the "
                "latent output of that sampler itself, and give every sampler a probe of its own; if it comes from "
                "ComfyUI's cache, change the sampler's seed and run again."
            )
        return self._captured

    def _sample(
        self, executor: Any, noise: Tensor, latent: Any, sampler: Any, sigmas: Tensor, *args: Any, **more: Any
    ) -> Tensor:
        """One sampling from beginning to end: what an earlier one left is gone, whatever becomes of this one."""
        outer = self._run
        self._captured = self._latents = None
        self._missing = NOT_FINISHED
        run = self._run = AttentionRun(
            self.plan, guider=executor.class_obj, sigmas=sigmas, latent_shape=tuple(noise.shape)
        )
        show_text(run.summary, self._node_id)
        try:
            output = executor(noise, latent, sampler, sigmas, *args, **more)
        finally:
            self._run = outer
        self._captured = run.captured()
        if self._captured is None:
            self._missing = run.why_empty()
        self._latents = output.detach().float().cpu().clone()
        return output

    def _follow(self, stage: Callable, executor: Any, *args: Any, **more: Any) -> Any:
        """A stage of the sampling that is under way; what the host calls outside of one is left alone."""
        return executor(*args, **more) if self._run is None else stage(self._run, executor, *args, **more)
