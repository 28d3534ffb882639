"""Families of Stable Diffusion in small, and the keys and shapes of their U-Nets and text encoders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, islice

Shapes = Iterator[tuple[str, tuple[int, ...]]]

WIDTH = 320  # The host tells SD1, SD2 and SDXL from others by this width.
TIME_WIDTH = 4 * WIDTH
LATENT_CHANNELS = 4


@dataclass(frozen=True)
class TextEncoder:
    """prefix: of its keys. host_name: clip_l, clip_h, clip_g. full: layers and MLP width of the real one."""

    prefix: str
    host_name: str
    width: int
    heads: int
    full: tuple[int, int]
    layers: int = 3
    mlp_width: int = 256

    @property
    def open_clip(self) -> bool:
        """Whether the checkpoint keeps OpenCLIP's key names, with q, k and v in one matrix."""
        return self.host_name != "clip_l"


@dataclass(frozen=True)
class Family:
    """depths: transformer blocks per residual block, per level, finest first; up_depths: on the way up, where they may
    differ within a level. middle_depth: -1 for a single residual block, -2 for no middle block.

    heads: at the finest level. level_widths: channels per level, finest first; empty for WIDTH in all.
    """

    context_width: int
    heads: int
    linear_projection: bool
    blocks_per_level: int
    depths: tuple[int, ...]
    up_depths: tuple[int | tuple[int, ...], ...]
    middle_depth: int
    text_encoders: tuple[TextEncoder, ...]
    latent_scale: float = 0.18215
    pooled_width: int | None = None
    prediction: str = "epsilon"
    level_widths: tuple[int, ...] = ()

    @property
    def widths(self) -> tuple[int, ...]:
        return self.level_widths or (WIDTH,) * len(self.depths)

    @property
    def level_heads(self) -> list[int]:
        """Attention heads per level: SD1 has as many at all, the others heads of one width."""
        if not self.linear_projection:
            return [self.heads] * len(self.widths)
        return [self.heads * width // self.widths[0] for width in self.widths]


CLIP_L = TextEncoder("cond_stage_model.transformer.", "clip_l", 768, 12, (12, 3072))
CLIP_H = TextEncoder("cond_stage_model.model.", "clip_h", 1024, 16, (24, 4096))
CLIP_G = TextEncoder("conditioner.embedders.1.model.", "clip_g", 1280, 20, (32, 5120))
SD2 = Family(1024, 5, True, 1, (1, 1), (1, 1), 1, (CLIP_H,))
FAMILIES = {
    "sd1": Family(768, 8, False, 1, (1, 1), (1, 1), 1, (CLIP_L,)),
    "sd2": SD2,
    # The host reads v-prediction off a bias in output block 11: four levels of two blocks, as the real one.
    "sd2_v": replace(
        SD2, blocks_per_level=2, depths=(1, 0, 0, 0), up_depths=(1, 0, 0, 0), prediction="v_prediction"
    ),
    # SDXL itself would need depths (0, 2, 10); these are those of its distillation Segmind Vega.
    "sdxl": Family(
        2048, 5, True, 2, (0, 1, 2), (0, 1, 1), 2,
        (replace(CLIP_L, prefix="conditioner.embedders.0.transformer."), CLIP_G), 0.13025, 2816,
    ),
}  # fmt: skip


def unet_shapes(family: Family, prefix: str = "model.diffusion_model.") -> Shapes:
    """Keys and shapes of the U-Net in the original (LDM) layout."""
    first, last = family.widths[0], family.widths[-1]
    for name, inputs in [("time_embed", WIDTH), ("label_emb.0", family.pooled_width)]:
        if inputs:
            yield from affine(f"{prefix}{name}.0", TIME_WIDTH, inputs)
            yield from affine(f"{prefix}{name}.2", TIME_WIDTH, TIME_WIDTH)
    yield from affine(f"{prefix}input_blocks.0.0", first, LATENT_CHANNELS, 3, 3)
    yield from affine(f"{prefix}out.0", first)
    yield from affine(f"{prefix}out.2", LATENT_CHANNELS, first, 3, 3)
    if family.middle_depth >= -1:
        yield from _residual_block(f"{prefix}middle_block.0", last, last)
    if family.middle_depth >= 0:
        yield from _transformer(f"{prefix}middle_block.1", family.middle_depth, family, last)
        yield from _residual_block(f"{prefix}middle_block.2", last, last)
    yield from _way_down(family, prefix)
    yield from _way_up(family, prefix)


def _way_down(family: Family, prefix: str) -> Shapes:
    names = (f"{prefix}input_blocks.{number}" for number in count(1))
    inputs = family.widths[0]
    for level, (depth, width) in enumerate(zip(family.depths, family.widths, strict=True)):
        if level:
            yield from affine(f"{next(names)}.0.op", inputs, inputs, 3, 3)
        for name in islice(names, family.blocks_per_level):
            yield from _residual_block(f"{name}.0", inputs, width)
            yield from _transformer(f"{name}.1", depth, family, width)
            inputs = width


def _skips(family: Family) -> list[int]:
    """Widths of what the way down hands to the way up, in the order in which it is made."""
    widths = family.widths
    levels = [width for width in widths for _ in range(family.blocks_per_level + 1)]
    # A level ends with its smaller copy, but for the last, and the first begins with the input convolution.
    return [widths[0], *levels[:-1]]


def _way_up(family: Family, prefix: str) -> Shapes:
    names = (f"{prefix}output_blocks.{number}" for number in count())
    skips, inputs = _skips(family), family.widths[-1]
    for level, depth in reversed(list(enumerate(family.up_depths))):
        width = family.widths[level]
        depths = depth if isinstance(depth, tuple) else (depth,) * (family.blocks_per_level + 1)
        for blocks, name in zip(depths, names, strict=False):
            yield from _residual_block(f"{name}.0", inputs + skips.pop(), width)
            yield from _transformer(f"{name}.1", blocks, family, width)
            inputs = width
        if level:
            yield from affine(f"{name}.{2 if depths[-1] else 1}.conv", width, width, 3, 3)


def _residual_block(prefix: str, inputs: int, width: int) -> Shapes:
    yield from affine(f"{prefix}.in_layers.0", inputs)
    yield from affine(f"{prefix}.in_layers.2", width, inputs, 3, 3)
    yield from affine(f"{prefix}.emb_layers.1", width, TIME_WIDTH)
    yield from affine(f"{prefix}.out_layers.0", width)
    yield from affine(f"{prefix}.out_layers.3", width, width, 3, 3)
    if inputs != width:
        yield from affine(f"{prefix}.skip_connection", width, inputs, 1, 1)


def _transformer(prefix: str, depth: int, family: Family, width: int) -> Shapes:
    if not depth:
        return
    kernel = () if family.linear_projection else (1, 1)
    yield from affine(f"{prefix}.norm", width)
    for projection in ("proj_in", "proj_out"):
        yield from affine(f"{prefix}.{projection}", width, width, *kernel)
    for block in (f"{prefix}.transformer_blocks.{i}" for i in range(depth)):
        for attention, context_width in [("attn1", width), ("attn2", family.context_width)]:
            yield f"{block}.{attention}.to_q.weight", (width, width)
            yield f"{block}.{attention}.to_k.weight", (width, context_width)
            yield f"{block}.{attention}.to_v.weight", (width, context_width)
            yield from affine(f"{block}.{attention}.to_out.0", width, width)
        for norm in ("norm1", "norm2", "norm3"):
            yield from affine(f"{block}.{norm}", width)
        yield from affine(f"{block}.ff.net.0.proj", 8 * width, width)
        yield from affine(f"{block}.ff.net.2", width, 4 * width)


def text_shapes(encoder: TextEncoder) -> Shapes:
    """Keys and shapes of a small text encoder in the layout its family's checkpoints have."""
    width, root = encoder.width, encoder.prefix
    if not encoder.open_clip:
        root += "text_model."
        yield f"{root}embeddings.token_embedding.weight", (49408, width)
        yield f"{root}embeddings.position_embedding.weight", (77, width)
        yield from affine(f"{root}final_layer_norm", width)
        for layer in (f"{root}encoder.layers.{i}." for i in range(encoder.layers)):
            for projection in "qkv":
                yield from affine(f"{layer}self_attn.{projection}_proj", width, width)
            names = ("layer_norm1", "layer_norm2", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")
            yield from _layer(layer, encoder, names)
        return
    yield f"{root}token_embedding.weight", (49408, width)
    yield f"{root}positional_embedding", (77, width)
    yield f"{root}text_projection", (width, width)
    yield f"{root}logit_scale", ()
    yield from affine(f"{root}ln_final", width)
    for layer in (f"{root}transformer.resblocks.{i}." for i in range(encoder.layers)):
        yield f"{layer}attn.in_proj_weight", (3 * width, width)
        yield f"{layer}attn.in_proj_bias", (3 * width,)
        yield from _layer(layer, encoder, ("ln_1", "ln_2", "attn.out_proj", "mlp.c_fc", "mlp.c_proj"))


def _layer(prefix: str, encoder: TextEncoder, names: tuple[str, str, str, str, str]) -> Shapes:
    width, mlp_width = encoder.width, encoder.mlp_width
    shapes = [(width,), (width,), (width, width), (mlp_width, width), (width, mlp_width)]
    for name, shape in zip(names, shapes, strict=True):
        yield from affine(prefix + name, *shape)


def affine(prefix: str, *shape: int) -> Shapes:
    yield f"{prefix}.weight", shape
    yield f"{prefix}.bias", shape[:1]
