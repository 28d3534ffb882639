"""What came in, shown in an error message."""

from __future__ import annotations

LONGEST = 200
"""Characters: enough to see which text is meant."""


def quoted(value: object) -> str:
    """In quotes, control characters spelled out, the end of a long one left out."""
    return shortened(repr(value), LONGEST)


def shortened(text: str, longest: int = 1000) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"
