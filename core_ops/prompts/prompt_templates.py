"""What a prompt template is: a prompt with {} exactly once, where the concept goes.

Prompts of several concepts have further places, {2} and {3}.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

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
