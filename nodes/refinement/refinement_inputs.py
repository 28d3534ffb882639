"""What "CoRe Test-Time Optimize" was given, checked before any long work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...core_ops.prompts.prompt_templates import fill, validate_template
from ...core_ops.prompts.token_rows import AlignedPair
from ...core_ops.quoting import quoted
from ..concept import Concept
from ..files import concept_files, safe_files
from ..host.models import latents
from ..host.models.denoiser import own_side, validate_model, validate_unpatched_keys
from ..host.models.host_models import HostModels
from ..host.models.module_copy import dtype_for, validate_precision
from ..host.models.text_encoder import validate_clip
from ..host.prompts.prompt_rows import TemplateRows, naming
from ..prompt_concepts import SOCKETS, PromptConcepts, placed_concepts
from .refinement_settings import RefinementSettings

SMALLEST_SIDE = 8
"""Pixels of a latent cell."""


@dataclass(frozen=True)
class StartingPoint:
    """What is noised, as a node receives it: a LATENT, pictures [B, H, W, C], or neither."""

    latent: Mapping[str, Any] | None = None
    images: Tensor | None = None


@dataclass(frozen=True)
class CheckedPrompt:
    """Everything that can be refused has been looked at.

    categories: of each concept's super-category, vocabulary ids by encoder. latents: what is noised, [I, 4, h, w].
    """

    settings: RefinementSettings
    concepts: PromptConcepts
    categories: Sequence[Sequence[Sequence[int]]]
    pair: AlignedPair
    latents: Tensor

    @property
    def reference_prompt(self) -> str:
        return fill(self.settings.prompt, self.concepts.reference_fillings)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width = self.latents.shape[2:]
        return width * SMALLEST_SIDE, height * SMALLEST_SIDE


def check_settings(settings: RefinementSettings) -> None:
    """Raises ValueError for what the widgets alone show, before models and concepts are there."""
    validate_template("prompt", settings.prompt)
    validate_precision(settings.precision)
    if name := settings.save_as:
        ours = safe_files.written_here(concept_files.embedding_path(name))
        concept_files.validate_new_embedding(name, settings.overwrite or ours, "save_as")


def check_inputs(
    host: HostModels, given: Sequence[Concept | None], start: StartingPoint, settings: RefinementSettings
) -> CheckedPrompt:
    """Raises ValueError for everything that would make the run fail later; `given` is in the order of `SOCKETS`."""
    if settings.save_as:
        concept_files.validate_new_embedding(settings.save_as, settings.overwrite, "save_as")
    validate_model(host.model)
    validate_clip(host.clip, host.model)
    if settings.shared_queries:
        validate_unpatched_keys(host.model, "shared_queries")
    side = own_side(host.model)
    settings = replace(settings, width=settings.width or side, height=settings.height or side)
    dtype_for(settings.precision, host.model.load_device)
    placed = placed_concepts("prompt", settings.prompt, given)
    concepts = PromptConcepts(placed, [True, settings.optimize_2, settings.optimize_3][: len(placed)])
    for socket, concept, refined in zip(SOCKETS, concepts.concepts, concepts.refined, strict=False):
        concept.validate_for(host.clip, socket)
        if refined and not all(vectors.any() for vectors in concept.vectors.values()):
            raise ValueError(
                f"{socket}: {quoted(concept.name)} has vectors of zeros, which say nothing to refine; train it, or "
                "load another file."
            )
    rows = TemplateRows(host.clip, concepts.named())
    categories = []
    for socket, concept in zip(SOCKETS, concepts.concepts, strict=False):
        with naming(socket):
            categories.append(rows.words(concept.super_category))
        if not categories[-1][0]:
            raise ValueError(
                f"{socket}: {quoted(concept.name)} has no super-category to be compared with; train it with one."
            )
    pair = AlignedPair(
        rows.row(settings.prompt, concepts.fillings), rows.row(settings.prompt, concepts.reference_fillings)
    )
    noised = _starting_latents(host, start, settings)
    return CheckedPrompt(settings, concepts, categories=categories, pair=pair, latents=noised)


def _starting_latents(host: HostModels, start: StartingPoint, settings: RefinementSettings) -> Tensor:
    if start.latent is not None and start.images is not None:
        raise ValueError("images: latent is connected as well; connect one of them.")
    if start.latent is not None:
        return latents.received(host.model, start.latent)
    if start.images is None:
        cells = settings.height // SMALLEST_SIDE, settings.width // SMALLEST_SIDE
        return torch.zeros(1, host.model.model.latent_format.latent_channels, *cells, device=host.model.load_device)
    if host.vae is None:
        raise ValueError("vae: images are connected, but no VAE to encode them; connect the model's VAE.")
    if min(start.images.shape[1:3]) < SMALLEST_SIDE:
        raise ValueError(f"images: they are {tuple(start.images.shape[1:3])} pixels; they must be at least 8×8.")
    return latents.encode(host.model, host.vae, start.images[..., :3].movedim(-1, 1), settings.seed)
