"""Prompt templates as plain text files that a user can copy and edit: one a line, {} where the concept goes."""

from __future__ import annotations

from pathlib import Path

PROMPT_SETS = ("animate", "inanimate")
EVALUATION_SETS = ("evaluation_animate", "evaluation_inanimate")


def prompt_set(name: str) -> tuple[str, ...]:
    """The templates of one of `PROMPT_SETS` (100 each) or `EVALUATION_SETS` (the 20 of CoRe's Table 4 each)."""
    return parse_templates((Path(__file__).parent / f"{name}.txt").read_text(encoding="utf-8"))


def parse_templates(text: str) -> tuple[str, ...]:
    """One template per line; empty lines and lines that start with # are left out.

    Raises ValueError naming the line when {} is not there exactly once, or when no template is left.
    """
    lines = [line.strip() for line in text.splitlines()]
    templates = tuple(line for line in lines if line and not line.startswith("#"))
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"own_prompts: the line {template!r} must have {{}} exactly once, where the concept goes.")
    if not templates:
        raise ValueError("own_prompts: there is no prompt; write one per line, such as 'a {} in the jungle'.")
    return templates
