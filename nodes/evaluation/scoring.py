"""The run behind "Personalization Scorecard": pictures to features, features to scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from ...core_ops import scores
from ...core_ops.pictures import rgb
from ...core_ops.scores.segments import INSIDE
from ..files.file_metadata import pack_version
from ..host.models.vision_models import ClipEncoder, DinoEncoder, VisionEncoder
from ..host.run_control import RunProgress
from .evaluation_inputs import CheckedScorecard, PictureSet
from .score_data import TEXT_SCORES, TITLES, Scorecard

T = TypeVar("T")
Lazy = Callable[[], Tensor]
"""Makes a picture [3, H, W] when it is its turn: hundreds of cut-out copies need not lie in memory."""


@dataclass(frozen=True)
class Job:
    """Pictures that one encoder turns into features. what: shown while it runs."""

    encoder: VisionEncoder
    pictures: Sequence[Lazy]
    what: str


def score(checked: CheckedScorecard, node_id: str | None) -> Scorecard:
    """Loads the models, encodes every picture once per form and model, and computes what can be computed."""
    clip = ClipEncoder(checked.clip)
    dino = DinoEncoder(checked.dino) if checked.dino else None
    jobs = _jobs(checked, clip, dino)
    features = _text_features(checked, clip) | _encode(jobs, checked.settings.batch_size, node_id)
    values = _values(checked, features)
    rows = {name: range(len(checked.prompts.prompts)) if name in TEXT_SCORES else _kept(checked) for name in values}
    prompts, settings = checked.prompts.prompts, checked.settings
    summaries = {
        name: scores.summarize(part, [prompts[row] for row in rows[name]], settings.seed, settings.resamples)
        for name, part in values.items()
    }
    return Scorecard(
        name=checked.name,
        scores=summaries,
        facts=_facts(checked),
        notes=_notes(checked, clip, values),
        prompts=prompts,
        pictures={name: _spread(part, rows[name], len(prompts)) for name, part in values.items()},
    )


def _kept(checked: CheckedScorecard) -> list[int]:
    """Rows of the generated pictures that count in the identity scores."""
    return [row for row, keeps in enumerate(checked.prompts.keeps_appearance) if keeps]


def _jobs(checked: CheckedScorecard, clip: ClipEncoder, dino: DinoEncoder | None) -> dict[str, Job]:
    references, generated, kept = checked.references, checked.generated, _kept(checked)
    jobs = {"generated": Job(clip, _pictures(generated), "CLIP, generated pictures")}
    if not kept:
        return jobs
    form = scores.foreground if checked.masked else None
    shown = "foregrounds" if checked.masked else "pictures"
    jobs["references"] = Job(clip, _pictures(references, form), f"CLIP, reference {shown}")
    if checked.masked:
        jobs["foregrounds"] = Job(clip, _pictures(generated, form, kept), "CLIP, generated foregrounds")
    if references.masks is not None:
        jobs["subjects"] = Job(clip, _pictures(references, scores.subject_segment), "CLIP, subject segments")
        with_surroundings = [row for row, mask in enumerate(references.masks) if mask.min() < INSIDE]
        if with_surroundings:
            cut = _pictures(references, scores.non_subject_segment, with_surroundings)
            jobs["surroundings"] = Job(clip, cut, "CLIP, non-subject segments")
    if dino:
        jobs["dino_references"] = Job(dino, _pictures(references, form), f"DINO, reference {shown}")
        jobs["dino_generated"] = Job(dino, _pictures(generated, form, kept), f"DINO, generated {shown}")
    return jobs


def _pictures(
    whole: PictureSet, form: Callable[[Tensor, Tensor], Tensor] | None = None, rows: Sequence[int] | None = None
) -> list[Lazy]:
    """The pictures of these rows (None: all), cut by `form` with their masks."""
    chosen = range(len(whole.pictures)) if rows is None else rows
    return [partial(_picture, whole, row, form) for row in chosen]


def _picture(whole: PictureSet, row: int, form: Callable[[Tensor, Tensor], Tensor] | None) -> Tensor:
    picture = rgb(whole.pictures[row])
    if form is None or whole.masks is None:
        return picture
    return form(picture, whole.masks[row].to(picture.device).clamp(0, 1))


def _encode(jobs: Mapping[str, Job], batch_size: int, node_id: str | None) -> dict[str, Tensor]:
    """Features [n, D] of each job's pictures. Raises `run_control.Cancelled` when the user asked for it."""
    progress = RunProgress(sum(len(job.pictures) for job in jobs.values()), node_id)
    done = 0
    features: dict[str, Tensor] = {}
    for name, job in jobs.items():
        parts = []
        for batch in _batches(job.pictures, batch_size):
            parts.append(job.encoder.pictures([make() for make in batch]))
            done += len(batch)
            progress.update(done, job.what)
        features[name] = torch.cat(parts)
    return features


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _text_features(checked: CheckedScorecard, clip: ClipEncoder) -> dict[str, Tensor]:
    """[G, D] each, every different text being encoded once."""
    texts = {"prompts": checked.prompts.read, "bare_prompts": checked.prompts.without_identifier}
    different = list(dict.fromkeys(text for each in texts.values() for text in each))
    encoded = torch.cat([clip.texts(batch) for batch in _batches(different, checked.settings.batch_size)])
    return {name: encoded[[different.index(text) for text in each]] for name, each in texts.items()}


