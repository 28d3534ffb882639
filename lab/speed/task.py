"""What one child process is to measure, and the random weights that all of them share."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from families.build import Family, checkpoint
from safetensors.torch import save_file

from .sizes import SIZES

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Task:
    """subject: "who:work". pair: what is compared. folder: weights, and what the subjects of a pair share.

    bf16_unet: ComfyUI's option of that name, under which it keeps the U-Net in bf16 itself.
    """

    subject: str
    pair: str
    size: str
    side: int
    batch: int
    folder: str
    device: str = "cpu"
    precision: str = "fp32"
    bf16_unet: bool = False

    @property
    def who(self) -> str:
        return self.subject.partition(":")[0]

    @property
    def work(self) -> str:
        return self.subject.partition(":")[2]

    @property
    def family(self) -> Family:
        return SIZES[self.size].family

    @property
    def weights(self) -> Path:
        return Path(self.folder) / f"{self.size}.safetensors"

    @property
    def shared(self) -> Path:
        """What our subject hands to the other, so that both work on the same."""
        return Path(self.folder) / f"{self.pair}.pt"

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.precision]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Task:
        return Task(**json.loads(text))


def write_weights(task: Task) -> None:
    """In a process of its own, whose memory goes with it."""
    process = multiprocessing.get_context("spawn").Process(target=_write_weights, args=(task,))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError("the random weights could not be written; see above")


def _write_weights(task: Task) -> None:
    save_file({key: value.contiguous() for key, value in checkpoint(task.family).items()}, task.weights)
