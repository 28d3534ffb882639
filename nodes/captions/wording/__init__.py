"""The wording of selectively informative captions: what a model is asked for, and what is made of its answer.

Text alone: runs without ComfyUI and torch.
"""

from .form import CLASS_ONLY, CLASSES, EVERYTHING, SELECTIVE, CaptionForm, instruction
from .repair import WORD_BOUND, Fits, RepairedCaption, repair, validate_opening, within_words

__all__ = [
    "CLASSES",
    "CLASS_ONLY",
    "EVERYTHING",
    "SELECTIVE",
    "WORD_BOUND",
    "CaptionForm",
    "Fits",
    "RepairedCaption",
    "instruction",
    "repair",
    "validate_opening",
    "within_words",
]
