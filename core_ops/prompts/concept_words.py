"""Captions of other trainers: the words that stand for the concept in them become {}."""

from __future__ import annotations

import re
from collections.abc import Sequence

USUAL = "sks, ohwx, [trigger], TOK"
"""What tutorials and trainers take, in the form that `parse_words` reads."""

_BEFORE, _AFTER = r"(?<![^\W_])", r"(?![^\W_])"
"""No letter or digit beside it; an underscore joins words as a space does."""
_GAP = r"[\s_-]+"


def parse_words(text: str) -> list[str]:
    """Separated by commas or lines; the longest first, for "sks dog" holds "sks"."""
    words = {" ".join(part.split()) for part in re.split(r"[,\n]", text)}
    return sorted((word for word in words if re.search(r"[^\W_]", word)), key=lambda word: (-len(word), word))


def with_place(caption: str, words: Sequence[str], category: str = "") -> tuple[str, int]:
    """The caption on one line with {} once, and how often the concept was named in it: 0 leaves it without {}.

    category: its words go where they follow ("sks dog", "TOK, a person"), since methods put the class there
    themselves. The first mention is kept. A further one is left out where it is a tag of its own, and else "it".
    """
    caption = " ".join(caption.split())
    mention = f"(?:{'|'.join(map(_pattern, ('{}', *words)))})"
    if category.strip():
        mention += rf"(?:(?:,\s+an?\s+|{_GAP}|(?<=[-_])){_words(category)}{_AFTER})*"
    named = re.compile(mention, re.IGNORECASE)
    if (first := named.search(caption)) is None:
        return caption, 0
    head, rest = caption[: first.start()], caption[first.end() :]
    count = 1 + len(named.findall(rest))
    if count > 1:
        again = rf"(?:\b(?:an?|the)\s+)?{mention}"
        rest = re.sub(rf"(?:^|(?<=,))\s*{again}\s*(?=,|$)|^\s+{again}", "", rest, flags=re.IGNORECASE)
        rest = re.sub(rf"{again}('s\b)?", lambda match: "its" if match[1] else "it", rest, flags=re.IGNORECASE)
        rest = re.sub(r"(?:\s*,)+", ",", rest).rstrip(", ")
    before = "" if not head or head[-1] in " (" else " "
    after = "" if not rest or rest[0] in " ,)" or re.match(r":[\d.]+\)", rest) else " "
    return f"{head}{before}{{}}{after}{rest}", count


def _pattern(word: str) -> str:
    """A regular expression of it, with brackets that mark it as a variable, and the mark that ties it to a word."""
    if word == "{}":
        return r"\{\}"
    inner = _words(word.strip("[]<>{}") or word)
    tied = rf"(?:(?<=[^\W_])[-_])?{_BEFORE}{inner}{_AFTER}(?:[-_](?=[^\W_]))?"
    return rf"[\[<{{]+{inner}[\]>}}]+|{tied}"


def _words(text: str) -> str:
    return _GAP.join(map(re.escape, re.split(_GAP, text.strip())))
