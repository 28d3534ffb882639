"""What came in, shown in an error message."""

from __future__ import annotations

LONGEST = 200
"""Characters: enough to see which text is meant."""


def quoted(value: object) -> str:
    """In quotes, the end of a long one left out."""
    return shortened(repr(value), LONGEST)


def shortened(text: str, longest: int = 1000) -> str:
    """Control characters are spelled out, the end of a long text is left out."""
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text[: longest + 1])
    return shown if len(shown) <= longest else f"{shown[:longest]}…"
