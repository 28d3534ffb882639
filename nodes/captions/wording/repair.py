"""An answer checked against the form of a caption, and repaired where it departs from it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ....core_ops.prompts.prompt_templates import validate_template
from ....core_ops.quoting import quoted
from .clauses import Fits, as_many_as_fit, without_descriptions, without_details
from .form import CLASS_ONLY, CLASSES, EVERYTHING, CaptionForm, with_articles
from .plain_text import plain_text, sentences, why_unusable
from .subject import find_subject, predicate, without_apposition, without_later_mentions, without_lead_in
from .vocabulary import words_of

WORD_BOUND = 50
_ROUNDS = 8  # Repairs follow from repairs, such as a sentence that is made one with another; more than this never do.
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
        caption, notes = _repaired_once(previous, form, fits)
        repairs += [note for note in notes if note not in repairs]
        if caption == previous or caption == form.opening:
            break
    else:
        caption, repairs = form.opening, ["not used: it cannot be read as a caption"]
    if caption == form.opening and not any(note.startswith("not used") for note in repairs):
        repairs.append("says nothing besides the class")
    return RepairedCaption(caption, tuple(repairs), usable=caption != form.opening)


def _repaired_once(text: str, form: CaptionForm, fits: Fits) -> tuple[str, list[str]]:
    """A caption, and what was changed in words; the form's opening where the text says nothing."""
    plain, notes = plain_text(text)
    if reason := why_unusable(plain):
        return form.opening, [f"not used: {reason}"]
    first, *others = sentences(plain[:_LONGEST]) or [""]
    head, rest, more = _from_subject(first, form)
    notes += more
    if others:
        notes.append(f"{len(others) + 1} sentences made one")
    for sentence in others:
        sentence = without_later_mentions(sentence, form)
        if about_subject := re.match(r"(?:it|he|she|they)\b(?!')", sentence, re.IGNORECASE):
            sentence = predicate(sentence[about_subject.end() :]).strip()
        rest += f", {_lowered(sentence)}"
    rest = without_later_mentions(rest, form)
    if form.case != EVERYTHING:
        rest, removed = without_descriptions(rest, form.style)
        if removed:
            notes.append(f"removed about the {'style' if form.style else 'subject'}: {', '.join(removed)}")
    if form.case == CLASSES:
        described, rest = rest, without_details(rest)
        notes += ["removed details of other things"] if rest != described else []
    # As it stands after {}: a space or a comma first, one comma at a time.
    rest = re.sub(r"\s+", " ", re.sub(r"(?:\s*,)+", ",", rest)).rstrip(" ,")
    rest = re.sub(r"^(?![ ,]|$)", " ", rest)
    kept = as_many_as_fit(head, rest, fits)
    if kept != rest:
        notes.append(f"shortened at a clause, from {len(words_of(rest))} to {len(words_of(kept))} words")
    try:
        validate_template("caption", head + kept)
    except ValueError:
        return form.opening, ["not used: it cannot be read as a caption"]
    return head + kept, notes


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


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def _words(*parts: str) -> str:
    """The parts as words with one space between, and "a" or "an" as it fits."""
    return with_articles(" ".join(" ".join(parts).split()))
