"""A prompt template has {} exactly once, where the concept goes; sets of them are plain text files in `prompt_sets`.

Prompts of several concepts have further places, {2} and {3}.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..quoting import quoted

PLACES = ("{}", "{2}", "{3}")


def validate_template(where: str, template: str, place: str = "{}") -> None:
    """Raises ValueError, beginning with `where`, unless `place` is there exactly once."""
    count = template.count(place)
    if count != 1:
        raise ValueError(
            f"{where}: {quoted(template)} has {place} {count} times; write it once, where the concept goes."
        )
    if f"embedding:{place}" in template:
        raise ValueError(f"{where}: {quoted(template)} has embedding: before {place}, which writes it; leave it out.")


def spaced(template: str, place: str = "{}") -> str:
    """The template with a space wherever `place` touches other characters; a comma that ends a word may.

    The concept becomes "embedding:name". ComfyUI finds that after white space, and reads its name up to the next; as
    in "({}:1.2)", a weighted part by itself, it stays as it is.
    """
    weighted = re.search(rf"(?<!\\)\({re.escape(place)}(?::[\d.]+)?\)", template)
    if weighted and not re.search(r"[()]", template.replace(weighted[0], "", 1)):
        return template
    template = re.sub(rf"(?<=\S){re.escape(place)}", f" {place}", template)
    return re.sub(rf"{re.escape(place)}(?=\S)(?!,(?:\s|$))", f"{place} ", template)


def fill(template: str, fillings: Sequence[str]) -> str:
    """The template with its places, in the order of `PLACES`, filled."""
    for place, filling in zip(PLACES, fillings, strict=False):
        template = spaced(template, place)
        if reads_as_weight(filling.removeprefix("embedding:")):
            # An empty bracket gives no token, and keeps "(a embedding:2024 ())" from being "a embedding" weighing 2024.
            template = re.sub(rf"({re.escape(place)}\s*)\)", r"\1())", template)
        template = template.replace(place, filling)
    return template


def is_plain(words: str) -> bool:
    """Whether a prompt reads these as words and no more, and they are short enough to stand in one."""
    return bool(re.fullmatch(r"[^()\[\]{}<>\\\x00-\x1f]{1,100}", words.strip())) and "embedding:" not in words


def reads_as_weight(name: str) -> bool:
    """Whether ComfyUI, which asks Python, takes what stands after a colon at a bracket's end for a number."""
    try:
        float(name)
    except ValueError:
        return False
    return True


def template_with_category(template: str, super_category: str) -> str:
    """The template with the super-category after the concept, as AttnDreamBooth writes it: "{} dog"."""
    return spaced(template).replace("{}", f"{{}} {super_category}")


PROMPT_SETS = ("animate", "inanimate", "person", "universal", "style")
EVALUATION_SETS = (
    *("evaluation_animate", "evaluation_inanimate", "evaluation_person"),
    *("evaluation_complex_animate", "evaluation_complex_inanimate"),
    "evaluation_style",
)


def prompt_set(name: str) -> tuple[str, ...]:
    """The templates of one of `PROMPT_SETS` (100 each) or `EVALUATION_SETS` (20 each; those for animate and inanimate
    are CoRe's Table 4, the complex ones of the kinds of its figures).

    Raises ValueError for any other name.
    """
    names = PROMPT_SETS + EVALUATION_SETS
    if name not in names:
        raise ValueError(f"prompt_set: there is no set {name!r}; choose one of {', '.join(names)}.")
    return parse_templates((Path(__file__).parent / "prompt_sets" / f"{name}.txt").read_text(encoding="utf-8"))


def parse_templates(text: str) -> tuple[str, ...]:
    """One template per line; empty lines and lines that start with # are left out.

    Raises ValueError naming the line that is no template, or when none is left.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    templates = [(number, line) for number, line in lines if line and not line.startswith("#")]
    for number, template in templates:
        line = f"line {number}"
        validate_template(f"own_prompts: {line}", template)
    if not templates:
        raise ValueError("own_prompts: there is no prompt; write one per line, such as 'a {} in the jungle'.")
    return tuple(template for _, template in templates)
