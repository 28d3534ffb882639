"""What one child process is to measure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from families.build import Family

from .sizes import SIZES

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Task:
    """subject: "who:work". pair: what is compared. folder: weights, and what the subjects of a pair share.

    bf16_unet: ComfyUI's option of that name, under which it keeps the U-Net in bf16 itself.
    prompt_words: in the regularized prompt, {} counted, at least 5.
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
    images: int = 4
    vectors: int = 1
    prompt_words: int = 8

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
