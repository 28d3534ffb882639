"""Prompt templates as plain text files that a user can copy and edit: one a line, {} where the concept goes."""

from __future__ import annotations

from pathlib import Path

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

    Raises ValueError naming the line when {} is not there exactly once with white space around it, or when no
    template is left.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    templates = [(number, line) for number, line in lines if line and not line.startswith("#")]
    for number, template in templates:
        where = f"own_prompts: line {number}, {template!r},"
        if template.count("{}") != 1:
            raise ValueError(
                f"{where} has {{}} {template.count('{}')} times; write it exactly once, where the concept goes."
            )
        # The concept becomes "embedding:name", which ComfyUI finds after white space only and reads up to white space.
        if "{}" not in template.split():
            raise ValueError(f"{where} has {{}} glued to other characters; put a space before and after it.")
    if not templates:
        raise ValueError("own_prompts: there is no prompt; write one per line, such as 'a {} in the jungle'.")
    return tuple(template for _, template in templates)
