"""An answer checked against the form of a caption, and repaired where it departs from it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..prompts.prompt_templates import validate_template
from ..quoting import quoted
from .clauses import Fits, shortened, without_descriptions, without_details
from .cleaning import plain_text, sentences, unusable
from .form import CLASS_ONLY, CLASSES, EVERYTHING, CaptionForm, with_articles
from .subject import find_subject, predicate, without_apposition, without_later_mentions, without_lead_in
from .vocabulary import words_of

WORD_BOUND = 50
_ROUNDS = 8
_LONGEST = 4000  # Characters; a row of 77 tokens holds a tenth of it.


@dataclass(frozen=True)
class RepairedCaption:
    """text: the caption, with {} once. repairs: what was changed, in words. usable: the answer had something to say."""

    text: str
    repairs: tuple[str, ...] = ()
    usable: bool = True


def within_words(caption: str) -> bool:
    """A bound for when no tokenizer is at hand: at most 50 words and punctuation marks."""
    return len(re.findall(r"\w+|[^\w\s]", caption.replace("{}", "x"))) <= WORD_BOUND


def validate_opening(form: CaptionForm, fits: Fits) -> None:
    """Raises ValueError when not even the opening fits one row."""
    if not fits(form.opening):
        raise ValueError(f"start: {quoted(form.opening)} alone does not fit one row of the text encoder; shorten it.")


def repair(answer: str, form: CaptionForm, fits: Fits = within_words) -> RepairedCaption:
    """A caption of the form out of any text. A repaired caption is repaired to itself.

    Raises ValueError when not even the opening fits one row.
    """
    validate_opening(form, fits)
    if form.case == CLASS_ONLY:
        return RepairedCaption(form.opening)
    caption, repairs = answer, list[str]()
    for _ in range(_ROUNDS):
        previous = caption
        caption, notes = _once(previous, form, fits)
        repairs += [note for note in notes if note not in repairs]
        if caption == previous or caption == form.opening:
            break
    else:
        caption, repairs = form.opening, ["not used: it cannot be read as a caption"]
    if caption == form.opening and not any(note.startswith("not used") for note in repairs):
        repairs.append("says nothing besides the class")
    return RepairedCaption(caption, tuple(repairs), usable=caption != form.opening)


def _once(text: str, form: CaptionForm, fits: Fits) -> tuple[str, list[str]]:
    plain, notes = plain_text(text)
    reason = unusable(plain)
    if reason:
        return form.opening, [f"not used: {reason}"]
    first, *others = sentences(plain[:_LONGEST]) or [""]
    head, rest, more = _from_subject(first, form)
    notes += more
    if others:
        notes.append(f"{len(others) + 1} sentences made one")
    rest = "".join([rest, *(_as_clause(sentence, form) for sentence in others)])
    rest, more = _selected(without_later_mentions(rest, form), form)
    notes += more
    rest = _attached(rest)
    kept = shortened(head, rest, fits)
    if kept != rest:
        notes.append(f"shortened at a clause, from {len(words_of(rest))} to {len(words_of(kept))} words")
    caption = head + kept
    try:
        validate_template("caption", caption)
    except ValueError:
        return form.opening, ["not used: it cannot be read as a caption"]
    return caption, notes


def _from_subject(sentence: str, form: CaptionForm) -> tuple[str, str, list[str]]:
    """The caption up to {}, what follows it, and what was changed, from a sentence in any order."""
    mention = find_subject(sentence, form)
    if mention is None:
        unnamed = f"began otherwise than {form.spoken_opening!r}, and did not name the {form.super_category}"
        return form.opening, f", {_lowered(without_lead_in(sentence))}", [unnamed]
    rest, notes = sentence[mention.end :], []
    kept = mention.modifiers if form.case == EVERYTHING else ""
    if form.case != EVERYTHING:
        rest, apposition = without_apposition(rest)
        notes += [f"removed about the subject: {words}" for words in (mention.modifiers, apposition) if words]
    rest = predicate(rest)
    if mention.explicit and not mention.lead:  # A beginning of the user's own, or ours.
        return _words(sentence[: mention.start], mention.article, kept, "{}"), rest, notes
    begun = _words(sentence[: mention.start], mention.article, form.super_category)
    if begun.casefold() != form.spoken_opening.casefold():
        notes.insert(0, f"began otherwise than {form.spoken_opening!r}")
    lead = f", {_lowered(mention.lead)}" if mention.lead else ""
    return _words(form.opening.replace("{}", f"{kept} {{}}")), rest + lead, notes


def _as_clause(sentence: str, form: CaptionForm) -> str:
    """A further sentence, as it goes on from the first."""
    sentence = without_later_mentions(sentence, form)
    about_subject = re.match(r"(?:it|he|she|they)\b(?!')", sentence, re.IGNORECASE)
    if about_subject:
        sentence = predicate(sentence[about_subject.end() :]).strip()
    return f", {_lowered(sentence)}"


def _selected(rest: str, form: CaptionForm) -> tuple[str, list[str]]:
    """What the case lets the caption say."""
    if form.case == EVERYTHING:
        return rest, []
    rest, removed = without_descriptions(rest, form.style)
    notes = [f"removed about the {'style' if form.style else 'subject'}: {', '.join(removed)}"] if removed else []
    if form.case == CLASSES and (plain := without_details(rest)) != rest:
        return plain, [*notes, "removed details of other things"]
    return rest, notes


def _attached(rest: str) -> str:
    """The rest as it is put after {}: a space or a comma first, one comma at a time."""
    rest = re.sub(r"\s+", " ", re.sub(r"(?:\s*,)+", ",", rest)).rstrip(" ,")
    return rest if not rest or rest[0] in " ," else f" {rest}"


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def _words(*parts: str) -> str:
    return with_articles(" ".join(" ".join(parts).split()))
