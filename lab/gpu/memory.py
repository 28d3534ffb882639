"""What trainings take on the card in the published shapes, beside what they had planned."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from .process import Setup, Worker
from .rows import Case, Row, in_time
from .trainings import Models, start_host, training_run
from .worker import Measure

TITLE = "Memory: the allocator's peak beside the plan"
PRECISION = "fp16"
TRAININGS = ("CoRe", "LoRA")
SIDES = (512, 1024)
LEAST_TAKEN = 0.85
"""Of what was planned."""


def cases(small: bool) -> list[Case]:
    """Batches of one. A size's models are made once."""
    sizes, sides = (("tiny",), (64,)) if small else (("sd15", "sd21", "sdxl"), SIDES)
    return [
        {"size": size, "side": side, "training": training} for size in sizes for side in sides for training in TRAININGS
    ]


def rows(folder: str, small: bool, until: float) -> Iterator[Row]:
    least = 0 if small else LEAST_TAKEN  # of a tiny model's plan all but everything is the libraries' part
    with Worker(Setup("memory", folder, small)) as worker:
        yield from in_time("memory", cases(small), until, lambda case: row_of(case, worker.ask(case, until), least))


def row_of(case: Case, answer: Case, least: float = LEAST_TAKEN) -> Row:
    """least: share of the plan that has to be taken."""
    name = f"{case['training']}, {case['size']}, {case['side']} pixels"
    if "error" in answer:
        return Row("memory", name, None if answer.get("late") else False, said=answer["error"])
    planned, taken = answer["planned"], answer["taken"]
    figures = {
        "planned, GiB": planned,
        "taken, GiB": taken,
        "taken / planned": taken / planned,
        "highest in all, GiB": answer["highest"],
    }
    said = ""
    if not least * planned <= taken <= planned:
        said = "more than planned" if taken > planned else f"less than {least:g} of the plan"
    return Row("memory", name, not said, figures, said)


def planned_and_taken(run: Any) -> tuple[float, float]:
    """GiB, of a training that has run; the one place that knows how a training says them."""
    found = re.search(r"needs about ([\d.]+) GiB.*, took ([\d.]+) GiB", run.memory)
    if not found:
        raise ValueError(f"this does not say what was planned and what was taken: {run.memory!r}")
    return float(found[1]), float(found[2])


def prepared(setup: Setup) -> Measure:
    start_host(setup.folder, setup.device)
    import torch

    from ..speed.sizes import SIZES

    loaded: dict[str, Models] = {}

    def measure(case: Case) -> Case:
        if case["size"] not in loaded:
            loaded.clear()
            loaded[case["size"]] = random_models(SIZES[case["size"]].family)
        torch.cuda.reset_peak_memory_stats()
        settings = {"resolution": case["side"], "batch_size": 1, "steps": 2, "precision": PRECISION}
        run = training_run(case["training"], loaded[case["size"]], 1, **settings)
        with torch.inference_mode():
            run.train()
        planned, taken = planned_and_taken(run)
        return {"planned": planned, "taken": taken, "highest": torch.cuda.max_memory_allocated() / 2**30}

    return measure


def random_models(family: Any) -> Models:
    """Of a family in fp16. Random numbers are made on the card: on a CPU billions of them take minutes."""
    import torch
    from families.build import autoencoder, text_shapes, unet_shapes
    from families.load import load_checkpoint

    generator = torch.Generator("cuda").manual_seed(0)

    def weight(key: str, shape: tuple[int, ...]) -> Any:
        """Keeps the scale of what passes: matrices have rows of norm 1, norms are near 1, biases near 0."""
        scale = math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.05
        noise = torch.randn(shape, generator=generator, device="cuda", dtype=torch.float16) * scale
        return (noise + (len(shape) == 1 and key.endswith("weight"))).cpu()

    shapes = [*unet_shapes(family), *(entry for encoder in family.text_encoders for entry in text_shapes(encoder))]
    weights = {key: weight(key, shape) for key, shape in shapes}
    return load_checkpoint(family, weights | autoencoder(family, 0))
