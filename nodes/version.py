"""The pack's version, as pyproject.toml states it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path


@cache
def pack_version() -> str:
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    match = re.search(r'^version = "(.+)"$', text, re.MULTILINE)
    return match.group(1) if match else "unknown"
