"""Selectively informative captions (SID): what a model is asked for, and what is made of its answer."""

from .form import CLASS_ONLY, CLASSES, EVERYTHING, SELECTIVE, CaptionForm, instruction
from .repair import WORD_BOUND, RepairedCaption, repair, within_words

__all__ = [
    "CLASSES",
    "CLASS_ONLY",
    "EVERYTHING",
    "SELECTIVE",
    "WORD_BOUND",
    "CaptionForm",
    "RepairedCaption",
    "instruction",
    "repair",
    "within_words",
]
