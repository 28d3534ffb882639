"""Concepts and LoRAs on a family's models, as trainings leave them, and our two nodes as the host runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from core_personalization.core_ops.weights.low_rank import LowRank

WORD = "zebra"
"""The super-category."""


def make_concept(models: Any, name: str, **changes: Any) -> Any:
    """A concept as training leaves it: an embedding file with its card."""
    from core_personalization.nodes.concept import Concept
    from core_personalization.nodes.files import concept_files
    from core_personalization.nodes.host.models.host_models import architecture, base_model_fingerprint
    from core_personalization.nodes.host.models.text_encoder import encoder_widths

    model, clip, _ = models
    random = torch.Generator().manual_seed(len(name))
    vectors = {key: 0.02 * torch.randn(2, width, generator=random) for key, width in encoder_widths(clip).items()}
    card = {
        "architecture": architecture(model, clip),
        "base_model": "base.safetensors",
        "base_model_fingerprint": base_model_fingerprint(model),
        "pack_version": "0.0",
        "resolution": 64,
        "phrase": f"embedding:{name}",
        "steps_done": 3,
        "settings": {"super_category": WORD, "with_category": True, "steps": 3},
        "final_terms": {"diffusion": 0.5},
        "gradient_shares": {},
        **changes,
    }
    path = concept_files.save_embedding(name, vectors, card, overwrite=True)
    return Concept(name, WORD, vectors, path, with_category=True)


def make_lora(model: Any) -> dict[str, torch.Tensor]:
    from core_personalization.nodes.host.models.unet_weights import lora_state_dict

    random = torch.Generator().manual_seed(5)
    weights = model.model.diffusion_model.state_dict()
    paths = [path for path in weights if path.endswith(("attn2.to_k.weight", "out_layers.3.weight"))]
    pairs = {}
    for path in paths:
        out, *rest = weights[path].shape
        up = torch.randn(out, 2, *(1,) * (len(rest) - 1), generator=random)
        pairs[path] = LowRank(up, 0.05 * torch.randn(2, *rest, generator=random), alpha=2.0)
    return lora_state_dict(model, pairs)


def save(concept: Any, lora: Any = None, preview: Any = None, **settings: Any) -> Path:
    from core_personalization.nodes.sharing.save_concept import SaveConcept

    values = {"name": "", "description": "", "overwrite": True, **settings}
    with torch.inference_mode():
        return Path(SaveConcept.execute(concept, **values, lora=lora, preview=preview).args[0])


def load(models: Any, file: str, **settings: Any) -> tuple[Any, ...]:
    """model, clip, concept, prompt, card, preview."""
    return load_shown(models, file, **settings).args


def load_shown(models: Any, file: str, **settings: Any) -> Any:
    """The node's whole result: outputs, and what it shows."""
    from core_personalization.nodes.sharing.load_concept import LoadConcept

    values = {"strength": 1.0, "super_category": "", "embedding_name": "", **settings}
    with torch.inference_mode():
        return LoadConcept.execute(models[0], models[1], file, **values)


def sample(model: Any, clip: Any, prompt: str) -> torch.Tensor:
    """One step of core's KSampler, from the same noise."""
    from nodes import common_ksampler

    with torch.inference_mode():
        positive = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
        negative = clip.encode_from_tokens_scheduled(clip.tokenize(""))
        latent = {"samples": torch.zeros(1, 4, 8, 8)}
        (out,) = common_ksampler(model, 0, 1, 3.0, "euler", "normal", positive, negative, latent)
        return out["samples"].clone()
