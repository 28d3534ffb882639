"""Each training for a few steps on the small models: the CPU's losses in fp32, finite ones in half precision."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from .process import Setup, Worker
from .rows import Case, Row, in_time
from .trainings import EMBEDDING_METHODS, FORMS, start_host, training_run
from .worker import Measure

TITLE = "Correctness: losses of a few steps"
FAMILIES = ("sd1", "sd2", "sd2_v", "sdxl")
TOLERANCE = 1e-3
"""Of a loss in fp32, relative."""
STEPS = 3


def cases(small: bool) -> list[Case]:
    """All in fp32 first. small: an embedding and a finetune in each precision."""
    trainings = ("CoRe", "LoRA") if small else (*EMBEDDING_METHODS, *FORMS)
    families = FAMILIES[:1] if small else FAMILIES
    return [
        {"family": family, "training": training, "precision": precision, "steps": 1 if small else STEPS}
        for precision in ("fp32", "bf16", "fp16")
        for family in families
        for training in trainings
    ]


def rows(folder: str, small: bool, until: float) -> Iterator[Row]:
    card, cpu = (Worker(Setup("correctness", folder, small, device)) for device in ("cuda", "cpu"))

    def measured(case: Case) -> Row:
        compared = case["precision"] == "fp32"
        if compared:  # both at a time
            cpu.send(case)
        found = card.ask(case, until)
        return row_of(case, found, cpu.receive(until) if compared else None)

    with card, cpu:
        yield from in_time("correctness", cases(small), until, measured)


def row_of(case: Case, found: Case, expected: Case | None) -> Row:
    """expected: the CPU's answer, where there is one to compare with."""
    name = f"{case['family']}, {case['training']}, {case['precision']}"
    for where, answer in (("", found), ("on the CPU: ", expected or {})):
        if "error" in answer:
            return Row("correctness", name, None if answer.get("late") else False, said=where + answer["error"])
    losses = found["losses"]
    figures: dict[str, float | str | None] = {"last loss": losses[-1]}
    if not all(map(math.isfinite, losses)):
        return Row("correctness", name, False, figures, "not finite")
    if expected is None:
        return Row("correctness", name, True, figures)
    figures["differs by"] = worst = difference(losses, expected["losses"])
    return Row("correctness", name, worst <= TOLERANCE, figures, "" if worst <= TOLERANCE else f"above {TOLERANCE:g}")


def difference(losses: Sequence[float], expected: Sequence[float]) -> float:
    """The largest, relative; infinite where the numbers of steps differ."""
    if len(losses) != len(expected):
        return math.inf
    return max(abs(loss - other) / abs(other) for loss, other in zip(losses, expected, strict=True))


def prepared(setup: Setup) -> Measure:
    start_host(setup.folder, setup.device)
    import torch
    from comfy.cli_args import args
    from families.load import load_family

    torch.backends.cudnn.allow_tf32 = False  # torch's default for convolutions, of less precision than is asked here
    args.fp32_vae = True
    loaded: dict[Any, Any] = {}

    def measure(case: Case) -> Case:
        args.fp32_unet = case["precision"] == "fp32"  # on a card ComfyUI rounds weights to fp16 where it may
        wanted = case["family"], args.fp32_unet
        if wanted not in loaded:
            loaded.clear()
            loaded[wanted] = load_family(case["family"])
        settings = {"resolution": 64, "batch_size": 2, "steps": case["steps"], "precision": case["precision"]}
        run = training_run(case["training"], loaded[wanted], 2, **settings)
        with torch.inference_mode():
            run.train()
        return {"losses": run.losses["loss"]}

    return measure
