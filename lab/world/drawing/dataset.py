"""The training pictures: many captions, some pictures of each, drawn once and kept in one file."""

from __future__ import annotations

import dataclasses
import json
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from .captions import labels_of, sample_scene
from .render import pixels

PICTURES_PER_CAPTION = 4


@dataclass(frozen=True)
class Dataset:
    """images: uint8 [captions, pictures, side, side, 3]. masks: uint8 [captions, pictures, side, side].
    labels: [captions, attributes] in the order of `Labels`."""

    images: np.ndarray
    masks: np.ndarray
    labels: np.ndarray
    captions: list[str]

    @property
    def pictures(self) -> np.ndarray:
        """All of them, those of a caption one after another: [captions · pictures, side, side, 3]."""
        return self.images.reshape(-1, *self.images.shape[2:])

    def parted(self, last: int) -> tuple[Dataset, Dataset]:
        """All captions but the `last` ones, and these."""
        count = len(self.captions) - last
        parts = [(row[:count], row[count:]) for row in (self.images, self.masks, self.labels, self.captions)]
        first, second = zip(*parts, strict=True)
        return Dataset(*first), Dataset(*second)


def draw(captions: int, seed: int, processes: int = 2, every: bool = False) -> Dataset:
    """every: also the combinations that are held out of training."""
    seeds = (seed * 1_000_003 + index for index in range(captions))
    with ProcessPoolExecutor(processes) as pool:
        rows = list(pool.map(partial(_draw_one, every=every), seeds, chunksize=64))
    images, masks, labels, texts = zip(*rows, strict=True)
    return Dataset(np.stack(images), np.stack(masks), np.stack(labels), list(texts))


def _draw_one(seed: int, every: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    drawn = sample_scene(random.Random(seed), every)
    scenes = []
    for index in range(PICTURES_PER_CAPTION):
        appearance = dataclasses.replace(drawn.scene.appearance, seed=seed % 10_007 + index)
        scenes.append(dataclasses.replace(drawn.scene, appearance=appearance, seed=seed * 8 + index))
    return *pixels(scenes), np.array(dataclasses.astuple(labels_of(drawn.scene))), drawn.caption


def save(dataset: Dataset, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("images", "masks", "labels"):
        np.save(folder / f"{name}.npy", getattr(dataset, name))
    (folder / "captions.json").write_text(json.dumps(dataset.captions), encoding="utf-8")


def load(folder: Path) -> Dataset:
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "masks", "labels")}
    return Dataset(**arrays, captions=json.loads((folder / "captions.json").read_text(encoding="utf-8")))
