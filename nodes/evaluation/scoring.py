"""The run behind "Personalization Scorecard": pictures to features, features to scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from ...core_ops import scores
from ...core_ops.pictures import rgb
from ...core_ops.scores.segments import INSIDE
from ..files.file_metadata import pack_version
from ..host.models.vision_models import ClipEncoder, DinoEncoder, VisionEncoder
from ..host.run_control import RunProgress
from .evaluation_inputs import CheckedScorecard, PictureSet
from .evaluation_settings import ScorecardSettings
from .face_encoder import FaceEncoder
from .score_data import OF_ALL_PICTURES, Scorecard
from .score_notes import notes_on_comparison, notes_on_faces, notes_on_scores

T = TypeVar("T")
Lazy = Callable[[], Tensor]
"""Makes a picture [3, H, W] when it is its turn: hundreds of cut-out copies need not lie in memory."""


@dataclass(frozen=True)
class Job:
    """Pictures that one encoder turns into features. what: shown while it runs."""

    encoder: VisionEncoder | FaceEncoder
    pictures: Sequence[Lazy]
    what: str


@dataclass(frozen=True)
class Encoders:
    """The models of a scorecard; those that it was not asked for are None."""

    clip: ClipEncoder
    dino: DinoEncoder | None
    style: ClipEncoder | None
    face: FaceEncoder | None

    @classmethod
    def loaded(cls, settings: ScorecardSettings) -> Encoders:
        face = FaceEncoder(settings.face) if settings.face else None
        dino = DinoEncoder(settings.dino) if settings.dino else None
        return cls(ClipEncoder(settings.clip), dino, ClipEncoder(settings.style) if settings.style else None, face)


def score(checked: CheckedScorecard, node_id: str | None) -> Scorecard:
    """Loads the models, encodes every picture once per form and model, and computes what can be computed."""
    prompts, settings = checked.prompts.prompts, checked.settings
    encoders = Encoders.loaded(settings)
    features = _features(checked, encoders, node_id)
    value_of: dict[str, dict[int, float]] = {}
    for name, values in _values(checked, features).items():
        pictures = range(len(prompts)) if name in OF_ALL_PICTURES else checked.counted
        scored = zip(pictures, values.tolist(), strict=True)
        if found := {number: value for number, value in scored if not math.isnan(value)}:
            value_of[name] = found
    cut = [text for text in dict.fromkeys(checked.prompts.read) if encoders.clip.is_cut(text)]
    notes = notes_on_scores(checked, value_of.keys(), cut)
    if encoders.face and "face_generated" in features:
        notes += notes_on_faces(features, encoders.face.several)
    return Scorecard(
        name=checked.name,
        scores={
            name: scores.summarize(
                torch.tensor(list(found.values()), dtype=torch.float64),
                [prompts[number] for number in found],
                seed=settings.seed,
                resamples=settings.resamples,
            )
            for name, found in value_of.items()
        },
        facts={
            "references": len(checked.references.pictures),
            "generated": len(checked.generated.pictures),
            "in_identity_scores": len(checked.counted),
            "masked": checked.masked,
            "clip_model": settings.clip_model,
            "dino_model": settings.dino_model,
            "style_model": settings.style_model,
            "face_model": settings.face_model,
            "precision": settings.precision,
            "resamples": settings.resamples,
            "seed": settings.seed,
            "version": pack_version(),
        },
        notes=[*notes, *notes_on_comparison(checked)],
        prompts=prompts,
        pictures={name: [found.get(i) for i in range(len(prompts))] for name, found in value_of.items()},
    )


def _features(checked: CheckedScorecard, encoders: Encoders, node_id: str | None) -> dict[str, Tensor]:
    """Features [n, D] of texts, every different one being encoded once, and of each job's pictures.

    Raises `run_control.Cancelled` when the user asked for it.
    """
    size = checked.settings.batch_size
    texts = {"prompts": checked.prompts.read, "bare_prompts": checked.prompts.without_identifier}
    different = list(dict.fromkeys(text for each in texts.values() for text in each))
    encoded = torch.cat([encoders.clip.texts(batch) for batch in _batches(different, size)])
    features = {name: encoded[[different.index(text) for text in each]] for name, each in texts.items()}
    jobs = _jobs(checked, encoders)
    progress = RunProgress(sum(len(job.pictures) for job in jobs.values()), node_id)
    done = 0
    for name, job in jobs.items():
        parts = []
        for batch in _batches(job.pictures, size):
            parts.append(job.encoder.pictures([make() for make in batch]))
            done += len(batch)
            progress.update(done, job.what)
        features[name] = torch.cat(parts)
    return features


def _jobs(checked: CheckedScorecard, encoders: Encoders) -> dict[str, Job]:
    """What is encoded, by the name that its features get."""
    references, generated, counted = checked.references, checked.generated, checked.counted
    clip, dino = encoders.clip, encoders.dino
    jobs = {"generated": Job(clip, _pictures(generated), "CLIP, generated pictures")}
    if encoders.style:
        jobs["style_references"] = Job(encoders.style, _pictures(references), "style")
        jobs["style_generated"] = Job(encoders.style, _pictures(generated), "style")
    if not counted:
        return jobs
    form = scores.foreground if checked.masked else None
    shown = "foregrounds" if checked.masked else "pictures"
    jobs["references"] = Job(clip, _pictures(references, form), f"CLIP, reference {shown}")
    if checked.masked:
        jobs["foregrounds"] = Job(clip, _pictures(generated, form, counted), "CLIP, generated foregrounds")
    if references.masks is not None:
        jobs["subjects"] = Job(clip, _pictures(references, scores.subject_segment), "CLIP, subject segments")
        with_surroundings = [number for number, mask in enumerate(references.masks) if mask.min() < INSIDE]
        if with_surroundings:
            cut = _pictures(references, scores.non_subject_segment, with_surroundings)
            jobs["surroundings"] = Job(clip, cut, "CLIP, non-subject segments")
    if dino:
        jobs["dino_references"] = Job(dino, _pictures(references, form), f"DINO, reference {shown}")
        jobs["dino_generated"] = Job(dino, _pictures(generated, form, counted), f"DINO, generated {shown}")
    if encoders.face:
        jobs["face_references"] = Job(encoders.face, _pictures(references), "faces")
        jobs["face_generated"] = Job(encoders.face, _pictures(generated, numbers=counted), "faces")
    return jobs


def _pictures(
    whole: PictureSet, form: Callable[[Tensor, Tensor], Tensor] | None = None, numbers: Sequence[int] | None = None
) -> list[Lazy]:
    """The pictures of these numbers (None: all), cut by `form` with their masks."""
    chosen = range(len(whole.pictures)) if numbers is None else numbers
    return [partial(_picture, whole, number, form) for number in chosen]


def _picture(whole: PictureSet, number: int, form: Callable[[Tensor, Tensor], Tensor] | None) -> Tensor:
    """One picture [3, H, W], cut when its turn has come."""
    picture = rgb(whole.pictures[number])
    if form is None or whole.masks is None:
        return picture
    return form(picture, whole.masks[number].to(picture.device).clamp(0, 1))


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _values(checked: CheckedScorecard, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each score per picture: [G] for text scores, [pictures that count] for identity scores."""
    generated, counted = features["generated"], features["generated"][checked.counted]
    found = {
        "clip_t": scores.clip_t(generated, features["prompts"]),
        "text_alignment": scores.text_alignment(generated, features["bare_prompts"]),
    }
    if "references" in features:
        found["clip_i"] = scores.clip_i(features.get("foregrounds", counted), features["references"])
    if "dino_generated" in features:
        found["dino"] = scores.dino(features["dino_generated"], features["dino_references"])
    if "subjects" in features:
        found["subject_alignment"] = scores.subject_alignment(counted, features["subjects"])
    if "surroundings" in features:
        found["non_subject_disentanglement"] = scores.non_subject_disentanglement(counted, features["surroundings"])
    if "style_generated" in features:
        found["style"] = scores.style(features["style_generated"], features["style_references"])
    if "face_generated" in features:
        found["face"] = scores.face(features["face_generated"], features["face_references"])
    return found
