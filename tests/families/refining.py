"""The node "CoRe Test-Time Optimize" as the host runs it, a concept to refine, and what the report says."""

from __future__ import annotations

from typing import Any

import torch

SETTINGS: dict[str, Any] = {"prompt": "a {} in the jungle", "batch_size": 1, "width": 32, "height": 32}


def concept(models, name: str, seed: int = 0, vectors: int = 1, with_category: bool = False):
    """A concept as after an overfitted training: its vectors are far from any word's. Written as core reads it."""
    from core_personalization.nodes.concept import Concept
    from core_personalization.nodes.files import concept_files, safe_files
    from core_personalization.nodes.host.models.text_encoder import encoder_widths

    generator = torch.Generator().manual_seed(seed)
    own = {
        encoder: torch.randn(vectors, width, generator=generator) * 0.6 / width**0.5
        for encoder, width in encoder_widths(models[1]).items()
    }
    path = concept_files.embedding_path(name)
    safe_files.write(path, concept_files.embedding_tensors(own), {}, overwrite=True)
    return Concept(name, "dog", own, path, with_category)


def execute(models, **given):
    """The node as the host runs it, under inference mode."""
    from core_personalization.nodes.refinement.optimize_prompt import OptimizePrompt

    model, clip, _ = models
    with torch.inference_mode():
        return OptimizePrompt.execute(model=model, clip=clip, **{**SETTINGS, **given}).args


def measured(report: str) -> tuple[dict[str, tuple[float, float]], list[tuple[str, float, float]]]:
    """(before, after) of both terms; and label and similarities of each token."""
    terms, tokens = (
        [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
        for table in report.split("\n\n")
        if table.startswith("|")
    )
    return (
        {name: (float(before), float(after)) for name, before, after, *_ in terms},
        [(label, float(before), float(after)) for label, before, after in tokens],
    )


def core_encode(clip, prompt: str):
    from nodes import CLIPTextEncode

    with torch.inference_mode():
        return CLIPTextEncode().encode(clip, prompt)[0]
