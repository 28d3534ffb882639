"""What a selectively informative caption should be, and how a vision-language model is asked for it.

After SID (Kim et al. 2024, arXiv 2403.15330): Section 3.1, Table 1 and Appendices C.1 and D.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ....core_ops.prompts.prompt_templates import validate_template
from ....core_ops.quoting import quoted

CLASS_ONLY, CLASSES, SELECTIVE, EVERYTHING = 1, 2, 3, 4
"""The cases of the paper's Table 1: what the caption tells of the subject and of what else is in the picture."""

MAXIMUM_WORDS = 45
"""Asked of the model. With its punctuation such a sentence fits one row of 77 tokens."""


@dataclass(frozen=True)
class CaptionForm:
    """What a caption should say.

    super_category: the kind of thing that {} stands for; with `style`, what the style is of: "art".
    case: of the paper's Table 1. expression: whether the subject's facial expression is told too (Appendix D.2).
    start: how every caption begins, with {} once; empty for the form's own.
    """

    super_category: str
    case: int = SELECTIVE
    style: bool = False
    expression: bool = False
    start: str = ""

    def __post_init__(self) -> None:
        if not re.search(r"\w", self.super_category) or re.search(r"[^\w\s'-]", self.super_category):
            raise ValueError(
                f"super_category: {quoted(self.super_category)} is not one or a few plain words; "
                "name the kind of thing, such as 'dog' or 'teddy bear'."
            )
        validate_template("start", self.opening)
        if re.search(r"[^\w\s,'-]", self.opening.replace("{}", "")):
            raise ValueError(
                f"start: {quoted(self.start)} has more than plain words; write it like 'a photo of a {{}}'."
            )

    @property
    def opening(self) -> str:
        """How every caption begins, with {} for the concept."""
        return " ".join(self.start.split()) or ("a painting in the style of {}" if self.style else "a photo of a {}")

    @property
    def spoken_opening(self) -> str:
        """The opening as the model is to write it, with the class in place of the concept."""
        opening = self.opening
        if re.search(r"[^su]s$", self.super_category):  # "a photo of sunglasses"
            opening = re.sub(r"\ban? \{\}", "{}", opening)
        spoken = with_articles(opening.replace("{}", self.super_category))
        return spoken[0].upper() + spoken[1:]


def instruction(form: CaptionForm) -> str:
    """The question for a vision-language model.

    Appendix C.1 prints the one for styles: one sentence, its start given, and "You should not describe the style of
    the painting/cartoon itself". Ours keeps these three parts, and names what the paper wants described.
    """
    if form.style:
        subject = "style of the picture"
        things = "every object and person that is seen, where they are, the background and what happens"
        forbidden = "no technique, brushwork, medium or mood of colour"
    else:
        subject = form.super_category
        things = "the background, the objects nearby, everything it wears, holds or is tied to, and its pose"
        things += " and facial expression" if form.expression else ""
        forbidden = "no colour, breed, kind, material, shape, size, age or parts of it"
    detail = " in detail"
    wanted = f"Describe {things}: with colours, materials, number and place."
    left_out = f" Do not describe the {subject} itself: {forbidden}. Mention it only once."
    if form.case == CLASSES:
        detail = ""
        wanted = f"Name {things}, each with its plain noun only, without colours, materials or other details."
    if form.case == EVERYTHING:
        wanted = f"Describe {things}, and also the {subject} itself: colours, materials and all details."
        left_out = ""
    return (
        f'Describe the image in one sentence{detail}. Start the sentence with "{form.spoken_opening}". '
        f"{wanted}{left_out} Answer in English with this one sentence only, of at most {MAXIMUM_WORDS} words: "
        "no list, no heading, no quotation marks, nothing before or after it."
    )


def with_articles(text: str) -> str:
    """The text with every "a" before a vowel made "an", and the reverse."""

    def fitting(match: re.Match[str]) -> str:
        article = match["article"][0] + ("n" if match["next"].lower() in "aeiou" else "")
        return article + match["space"] + match["next"]

    return re.sub(r"\b(?P<article>an?)(?P<space>\s+)(?P<next>[a-z{])", fitting, text, flags=re.IGNORECASE)
