"""ComfyUI in this process, without a server, and the pack loaded as ComfyUI loads it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from preparation.by_place import ROOT, load_package
from safetensors.torch import load_file
from torch import Tensor

from .task import Task


def load_pack() -> None:
    load_package("core_personalization", ROOT)


def import_host(task: Task) -> None:
    """ComfyUI with folders of its own in the task's folder; and all that our trainings import."""
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    from comfy.cli_args import args

    args.cpu = task.device == "cpu"
    args.bf16_unet = task.bf16_unet
    args.use_pytorch_cross_attention = True  # as on CUDA; without it core's Train LoRA cannot learn on a CPU
    args.base_directory = task.folder
    import folder_paths

    for kind in ("embeddings", "loras", "diffusion_models"):
        for folder in folder_paths.get_folder_paths(kind):
            Path(folder).mkdir(parents=True, exist_ok=True)
    load_pack()
    import comfy.sd  # noqa: F401 - here, so that it is not counted as the models' memory
    import core_personalization.nodes.embedding.embedding_training
    import core_personalization.nodes.finetune.finetuning
    import core_personalization.nodes.refinement.refining  # noqa: F401

    import nodes  # noqa: F401


def host_models(task: Task) -> Any:
    from core_personalization.nodes.host.models.host_models import HostModels
    from families.load import load_checkpoint

    return HostModels(*load_checkpoint(task.family, load_file(task.weights)))


def pictures(task: Task) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(1, task.side, task.side, 3, generator=generator) for _ in range(task.images)]
