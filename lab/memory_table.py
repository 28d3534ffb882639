"""Trainings at published sizes, planned as on a card: python -m lab memory-table"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from .comfyui import start

GIB = 2**30
CARDS = (8, 12, 16, 24)
LEFT_FREE = 0.9
"""GiB of a card that a training does not get: CUDA's own, and a desktop."""
SIDES = {"sd15": 512, "sd21": 512, "sdxl": 1024}
CHECKPOINTING = {"gradient_checkpointing": True}
LEAST = {"batch_size": 1, **CHECKPOINTING}
FUSED = {"fused_backward": True, "optimizer": "Adafactor"}
ROWS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("CoRe Train Embedding", "embedding", {"batch_size": 6}),
    ("CoRe Train Embedding", "embedding", {"batch_size": 6, **CHECKPOINTING}),
    ("CoRe Train Embedding", "embedding", LEAST),
    ("CoRe Train Embedding", "embedding", {**LEAST, "offload": 1.0}),
    ("LoRA, attention layers", "finetune", {"form": "LoRA", "scope": "attention layers", "batch_size": 1}),
    ("LoRA, attention layers", "finetune", {"form": "LoRA", "scope": "attention layers", **LEAST}),
    ("LoRA, attention layers", "finetune", {"form": "LoRA", "scope": "attention layers", **LEAST, "offload": 1.0}),
    ("keys and values (Custom Diffusion)", "finetune", {"scope": "keys and values of cross-attention", **LEAST}),
    ("whole U-Net (CoRe stage 2)", "finetune", {"batch_size": 4, "precision": "bf16", **CHECKPOINTING}),
    ("whole U-Net, least", "finetune", {**LEAST, "precision": "bf16", **FUSED}),
)
TAKEN_SIDE = 256
TAKEN: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("CoRe", "embedding", {**LEAST, "save_every": 0}),
    ("LoRA, attention layers", "finetune", {"form": "LoRA", "scope": "attention layers", **LEAST}),
)


@contextmanager
def started() -> Iterator[None]:
    """ComfyUI in this process, with folders of its own."""
    with TemporaryDirectory() as base:
        start(Path(base))
        yield


def print_taken(sizes: Sequence[str]) -> None:
    import torch

    for size in sizes:
        models = without_memory(size)
        for title, kind, settings in TAKEN:
            stages, host, checked = prepared(kind, models, TAKEN_SIDE, {"steps": 2, "preview_every": 0, **settings})
            ready = stages.ready_to_train if kind == "embedding" else stages.ready_to_finetune
            with torch.inference_mode():
                session = ready(host, checked).session
                session.train()
            print(f"{size}, {title}: the training {session.memory}.", flush=True)


def print_table(sizes: Sequence[str]) -> None:
    print("| model | training | settings | GiB | " + " | ".join(f"{card} GB" for card in CARDS) + " |")
    print("|---|---|---|---|" + "---|" * len(CARDS))
    for size in sizes:
        models, side = without_memory(size), SIDES[size]
        for title, kind, settings in ROWS:
            stages, host, checked = prepared(kind, models, side, settings)
            needed = stages.planned(host, checked).total
            cards = " | ".join("yes" if needed <= (card - LEFT_FREE) * GIB else "no" for card in CARDS)
            said = ", ".join(f"{name} {value}" for name, value in settings.items() if name not in ("form", "scope"))
            print(f"| {size} | {title} | {said} | {needed / GIB:.1f} | {cards} |", flush=True)


def without_memory(size: str) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of full size on a card that is not there: all weights lie on the same numbers."""
    import comfy.model_management
    import torch
    from comfy.model_patcher import ModelPatcher
    from families.build import autoencoder, text_shapes, unet_shapes
    from families.load import load_checkpoint

    from .speed.sizes import SIZES

    family, numbers = SIZES[size].family, torch.zeros(64_000_000, dtype=torch.float16)

    def weight(shape: tuple[int, ...]) -> torch.Tensor:
        return numbers[: torch.Size(shape).numel()].view(shape)

    shapes = [*unet_shapes(family), *(pair for encoder in family.text_encoders for pair in text_shapes(encoder))]
    weights = {key: weight(shape) for key, shape in shapes} | autoencoder(family, 0)
    with mock.patch.object(ModelPatcher, "is_dynamic", lambda _: True), ExitStack() as stack:  # weights are not copied
        for name in ("unet_dtype", "text_encoder_dtype"):
            stack.enter_context(mock.patch(f"comfy.model_management.{name}", lambda *_, **__: torch.float16))
        stack.enter_context(mock.patch("comfy.model_management.unet_manual_cast", lambda *_, **__: None))
        model, clip, vae = load_checkpoint(family, weights)
    vae.first_stage_model.to(vae.vae_dtype)  # which a VAE that is not dynamic does while it is loaded
    comfy.model_management.unload_all_models()
    model.load_device = clip.patcher.load_device = torch.device("cuda", 0)
    return model, clip, vae


def prepared(kind: str, models: Any, side: int, settings: dict[str, Any]) -> tuple[Any, Any, Any]:
    """The module of the training's stages, the host's models and the checked inputs."""
    import torch
    from core_personalization.nodes.embedding import embedding_training
    from core_personalization.nodes.embedding.embedding_inputs import check_inputs
    from core_personalization.nodes.embedding.embedding_settings import EmbeddingSettings
    from core_personalization.nodes.finetune import finetuning
    from core_personalization.nodes.finetune.finetune_inputs import GivenPictures, check_finetune
    from core_personalization.nodes.finetune.finetune_settings import FinetuneSettings
    from core_personalization.nodes.host.models.host_models import HostModels
    from core_personalization.nodes.settings import validated
    from families.finetuning import a_concept

    host, pictures = HostModels(*models), [torch.zeros(4, side, side, 3)]
    common = {"resolution": side, "overwrite": True}
    if kind == "embedding":
        chosen = validated(EmbeddingSettings, {**common, "super_category": "dog", **settings})
        return embedding_training, host, check_inputs(host, pictures, None, None, chosen)
    chosen = validated(FinetuneSettings, {**common, **settings})
    return finetuning, host, check_finetune(host, a_concept(models), GivenPictures(pictures), chosen)
