"""What our trainings and ComfyUI's own nodes are measured in: the host's modules, models and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..comfyui import start
from .task import Task

PICTURES = 4


def import_host(task: Task) -> None:
    """ComfyUI with folders of its own in the task's folder; and all that our trainings import."""
    # Torch's attention, as on CUDA; without it core's Train LoRA cannot learn on a CPU.
    start(Path(task.folder), task.device == "cpu", bf16_unet=task.bf16_unet, use_pytorch_cross_attention=True)
    import comfy.sd  # noqa: F401 - here, so that it is not counted as the models' memory
    import core_personalization.nodes.embedding.embedding_training
    import core_personalization.nodes.finetune.finetuning
    import core_personalization.nodes.refinement.refining  # noqa: F401

    import nodes  # noqa: F401


def host_models(task: Task) -> Any:
    from core_personalization.nodes.host.models.host_models import HostModels
    from families.load import load_checkpoint

    return HostModels(*load_checkpoint(task.family, load_file(task.weights)))


def oblong_pictures(task: Task, sizes: int) -> list[Tensor]:
    """One for each in the batch, of so many of the sizes that fit = keep makes: those of the largest area."""
    from core_personalization.core_ops.pictures import kept_sizes

    found = sorted(kept_sizes(task.side), key=lambda size: (-size[0] * size[1], abs(size[0] - size[1])))[:sizes]
    if len(found) < sizes or task.batch % sizes:
        raise ValueError(f"{sizes} sizes need a larger side than {task.side}, and a batch that is a multiple of them")
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(1, *found[number % sizes], 3, generator=generator) for number in range(task.batch)]


def pictures(task: Task) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(1, task.side, task.side, 3, generator=generator) for _ in range(PICTURES)]
