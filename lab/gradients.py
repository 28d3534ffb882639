"""The gradient of L_attn on v by CoRe, by CoRe fast, and by CoRe from one picture of each batch, of the same draws."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from statistics import mean
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from .quality.host import Host
from .quality.methods import METHODS
from .quality.protocol import Cell
from .quality.subjects import DIVERSE, Thing


@dataclass(frozen=True)
class Row:
    """Means over the draws of a step. Cosines and norms are beside CoRe's gradient of the whole batch."""

    concept: str
    step: int
    draws: int
    fast_cosine: float
    fast_norm: float
    one_picture_cosine: float


def compare_all(given: argparse.Namespace) -> None:
    host, rows = Host.mini_world(given.folder), list[Row]()
    for concept in given.concepts:
        for row in compared(host, concept, given):
            print(row, flush=True)
            rows.append(row)
    with given.results.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    for name in ("fast_cosine", "fast_norm", "one_picture_cosine"):
        values = [getattr(row, name) for row in rows]
        print(f"{name}: {mean(values):.3f}, from {min(values):.3f} to {max(values):.3f}")


def compared(host: Host, concept: str, given: argparse.Namespace) -> Iterator[Row]:
    from core_personalization.core_ops.recipes.context_regularization import ContextRegularization, SharedQueries
    from core_personalization.nodes.host.models.module_copy import autograd_mode

    loop = training(host, concept, given)
    core = loop.recipe
    one = replace(core.config, regularization_batch=1)
    others = (
        SharedQueries(core.config, core.problem, core.prompts),
        ContextRegularization(one, core.problem, core.prompts),
    )
    with autograd_mode():
        for report in loop:
            if report.step % given.every:
                continue
            seeds = range(1000 * report.step, 1000 * report.step + given.draws)
            whole = [attention_gradient(core, seed) for seed in seeds]
            fast, single = ([attention_gradient(other, seed) for seed in seeds] for other in others)
            yield Row(
                concept,
                report.step,
                given.draws,
                round(mean(map(cosine, fast, whole)), 4),
                round(mean(float(a.norm() / b.norm()) for a, b in zip(fast, whole, strict=True)), 4),
                round(mean(map(cosine, single, whole)), 4),
            )


def training(host: Host, concept: str, given: argparse.Namespace) -> Any:
    """CoRe's loop, as the node runs it, with all else as published."""
    cell = Cell(METHODS["CoRe, stage 1"], Thing(concept), DIVERSE, seed=0)
    settings = {
        "concept_name": f"gradients-{concept}",
        "super_category": cell.kind,
        "prompt_set": cell.subject.prompt_set,
    }
    settings |= {**cell.method.embedding, "steps": given.steps}
    with torch.inference_mode():
        return host.ready_embedding(cell.pictures(), None, settings).session.loop


def attention_gradient(recipe: Any, seed: int) -> Tensor:
    """Of L_attn alone on v, flat; the seed decides pictures, noise and prompt."""
    from core_personalization.core_ops.terms import ATTENTION
    from core_personalization.core_ops.training.training_loop import STREAMS

    step = recipe.training_step({name: torch.Generator().manual_seed(seed) for name in STREAMS})
    (terms,) = (each.computed() for each in step.objective.passes if ATTENTION in each.names)
    found = torch.autograd.grad(terms[ATTENTION], step.leaves, allow_unused=True)
    gradients = [
        torch.zeros_like(leaf) if each is None else each for leaf, each in zip(step.leaves, found, strict=True)
    ]
    return torch.cat([each.flatten() for each in step.pull_back(gradients)])


def cosine(one: Tensor, other: Tensor) -> float:
    return float(cosine_similarity(one, other, dim=0))
