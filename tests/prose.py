"""The prose of Markdown pages: its blocks without code, addresses and pictures, and its sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

MARKDOWN = MarkdownIt("commonmark").enable("table")
ABBREVIATIONS = r"(?<!\bet al)(?<!\bEq)(?<!\bApp)(?<!\bvs)(?<!\be\.g)(?<!\bi\.e)"
END = re.compile(rf"{ABBREVIATIONS}[.!?…][)*”\"']*(?=\s+(?:[^a-zα-ω]|\w+:)|$)| · ")


def blocks(text: str, code: str | None = None, alt: bool = False) -> Iterator[str]:
    """Each paragraph, heading, list item and table cell as a reader sees it.

    code: what stands for a piece of inline code; None: the code itself. alt: with the texts of pictures.
    """
    for token in MARKDOWN.parse(text):
        if token.type == "inline":
            shown = "".join(_shown(child, code, alt) for child in token.children or ())
            if shown.strip():
                yield re.sub(r"\s+", " ", shown).strip()


def _shown(token: Token, code: str | None, alt: bool) -> str:
    if token.type == "code_inline":
        return token.content if code is None else code
    if token.type == "image":
        return f"{token.content}. " if alt else ""
    return " " if token.type in ("softbreak", "hardbreak") else token.content if token.type == "text" else ""


def words(text: str) -> list[str]:
    return re.findall(r"[\w'’.,-]*\w[\w'’-]*", text)


def sentences(text: str) -> Iterator[str]:
    for block in blocks(text, code="X"):
        start = 0
        for end in END.finditer(block):
            yield block[start : end.end()].strip()
            start = end.end()
        if block[start:].strip():
            yield block[start:].strip()


def pictures(text: str) -> list[tuple[str, str]]:
    """Alternative text and address of every picture."""
    found = (child for token in MARKDOWN.parse(text) for child in token.children or () if child.type == "image")
    return [(child.content, str(child.attrs["src"])) for child in found]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
