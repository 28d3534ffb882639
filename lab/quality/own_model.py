"""Somebody's own checkpoint and photos in the mini world's place, and the scorecard's CLIP and DINO in the judge's."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from ..comfyui import load_pack, start
from .host import Host
from .protocol import Cell, Protocol, cells
from .records import Scores

PHOTOS = "photos"
"""Kind of references."""
KINDS = ("animate", "inanimate", "person", "style")
"""Of things: CoRe's prompt sets that have evaluation prompts."""


@dataclass(frozen=True)
class PhotoSubject:
    """A folder of photos in ComfyUI's input folder, with captions beside them where there are any. Masks are not
    used."""

    name: str
    kind: str
    prompt_set: str

    @property
    def prompts(self) -> Sequence[str]:
        from core_personalization.core_ops.prompts.prompt_templates import prompt_set

        return prompt_set(f"evaluation_{self.prompt_set}")

    def pictures(self, references: str) -> list[Tensor]:
        return [photo.picture.pixels[None] for photo in _photos(self)]

    def captions(self, references: str) -> list[str] | None:
        captions = [photo.caption for photo in _photos(self)]
        return captions if any(captions) else None


@cache
def _photos(subject: PhotoSubject) -> Sequence[Any]:
    from core_personalization.nodes.files.picture_folders import listed, photo_folder
    from core_personalization.nodes.photos.photo_set import read_photos
    from core_personalization.nodes.photos.photo_settings import PhotoSettings

    settings = PhotoSettings(super_category=subject.kind)
    return read_photos(listed(photo_folder(subject.name)), settings, settings.shorter_side).photos


@dataclass(frozen=True)
class ModelScored:
    """One row of pictures.csv. index: of the picture; as many of each prompt, one prompt after another. The scores are
    the scorecard's; blank where one does not count, such as likeness where the prompt asks for a painting."""

    method: str
    concept: str
    references: str
    seed: int
    index: int
    text_alignment: float | None
    clip_t: float | None
    clip_i: float | None
    dino: float | None = None


