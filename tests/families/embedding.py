"""The node "CoRe Train Embedding" on the small families: as the host runs it, or stopped before its first step."""

from __future__ import annotations

from typing import Any

import torch

from .prepared import Prepared

SETTINGS: dict[str, Any] = {"concept_name": "planned", "super_category": "dog", "resolution": 64, "batch_size": 2}
SETTINGS |= {"precision": "fp32", "preview_every": 0, "save_every": 0, "overwrite": True}

FEW_STEPS = {"steps": 4, "rescale_from": 0.5, "rescale_to": 0.75}


def pictures(count: int = 2, seed: int = 0) -> list[torch.Tensor]:
    """Noise on a gradient, as an image node hands it over: inference tensors."""
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        return [torch.rand(1, 64, 64, 3, generator=generator) * torch.linspace(0, 1, 64)[:, None] for _ in range(count)]


def execute(models, images=None, masks=None, captions=None, start_from=None, **settings):
    """The node as the host runs it: under inference mode, every input a list."""
    from core_personalization.nodes.embedding.train_embedding import TrainEmbedding

    model, clip, vae = models
    values = {name: [value] for name, value in {**SETTINGS, **FEW_STEPS, **settings}.items()}
    with torch.inference_mode():
        sockets = [model], [clip], [vae], images or pictures(), masks, captions, None, start_from and [start_from]
        return TrainEmbedding.execute(*sockets, **values).args


def embedding_run(models, images=None, masks=None, captions=None, photos=None, **settings):
    from core_personalization.nodes.embedding.embedding_inputs import check_inputs
    from core_personalization.nodes.embedding.embedding_settings import EmbeddingSettings
    from core_personalization.nodes.embedding.embedding_training import ready_to_train
    from core_personalization.nodes.host.models.host_models import HostModels
    from core_personalization.nodes.settings import validated

    host = HostModels(*models)
    chosen = validated(EmbeddingSettings, {**SETTINGS, **settings})
    images = images or [torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))]
    with torch.inference_mode():
        checked = check_inputs(host, images, masks, captions, chosen, photos=photos)
        return Prepared(ready_to_train(host, checked), checked)


def host_conditioning(clip, prompt: str) -> torch.Tensor:
    """What core's CLIP Text Encode gives."""
    with torch.inference_mode():
        return clip.encode_from_tokens_scheduled(clip.tokenize(prompt))[0][0].clone()
