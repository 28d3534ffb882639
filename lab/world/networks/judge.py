"""The judge: what is in a picture, and which particular thing. The mini world's CLIP-T and DINO.

judge = Judge.load()
judge.attributes(images)["accessory"]    # indices, in the order of `ATTRIBUTES`
judge.identity(images, masks)            # unit vectors; their products are identity similarities
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..drawing.appearance import COLOURS
from ..drawing.contexts import CONTEXTS
from ..drawing.objects import OBJECTS
from ..drawing.render import ACCESSORIES, STYLES
from .quantization import dequantize, quantize

FILE = Path(__file__).resolve().parents[2] / "assets" / "world" / "judge.safetensors"
ATTRIBUTES: dict[str, tuple[str | None, ...]] = {
    "kind": tuple(OBJECTS),
    "context": (None, *CONTEXTS),
    "colour": (*COLOURS, None),
    "accessory": (None, *ACCESSORIES),
    "style": STYLES,
}
WIDTH, FEATURES = 48, 64


def _stage(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.GroupNorm(8, outputs), nn.ReLU()]


def coloured(labels: Tensor) -> Tensor:
    """Which of labels [B, attributes] are of pictures that have a colour: all but pencil sketches. [B]"""
    return labels[:, list(ATTRIBUTES).index("style")] != STYLES.index("pencil sketch")


class Judge(nn.Module):
    """Two small networks: one looks at the whole picture, one at the foreground alone."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, WIDTH, 2 * WIDTH, 4 * WIDTH, 4 * WIDTH)
        pairs = list(pairwise(widths))
        self.whole = nn.Sequential(*(layer for pair in pairs for layer in _stage(*pair)), nn.Flatten())
        self.heads = nn.ModuleDict({name: nn.Linear(64 * WIDTH, len(values)) for name, values in ATTRIBUTES.items()})
        self.foreground = nn.Sequential(*(layer for pair in pairs for layer in _stage(*pair)), nn.Flatten())
        self.identity_head = nn.Linear(64 * WIDTH, FEATURES)

    def logits(self, images: Tensor) -> dict[str, Tensor]:
        """images [B, 3, 64, 64] in 0…1."""
        features = self.whole(images * 2 - 1)
        return {name: head(features) for name, head in self.heads.items()}

    @torch.no_grad()
    def attributes(self, images: Tensor) -> dict[str, Tensor]:
        """Indices into `ATTRIBUTES` [B] for images [B, 3, 64, 64] in 0…1."""
        return {name: logits.argmax(dim=1) for name, logits in self.logits(images).items()}

    def hits(self, images: Tensor, labels: Tensor) -> dict[str, tuple[int, int]]:
        """Pictures in which it sees what the labels [B, attributes] say, of how many. A pencil sketch has no colour."""
        seen = self.attributes(images)
        table = {}
        for column, name in enumerate(ATTRIBUTES):
            right = seen[name] == labels[:, column]
            right = right[coloured(labels)] if name == "colour" else right
            table[name] = int(right.sum()), len(right)
        return table

    def identity(self, images: Tensor, masks: Tensor) -> Tensor:
        """Unit vectors [B, 64] of the foreground; masks [B, 64, 64] in 0…1. What is outside is made gray."""
        masked = masks[:, None] * (images * 2 - 1)
        return F.normalize(self.identity_head(self.foreground(masked)), dim=1)

    @classmethod
    def load(cls, file: Path = FILE) -> Judge:
        judge = cls()
        judge.load_state_dict({name: weight.float() for name, weight in dequantize(load_file(file)).items()})
        return judge.eval()

    def save(self, file: Path = FILE) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(quantize(self.state_dict()), file, {"modelspec.license": "MIT"})
        file.chmod(0o644)
