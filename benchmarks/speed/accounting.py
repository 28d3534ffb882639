"""What a step at full size needs, without computing it: python -m speed.accounting SIZE

Runs the U-Nets on tensors without content, and counts floating-point operations and the bytes that autograd keeps.
torch's counter leaves out the CPU's fused attention, which ours uses: the released method's count is that of both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from families.build import Family, unet_shapes
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from .host import import_host
from .sizes import SIZES, Size
from .task import Task

TOKENS = 77
GIGA = 1e9
Forward = Callable[[Tensor, Tensor, Tensor], Any]
"""z_t, t, context → all that the loss is made of."""


@dataclass(frozen=True)
class Account:
    """Of one pass: operations forward, and there and back; bytes kept for the way back."""

    forward: float
    both: float
    kept: int


def account(forward: Forward, weights: list[Tensor], inputs: tuple[Tensor, Tensor, Tensor]) -> Account:
    """The gradient is taken with respect to the context, as in a training of the embedding."""
    known = {weight.untyped_storage()._cdata for weight in weights}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            outputs = forward(*inputs)
        operations = counter.get_total_flops()
        loss = torch.stack([output.float().square().mean() for output in outputs]).sum()
        loss.backward(inputs=[inputs[2]])
    return Account(operations, counter.get_total_flops(), sum(kept.values()))


def inputs_of(size: Size) -> tuple[Tensor, Tensor, Tensor]:
    side = size.side // 8
    context = torch.empty(size.batch, TOKENS, size.family.context_width, requires_grad=True)
    return torch.empty(size.batch, 4, side, side), torch.empty(size.batch), context


def host_unet(family: Family) -> Any:
    """ComfyUI's U-Net of these shapes."""
    import comfy.model_detection
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    weights = {key: torch.empty(shape) for key, shape in unet_shapes(family)}
    config = comfy.model_detection.detect_unet_config(weights, "model.diffusion_model.")
    config = comfy.model_detection.model_config_from_unet_config(config, weights).unet_config
    config |= {"dtype": torch.float32, "operations": comfy.ops.disable_weight_init}
    return UNetModel(**config).requires_grad_(False)


def ours(family: Family) -> tuple[Forward, Forward, list[Tensor]]:
    """The diffusion pass, and the pass with attention means."""
    from core_personalization.core_ops.losses.context_losses import token_means
    from core_personalization.nodes.host.attention.attention_replacement import AttentionTap
    from core_personalization.nodes.host.models.denoiser import _attention_for_training
    from core_personalization.nodes.host.models.unet_layout import cross_attention_layers

    unet = host_unet(family).eval()
    options = {"optimized_attention_override": _attention_for_training}

    def plain(z_t: Tensor, t: Tensor, context: Tensor) -> list[Tensor]:
        return [unet(z_t, t, context=context, transformer_options=dict(options))]

    def watched(z_t: Tensor, t: Tensor, context: Tensor) -> list[Tensor]:
        tap = AttentionTap(token_means)
        unet(z_t, t, context=context, transformer_options=tap.patch(options, cross_attention_layers(unet)))
        return tap.collect()

    return plain, watched, list(unet.parameters())


def released(family: Family) -> tuple[Forward, Forward, list[Tensor]]:
    from diffusers import UNet2DConditionModel
    from oracles.unet import unet_config

    from .peers import MapKeeper

    unet, keeper = UNet2DConditionModel(**unet_config(family)).eval().requires_grad_(False), MapKeeper()
    unet.set_attn_processor(keeper)

    def plain(z_t: Tensor, t: Tensor, context: Tensor) -> list[Tensor]:
        output = unet(z_t, t, context).sample
        plain.maps = keeper.taken()  # kept until the step's end, as the program does
        return [output]

    def watched(z_t: Tensor, t: Tensor, context: Tensor) -> list[Tensor]:
        unet(z_t, t, context)
        return [maps.mean((2, 3)) for maps in keeper.taken()]

    return plain, watched, list(unet.parameters())


def main() -> None:
    size = SIZES[sys.argv[1]]
    import_host(Task("ours:core", "core", sys.argv[1], size.side, size.batch, "/tmp/speed-accounting"))
    print(f"{sys.argv[1]}, {size.side} pixels, batch {size.batch}, fp32")
    for name, make in (("ours", ours), ("released", released)):
        with FakeTensorMode():
            plain, watched, weights = make(size.family)
            accounts = [account(forward, weights, inputs_of(size)) for forward in (plain, watched)]
        held = sum(weight.numel() for weight in weights) * 4
        print(f"{name}: weights {held / GIGA:.2f} GB")
        for label, one in zip(("diffusion pass", "attention pass"), accounts, strict=True):
            print(
                f"  {label}: forward {one.forward / GIGA:.0f} GFLOP, both {one.both / GIGA:.0f} GFLOP, "
                f"keeps {one.kept / GIGA:.2f} GB"
            )


if __name__ == "__main__":
    main()
