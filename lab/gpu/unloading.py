"""What is left on the card after three trainings and an unload, with ComfyUI's dynamic VRAM off and on."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .process import Setup, Worker
from .rows import Case, Row, in_time
from .trainings import EMBEDDING, EMBEDDING_METHODS, Models, random_pictures, start_host
from .worker import Measure, told

TITLE = "Unloading: the card's memory after three trainings and an unload"
FAMILY = "sd1"
TRAININGS = ("CoRe", "LoRA", "full weights")
MIB = 2**20
ALLOWED = 0.1
"""MiB: some single numbers. A layer's weights are more."""
NO_DYNAMIC_VRAM = "comfy-aimdo does not work on this card"


def rows(folder: str, small: bool, until: float) -> Iterator[Row]:
    def measured(case: Case) -> Row:
        with Worker(Setup("unloading", folder, small, dynamic_vram=case["dynamic_vram"])) as worker:
            return row_of(case, worker.ask(case, until))

    yield from in_time("unloading", [{"dynamic_vram": on} for on in (False, True)], until, measured)


def row_of(case: Case, answer: Case) -> Row:
    name = f"dynamic VRAM {'on' if case['dynamic_vram'] else 'off'}"
    if "error" in answer:
        left_out = answer.get("late") or NO_DYNAMIC_VRAM in answer["error"]
        return Row("unloading", name, None if left_out else False, said=answer["error"])
    left = answer["left"]
    figures = {"between trainings, MiB": answer["trained"], "left, MiB": left, "left in all, MiB": answer["in_use"]}
    wrong = [*answer["failed"], *["not all was given back"] * (left > ALLOWED)]
    return Row("unloading", name, not wrong, figures, "; ".join(wrong))


def prepared(setup: Setup) -> Measure:
    """In the order of ComfyUI's main.py: its allocator and comfy-aimdo come before torch."""
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    import comfy_aimdo.control
    import cuda_malloc  # noqa: F401 - sets the allocator that torch will use

    if setup.dynamic_vram:
        comfy_aimdo.control.init()
    start_host(setup.folder, setup.device)
    if setup.dynamic_vram:
        _switch_on()
    return lambda _case: after_trainings()


def _switch_on() -> None:
    from families.dynamic_vram import switch_on
    from pytest import skip

    try:
        switch_on()
    except skip.Exception as reason:
        raise RuntimeError(NO_DYNAMIC_VRAM) from reason


def after_trainings() -> dict[str, Any]:
    """In MiB, beside what is held after ComfyUI's own sampling and an unload: under dynamic VRAM it keeps some.

    trained: held by torch at most between two trainings. left: held when all is over and unloaded. in_use: the same, of
    all that the driver counts. failed: what the trainings that did not end said.
    """
    import torch
    from families.concepts import sample

    models = load()
    sample(models[0], models[1], "a dog")
    before, free_before = held(unload=True), torch.cuda.mem_get_info()[0]
    trained, failed = 0.0, []
    for training in TRAININGS:
        try:
            train(models, training)
        except Exception as error:  # what it leaves is measured as well
            failed.append(f"{training}: {told(error)}")
        trained = max(trained, held() - before)
    left = held(unload=True) - before
    in_use = (free_before - torch.cuda.mem_get_info()[0]) / MIB
    return {"trained": trained, "left": left, "in_use": in_use, "failed": failed}


def load() -> Models:
    """From a file by core's loader, as dynamic VRAM has it: it loads again what it needs."""
    import folder_paths
    import torch
    from comfy.sd import load_checkpoint_guess_config
    from families.build import state_dict
    from safetensors.torch import save_file

    path = Path(folder_paths.base_path) / f"{FAMILY}.safetensors"
    if not path.exists():
        save_file(state_dict(FAMILY, full_text_encoders=True), path)
    with torch.inference_mode():
        model, clip, vae, *_ = load_checkpoint_guess_config(str(path))
    return model, clip, vae


def train(models: Models, training: str) -> None:
    """The node as the host runs it, its outputs dropped. training: an embedding's method, or a finetune's form."""
    import torch
    from core_personalization.nodes.embedding.train_embedding import TrainEmbedding
    from families.finetuning import execute

    if training not in EMBEDDING_METHODS:
        execute(models, form=training)
        return
    values = {**EMBEDDING, "method": training, "steps": 2, "batch_size": 2, "resolution": 64, "precision": "auto"}
    sockets = [[value] for value in models]
    with torch.inference_mode():
        TrainEmbedding.execute(*sockets, random_pictures(2, 64), **{name: [value] for name, value in values.items()})


def held(unload: bool = False) -> float:
    """MiB that torch holds on the card for tensors, its matrix library's working memory not among them."""
    import comfy.model_management
    import torch

    if unload:
        comfy.model_management.unload_all_models()
    gc.collect()
    torch._C._cuda_clearCublasWorkspaces()
    comfy.model_management.soft_empty_cache()
    return torch.cuda.memory_allocated() / MIB
