"""ComfyUI in this process, without a server, and the pack loaded as ComfyUI loads it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from preparation.by_place import ROOT, load_package

WRITTEN = ("embeddings", "loras", "diffusion_models")
"""Kinds of folders that our nodes write to."""


def load_pack() -> None:
    """As `core_personalization`, by its place; this needs no ComfyUI."""
    load_package("core_personalization", ROOT)


def comfyui_folder() -> Path:
    """ComfyUI's source tree. Raises ValueError where COMFYUI_PATH does not name it."""
    path = os.environ.get("COMFYUI_PATH")
    if not path:
        raise ValueError("COMFYUI_PATH is not set. It must name a ComfyUI folder.")
    return Path(path)


def start(base: Path, cpu: bool | None = None, **options: bool) -> Path:
    """Makes ComfyUI importable, with `base` as its base folder, unless this process has one; and loads the pack.

    cpu: without it, where TEST_ON_CPU is set or no card is found. options: of ComfyUI's command line, as
    `bf16_unet=True`; those of the variable COMFYUI_OPTIONS, such as "--novram", are switched on too.
    --enable-dynamic-vram is what ComfyUI does by itself on NVIDIA's cards. Returns the base folder that there is.
    """
    if "folder_paths" in sys.modules:
        return Path(sys.modules["folder_paths"].base_path)
    sys.path.insert(0, str(comfyui_folder()))
    import torch
    from comfy.cli_args import args

    args.cpu = bool(os.environ.get("TEST_ON_CPU")) or not torch.cuda.is_available() if cpu is None else cpu
    args.base_directory = str(base)
    wanted = os.environ.get("COMFYUI_OPTIONS", "").split()
    for name, value in {**dict.fromkeys(wanted, True), **options}.items():
        setattr(args, name.removeprefix("--").replace("-", "_"), value)
    if wanted:
        from families import dynamic_vram

        if dynamic_vram.is_on():
            dynamic_vram.switch_on()
    _make_folders()
    load_pack()
    return base


def _make_folders() -> None:
    """As ComfyUI's main.py, which has its loaders look into the output folder, too."""
    import folder_paths

    output = Path(folder_paths.get_output_directory())
    for kind in ("loras", "diffusion_models"):
        folder_paths.add_model_folder_path(kind, str(output / kind))
    for folder in (output, *(path for kind in WRITTEN for path in folder_paths.get_folder_paths(kind))):
        Path(folder).mkdir(parents=True, exist_ok=True)