def _values(checked: CheckedScorecard, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each score per picture: [G] for text scores, [rows that count] for identity scores."""
    generated, kept = features["generated"], features["generated"][_kept(checked)]
    found = {
        "clip_t": scores.clip_t(generated, features["prompts"]),
        "text_alignment": scores.text_alignment(generated, features["bare_prompts"]),
    }
    if "references" in features:
        found["clip_i"] = scores.clip_i(features.get("foregrounds", kept), features["references"])
    if "dino_generated" in features:
        found["dino"] = scores.dino(features["dino_generated"], features["dino_references"])
    if "subjects" in features:
        found["subject_alignment"] = scores.subject_alignment(kept, features["subjects"])
    if "surroundings" in features:
        found["non_subject_disentanglement"] = scores.non_subject_disentanglement(kept, features["surroundings"])
    return found


def _spread(values: Tensor, rows: Sequence[int], count: int) -> list[float | None]:
    """A value per picture, None for those that do not count."""
    spread: list[float | None] = [None] * count
    for row, value in zip(rows, values.tolist(), strict=True):
        spread[row] = value
    return spread


def _facts(checked: CheckedScorecard) -> dict[str, Any]:
    settings = checked.settings
    return {
        "references": len(checked.references.pictures),
        "generated": len(checked.generated.pictures),
        "in_identity_scores": len(_kept(checked)),
        "masked": checked.masked,
        "clip_model": settings.clip_model,
        "dino_model": settings.dino_model,
        "precision": settings.precision,
        "resamples": settings.resamples,
        "seed": settings.seed,
        "version": pack_version(),
    }


def _notes(checked: CheckedScorecard, clip: ClipEncoder, values: Mapping[str, Tensor]) -> list[str]:
    """What a reader of the numbers has to know."""
    prompts = checked.prompts
    notes = []
    restyled = {p for p, keeps in zip(prompts.prompts, prompts.keeps_appearance, strict=True) if not keeps}
    if restyled:
        notes.append(f"{len(restyled)} prompts restyle the concept or its outfit; they count in the text scores only.")
    missing = [title for name, title in TITLES.items() if name not in values]
    if missing:
        notes.append(f"Not computed: {', '.join(missing)}. {_reason_for_missing(checked)}")
    if not checked.masked and "clip_i" in values:
        notes.append("CLIP-I and DINO compare whole pictures: masks did not come for both sides.")
    empty = sum(bool(mask.max() < INSIDE) for mask in checked.generated.masks or ())
    if empty:
        notes.append(f"{empty} generated masks are empty; those pictures count as black in CLIP-I and DINO.")
    cut = [text for text in dict.fromkeys(prompts.read) if clip.is_cut(text)]
    if cut:
        notes.append(f"CLIP reads only the beginning of {len(cut)} prompts, which are longer than its row.")
    return notes + _comparison_notes(checked)


def _reason_for_missing(checked: CheckedScorecard) -> str:
    if not _kept(checked):
        return "No prompt is left for the identity scores."
    needs = []
    if checked.references.masks is None:
        needs.append("SA and NSD need reference_masks.")
    elif all(mask.min() >= INSIDE for mask in checked.references.masks):
        needs.append("NSD needs masks that leave something of a reference.")
    if checked.dino is None:
        needs.append("DINO needs dino_model.")
    return " ".join(needs)


def _comparison_notes(checked: CheckedScorecard) -> list[str]:
    notes = []
    for card in checked.compared:
        if card.facts["masked"] != checked.masked:
            theirs = "foregrounds" if card.facts["masked"] else "whole pictures"
            notes.append(f"{card.name}: its CLIP-I and DINO compare {theirs}, unlike these.")
        if len(set(card.prompts)) != len(set(checked.prompts.prompts)):
            notes.append(f"{card.name}: it has another number of prompts.")
    return notes
