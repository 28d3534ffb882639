"""Prompt templates as plain text files that a user can copy and edit: one a line, {} where the concept goes."""

from __future__ import annotations

from pathlib import Path

from ..prompt_templates import validate_template

PROMPT_SETS = ("animate", "inanimate")
EVALUATION_SETS = ("evaluation_animate", "evaluation_inanimate")


def prompt_set(name: str) -> tuple[str, ...]:
    """The templates of one of `PROMPT_SETS` (100 each) or `EVALUATION_SETS` (the 20 of CoRe's Table 4 each).

    Raises ValueError for any other name.
    """
    names = PROMPT_SETS + EVALUATION_SETS
    if name not in names:
        raise ValueError(f"prompt_set: there is no set {name!r}; choose one of {', '.join(names)}.")
    return parse_templates((Path(__file__).parent / f"{name}.txt").read_text(encoding="utf-8"))


def parse_templates(text: str) -> tuple[str, ...]:
    """One template per line; empty lines and lines that start with # are left out.

    Raises ValueError naming the line that is no template, or when none is left.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    templates = [(number, line) for number, line in lines if line and not line.startswith("#")]
    for number, template in templates:
        validate_template(f"own_prompts: line {number}", template)
    if not templates:
        raise ValueError("own_prompts: there is no prompt; write one per line, such as 'a {} in the jungle'.")
    return tuple(template for _, template in templates)
