"""A trained cell's pictures of the evaluation prompts, kept as one strip of PNG with what was done beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from . import ceiling
from .host import Host, Trained
from .protocol import Cell, Protocol, drawn_prompts


@dataclass(frozen=True)
class Run:
    """One row of runs.csv: what was run on what, how long, how large a part of the gradient each regularizer had (of
    single gradients, of averaged ones), and how large both are in the end, blank where the method has none."""

    method: str
    concept: str
    references: str
    seed: int
    pictures: int
    training_seconds: float
    drawing_seconds: float
    embedding_norm: float
    share_emb: float
    share_attn: float
    commit: str
    hardware: str
    averaged_emb: float | None = None
    averaged_attn: float | None = None
    loss_emb: float | None = None
    loss_attn: float | None = None


def draw(host: Host, protocol: Protocol, cell: Cell, trained: Trained) -> Tensor:
    """Pictures [prompts · n, 3, side, side]; every method gets the same noise for the same prompt."""
    prompts, seeds = zip(*drawn_prompts(protocol, cell), strict=True)
    sampling = protocol.sampling_steps, protocol.guidance
    if trained.concept.space_time is not None:
        applied = (host.applied(trained, prompt) for prompt in prompts)
        return torch.cat(
            [host.sample(model, [text], [seed], *sampling) for (model, text), seed in zip(applied, seeds, strict=True)]
        )
    conditionings = (_conditioning(host, protocol, cell, trained, prompt) for prompt in prompts)
    return host.sample(trained.model, conditionings, seeds, *sampling, clip=trained.clip)


def _conditioning(host: Host, protocol: Protocol, cell: Cell, trained: Trained, template: str) -> Any:
    if cell.method.test_time is None:
        return host.encode(trained.concept.caption(template).replace("{}", trained.concept.token), trained.clip)
    batch = {} if protocol.published else {"batch_size": protocol.embedding_batch}
    return host.refined(trained, template, {**batch, **cell.method.test_time})


def run_cell(
    host: Host, protocol: Protocol, cell: Cell, stages: Sequence[Trained], where: tuple[str, str]
) -> tuple[Tensor, Run]:
    """stages: what was trained, if anything was. where: commit and hardware."""
    began = time.monotonic()
    pictures = draw(host, protocol, cell, stages[-1]) if stages else ceiling.draw(host, protocol, cell)
    run = Run(
        cell.method.name,
        cell.concept,
        cell.references,
        cell.seed,
        len(pictures),
        round(sum(stage.seconds for stage in stages), 1),
        round(time.monotonic() - began, 1),
        *_learned(stages),
        *where,
        *_regularized(stages),
    )
    return pictures, run


def _learned(stages: Sequence[Trained]) -> tuple[float, float, float]:
    """The vectors' mean norm, and the two regularizers' shares of the gradient; zeros where nothing was trained."""
    if not stages:
        return 0.0, 0.0, 0.0
    vectors = torch.cat(list(stages[-1].concept.vectors.values()))
    shares = (stages[0].report or {}).get("shares", {})
    terms = (round(shares.get(f"context_{name}", 0.0), 6) for name in ("embedding", "attention"))
    return round(float(vectors.norm(dim=1).mean()), 4), *terms


def _regularized(stages: Sequence[Trained]) -> list[float | None]:
    """Shares of the averaged gradients, and the regularizers' final means, of the first stage."""
    report = (stages[0].report or {}) if stages else {}
    found = (report.get(part, {}).get(f"context_{name}")
             for part in ("averaged", "regularizers") for name in ("embedding", "attention"))  # fmt: skip
    return [value and float(f"{value:.4g}") for value in found]


def save(folder: Path, cell: Cell, pictures: Tensor, run: Run) -> None:
    """The note is written last: where it is, the cell is done."""
    folder.mkdir(parents=True, exist_ok=True)
    strip = torch.cat(list(pictures), dim=2).movedim(0, -1)
    Image.fromarray((strip * 255).round().byte().numpy()).save(folder / f"{cell.file_name}.png")
    (folder / f"{cell.file_name}.json").write_text(json.dumps(asdict(run), ensure_ascii=False), "utf-8")


def is_done(folder: Path, cell: Cell) -> bool:
    return (folder / f"{cell.file_name}.json").is_file()


def load(folder: Path, cell: Cell) -> tuple[Tensor, Run]:
    """Pictures [B, 3, side, side] in 0…1, and the note."""
    strip = torch.from_numpy(np.array(Image.open(folder / f"{cell.file_name}.png"))).movedim(-1, 0).float() / 255
    run = Run(**json.loads((folder / f"{cell.file_name}.json").read_text("utf-8")))
    return torch.stack(strip.split(strip.shape[1], dim=2)), run
