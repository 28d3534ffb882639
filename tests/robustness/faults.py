"""Every fault that is injected, what the user then reads, and what is kept. docs/faults.md is made of this list."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from core_personalization.nodes.files import safe_files
from safetensors import SafetensorError

from robustness.subjects import FINETUNE, OPTIMIZE, PROBE, TRAIN, Subject

STEP = (
    "What was learned up to the last whole step, as a file of that step, and its state. Run goes on from there, "
    "bit for bit as if nothing had happened."
)
STATE = "The state, in the system's temporary folder: Run finds it there, and goes on bit for bit."
WHOLE = STEP.replace("the last whole step, as a file of that step", "the end, under its own name")
NOTHING_YET = "Nothing had been learned yet; run it again."
SECONDS = "The concept as it was; a run takes seconds, run it again."
HOST = "The picture is not drawn; the next one is drawn as ever."
NAN = "The picture is not finite, with the probe as without it."


@dataclass
class Scene:
    """Where a fault strikes. armed: from the second step on, or from the beginning for faults before it."""

    patch: pytest.MonkeyPatch
    base: Path
    armed: bool = False

    def replace(self, owner: Any, name: str, strike: Callable[..., Any]) -> None:
        """strike: called in place of `owner.name` once armed, with the original first."""
        original = getattr(owner, name)

        def replaced(*args: Any, **more: Any) -> Any:
            return strike(original, *args, **more) if self.armed else original(*args, **more)

        self.patch.setattr(owner, name, replaced)

    def fails(self, owner: Any, name: str, error: BaseException) -> None:
        def strike(*_: Any, **__: Any) -> Any:
            raise error

        self.replace(owner, name, strike)

    def fails_here(self, owner: Any, name: str, number: int) -> None:
        """Fails as the system does, for paths in ComfyUI's folders; others are on another disk."""

        def strike(original: Any, path: Any, *args: Any, **more: Any) -> Any:
            if Path(path).is_relative_to(self.base):
                raise OSError(number, os.strerror(number), str(path))
            return original(path, *args, **more)

        self.replace(owner, name, strike)


@dataclass(frozen=True)
class Outcome:
    """sees: part of the error's text; empty when there is no error."""

    sees: str
    kept: str


@dataclass(frozen=True)
class Fault:
    """outcomes: per node that can meet it. at_once: it strikes from the beginning. quick: nodes of the normal run."""

    title: str
    strike: Callable[[Scene], None]
    outcomes: Mapping[Subject, Outcome]
    quick: Sequence[Subject] = (TRAIN, PROBE)
    at_once: bool = False


def unet_fails(scene: Scene) -> None:
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    scene.fails(UNetModel, "_forward", RuntimeError("the U-Net broke"))


def text_encoder_fails(scene: Scene) -> None:
    from comfy.sd1_clip import SDClipModel

    scene.fails(SDClipModel, "forward", RuntimeError("the text encoder broke"))


def vae_fails_to_encode(scene: Scene) -> None:
    from comfy.sd import VAE

    scene.fails(VAE, "encode", RuntimeError("the VAE broke"))


def vae_fails_to_decode(scene: Scene) -> None:
    from comfy.sd import VAE

    scene.fails(VAE, "decode", RuntimeError("the VAE broke"))


def optimizer_fails(scene: Scene) -> None:
    scene.fails(torch.optim.AdamW, "step", RuntimeError("the optimizer broke"))


def progress_fails(scene: Scene) -> None:
    import comfy.utils

    scene.fails(comfy.utils.ProgressBar, "update_absolute", RuntimeError("the progress bar broke"))


def out_of_memory(scene: Scene) -> None:
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    scene.fails(UNetModel, "_forward", torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))


def not_finite(scene: Scene) -> None:
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    def strike(forward: Any, unet: Any, x: torch.Tensor, *args: Any, **more: Any) -> torch.Tensor:
        return forward(unet, x * float("nan"), *args, **more)

    scene.replace(UNetModel, "_forward", strike)


def cancel(scene: Scene) -> None:
    import comfy.model_management
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    def strike(forward: Any, *args: Any, **more: Any) -> Any:
        comfy.model_management.interrupt_current_processing()
        return forward(*args, **more)

    scene.replace(UNetModel, "_forward", strike)


