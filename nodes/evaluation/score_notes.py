"""What a reader of a scorecard's numbers has to know."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from ...core_ops.scores.segments import INSIDE
from .evaluation_inputs import CheckedScorecard
from .score_data import TITLES


def notes_on_scores(checked: CheckedScorecard, computed: Collection[str], cut: Sequence[str]) -> list[str]:
    """Which pictures and scores were left out, and why. cut: prompts of which CLIP reads only the beginning."""
    prompts = checked.prompts
    notes = []
    restyled = {p for p, keeps in zip(prompts.prompts, prompts.keeps_appearance, strict=True) if not keeps}
    if restyled:
        notes.append(f"{len(restyled)} prompts restyle the concept or its outfit; they count in the text scores only.")
    unasked = {"style"} if checked.settings.style is None else set()
    unasked |= {"face"} if checked.settings.face is None else set()
    missing = [title for name, title in TITLES.items() if name not in {*computed, *unasked}]
    if missing:
        notes.append(f"Not computed: {', '.join(missing)}. {why_missing(checked)}")
    if not checked.masked and "clip_i" in computed:
        notes.append("CLIP-I and DINO compare whole pictures: masks did not come for both sides.")
    empty = sum(bool(mask.max() < INSIDE) for mask in checked.generated.masks or ())
    if empty:
        notes.append(f"{empty} generated masks are empty; those pictures count as black in CLIP-I and DINO.")
    if prompts.unread:
        named = ", ".join(prompts.unread)
        notes.append(f"The text scores leave out embeddings whose files say no super-category: {named}.")
    if cut:
        notes.append(f"CLIP reads only the beginning of {len(cut)} prompts, which are longer than its row.")
    return notes


def notes_on_faces(features: Mapping[str, Tensor], several: int) -> list[str]:
    """features: of a recogniser, [n, D], NaN where no face was found. several: pictures with more than one."""
    notes = []
    for name, what, so in (
        ("face_generated", "generated pictures", "they have no Face score"),
        ("face_references", "references", "Face leaves them out"),
    ):
        lacking = int(features[name].isnan().any(dim=-1).sum())
        if lacking:
            notes.append(f"No face was found in {lacking} of {len(features[name])} {what}; {so}.")
    if several:
        notes.append(f"{several} pictures show several faces; Face compares the largest.")
    return notes


def why_missing(checked: CheckedScorecard) -> str:
    """What the scores that could not be computed need."""
    if not checked.counted:
        return "No prompt is left for the identity scores."
    needs = []
    if checked.references.masks is None:
        needs.append("SA and NSD need reference_masks.")
    elif all(mask.min() >= INSIDE for mask in checked.references.masks):
        needs.append("NSD needs masks that leave something of a reference.")
    if checked.settings.dino is None:
        needs.append("DINO needs dino_model.")
    return " ".join(needs)


def notes_on_comparison(checked: CheckedScorecard) -> list[str]:
    """What differs in how the scorecards beside it were made."""
    notes = []
    for card in checked.compared:
        if card.facts["masked"] != checked.masked:
            theirs = "foregrounds" if card.facts["masked"] else "whole pictures"
            notes.append(f"{card.name}: its CLIP-I and DINO compare {theirs}, unlike these.")
        if len(set(card.prompts)) != len(set(checked.prompts.prompts)):
            notes.append(f"{card.name}: it has another number of prompts.")
    return notes
