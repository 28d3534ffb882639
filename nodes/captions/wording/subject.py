"""Where a text speaks of the subject, and what it says of it there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .form import CaptionForm
from .vocabulary import (
    AUXILIARIES,
    COMPOUND_HEADS,
    DETERMINERS,
    JOINING,
    OTHERS,
    PREPOSITIONS,
    PROGRESSIVES,
    describes,
    words_of,
)

_STOP = "|".join(sorted((DETERMINERS | PREPOSITIONS | JOINING | AUXILIARIES | set(PROGRESSIVES)) - {"and"}))
_MODIFIER = rf"(?!(?:{_STOP}|of)\b)[\w'-]+"
_NOT_COMPOUND = rf"(?![\w'-]|\s+(?:{'|'.join(sorted(COMPOUND_HEADS))})\b)"

_MEDIUM = (
    r"photo|photograph|picture|image|shot|snapshot|portrait|close-?up|view|scene|illustration|drawing|painting|cartoon|"
    r"sketch|render|rendering|depiction|artwork"
)
_A_MEDIUM = rf"(?:an?\s+|the\s+|this\s+)?(?:[\w-]+\s+){{0,3}}?(?:{_MEDIUM})\s+"
_SEEN = r"(?:seen|shown|pictured|depicted|captured|photographed)"
_SHOWING = (
    r"(?:is\s+|that\s+|which\s+)?(?:of|shows?|showing|depicts?|depicting|featur(?:es?|ing)|captur(?:es?|ing)|presents?|"
    r"displays?|contains?)"
)
_LEAD_IN = re.compile(
    rf"(?:^|(?<=[\s,]))(?:"
    rf"(?:(?:an?|the|this|these)\s+)?(?:[\w-]+\s+){{0,4}}?(?:{_MEDIUM})s?(?:\s+(?:in|with)\s+the\s+style)?\s+{_SHOWING}"
    rf"|(?:in|on)\s+(?:the|this)\s+(?:{_MEDIUM})"
    rf"|there(?:'s|\s+is)|(?:this|it|here)\s+is|(?:we|you|i)\s+(?:can\s+)?see"
    rf"|is|appears|{'|'.join(sorted(PROGRESSIVES))})\s*,?\s*$",
    re.IGNORECASE,
)
# "A photo of a golden retriever sitting": what stands in the subject's place, when the class is not named.
_UNNAMED = re.compile(
    rf"{_A_MEDIUM}of\s+(?P<phrase>(?:(?:an?|the)\s+)?(?!\w+ing\b){_MODIFIER}(?:\s+(?!\w+ing\b){_MODIFIER})*)",
    re.IGNORECASE,
)
_PHRASE = re.compile(
    rf"(?<![\w'-])(?P<article>{'|'.join(sorted(DETERMINERS))})\s+"
    rf"(?:(?:pair|set|piece|group)\s+of\s+)?(?P<modifiers>(?:{_MODIFIER},?\s+){{0,7}})$",
    re.IGNORECASE,
)
_APPOSITION = re.compile(
    rf",\s(?P<name>an?\s+{_MODIFIER}(?:\s+{_MODIFIER}){{0,3}}),"
    rf"(?=\s(?:is|was|that|{'|'.join(sorted([*PROGRESSIVES, *PROGRESSIVES.values()]))})\b)",
    re.IGNORECASE,
)
# What looks like an adjective by its ending, where a comma follows: "shy", "curled", "playful".
_ADJECTIVE = re.compile(r"(?=.{5}).*(?:y|ed|ish|ful|less|ing)", re.IGNORECASE)
_BARE_MODIFIERS = re.compile(rf"(?:(?<![\w'-]){_MODIFIER}\s+)+$", re.IGNORECASE)


@dataclass(frozen=True)
class Mention:
    """The noun phrase of the subject: text[start:end], with the words before its noun.

    lead: what stands before it, without phrases such as "a photo of". explicit: it is {}, not the class.
    """

    start: int
    end: int
    article: str
    modifiers: str
    lead: str
    explicit: bool


def find_subject(text: str, form: CaptionForm) -> Mention | None:
    """The first mention of the subject: {}, or the class, or what "a photo of" is of; None when there is none."""
    named = re.finditer(rf"(?<![\w'-]){_category(form)}(?='s\b|{_NOT_COMPOUND})", text, re.IGNORECASE)
    explicit = re.search(rf"\{{\}}{_class_after(form)}", text, re.IGNORECASE)
    for found in [explicit] if explicit else named:
        start, article, modifiers = _phrase_start(text, found.start())
        if explicit is None and OTHERS & set(words_of(modifiers)):  # "another dog"
            continue
        lead = text[:start]
        while (shorter := _LEAD_IN.sub("", lead)) != lead:
            lead = shorter
        lead, is_place = lead.strip(" ,"), explicit is not None
        return Mention(start, found.end(), article=article, modifiers=modifiers, lead=lead, explicit=is_place)
    unnamed = None if form.style else _UNNAMED.match(text)
    if unnamed is None:
        return None
    start, end = unnamed.span("phrase")
    return Mention(start, end, article="", modifiers=unnamed["phrase"], lead="", explicit=False)


def without_lead_in(text: str) -> str:
    """The text without "A painting of", "The image shows" at its beginning."""
    return re.sub(rf"^{_A_MEDIUM}{_SHOWING}\s+", "", text, flags=re.IGNORECASE)


def without_later_mentions(text: str, form: CaptionForm) -> str:
    """The text after the first mention with every further one as "it"; other individuals of the class stay."""
    named = (
        rf"\b(?:the|this|that)\s+(?P<modifiers>(?:{_MODIFIER}\s+){{0,4}}){_category(form)}"
        rf"(?:(?P<own>'s)\b|{_NOT_COMPOUND})"
    )

    def pronoun(match: re.Match[str]) -> str:
        if match["modifiers"] and OTHERS & set(words_of(match["modifiers"])):
            return match[0]
        return "its" if match["own"] else "it"

    text = re.sub(named, pronoun, text, flags=re.IGNORECASE)
    return re.sub(rf"(?:\b(?:an?|the)\s+)?\{{\}}{_class_after(form)}", "it", text, flags=re.IGNORECASE)


def predicate(text: str) -> str:
    """What is said of the subject, as it goes on from it: "is sitting", "that sits", "has" lose their verb."""
    text = re.sub(r"^'s\s+(?!\w+ing\b)", ", its ", text)
    text = re.sub(r"^,?\s*(?:which|that|who)\s+(?=(?:is|are|was|has|have|\w+s)\b)", " ", text, flags=re.IGNORECASE)
    text = re.sub(
        rf"^,?\s*(?:(?:is|are|was|were|has been|can be)\s+(?:being\s+)?(?:{_SEEN}\s+)?|'s\s+)", " ", text, flags=re.I
    )
    text = re.sub(r"^,?\s*(?:has|have)\s+", " with ", text, flags=re.IGNORECASE)
    verb = re.match(rf"\s*({'|'.join(PROGRESSIVES)})\b", text, re.IGNORECASE)
    return f" {PROGRESSIVES[verb[1].lower()]}{text[verb.end() :]}" if verb else text


def without_apposition(text: str) -> tuple[str, str]:
    """The text after the subject without another name for it, as in ", a golden retriever, is", and that name."""
    found = _APPOSITION.match(text)
    return (text[found.end("name") + 1 :], found["name"]) if found else (text, "")


def _category(form: CaptionForm) -> str:
    """A regular expression of the class, with any space between its words."""
    return r"\s+".join(re.escape(word) for word in form.super_category.split())


def _class_after(form: CaptionForm) -> str:
    """A regular expression of the class after {}, which goes: training writes "{} dog" where a method needs it.

    Of nothing, where the opening wants words there.
    """
    return "" if form.opening.split("{}")[1] else rf"(?:\s+{_category(form)}{_NOT_COMPOUND})?"


def _phrase_start(text: str, noun: int) -> tuple[int, str, str]:
    """Where the noun phrase begins whose noun stands at `noun`, its article, and its words between the two."""
    phrase = _PHRASE.search(text[:noun])
    listed = re.findall(r"([\w'-]+),", phrase["modifiers"].lower()) if phrase else []
    if phrase and all(describes(word) or _ADJECTIVE.fullmatch(word) for word in listed):
        return phrase.start(), phrase["article"], phrase["modifiers"].strip()
    bare = _BARE_MODIFIERS.search(text[:noun])
    words = words_of(bare[0]) if bare else []
    if bare and words and ((bare.start() == 0 and len(words) <= 4) or all(map(describes, words))):
        return bare.start(), "", bare[0].strip()
    return noun, "", ""
