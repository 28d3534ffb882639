"""The VAE: TAESD's architecture, with key names as ComfyUI reads them under `first_stage_model.`.

From random weights it stalls with the colours lost. So the encoder starts as average pooling into opponent colours and
the decoder as its inverse; every block adds to that from the first step on.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

WIDTH = 64
LATENT_CHANNELS = 4
SCALE = 0.18215
"""SD 1.5's latent scale: ComfyUI multiplies what the encoder gives by it."""
OPPONENT = torch.tensor([[1.0, 1.0, 1.0], [2.0, -2.0, 0.0], [-1.0, -1.0, 2.0]])
"""RGB to brightness, red against green, blue against yellow."""


class Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(), nn.ReLU(), _conv(), nn.ReLU(), _conv())

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x) + x)


def _conv(inputs: int = WIDTH, outputs: int = WIDTH, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=bias)


class Whitening(nn.BatchNorm2d):
    """Mean 0 and variance 1 by the running statistics, in training, too, with gradients through the batch's own.

    That is Batch Renormalization (Ioffe 2017, arXiv 1702.03275) without its limits. The statistics of a small batch
    alone would hide from the decoder how bright, or how plain, its pictures are; without gradients through them the
    encoder would outrun the running ones, since larger latents drown the noise, and its values grow without end.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        normed = super().forward(x)
        if not self.training:
            return normed
        with torch.no_grad():
            variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
            gain = torch.rsqrt(self.running_var + self.eps)
            r, d = (variance + self.eps).sqrt() * gain, (mean - self.running_mean) * gain
        return normed * r[:, None, None] + d[:, None, None]


class TinyVAE(nn.Module):
    """Pictures [B, 3, H, W] in 0…1 to whitened latents [B, 4, H/8, W/8] and back."""

    def __init__(self) -> None:
        super().__init__()
        down = [layer for _ in range(3) for layer in (_conv(stride=2, bias=False), Block(), Block(), Block())]
        up = [
            layer
            for _ in range(3)
            for layer in (Block(), Block(), Block(), nn.Upsample(scale_factor=2), _conv(bias=False))
        ]
        self.taesd_encoder = nn.Sequential(_conv(3), Block(), *down, _conv(outputs=LATENT_CHANNELS))
        self.taesd_decoder = nn.Sequential(Clamp(), _conv(LATENT_CHANNELS), nn.ReLU(), *up, Block(), _conv(outputs=3))
        self.whitening = Whitening(LATENT_CHANNELS, affine=False, momentum=0.02)
        _start_as_pooling(self)

    def encode(self, images: Tensor) -> Tensor:
        return self.whitening(self.taesd_encoder(images).float())

    def decode(self, latents: Tensor) -> Tensor:
        return self.taesd_decoder(latents)

    @torch.no_grad()
    def exported(self) -> dict[str, Tensor]:
        """Weights in ComfyUI's form: the whitening lies in the encoder's last convolution."""
        state = {k: v.detach().float().clone() for k, v in self.state_dict().items() if not k.startswith("whitening")}
        last = f"taesd_encoder.{len(self.taesd_encoder) - 1}"
        gain = torch.rsqrt(self.whitening.running_var + self.whitening.eps)
        state[f"{last}.weight"] *= gain[:, None, None, None]
        state[f"{last}.bias"] = (state[f"{last}.bias"] - self.whitening.running_mean) * gain
        return state | {"vae_scale": torch.tensor(SCALE), "vae_shift": torch.tensor(0.0)}

    @torch.no_grad()
    def load_exported(self, state: dict[str, Tensor]) -> None:
        """Takes `exported` weights back. The whitening stays in the encoder: here it leaves latents as they are."""
        own = {name: weight for name, weight in state.items() if name not in ("vae_scale", "vae_shift")}
        whitening = {f"whitening.{name}": weight for name, weight in self.whitening.state_dict().items()}
        whitening["whitening.running_mean"] = torch.zeros(LATENT_CHANNELS)
        whitening["whitening.running_var"] = torch.ones(LATENT_CHANNELS) - self.whitening.eps
        self.load_state_dict(own | whitening)


@torch.no_grad()
def level(vae: TinyVAE, images: Tensor) -> None:
    """Scales the encoder's stages so that half precision can hold their values; what it gives stays the same.

    Between ReLUs a convolution and the biases after it can be scaled, if the next is scaled back. images [B, 3, H, W]
    in 0…1, some of those it is made for.
    """
    encoder, x, before = vae.taesd_encoder, images, torch.ones((), device=images.device)
    starts = [index for index, layer in enumerate(encoder) if isinstance(layer, nn.Conv2d)]
    for start, end in pairwise(starts):
        first = encoder[start](x)
        x = encoder[start + 1 : end](first)
        gain = torch.rsqrt((first.std() * x.std()).clamp(min=1e-30))
        encoder[start].weight.mul_(gain / before)
        for name, parameter in encoder[start:end].named_parameters():
            if name.endswith("bias"):
                parameter.mul_(gain)
        before = gain
    encoder[-1].weight.div_(before)


@torch.no_grad()
def _start_as_pooling(vae: TinyVAE) -> None:
    """Channels 0 to 2 carry the colours through; what the blocks add starts small, and zero on these three."""
    for module in vae.modules():
        if isinstance(module, Block):
            module.conv[-1].weight.mul_(0.3)[:3] = 0
            module.conv[-1].bias.mul_(0.3)[:3] = 0
    strided = [m for m in vae.taesd_encoder if isinstance(m, nn.Conv2d)]
    for conv in strided[1:-1]:
        _carry(conv, torch.eye(3), slice(1, 3), 0.25)
    _carry(strided[0], torch.eye(3), slice(1, 2), 1.0)
    _carry(strided[-1], OPPONENT, slice(1, 2), 1.0)
    plain = [m for m in vae.taesd_decoder if isinstance(m, nn.Conv2d)]
    _carry(plain[0], torch.linalg.inv(OPPONENT) * 0.8, slice(1, 2), 1.0)
    plain[0].bias[:3] = 0.5
    for conv in plain[1:-1]:
        _carry(conv, torch.eye(3), slice(0, 3), 1 / 9)
    _carry(plain[-1], torch.eye(3), slice(1, 2), 1.0)


def _carry(conv: nn.Conv2d, mixing: Tensor, window: slice, gain: float) -> None:
    """Sets the first three output channels to `mixing` of the first three input channels, averaged over `window`."""
    conv.weight[:3] = 0
    conv.weight[:3, :3, window, window] = gain * mixing[:, :, None, None]
    if conv.bias is not None:
        conv.bias[:3] = 0