@dataclass(frozen=True)
class OwnModel:
    """subjects: by name. resolution: 0 is the model's own. scorecard: settings of the scorecard, such as its models."""

    checkpoint: Path
    subjects: Mapping[str, PhotoSubject]
    resolution: int = 0
    scorecard: Mapping[str, Any] = field(default_factory=dict)

    row: ClassVar[type[Any]] = ModelScored
    pictures: ClassVar[str] = "pictures.csv"
    scores: ClassVar[Scores] = {
        "text alignment": lambda row: row.text_alignment,
        "CLIP-T": lambda row: row.clip_t,
        "CLIP-I": lambda row: row.clip_i,
        "DINO": lambda row: row.dino,
    }
    axes: ClassVar[Mapping[str, str]] = {
        "text alignment": "text alignment (CLIP, without the concept)",
        "CLIP-I": "CLIP-I (likeness)",
    }

    @classmethod
    def given(cls, given: argparse.Namespace, folder: Path) -> OwnModel:
        """given: as of the command. Starts ComfyUI in `folder`, and copies the photos there. Raises ValueError for what
        cannot be trained or scored, before anything is."""
        if not given.photos:
            raise ValueError("photos: name at least one folder, with its super-category and its kind.")
        if not given.checkpoint.is_file():
            raise ValueError(f"checkpoint: there is no file {given.checkpoint}.")
        places, subjects = dict[str, Path](), dict[str, PhotoSubject]()
        for place, kind, prompt_set in given.photos:
            name = Path(place).resolve().name
            if name in places:
                raise ValueError(f"photos: two folders are called {name}; rename one.")
            if not Path(place).is_dir():
                raise ValueError(f"photos: there is no folder {place}.")
            if prompt_set not in KINDS:
                raise ValueError(f"photos: {prompt_set!r} is no kind; it is one of {', '.join(KINDS)}.")
            places[name], subjects[name] = Path(place), PhotoSubject(name, kind, prompt_set)
        models = {"clip_model": given.clip, "dino_model": given.dino, "allow_downloads": given.download or None}
        scorecard = {name: value for name, value in models.items() if value is not None}
        inputs = start(folder / "comfyui") / "input"
        for name, place in places.items():
            _copy(place, inputs / name)
        bench = cls(given.checkpoint, subjects, given.resolution, scorecard)
        bench._check()
        return bench

    def _check(self) -> None:
        from core_personalization.nodes.evaluation.evaluation_inputs import check_settings
        from core_personalization.nodes.evaluation.evaluation_settings import ScorecardSettings
        from core_personalization.nodes.settings import validated

        for subject in self.subjects.values():
            subject.pictures(PHOTOS)
        check_settings(validated(ScorecardSettings, self.scorecard))

    def cells(self, protocol: Protocol) -> Iterator[Cell]:
        """Without those that train on captions, where the photos have none."""
        for cell in cells(protocol, self.subjects):
            if not cell.method.sid_captions or cell.captions():
                yield cell

    def host(self, folder: Path) -> Host:
        return Host(self.checkpoint, folder / "comfyui", self.resolution)

    def judged(self, cell: Cell, pictures: Tensor) -> Sequence[ModelScored]:
        from core_personalization.nodes.evaluation.evaluation_inputs import check_inputs, picture_set
        from core_personalization.nodes.evaluation.evaluation_settings import ScorecardSettings
        from core_personalization.nodes.evaluation.scoring import score
        from core_personalization.nodes.settings import validated

        settings = validated(ScorecardSettings, {**self.scorecard, "super_category": cell.kind})
        each = len(pictures) // len(cell.subject.prompts)
        prompts = [template for template in cell.subject.prompts for _ in range(each)]
        drawn = picture_set("generated", list(pictures.movedim(1, -1).split(1)), None)
        references = picture_set("references", cell.pictures(), None)
        found = score(check_inputs(references, drawn, prompts, None, [], settings), None).pictures
        names = [each.name for each in fields(ModelScored)[5:]]
        return [
            ModelScored(
                cell.method.name, cell.concept, cell.references, cell.seed, index,
                *(_rounded(found[name][index]) if name in found else None for name in names),
            )
            for index in range(len(pictures))
        ]  # fmt: skip

    def about(self) -> Mapping[str, Any]:
        """What each folder shows is in it: pictures of a dog's prompts say nothing of a cat."""
        size, photos = self.checkpoint.stat().st_size, self.subjects.values()
        return {
            "checkpoint": [self.checkpoint.name, size],
            "resolution": self.resolution,
            "photos": {subject.name: [subject.kind, subject.prompt_set] for subject in photos},
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _copy(photos: Path, target: Path) -> None:
    """Raises ValueError where other photos of that name have been trained on."""
    if not target.exists():
        shutil.copytree(photos, target)
    elif _sizes(photos) != _sizes(target):
        raise ValueError(f"photos: {photos} is not what was trained on before; rename it, or remove {target}.")


def _sizes(folder: Path) -> dict[str, int]:
    return {file.relative_to(folder).as_posix(): file.stat().st_size for file in folder.rglob("*") if file.is_file()}


def node_settings(given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Of NODE.NAME=VALUE, by node; without NODE for both, where they have it. Numbers, true and false as JSON writes
    them, all else is text. Raises ValueError for no node's input."""
    load_pack()
    from core_personalization.nodes.embedding.embedding_settings import EmbeddingSettings
    from core_personalization.nodes.finetune.finetune_settings import FinetuneSettings

    inputs = {"embedding": EmbeddingSettings, "finetune": FinetuneSettings}
    known = {node: {each.name for each in fields(kind)} for node, kind in inputs.items()}
    found: dict[str, dict[str, Any]] = {node: {} for node in inputs}
    for one in given:
        path, _, text = one.partition("=")
        chosen, _, name = path.rpartition(".")
        nodes = [node for node, names in known.items() if name in names and chosen in ("", node)]
        if not nodes:
            raise ValueError(f"set: {path!r} is no input of {' or '.join(known)}.")
        for node in nodes:
            found[node][name] = _value(text)
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
