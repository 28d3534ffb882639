"""Tables in Markdown, as core's Preview Any shows them."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A cell may be a prompt from anybody's workflow: it is shown as it is, one line, no markup."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_plain, line))} |" for line in lines)


def _plain(cell: str) -> str:
    return html.escape(" ".join(cell.split()), quote=False).replace("|", "&#124;").replace("](", "] (")
