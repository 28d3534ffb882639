"""The documentation as a site, from the repository's own pages: python scripts/write_site.py [--serve]

Gathers the pages, with all that they link to, in build/site/pages, and writes the site to build/site/html; mkdocs.yml
says how. Needs no ComfyUI, but MkDocs Material: pip install --group docs
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "build" / "site"
FIRST = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/*.md", "web/docs/*.md", "web/docs/*/*.md")
LINK = re.compile(r"\]\((?:<([^>]+)>|([^)\s]+))\)")


def gather(pages: Path) -> None:
    """Copies the pages and, from page to page, the files that they link to, each to the place that it has here."""
    waiting = [file for pattern in FIRST for file in sorted(ROOT.glob(pattern))]
    seen: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file in seen or not file.is_file():
            continue
        seen.add(file)
        place = pages / file.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".md":
            text = from_its_folder(file)
            place.write_text(text, encoding="utf-8", newline="\n")
            waiting += linked(file, text)
        else:
            shutil.copyfile(file, place)


def from_its_folder(page: Path) -> str:
    """The page's text; ComfyUI looks for the pictures of translated help pages beside the English ones."""
    text = page.read_text(encoding="utf-8")
    return text.replace("](images/", "](../images/") if page.name == "zh.md" else text


def linked(page: Path, text: str) -> Iterator[Path]:
    for match in LINK.finditer(text):
        target = unquote((match[1] or match[2]).partition("#")[0])
        if target and not re.match(r"[a-z]+:", target):
            yield (page.parent / target).resolve()


def main(words: list[str]) -> int:
    if not find_spec("material"):
        print("This needs MkDocs Material: python -m pip install --group docs (pip 25.1 or newer)", file=sys.stderr)
        return 1
    shutil.rmtree(SITE / "pages", ignore_errors=True)
    gather(SITE / "pages")
    command = ["serve"] if "--serve" in words else ["build", "--strict", "--clean"]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # Of the theme's successor.
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", *command, "-f", str(ROOT / "mkdocs.yml")], env=quiet
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
