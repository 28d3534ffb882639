"""A host MODEL behind the `Denoiser` interface of core_ops."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import comfy.model_base
import comfy.model_sampling
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ....core_ops.conditioning import TextConditioning
from ....core_ops.diffusion_process import AttentionStatistic, NoiseSchedule, Prediction
from ....core_ops.pictures import LATENT_CELL
from ....core_ops.weights.stored_weights import cast_frozen
from ..attention.attention_replacement import (
    AttentionTap,
    QueryTap,
    for_training,
    key_patches,
    patch_names,
    statistic_of,
    with_layer_contexts,
)
from .module_copy import HostWeights, autograd_tensor, frozen_copy, stays_stored, validate_copyable
from .unet_layout import (
    Block,
    attention_blocks,
    block_depths,
    block_of,
    cross_attention_layers,
    cross_attentions,
    offloaded_layers,
    recomputable_blocks,
)

if TYPE_CHECKING:
    from ....core_ops.weights.timestep_rank import TimestepRanks
    from ....core_ops.weights.trainable_weights import TrainableWeights
    from .timestep_lora import TimestepLora
    from .trainable_unet import WeightChoice

LATENT_CHANNELS = 4
OF_ANOTHER_KIND = {
    comfy.model_base.SDXLRefiner: "the SDXL refiner, which only finishes what SDXL began; load an SDXL base checkpoint",
    comfy.model_base.SD21UNCLIP: "a model that reads pictures too (unCLIP); load Stable Diffusion 2.1 itself",
}
CPU = torch.device("cpu")
ADDED = "core_personalization_added"
"""Attachment of a MODEL: what of ours its layers gain while it samples, and a copy must have too."""
CONDITIONAL = uuid.UUID(int=0)
"""The host's samplers name each conditioning of a batch so."""


def unet_of(model: ModelPatcher) -> UNetModel:
    """The U-Net of an SD1, SD2 or SDXL model; raises ValueError for other models."""
    unet: Any = getattr(model.model, "diffusion_model", None)
    if not isinstance(unet, UNetModel) or not cross_attention_layers(unet):
        raise ValueError(
            f"model: {type(model.model).__name__} has no U-Net with cross-attention, which these methods work on. "
            "Load a Stable Diffusion 1.x, 2.x or XL checkpoint."
        )
    return unet


def validate_model(model: ModelPatcher) -> None:
    """Raises ValueError unless `model` is an SD1, SD2 or SDXL U-Net that predicts ε or v."""
    for kind, told in OF_ANOTHER_KIND.items():
        if isinstance(model.model, kind):
            raise ValueError(f"model: this is {told}.")
    name, unet = type(model.model).__name__, unet_of(model)
    if unet.in_channels != LATENT_CHANNELS:
        raise ValueError(
            f"model: this {name} takes {unet.in_channels} latent channels, as inpainting and editing models do; "
            f"load the base model with {LATENT_CHANNELS}."
        )
    if any(getattr(module, "pre_quant_scale", None) is not None for module in unet.modules()):
        raise ValueError(
            "model: its quantised layers scale their inputs (AWQ), which cannot be trained on; load another."
        )
    prediction_of(model)
    validate_copyable("model", model)


def prediction_of(model: ModelPatcher) -> Prediction:
    """What the model predicts, patches such as ModelSamplingDiscrete included; raises ValueError for other spaces."""
    sampling = model.get_model_object("model_sampling")
    bases = type(sampling).__bases__  # the host mixes a schedule and a prediction: (ModelSamplingDiscrete, EPS)
    if isinstance(sampling, comfy.model_sampling.ModelSamplingDiscrete):
        if comfy.model_sampling.V_PREDICTION in bases:
            return "v"
        if comfy.model_sampling.EPS in bases:
            return "epsilon"
    raise ValueError(
        f"model: it samples as {', '.join(base.__name__ for base in bases)}; "
        "only discrete ε- and v-prediction can be trained. Remove the sampling patch, or load another checkpoint."
    )


def validate_unpatched_keys(model: ModelPatcher, parameter: str) -> None:
    """Raises ValueError, beginning with the parameter that asks for it, where other nodes' patches may change keys."""
    if names := key_patches(model.model_options.get("transformer_options", {})):
        raise ValueError(
            f"{parameter}: it computes cross-attention's keys itself, which a patch on the model may change, of "
            f"{' or '.join(names)}; connect the model as it is before that node, or choose otherwise here."
        )


def added_to(model: ModelPatcher) -> Sequence[TimestepLora]:
    return model.attachments.get(ADDED, ())


