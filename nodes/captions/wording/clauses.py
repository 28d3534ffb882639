"""A caption's text as clauses, of which those about the subject go, and as many as fit one row stay."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from .form import with_articles
from .vocabulary import (
    BEINGS,
    BODY_PARTS,
    DESCRIBING,
    DETERMINERS,
    FILLING,
    JOINING,
    LIGHT,
    OBJECT_PARTS,
    PREPOSITIONS,
    PROGRESSIVES,
    STYLE_WORDS,
    describes,
    words_of,
)

Fits = Callable[[str], bool]
"""Whether a caption with {} has room in one row of the text encoder."""

_BODY_PART = "|".join(sorted(BODY_PARTS))
_ANY_PART = "|".join(sorted(BODY_PARTS | OBJECT_PARTS))
_VERBS = frozenset(PROGRESSIVES.values())
_JOINED = "|".join(sorted(DETERMINERS | {"another", "several", "two", "three", "four"}))
_LEADING = "|".join(sorted(PREPOSITIONS | {"with", "while", "as"} | _VERBS))
# Each alternative is the beginning of a new clause; a comma and what joins to it are one beginning.
_BOUNDARY = re.compile(
    rf"(?=,\s)|(?<!,)(?=\s(?:{_LEADING})\s)|(?<!,)(?=\sand\s(?:{_JOINED})\s)"
    rf"|(?<!,)(?=\sand\s(?:[\w-]+\s){{0,2}}(?:{_ANY_PART})\b)"
)
_DANGLING = re.compile(
    rf"(?:[\s,]+(?:{'|'.join(sorted(PREPOSITIONS | DETERMINERS | JOINING | _VERBS | {'of', 'to', 'is'}))}))*[\s,]*$",
    re.IGNORECASE,
)
# Describing words in a run, before what they describe: of anything, and of a part of a body.
_WORD = r"(?:\w+-)*(?:" + "|".join(sorted(DESCRIBING, key=len, reverse=True)) + r")"
_RUN = rf"(?<![\w-])(?:very\s+)?{_WORD}(?:(?:,\s*|\s+and\s+|\s+){_WORD})*(?:,\s*|\s+)"
_DETAILS = re.compile(rf"{_RUN}(?=[a-z])", re.IGNORECASE)
_LOOKS_OF_PART = re.compile(rf"{_RUN}(?=(?:{_BODY_PART})\b)", re.IGNORECASE)


def clauses(text: str) -> list[str]:
    """The text cut before every comma, preposition and joined noun phrase; joined again they are the text."""
    return [clause for clause in _BOUNDARY.split(text) if clause]


def without_descriptions(text: str, style: bool) -> tuple[str, list[str]]:
    """The text after the subject without clauses that only describe it, and what was taken out."""
    kept: list[str] = []
    removed: list[str] = []
    joining = ""
    for clause in clauses(re.sub(r"\s+in colou?r\b", "", text, flags=re.IGNORECASE)):
        if not STYLE_WORDS.isdisjoint(words_of(clause)) if style else _of_subject(clause, kept):
            if removed and clause.startswith(" and "):
                removed[-1] += clause
            else:
                removed.append(clause.strip(" ,"))
            # What "and" joined to a clause that is gone begins as that clause began: "with brown fur and a red collar".
            opened = re.match("[ ,]*with ", clause)
            joining = opened[0] if opened else joining
            continue
        clause = re.sub("^,? and ", joining, clause) if joining else clause
        if not (style or _another_being(kept)):
            removed += [words.strip(" ,") for words in _LOOKS_OF_PART.findall(clause)]
            clause = _LOOKS_OF_PART.sub("", clause)
        kept.append(clause)
        joining = ""
    return "".join(kept), removed


def without_details(text: str) -> str:
    """The text with every thing by its plain noun, as Case 2 wants it."""
    return with_articles(_DETAILS.sub("", text))


def as_many_as_fit(opening: str, rest: str, fits: Fits) -> str:
    """As many of the clauses after the opening as fit, and of a first clause that is too long by itself, words."""
    if fits(opening + rest):
        return rest
    parts = clauses(rest)
    while len(parts) > 1 and not fits(opening + "".join(parts)):
        parts.pop()
    words = "".join(parts).split(" ")
    while words and not fits(opening + " ".join(words)):
        words.pop()
    return _DANGLING.sub("", " ".join(words))


def _of_subject(clause: str, before: Sequence[str]) -> bool:
    """Every word describes, is a part of the subject, or fills in, and at least one describes.

    before: the clauses between the subject and this one. What other things have too, such as a handle, is the
    subject's only when there are none, or when it is "its".
    """
    words = words_of(clause)
    if LIGHT.intersection(words[-1:]) or ("its" not in words and _another_being(before)):
        return False
    own = BODY_PARTS | OBJECT_PARTS if not before or "its" in words else BODY_PARTS
    telling = [word for word in words if word not in FILLING]
    return any(map(describes, telling)) and all(describes(word) or word in own for word in telling)


def _another_being(before: Sequence[str]) -> bool:
    """Whether the last clause ends with somebody else, whose hair and eyes then follow."""
    return bool(before) and not BEINGS.isdisjoint(words_of(before[-1])[-1:])
