"""The training inside the node "CoRe Train Embedding" on the small families, stopped before its first step."""

from __future__ import annotations

from typing import Any

import torch

from .prepared import Prepared

SETTINGS: dict[str, Any] = {
    "concept_name": "planned",
    "super_category": "dog",
    "resolution": 64,
    "batch_size": 2,
    "precision": "fp32",
    "preview_every": 0,
    "save_every": 0,
    "overwrite": True,
}


def embedding_run(models, images=None, masks=None, captions=None, **settings):
    from core_personalization.nodes.embedding.embedding_inputs import check_inputs
    from core_personalization.nodes.embedding.embedding_settings import EmbeddingSettings
    from core_personalization.nodes.embedding.embedding_training import ready_to_train
    from core_personalization.nodes.host.models.host_models import HostModels
    from core_personalization.nodes.settings import validated

    host = HostModels(*models)
    chosen = validated(EmbeddingSettings, {**SETTINGS, **settings})
    images = images or [torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))]
    with torch.inference_mode():
        checked = check_inputs(host, images, masks, captions, chosen)
        return Prepared(ready_to_train(host, checked), checked)
