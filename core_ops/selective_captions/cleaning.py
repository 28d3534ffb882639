"""A model's answer, or any text, as plain sentences on one line: words, commas and full stops."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

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
_ABBREVIATED = re.compile(r"\b(St|Mr|Mrs|Ms|Dr|No|vs|approx|a\.m|p\.m|e\.g|i\.e)\.(?=,?\s)", re.IGNORECASE)
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


def plain_text(answer: str) -> tuple[str, list[str]]:
    """The text without anything that is not the sentence, and what was taken off. {} stays, other braces go."""
    notes = []
    answer = unicodedata.normalize("NFKC", answer.translate(_TYPOGRAPHY))
    for name, clean in _STAGES:
        cleaned = clean(answer)
        if _NEGLIGIBLE.sub("", cleaned) != _NEGLIGIBLE.sub("", answer):
            notes.append(f"removed {name}")
        answer = cleaned
    return _space(answer), notes


def sentences(text: str) -> list[str]:
    """The plain text's sentences, without their full stops."""
    parts = re.split(r"(?<=[.!?])\s+", _ABBREVIATED.sub(r"\1", text))
    return [part for part in (re.sub(r"[\s.!?,]+$", "", part).lstrip(" ,.!?") for part in parts) if part]


def unusable(answer: str) -> str:
    """Why a plain text says nothing of a picture, or nothing that CLIP would understand; empty if it does."""
    words = words_of(answer.replace("{}", ""))
    if not words:
        return "it is empty"
    if _REFUSAL.search(answer):
        return "the model refused"
    letters = [character for character in answer if character.isalpha()]
    foreign_script = sum(not unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    foreign_words = sum(word in FOREIGN for word in words)
    english_words = sum(word in ENGLISH for word in words)
    if foreign_script > 0.3 * len(letters) or (foreign_words >= 2 and foreign_words > english_words):
        return "it is not English"
    return ""


def _readable(text: str) -> str:
    """Without control, private and invisible characters, and pictograms."""
    lines = re.sub(r"[\r\n\v\f\u2028\u2029\x85]+", "\n", text).replace("\t", " ")
    return "".join(c for c in lines if c == "\n" or not unicodedata.category(c).startswith(("C", "So")))


def _without_reasoning(text: str) -> str:
    """A thought that was never closed was cut off before the answer."""
    text = re.sub(r"<think(?:ing)?>.*?</think(?:ing)?>", " ", text, flags=re.DOTALL | re.IGNORECASE)
    text = re.sub(r"^.*</think(?:ing)?>", " ", text, flags=re.DOTALL | re.IGNORECASE)
    return re.sub(r"<think(?:ing)?>.*", " ", text, flags=re.DOTALL | re.IGNORECASE)


def _without_markdown(text: str) -> str:
    text = re.sub(r"```\w*", " ", text)
    text = re.sub(r"!?\[([^\]\n]*)\]\([^)\n]*\)", r"\1", text)
    text = re.sub(r"^[ ]*(?:#+|>|[-*+]|\d{1,2}[.)])[ ]+", "", text, flags=re.MULTILINE)
    return re.sub(r"[*`~#]|\b__|__\b|(?<!\w)_|_(?!\w)", "", text)


def _without_remarks(text: str) -> str:
    """Only what is said of the picture: no greeting, label, offer or note; lines of a list become clauses."""
    while _PREAMBLE.search(text):
        text = _PREAMBLE.sub("", text, count=1)
    lines = [line.strip() for line in text.split("\n") if not _OWN_LABEL.search(line)]
    lines = [_LABEL.sub("", line).strip() for line in lines]
    lines = [line for line in lines if line and not _REMARK.search(line)]
    text = " ".join(line if line[-1] in ".!?,:;" else line + "," for line in lines)
    kept = [part for part in re.split(r"(?<=[.!?])\s+", text) if not _REMARK.search(part)]
    return re.sub(r",$", "", " ".join(kept)) or text


def _without_syntax(text: str) -> str:
    """Nothing that ComfyUI reads as other than words: embeddings, weights, escapes, alternatives, tags."""
    text = text.replace("\\", " ")
    text = re.sub(r"embedding\s*:\s*[^\s,]*", " ", text, flags=re.IGNORECASE)
    text = re.sub(r"<[^<>]*>", " ", text)
    text = re.sub(r"[(\[]+([^()\[\]]*):\s*-?\d*\.?\d+\s*[)\]]+", r"(\1)", text)
    text = re.sub(r"(?<=[\w}] )\((\w+ [^()]+)\)", r", \1,", text)
    pieces = [re.sub(r"[(){}\[\]\\<>|/=^_$&@%+]+", " ", piece) for piece in text.split("{}")]
    return pieces[0] if len(pieces) == 1 else " {} ".join(pieces)


def _without_quotes(text: str) -> str:
    return re.sub(r"\"|(?<!\w)'|'(?!\w)", "", text)


def _space(text: str) -> str:
    """One space between words, one mark at a time, none before it."""
    text = re.sub(r"[;:](?=\s|$)", ",", text)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"(?:\s*([,.!?]))+", r"\1", text)
    text = re.sub(r",(?=[^\s\d])", ", ", text)
    return text.strip(" ,")


_STAGES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("hidden characters", _readable),
    ("its reasoning", _without_reasoning),
    ("markup", _without_markdown),
    ("what is not the sentence", _without_remarks),
    ("prompt syntax", _without_syntax),
    ("quotation marks", _without_quotes),
)
