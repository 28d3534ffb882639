"""Cross-attention of chosen words, noted while any of the host's samplers draws with a MODEL.

The probe adds only wrappers to the MODEL, and puts its taps around the cross-attention anew for every call of the
U-Net: so it finds patches that were set before it and after it, and leaves nothing behind. The host's own attention,
or the patch that is there, makes the output; the probabilities are computed beside it.

Leans on `comfy.patcher_extension`: four kinds of wrappers, what each is called with, and `executor.class_obj` (the
guider of a sampling, the U-Net of a call); the same in all hosts since 0.28.0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....core_ops.attention_maps import CapturedAttention
from ..models.unet_layout import Layer, preferred_attentions
from ..run_control import show_text
from .attention_replacement import Attention, host_attention, replace_attention
from .attention_run import AttentionRun, WatchedCall, WatchPlan

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
        probed = model.clone()
        wrappers: dict[str, Callable] = {
            WrappersMP.OUTER_SAMPLE: self._sample,
            WrappersMP.PREDICT_NOISE: self._predict,
            WrappersMP.CALC_COND_BATCH: self._evaluate,
            WrappersMP.DIFFUSION_MODEL: self._call_unet,
        }
        for kind, wrapper in wrappers.items():
            probed.add_wrapper_with_key(kind, "core_attention_probe", wrapper)
        return probed

    def captured(self, latents: Tensor, where: str = "probe") -> CapturedAttention:
        """The maps of the sampling that made `latents`; raises ValueError when the probe holds no or other maps."""
        if self._captured is None or self._latents is None:
            raise ValueError(f"{where}: {self._missing}")
        if not _same(latents.float().cpu(), self._latents):
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
        run = self._run = AttentionRun(self.plan, executor.class_obj, sigmas, tuple(noise.shape))
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

    def _predict(self, executor: Any, *args: Any, **more: Any) -> Any:
        """One prediction: its first evaluation of the watched part counts; later ones are a guidance method's."""
        if self._run is not None:
            self._run.awaiting = True
        return executor(*args, **more)

    def _evaluate(self, executor: Any, model: Any, conds: Any, x: Tensor, sigma: Tensor, *args: Any) -> Any:
        run = self._run
        if run is None or not run.awaiting:
            return executor(model, conds, x, sigma, *args)
        run.awaiting = not run.begin_evaluation(conds, x, float(sigma.flatten()[0]))
        try:
            return executor(model, conds, x, sigma, *args)
        finally:
            run.end_evaluation()

    def _call_unet(
        self, executor: Any, x: Tensor, timesteps: Any, context: Tensor, y: Any, control: Any, options: Any, **more: Any
    ) -> Tensor:
        """One call of the U-Net, for a batch of parts and regions that the host put together."""
        call = self._run and self._run.watched_call(x, context, options)
        if call:
            preferred = preferred_attentions(executor.class_obj)
            options = replace_attention(
                options, self.plan.layers, lambda layer, patch: _tapped(call, layer, patch, preferred.get(layer))
            )
        return executor(x, timesteps, context, y, control, options, **more)


def _tapped(call: WatchedCall, layer: Layer, patched: Attention | None, preferred: Any) -> Attention:
    def attention(q: Tensor, k: Tensor, v: Tensor, extra: Any) -> Tensor:
        with torch.no_grad():
            call.note(layer, q, k, extra)
        return host_attention(q, k, v, extra, preferred) if patched is None else patched(q, k, v, extra)

    return attention


def _same(latents: Tensor, sampled: Tensor) -> bool:
    if latents.shape != sampled.shape:
        return False
    tolerance = SAME_LATENT_TOLERANCE * float(sampled.nan_to_num(0, 0, 0).abs().max())
    return torch.allclose(latents, sampled, rtol=0, atol=tolerance, equal_nan=True)
