"""What one worker process is to be: a line of JSON between the two."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Setup:
    """stage: the module that measures. folder: ComfyUI's base folder, and what workers share.

    dynamic_vram: ComfyUI's option, for which a library has to come before torch.
    """

    stage: str
    folder: str
    small: bool
    device: str = "cuda"
    dynamic_vram: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Setup:
        return Setup(**json.loads(text))
