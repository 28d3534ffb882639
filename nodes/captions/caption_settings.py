"""Settings of "Selectively Informative Captions", and what each input means."""

from __future__ import annotations

from dataclasses import dataclass

from ...core_ops.prompts.concept_words import USUAL
from ..files.caption_files import INPUT, OUTPUT
from ..host.models.text_generation import Generation
from ..settings import choice, integer, number, switch, text
from .wording import CLASS_ONLY, CLASSES, EVERYTHING, SELECTIVE, CaptionForm, instruction

CASES = {
    "Case 3: selectively informative (SID)": SELECTIVE,
    "Case 1: class only": CLASS_ONLY,
    "Case 2: classes of everything": CLASSES,
    "Case 4: everything described": EVERYTHING,
}
SUBJECT, STYLE = "subject", "style"
NOWHERE = "nowhere"
CLASS_PLACEHOLDER, START_PLACEHOLDER = "[class]", "[start]"


@dataclass(frozen=True)
class CaptionSettings:
    """Inputs of "Selectively Informative Captions", in the order in which they are shown."""

    super_category: str = text(
        "dog",
        help=(
            "What kind of thing it is, in one or a few plain words, as in the training node: dog, teapot, teddy bear. "
            "For a style: art."
        ),
    )
    case: str = choice(
        tuple(CASES),
        help=(
            "What a caption tells, after the paper's Table 1. Case 3 (the paper's SID): everything but the subject, in "
            "detail. Case 1: only the class. Case 2: other things by their names only. Case 4: the subject in detail "
            "too."
        ),
    )
    form: str = choice(
        (SUBJECT, STYLE),
        help="subject: the concept is a thing. style: it is a style of painting, and all that it shows is described.",
    )
    facial_expression: bool = switch(
        False, help="Ask for the subject's facial expression too, so that it is not learned. Paper: when it is strong."
    )
    save_to: str = choice(
        (NOWHERE, INPUT, OUTPUT),
        help=(
            "Save each caption beside its picture, as ComfyUI's Load Image-Text (from Folder) reads them, in a folder "
            "within ComfyUI's input or output folder."
        ),
        shows={folder: ["save_folder", "overwrite"] for folder in (INPUT, OUTPUT)},
    )
    save_folder: str = text(
        "",
        help="Folder for save_to: the one that the pictures were loaded from, or a new one, which then gets them too.",
    )
    overwrite: bool = switch(False, help="Replace captions that are in that folder already.")
    start: str = text(
        "",
        help=(
            "How each caption begins, with {} once for the concept. Empty: 'a photo of a {}', or 'a painting in the "
            "style of {}'."
        ),
        advanced=True,
    )
    vectors: int = integer(
        1,
        low=1,
        high=64,
        help="Vectors of the concept, as in the training node; they take room in the row of 77 tokens.",
        advanced=True,
    )
    max_tokens: int = integer(
        200, low=16, high=4096, help="Tokens after which the model's answer is cut off.", advanced=True
    )
    temperature: float = number(
        0.0,
        low=0.0,
        high=2.0,
        step=0.05,
        help="Randomness of the answer; 0 takes the likeliest word each time.",
        advanced=True,
    )
    seed: int = integer(
        0, low=0, high=2**63 - 1, help="Seed of the answer's randomness.", advanced=True, control_after_generate=False
    )
    own_captions: str = text(
        "",
        help=(
            "Your own text, one line per picture, in their order; it wins over the other sources. A line of only - "
            "leaves that picture to them."
        ),
        multiline=True,
    )
    own_instruction: str = text(
        "",
        help="Ask the vision-language model this in place of our instruction; [class] and [start] are filled in.",
        advanced=True,
        multiline=True,
    )
    concept_words: str = text(
        USUAL,
        help=(
            "Words that stand for the concept in typed and connected captions, separated by commas: trigger words of "
            "other trainers. They become {}, and nothing of them is left."
        ),
        advanced=True,
        multiline=True,
    )

    def __post_init__(self) -> None:
        self.caption_form()

    def caption_form(self) -> CaptionForm:
        """What each caption should say; raises ValueError for a class or a start that cannot stand in one."""
        return CaptionForm(
            super_category=self.super_category.strip(),
            case=CASES[self.case],
            style=self.form == STYLE,
            expression=self.facial_expression,
            start=self.start,
        )

    def question(self) -> str:
        """What the vision-language model is asked."""
        form = self.caption_form()
        if not self.own_instruction.strip():
            return instruction(form)
        filled = self.own_instruction.replace(CLASS_PLACEHOLDER, form.super_category)
        return filled.replace(START_PLACEHOLDER, form.spoken_opening)

    def generation(self) -> Generation:
        """How the answer is drawn."""
        return Generation(max_tokens=self.max_tokens, temperature=self.temperature, seed=self.seed)
