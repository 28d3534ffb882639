"""A model's answer, or any text, as plain sentences on one line: words, commas and full stops."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

from .vocabulary import ENGLISH, FOREIGN, words_of

_TYPOGRAPHY = str.maketrans({"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "´": "'",
                             "–": ", ", "—": ", ", "…": ".", "•": "-", "·": ","})  # fmt: skip

_NEGLIGIBLE = re.compile(r"[\s,.]+")
_LABELS = (
    r"caption|description|sentence|answer|output|result|image|photo|scene|background|setting|location|pose|"
    r"nearby objects?|objects?|tied objects?|facial expression|expression|surroundings|foreground|lighting"
)
_LABEL = re.compile(rf"^\W*(?:{_LABELS})(?: \d+)?\W*(?::\W*|$)", re.IGNORECASE)
_OWN_LABEL = re.compile(r"^\W*(?:main )?subject(?: description)?\W*:", re.IGNORECASE)
_PREAMBLE = re.compile(
    r"^\s*(?:(?:sure|certainly|of course|absolutely|okay|ok|great|yes|understood)\b[^:.!\n]{0,80}[:.!,]\s*|"
    r"here(?:'s| is| are)\b[^:.\n]{0,120}:\s*|based on (?:the|this) image[^,:.\n]{0,40}[,:]\s*)",
    re.IGNORECASE,
)
_REMARK = re.compile(
    r"^\W*(?:let me know|i hope|hope this|would you like|if you (?:need|would|want|have)|please note|note that|note:|"
    r"feel free|is there anything|this (?:caption|description|sentence)|i (?:have|avoided|did not|didn't))",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"^\W*(?:i'?m (?:really )?(?:sorry|afraid|unable|not able)|i am (?:sorry|unable|not able)|sorry\b|"
    r"i (?:can't|cannot|can not|don't see|do not see|won't)|as an? (?:ai|language|large)|unfortunately\b|"
    r"(?:there is )?no image\b|(?:please|could you) (?:provide|upload|share|attach))",
    re.IGNORECASE,
)
_ABBREVIATED = re.compile(r"\b(St|Mr|Mrs|Ms|Dr|No|vs|approx|a\.m|p\.m|e\.g|i\.e)\.(?=,?\s)", re.IGNORECASE)

Replacements = Sequence[tuple[str, str]]
"""Regular expressions, each with what takes the place of its matches, one after the other."""

_REASONING: Replacements = (
    (r"<think(?:ing)?>.*?</think(?:ing)?>", " "),
    (r"^.*</think(?:ing)?>", " "),
    (r"<think(?:ing)?>.*", " "),  # never closed: it was cut off before the answer
)
_MARKUP: Replacements = (
    (r"```\w*", " "),
    (r"!?\[([^\]\n]*)\]\([^)\n]*\)", r"\1"),
    (r"^[ ]*(?:#+|>|[-*+]|\d{1,2}[.)])[ ]+", ""),
    (r"[*`~#]|\b__|__\b|(?<!\w)_|_(?!\w)", ""),
)
# What ComfyUI reads as other than words: escapes, embeddings, tags, weights, alternatives. {} is the concept's place.
_SYNTAX: Replacements = (
    (r"\\", " "),
    (r"embedding\s*:\s*[^\s,]*", " "),
    (r"<[^<>]*>", " "),
    (r"[(\[]+([^()\[\]]*):\s*-?\d*\.?\d+\s*[)\]]+", r"(\1)"),
    (r"(?<=[\w}] )\((\w+ [^()]+)\)", r", \1,"),
    (r"(?:(?!\{\}|(?<=\{)\})[(){}\[\]\\<>|/=^_$&@%+])+", " "),
    (r"\{\}", " {} "),
)
_QUOTES: Replacements = ((r"\"|(?<!\w)'|'(?!\w)", ""),)
_SPACES: Replacements = ((r"[;:](?=\s|$)", ","), (r"\s+", " "), (r"(?:\s*([,.!?]))+", r"\1"), (r",(?=[^\s\d])", ", "))


def plain_text(answer: str) -> tuple[str, list[str]]:
    """The text without anything that is not the sentence, and what was taken off. {} stays, other braces go."""
    text = unicodedata.normalize("NFKC", answer.translate(_TYPOGRAPHY))
    notes = []
    stages: dict[str, Callable[[str], str] | Replacements] = {
        "hidden characters": _without_hidden,
        "its reasoning": _REASONING,
        "markup": _MARKUP,
        "what is not the sentence": _without_remarks,
        "prompt syntax": _SYNTAX,
        "quotation marks": _QUOTES,
    }
    for removed, stage in stages.items():
        cleaned = stage(text) if callable(stage) else _replaced(text, stage)
        if _NEGLIGIBLE.sub("", cleaned) != _NEGLIGIBLE.sub("", text):
            notes.append(f"removed {removed}")
        text = cleaned
    return _replaced(text, _SPACES).strip(" ,"), notes


def sentences(text: str) -> list[str]:
    """The plain text's sentences, without their full stops."""
    parts = re.split(r"(?<=[.!?])\s+", _ABBREVIATED.sub(r"\1", text))
    return [part for part in (re.sub(r"[\s.!?,]+$", "", part).lstrip(" ,.!?") for part in parts) if part]


def why_unusable(text: str) -> str:
    """Why a plain text says nothing of a picture, or nothing that CLIP would understand; empty if it does."""
    words = words_of(text.replace("{}", ""))
    if not words:
        return "it is empty"
    if _REFUSAL.search(text):
        return "the model refused"
    letters = [character for character in text if character.isalpha()]
    foreign_script = sum(not unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    foreign_words = sum(word in FOREIGN for word in words)
    english_words = sum(word in ENGLISH for word in words)
    if foreign_script > 0.3 * len(letters) or (foreign_words >= 2 and foreign_words > english_words):
        return "it is not English"
    return ""


def _replaced(text: str, replacements: Replacements) -> str:
    for pattern, replacement in replacements:
        text = re.sub(pattern, replacement, text, flags=re.IGNORECASE | re.MULTILINE | re.DOTALL)
    return text


def _without_hidden(text: str) -> str:
    """The text without control, private and invisible characters, and pictograms."""
    lines = re.sub(r"[\r\n\v\f\u2028\u2029\x85]+", "\n", text).replace("\t", " ")
    return "".join(c for c in lines if c == "\n" or not unicodedata.category(c).startswith(("C", "So")))


def _without_remarks(text: str) -> str:
    """Only what is said of the picture: no greeting, label, offer or note; lines of a list become clauses."""
    while _PREAMBLE.search(text):
        text = _PREAMBLE.sub("", text, count=1)
    lines = [_LABEL.sub("", line.strip()).strip() for line in text.split("\n") if not _OWN_LABEL.search(line)]
    lines = [line for line in lines if line and not _REMARK.search(line)]
    text = " ".join(line if line[-1] in ".!?,:;" else line + "," for line in lines)
    kept = [part for part in re.split(r"(?<=[.!?])\s+", text) if not _REMARK.search(part)]
    return re.sub(r",$", "", " ".join(kept)) or text
