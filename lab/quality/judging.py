"""The judge's view of every picture: what the prompt names, what leaked in from the references, and identity.

The mini world's renderer knows no masks of generated pictures, so the foreground is where things of that kind are on
average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..world.drawing.appearance import COLOURS
from ..world.drawing.concepts import CONCEPTS, SHARED
from ..world.drawing.contexts import CONTEXTS
from ..world.drawing.objects import OBJECTS
from ..world.drawing.render import ACCESSORIES, STYLES, Scene, pixels
from ..world.networks.judge import ATTRIBUTES, Judge
from .protocol import Cell
from .records import Scores
from .subjects import Thing

SILHOUETTES = 32
LEAKS = {"accessory": "hat", "context": "on the beach"}
"""What all the biased references share."""


@dataclass(frozen=True)
class Scored:
    """One row of pictures.csv. index: of the picture; a protocol draws as many of each evaluation prompt, one prompt
    after another. asked: attributes that the prompt names; right: those that are seen. shared_leak: what
    the references share, where that is one thing. Blank where a score has no meaning: leaks where the prompt asks for
    that very thing, identity where it changes the coat."""

    method: str
    concept: str
    references: str
    seed: int
    index: int
    asked: int
    right: int
    kind: int
    hat_leak: int | None
    beach_leak: int | None
    identity: float | None
    subject_alignment: float
    bare_subject_alignment: float
    non_subject_disentanglement: float
    shared_leak: int | None = None

    @property
    def text_alignment(self) -> float:
        return self.right / self.asked

    @property
    def faithful(self) -> int:
        """Whether the right kind of thing is seen with all that the prompt names, and with no hat that it does not."""
        return int(self.kind and self.right == self.asked and not self.hat_leak)


SCORES: Scores = {
    "text alignment": lambda row: row.text_alignment,
    "faithful": lambda row: row.faithful,
    "identity": lambda row: row.identity,
    "hat leak": lambda row: row.hat_leak,
    "beach leak": lambda row: row.beach_leak,
    "shared leak": lambda row: row.shared_leak,
    "right kind": lambda row: row.kind,
    "SA": lambda row: row.subject_alignment,
    "SA, bare": lambda row: row.bare_subject_alignment,
    "NSD": lambda row: row.non_subject_disentanglement,
}


def named(prompt: str) -> dict[str, int]:
    """Attribute → index into the judge's `ATTRIBUTES` of all that a prompt names; a photo is not counted as a style."""
    words = {
        "context": next((place for place in CONTEXTS if prompt.endswith(place)), None),
        "colour": next((colour for colour in COLOURS if f" {colour} " in prompt), None),
        "accessory": next((thing for thing in ACCESSORIES if prompt.find(f" {thing}") > 0), None),
        "style": next((style for style in STYLES[1:] if prompt.startswith(f"a {style}")), None),
    }
    return {name: ATTRIBUTES[name].index(word) for name, word in words.items() if word is not None}


def keeps_coat(prompt: str) -> bool:
    """Whether the thing should look as in its references: a photo, and no other colour."""
    asked = named(prompt)
    return "style" not in asked and "colour" not in asked


