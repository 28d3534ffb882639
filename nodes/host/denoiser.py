"""A host MODEL behind the `Denoiser` interface of core_ops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import comfy.ldm.modules.attention
import comfy.model_sampling
import torch
from comfy.ldm.modules.attention import BasicTransformerBlock
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...core_ops.conditioning import AttentionStatistic, TextConditioning
from ...core_ops.noising import NoiseSchedule, Prediction
from ...core_ops.trainable_weights import make_trainable
from .attention_tap import AttentionTap, cross_attention_layers, layer_places
from .module_copy import autograd_tensor, frozen_copy
from .trainable_unet import WeightChoice

LATENT_CHANNELS = 4
MAP_TOKENS = 77
"""Of one row of a prompt."""


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
    name = type(model.model).__name__
    unet = unet_of(model)
    if unet.in_channels != LATENT_CHANNELS:
        raise ValueError(
            f"model: this {name} takes {unet.in_channels} latent channels, as inpainting and editing models do; "
            f"load the base model with {LATENT_CHANNELS}."
        )
    prediction_of(model)


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


class HostDenoiser:
    """A copy of a MODEL's U-Net, differentiable in its inputs and in what `trained` makes trainable.

    dtype: the precision it runs in. width, height: size in pixels of the images trained on (SDXL is told of it).
    """

    def __init__(
        self, model: ModelPatcher, dtype: torch.dtype, width: int, height: int, trained: WeightChoice | None = None
    ) -> None:
        validate_model(model)
        unet: Any = frozen_copy(model, "diffusion_model")
        self.trainable = trained.apply(unet, dtype) if trained else make_trainable(unet, (), None, dtype)
        self.unet: UNetModel = unet
        self.dtype = dtype
        sigmas = autograd_tensor(model.get_model_object("model_sampling").sigmas)
        self.schedule = NoiseSchedule((1 / (1 + sigmas.square())).to(model.load_device), prediction_of(model))
        self._encode_adm = model.model.encode_adm
        self._size = {"width": width, "height": height}
        self._layers = cross_attention_layers(self.unet)
        self._options: dict[str, Any] = {
            **model.model_options.get("transformer_options", {}),
            "optimized_attention_override": _attention_for_training,
        }

    def __call__(self, z_t: Tensor, t: Tensor, text: TextConditioning) -> Tensor:
        return self._forward(z_t, t, text, self._options)

    def with_attention(
        self, z_t: Tensor, t: Tensor, text: TextConditioning, statistic: AttentionStatistic
    ) -> tuple[Tensor, list[Tensor]]:
        tap = AttentionTap(statistic)
        prediction = self._forward(z_t, t, text, tap.patch(self._options, self._layers))
        return prediction, tap.collect()

    def largest_map(self, latent: Sequence[int]) -> int:
        """Bytes of one sample's largest cross-attention map, as logits and as probabilities. latent: height, width."""
        places = layer_places(self.unet).values()
        return max(2 * 4 * place.heads * MAP_TOKENS * math.prod(latent) >> 2 * place.halvings for place in places)

    def recomputed_blocks(self) -> list[nn.Module]:
        """What `checkpoint_blocks` recomputes."""
        return [module for module in self.unet.modules() if isinstance(module, BasicTransformerBlock | ResBlock)]

    def checkpoint_blocks(self) -> None:
        """Recompute the U-Net's blocks in the backward pass instead of keeping their activations."""
        for module in self.recomputed_blocks():
            module.forward = partial(_recomputed, module.forward)

    def _forward(self, z_t: Tensor, t: Tensor, text: TextConditioning, options: dict[str, Any]) -> Tensor:
        text = text.expand(z_t.shape[0])
        added = self._encode_adm(pooled_output=text.pooled, **self._size) if self.unet.num_classes is not None else None
        return self.unet(
            z_t.to(self.dtype),
            t.float(),
            context=text.context.to(self.dtype),
            y=None if added is None else added.to(z_t.device, self.dtype),
            transformer_options=dict(options),
        ).float()


def _recomputed(forward: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Any:
    """`checkpoint` with the options of now: the U-Net notes in them which block runs, and goes on to the next."""
    if "transformer_options" in kwargs:
        kwargs["transformer_options"] = dict(kwargs["transformer_options"])
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)


def _attention_for_training(function: Any, *args: Any, **kwargs: Any) -> Tensor:
    """torch's attention in place of the host's choice, which is made for inference and may not differentiate well."""
    return comfy.ldm.modules.attention.attention_pytorch(*args, **kwargs)
