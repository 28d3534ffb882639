"""What a prompt template is: a prompt with {} exactly once, where the concept goes."""

from __future__ import annotations

import re

# The concept becomes "embedding:name". ComfyUI finds it after white space or at the start of a weighted part, and reads
# its name up to white space, the end of the part, or a comma.
_STANDS_ALONE = re.compile(r"(?:^|[\s(])\{\}(?:$|[\s,)]|:[\d.]+\))")


def validate_template(where: str, template: str) -> None:
    """Raises ValueError, beginning with `where`, unless {} is there exactly once and stands alone."""
    count = template.count("{}")
    if count != 1:
        raise ValueError(f"{where}: {template!r} has {{}} {count} times; write it once, where the concept goes.")
    if not _STANDS_ALONE.search(template):
        raise ValueError(
            f"{where}: {template!r} has {{}} glued to other characters; put a space before and after it "
            "(a comma may follow)."
        )
