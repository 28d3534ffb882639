"""Tables in Markdown, as core's Preview Any shows them."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A cell may be a prompt from anybody's workflow: it is shown as it is, one line, no markup."""
    lines = [header, ["---"] * len(header), *rows]
    cells = [[without_markup(" ".join(cell.split())).replace("|", "&#124;") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def without_markup(text: str) -> str:
    """One line that is no HTML, and no Markdown whose pictures the editor would fetch; shows no control characters."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return html.escape(printable, quote=False).replace("](", "] (")