def disk_full(scene: Scene) -> None:
    """As the safetensors library meets it: half a file, and an error that is no OSError."""

    def strike(save_file: Any, tensors: Any, path: Path, metadata: Any) -> None:
        save_file(tensors, path, metadata)
        if Path(path).is_relative_to(scene.base):
            os.truncate(path, path.stat().st_size // 2)
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    scene.replace(safe_files, "save_file", strike)


def disk_read_only(scene: Scene) -> None:
    scene.fails_here(Path, "mkdir", errno.EROFS)


def not_permitted(scene: Scene) -> None:
    scene.fails_here(Path, "touch", errno.EACCES)


def locked(scene: Scene) -> None:
    """As Windows answers while another program has the file open."""
    scene.patch.setattr(safe_files, "_LOCKED_WAITS", (0.0, 0.0))
    scene.fails_here(os, "replace", errno.EACCES)


def vanishes(scene: Scene) -> None:
    def strike(flush: Any, path: Path) -> None:
        if path.is_relative_to(scene.base):
            path.unlink()
        flush(path)

    scene.replace(safe_files, "_flush", strike)


def folders_gone(scene: Scene) -> None:
    def strike(write: Any, path: Path, *args: Any, **more: Any) -> None:
        shutil.rmtree(path.parent)
        write(path, *args, **more)

    scene.replace(safe_files, "write", strike)


def _writing(sees: str) -> dict[Subject, Outcome]:
    return {TRAIN: Outcome(sees, STATE), FINETUNE: Outcome(sees, STATE), OPTIMIZE: Outcome(sees, SECONDS)}


def _all(sees: str, kept: str = STEP) -> dict[Subject, Outcome]:
    return {
        TRAIN: Outcome(sees, kept),
        FINETUNE: Outcome(sees, kept),
        OPTIMIZE: Outcome(sees, SECONDS),
        PROBE: Outcome(sees, HOST),
    }


_MEMORY = "Out of memory. Lower batch_size or resolution, or switch gradient_checkpointing on."
_LOSS = "is not finite. Lower learning_rate, or use precision fp32 or bf16."

MOST = (TRAIN, OPTIMIZE, PROBE)
ALL = (TRAIN, FINETUNE, OPTIMIZE, PROBE)
CANCELLED = "The user cancels"

FAULTS = (
    Fault("The U-Net raises an error", unet_fails, _all("the U-Net broke"), quick=MOST),
    Fault(
        "The text encoder raises an error",
        text_encoder_fails,
        {
            TRAIN: Outcome("the text encoder broke", STEP),
            FINETUNE: Outcome("the text encoder broke", WHOLE),
            OPTIMIZE: Outcome("the text encoder broke", SECONDS),
        },
    ),
    Fault(
        "The text encoder raises an error at once",
        text_encoder_fails,
        _all("the text encoder broke", NOTHING_YET),
        quick=(PROBE,),
        at_once=True,
    ),
    Fault(
        "The VAE raises an error while it encodes the pictures",
        vae_fails_to_encode,
        {TRAIN: Outcome("the VAE broke", NOTHING_YET), FINETUNE: Outcome("the VAE broke", NOTHING_YET)},
        quick=(),
        at_once=True,
    ),
    Fault(
        "The VAE raises an error while the preview is drawn",
        vae_fails_to_decode,
        {TRAIN: Outcome("the VAE broke", WHOLE), FINETUNE: Outcome("the VAE broke", WHOLE)},
    ),
    Fault(
        "The optimizer raises an error",
        optimizer_fails,
        {s: outcome for s, outcome in _all("the optimizer broke").items() if s is not PROBE},
    ),
    Fault("The progress bar raises an error", progress_fails, _all("the progress bar broke")),
    Fault(
        "The device runs out of memory",
        out_of_memory,
        {
            TRAIN: Outcome(_MEMORY, STEP),
            FINETUNE: Outcome(_MEMORY, STEP),
            OPTIMIZE: Outcome(
                "Out of memory. Lower batch_size, or width and height, or switch gradient_checkpointing on.", SECONDS
            ),
            PROBE: Outcome("out of memory", HOST),
        },
        quick=ALL,
    ),
    Fault(
        "The loss is not finite any more",
        not_finite,
        {
            TRAIN: Outcome(_LOSS, STEP),
            FINETUNE: Outcome(_LOSS, STEP),
            OPTIMIZE: Outcome(_LOSS, SECONDS),
            PROBE: Outcome("", NAN),
        },
        quick=MOST,
    ),
    Fault(CANCELLED, cancel, _all(""), quick=ALL),
    Fault("The disk is full", disk_full, _writing("Free space on the disk of"), quick=ALL),
    Fault("The disk turns read-only", disk_read_only, _writing("is on a disk that can only be read; choose another")),
    Fault("The folder may not be written to", not_permitted, _writing("let ComfyUI write to"), quick=()),
    Fault("Another program holds the file", locked, _writing("Close what has it open")),
    Fault("The file vanishes while it is written", vanishes, _writing("Something removed it")),
    Fault(
        "The folder is removed while the run goes on",
        folders_gone,
        {s: Outcome("", "Everything: the folder is made again.") for s in (TRAIN, FINETUNE, OPTIMIZE)},
        quick=(),
    ),
)