@torch.no_grad()
def judged(judge: Judge, cell: Cell, pictures: Tensor) -> list[Scored]:
    """pictures [prompts · n, 3, 64, 64] in 0…1, those of one prompt one after another."""
    templates = cell.subject.prompts
    prompts = [template for template in templates for _ in range(len(pictures) // len(templates))]
    seen = judge.attributes(pictures)
    identities = identity(judge, cell, pictures)
    sid = disentanglement(judge, cell, pictures)
    return [
        _scored(cell, index, prompt, {name: int(values[index]) for name, values in seen.items()},
                [float(score[index]) for score in (identities, *sid)])
        for index, prompt in enumerate(prompts)
    ]  # fmt: skip


def _scored(cell: Cell, index: int, prompt: str, seen: dict[str, int], scores: Sequence[float]) -> Scored:
    asked = named(prompt)
    leaks = {name: _leak(asked, seen, name, word) for name, word in LEAKS.items()}
    shared = next(iter(SHARED.get(cell.references, {}).items()), None)
    own, subject, bare, others = (round(score, 4) for score in scores)
    return Scored(
        method=cell.method.name,
        concept=cell.concept,
        references=cell.references,
        seed=cell.seed,
        index=index,
        asked=len(asked),
        right=sum(seen[name] == value for name, value in asked.items()),
        kind=int(seen["kind"] == list(OBJECTS).index(cell.kind)),
        hat_leak=leaks["accessory"],
        beach_leak=leaks["context"],
        identity=own if keeps_coat(prompt) else None,
        subject_alignment=subject,
        bare_subject_alignment=bare,
        non_subject_disentanglement=others,
        shared_leak=shared and _leak(asked, seen, *shared),
    )


def _leak(asked: dict[str, int], seen: dict[str, int], name: str, word: str) -> int | None:
    """Whether it is seen; None where the prompt asks for it."""
    leaked = ATTRIBUTES[name].index(word)
    return None if asked.get(name) == leaked else int(seen[name] == leaked)


def identity(judge: Judge, cell: Cell, pictures: Tensor) -> Tensor:
    """Mean cosine [B] with the concept itself in all eight places, which no method was shown all of."""
    real, mask = everywhere(cell.concept), silhouette(cell.kind)
    features = judge.identity(pictures, mask.expand(len(pictures), -1, -1))
    return (features @ judge.identity(real, mask.expand(len(real), -1, -1)).T).mean(dim=1)


def disentanglement(judge: Judge, cell: Cell, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """SID's SA, the same with what the references wear taken off, and NSD, each [B]: by the scorecard's own functions,
    with the judge's features of whole pictures for CLIP's."""
    from core_personalization.core_ops import scores

    scenes = Thing(cell.concept).scenes(cell.references)
    real, masks = _pictures(scenes)
    bare = _pictures([replace(scene, accessory=None) for scene in scenes])
    others = torch.stack([scores.non_subject_segment(p, m) for p, m in zip(real, masks, strict=True)])
    parts = (pictures, subjects(real, masks), subjects(*bare), others)
    seen, *references = [judge.whole(part * 2 - 1) for part in parts]
    return (
        scores.subject_alignment(seen, references[0]),
        scores.subject_alignment(seen, references[1]),
        scores.non_subject_disentanglement(seen, references[2]),
    )


def subjects(real: Tensor, masks: Tensor) -> Tensor:
    """Cut out, centred and of one size: [B, 3, 64, 64] in 0…1."""
    from core_personalization.core_ops.scores import subject_segment

    segments = [subject_segment(picture, mask) for picture, mask in zip(real, masks, strict=True)]
    return torch.cat([interpolate(segment[None], (64, 64), mode="bilinear") for segment in segments])


@cache
def everywhere(concept: str) -> Tensor:
    """The thing itself in each of the eight places: [8, 3, 64, 64] in 0…1."""
    kind, appearance = CONCEPTS[concept]
    return _pictures([Scene(kind, appearance, place, seed=300 + i) for i, place in enumerate(CONTEXTS)])[0]


@cache
def silhouette(kind: str) -> Tensor:
    """Where things of a kind are, on average over their places in the frame: [64, 64] in 0…1."""
    appearance = next(coat for other, coat in CONCEPTS.values() if other == kind)
    return _pictures([Scene(kind, appearance, seed=5000 + i) for i in range(SILHOUETTES)])[1].mean(dim=0)


def _pictures(scenes: list[Scene]) -> tuple[Tensor, Tensor]:
    """Images [B, 3, 64, 64] and masks [B, 64, 64] in 0…1."""
    images, masks = (torch.from_numpy(part).float() / 255 for part in pixels(scenes))
    return images.movedim(-1, 1), masks
