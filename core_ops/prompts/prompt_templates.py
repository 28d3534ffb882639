"""A prompt template has {} exactly once, where the concept goes; sets of them are plain text files in `prompt_sets`.

Prompts of several concepts have further places, {2} and {3}.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..quoting import quoted

PLACES = ("{}", "{2}", "{3}")

# The concept becomes "embedding:name". ComfyUI finds it after white space or at the start of a weighted part, and reads
# its name up to white space, the end of the part, or a comma.
_STANDS_ALONE = r"(?:^|[\s(]){place}(?:$|[\s,)]|:[\d.]+\))"


def validate_template(where: str, template: str, place: str = "{}") -> None:
    """Raises ValueError, beginning with `where`, unless `place` is there exactly once and stands alone."""
    count = template.count(place)
    if count != 1:
        raise ValueError(
            f"{where}: {quoted(template)} has {place} {count} times; write it once, where the concept goes."
        )
    if not re.search(_STANDS_ALONE.replace("{place}", re.escape(place)), template):
        raise ValueError(
            f"{where}: {quoted(template)} has {place} glued to other characters; put a space before and after it "
            "(a comma may follow)."
        )


def fill(template: str, fillings: Sequence[str]) -> str:
    """The template with its places, in the order of `PLACES`, filled."""
    for place, filling in zip(PLACES, fillings, strict=False):
        template = template.replace(place, filling)
    return template


def template_with_category(template: str, super_category: str) -> str:
    """The template with the super-category after the concept, as AttnDreamBooth writes it: "{} dog"."""
    return template.replace("{}", f"{{}} {super_category}")


PROMPT_SETS = ("animate", "inanimate")
EVALUATION_SETS = ("evaluation_animate", "evaluation_inanimate")


def prompt_set(name: str) -> tuple[str, ...]:
    """The templates of one of `PROMPT_SETS` (100 each) or `EVALUATION_SETS` (the 20 of CoRe's Table 4 each).

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
        validate_template(f"own_prompts: line {number}", template)
    if not templates:
        raise ValueError("own_prompts: there is no prompt; write one per line, such as 'a {} in the jungle'.")
    return tuple(template for _, template in templates)
