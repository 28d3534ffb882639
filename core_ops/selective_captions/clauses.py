"""A caption's text as clauses, of which those about the subject go, and as many as fit one row stay."""

from __future__ import annotations

import re
from collections.abc import Callable

from .form import with_articles
from .vocabulary import (
    BODY_PARTS,
    DESCRIBING,
    DETERMINERS,
    FILLING,
    JOINING,
    OBJECT_PARTS,
    PREPOSITIONS,
    PROGRESSIVES,
    STYLE_WORDS,
    describes,
    words_of,
)

Fits = Callable[[str], bool]
"""Whether a caption with {} has room in one row of the text encoder."""

_PART = "|".join(sorted(BODY_PARTS))
_VERBS = frozenset(PROGRESSIVES.values())
_JOINED = "|".join(sorted(DETERMINERS | {"another", "several", "two", "three", "four"}))
_LEADING = "|".join(sorted(PREPOSITIONS | {"with", "while", "as"} | _VERBS))
# Each alternative is the beginning of a new clause; a comma and what joins to it are one beginning.
_BOUNDARY = re.compile(
    rf"(?=,\s)|(?<!,)(?=\s(?:{_LEADING})\s)|(?<!,)(?=\sand\s(?:{_JOINED})\s)"
    rf"|(?<!,)(?=\sand\s(?:[\w-]+\s){{0,2}}(?:{_PART})\b)"
)
_DANGLING = re.compile(
    rf"(?:[\s,]+(?:{'|'.join(sorted(PREPOSITIONS | DETERMINERS | JOINING | _VERBS | {'of', 'to', 'is'}))}))*[\s,]*$",
    re.IGNORECASE,
)


def clauses(text: str) -> list[str]:
    """The text cut before every comma, preposition and joined noun phrase; joined again they are the text."""
    return [clause for clause in _BOUNDARY.split(text) if clause]


def without_descriptions(text: str, style: bool) -> tuple[str, list[str]]:
    """The text after the subject without clauses that only describe it, and those clauses."""
    kept: list[str] = []
    removed: list[str] = []
    joining = ""
    for clause in clauses(text):
        if _of_style(clause) if style else _of_subject(clause, attached=not kept):
            removed.append(clause.strip(" ,"))
            opened = re.match("[ ,]*with ", clause)
            joining = opened[0] if opened else joining
        else:
            kept.append(re.sub("^,? and ", joining, clause) if joining else clause)
            joining = ""
    return "".join(kept), removed


def without_details(text: str) -> str:
    """Case 2: every thing by its plain noun."""
    word = r"(?:\w+-)*(?:" + "|".join(sorted(DESCRIBING, key=len, reverse=True)) + r")"
    run = rf"(?<![\w-])(?:very\s+)?{word}(?:(?:,\s*|\s+and\s+|\s+){word})*(?:,\s*|\s+)(?=[a-z])"
    return with_articles(re.sub(run, "", text, flags=re.IGNORECASE))


def shortened(opening: str, rest: str, fits: Fits) -> str:
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


def _of_subject(clause: str, attached: bool) -> bool:
    """Every word describes, is a part of the subject, or fills in, and at least one does not only fill in.

    attached: nothing else came between it and the subject. What other things have too, such as a handle, is the
    subject's only then, or when "its".
    """
    words = words_of(clause)
    own = BODY_PARTS | OBJECT_PARTS if attached or "its" in words else BODY_PARTS
    telling = [word for word in words if word not in FILLING]
    return bool(telling) and all(describes(word) or word in own for word in telling)


def _of_style(clause: str) -> bool:
    return bool(STYLE_WORDS & set(words_of(clause)))
