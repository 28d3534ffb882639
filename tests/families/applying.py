"""Apply Concept on real ComfyUI models: its outputs, what core's sampler draws with them, and what each layer reads."""

from __future__ import annotations

import torch

from . import probing

TEMPLATE = "a (red:1.3) {}, in the jungle"
SAMPLING = probing.Sampling(steps=2)


def apply(models, concept, template: str = TEMPLATE):
    from core_personalization.nodes.sharing.apply_concept import ApplyConcept

    with torch.inference_mode():
        return ApplyConcept.execute(models[0], models[1], concept, template).args


def draw(models, applied, sampling=SAMPLING, negative=None, positive=None):
    loaded = probing.Loaded("", models[0], models[1])
    return probing.sample(loaded, applied[0], sampling, positive or applied[1], negative)


def read_by_layers(models, applied, sampling=SAMPLING, negative=None) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What keys and values were made of in each cross-attention of core's U-Net, call by call."""
    from core_personalization.nodes.host.models.unet_layout import _cross_attention_blocks

    seen, hooks = [], []
    for _, block in _cross_attention_blocks(models[0].model.diffusion_model):
        for part in (block.attn2.to_k, block.attn2.to_v):
            hooks.append(part.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone())))
    try:
        draw(models, applied, sampling, negative)
    finally:
        for hook in hooks:
            hook.remove()
    return list(zip(seen[::2], seen[1::2], strict=True))