def own_side(model: ModelPatcher) -> int:
    """Side in pixels of the pictures that the model was made for, by the width of its text encoder's output."""
    by_width = {768: 512, 1024: 768 if prediction_of(model) == "v" else 512}
    return by_width.get(model.model.model_config.unet_config["context_dim"], 1024)


@dataclass(frozen=True)
class UNetPlan:
    """How a copy of a U-Net computes.

    dtype: the precision that it runs in. trained: what is made trainable. offload: share of the frozen layers' weights
    that stay in main memory, 0…1; on a CPU they are there. device: where it computes, the MODEL's own by default,
    `meta` for a rehearsal. recomputed_levels: as `checkpoint_blocks` takes them; None keeps all activations.
    """

    dtype: torch.dtype
    trained: WeightChoice | None = None
    offload: float = 0.0
    device: torch.device | None = None
    recomputed_levels: int | None = None


class HostDenoiser:
    """A copy of a MODEL's U-Net, differentiable in its inputs and in what the plan makes trainable."""

    trainable: TrainableWeights
    """Of a plan that trains some."""
    blocks: list[Block]
    """With cross-attention, in forward order."""

    def __init__(self, model: ModelPatcher, plan: UNetPlan) -> None:
        validate_model(model)
        self.dtype, self.device = plan.dtype, plan.device or model.load_device
        self.host_weights = weights = HostWeights(model, "diffusion_model")
        trained = plan.trained.names(weights.module) if plan.trained and not plan.trained.keeps_weights else ()
        on_cpu = model.load_device.type == "cpu"
        away = set() if on_cpu else offloaded_layers(weights.module, plan.offload, trained)
        unet: Any = frozen_copy(weights, lambda name: CPU if name.rpartition(".")[0] in away else self.device)
        stays = partial(stays_stored, device=model.load_device, dtype=self.dtype)
        if plan.trained:
            names = plan.trained.names(unet)
            self.trainable = plan.trained.apply(unet, names, compute=(self.device, self.dtype), stays=stays)
        else:
            cast_frozen(unet, self.dtype, stays)
        self._ranks = [each.onto(unet, self.device) for each in added_to(model)]
        self._ranks += [self.trainable.ranks] if plan.trained else []
        # Frozen tensors that are on the device too, and no part of the U-Net.
        self.beside = [matrix for each in added_to(model) for matrix in each.matrices]
        self.beside += self.trainable.beside if plan.trained else []
        self.unet: UNetModel = unet
        if plan.recomputed_levels is not None:
            self.checkpoint_blocks(plan.recomputed_levels)
        sigmas = autograd_tensor(model.get_model_object("model_sampling").sigmas)
        self.schedule = NoiseSchedule((1 / (1 + sigmas.square())).to(self.device), prediction_of(model))
        self._encode_adm, self._sizes = model.model.encode_adm, dict[tuple[int, ...], Tensor]()
        self._layers, self.blocks = cross_attention_layers(self.unet), attention_blocks(self.unet)
        self._attentions, self._sigmas = cross_attentions(self.unet), sigmas.to(self.device)
        self._sample_sigmas = torch.cat([self._sigmas.flip(0), self._sigmas.new_zeros(1)])
        # A rehearsal counts the U-Net's own memory: patches are code of others, who never thought of shapes alone.
        options = {} if self.device.type == "meta" else model.model_options.get("transformer_options", {})
        for place in (self.device, self.dtype) if options else ():
            model.model_patches_to(place)  # as the host does where it loads the model itself
        self._options, self._patches = for_training(options), patch_names(options)

    def __call__(self, z_t: Tensor, t: Tensor, text: TextConditioning) -> Tensor:
        text = text.expand(z_t.shape[0])
        parts = [self._forward(z_t[part], t[part], text[part], self._options) for part in self._parts(t)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def with_attention(
        self, z_t: Tensor, t: Tensor, text: TextConditioning, statistic: AttentionStatistic
    ) -> tuple[Tensor, list[Tensor]]:
        batch = z_t.shape[0]
        # A statistic is of the whole batch; of a part, the others' rows are copies that are left out again.
        return self._tapped(
            z_t, t, text, lambda part: AttentionTap(lambda p: statistic(p.expand(batch, *p.shape[1:]))[part])
        )

    def with_queries(self, z_t: Tensor, t: Tensor, text: TextConditioning) -> tuple[Tensor, list[Tensor]]:
        return self._tapped(z_t, t, text, lambda part: QueryTap())

    def _tapped(
        self, z_t: Tensor, t: Tensor, text: TextConditioning, tap_of: Callable[[slice], AttentionTap | QueryTap]
    ) -> tuple[Tensor, list[Tensor]]:
        text, predictions, collected = text.expand(z_t.shape[0]), list[Tensor](), list[list[Tensor]]()
        for part in self._parts(t):
            tap = tap_of(part)
            options = tap.patch(self._options, self._layers)
            predictions.append(self._forward(z_t[part], t[part], text[part], options))
            collected.append(tap.collect())
        if len(predictions) == 1:
            return predictions[0], collected[0]
        return torch.cat(predictions), [torch.cat(layer) for layer in zip(*collected, strict=True)]

    def attention_of(
        self, queries: Sequence[Tensor], t: Tensor, text: TextConditioning, statistic: AttentionStatistic
    ) -> list[Tensor]:
        context = text.expand(t.shape[0]).context.to(self.dtype)
        with self._at(t):
            return [
                statistic_of(asked, attention.to_k(context), attention.heads, statistic)
                for asked, attention in zip(queries, self._attentions, strict=True)
            ]

    def _parts(self, t: Tensor) -> list[slice]:
        """What is computed at once: all, or sample by sample where other nodes' patches may read a step's noise level.

        A sampler has one for a batch, a training one for each sample.
        """
        if not self._patches or bool((t == t[0]).all()):
            return [slice(None)]
        return [slice(number, number + 1) for number in range(t.shape[0])]

    def checkpoint_blocks(self, levels: int = 0) -> None:
        """Recompute the U-Net's blocks in the backward pass instead of keeping their activations.

        levels: only in so many of its resolutions, from the finest, where activations are largest; 0 for all.
        """
        depths = block_depths(self.unet)
        for name, module in recomputable_blocks(self.unet).items():
            if not levels or depths[block_of(name)] < levels:
                module.forward = partial(_recomputed, self._ranks, module.forward)

    def _encoded_size(self, z_t: Tensor) -> Tensor:
        """What SDXL reads beside the pooled text, [1, n]: the pictures' size, as the host encodes it."""
        cells = tuple(z_t.shape[-2:])
        if cells not in self._sizes:
            height, width = (LATENT_CELL * side for side in cells)
            encoded = self._encode_adm(pooled_output=torch.zeros(1, 0), width=width, height=height, device=CPU)
            self._sizes[cells] = autograd_tensor(encoded).to(self.device, self.dtype)
        return self._sizes[cells]

    def _forward(self, z_t: Tensor, t: Tensor, text: TextConditioning, options: dict[str, Any]) -> Tensor:
        batch = z_t.shape[0]
        added = None
        if self.unet.num_classes is not None and text.pooled is not None:
            added = torch.cat([text.pooled.to(self.dtype), self._encoded_size(z_t).expand(batch, -1)], dim=1)
        try:
            with self._at(t):
                return self.unet(
                    z_t.to(self.dtype),
                    t.float(),
                    context=text.context.to(self.dtype),
                    y=added,
                    transformer_options={**self._layered(options, text), **self._sampler_options(t)},
                ).float()
        except KeyError as error:
            if not self._patches:
                raise
            raise ValueError(
                f"model: a patch on it, of {' or '.join(self._patches)}, looks for {error}, which a training has not; "
                "connect the model as it is before that node."
            ) from error

    @contextmanager
    def _at(self, t: Tensor) -> Iterator[None]:
        """What differs by timestep in some layers is as at these, [B]."""
        with ExitStack() as timesteps:
            for ranks in self._ranks:
                timesteps.enter_context(ranks.at(t))
            yield

    def _layered(self, options: dict[str, Any], text: TextConditioning) -> dict[str, Any]:
        return with_layer_contexts(options, self.blocks, text.by_layer) if text.by_layer else options

    def _sampler_options(self, t: Tensor) -> dict[str, Any]:
        """What the host's sampler says of a batch to patches: all of it is conditional, and at these noise levels."""
        if not self._patches:
            return {}
        levels = {"sigmas": self._sigmas[t], "sample_sigmas": self._sample_sigmas}
        return {"cond_or_uncond": [0], "uuids": [CONDITIONAL], **levels}


def _recomputed(ranks: Iterable[TimestepRanks], forward: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Any:
    """`checkpoint` with timesteps and options of now: the U-Net notes in these which block runs, and goes on."""
    if "transformer_options" in kwargs:
        kwargs["transformer_options"] = dict(kwargs["transformer_options"])
    for each in ranks:
        forward = each.as_now(forward)
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)
