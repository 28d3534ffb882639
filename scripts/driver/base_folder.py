"""ComfyUI's folders for one purpose (--base-directory), with this pack as the only custom node or with none.

A folder of its own, in place of the installation's, leaves a user's models, outputs and custom nodes alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from preparation.installation import ROOT
from preparation.pack_link import place_pack


@dataclass(frozen=True)
class BaseFolder:
    path: Path

    @classmethod
    def make(cls, path: Path, with_pack: bool = True) -> BaseFolder:
        base = cls(path.resolve())
        for folder in (base.checkpoints, base.embeddings, base.input, base.output, base.path / "user"):
            folder.mkdir(parents=True, exist_ok=True)
        if with_pack:
            place_pack(ROOT, base.path / "custom_nodes")
        return base

    @property
    def checkpoints(self) -> Path:
        return self.path / "models" / "checkpoints"

    @property
    def embeddings(self) -> Path:
        return self.path / "models" / "embeddings"

    @property
    def input(self) -> Path:
        return self.path / "input"

    @property
    def output(self) -> Path:
        return self.path / "output"

    @property
    def temporary(self) -> Path:
        return self.path / "temp"
