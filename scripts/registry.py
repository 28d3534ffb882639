"""The public address in the pack's metadata, as ComfyUI's registry shows it: python scripts/registry.py URL

Writes [project.urls], Icon and Banner into pyproject.toml; part of a release (CONTRIBUTING.md). URL: of the public
repository on GitHub. Without one, that of the git remote "origin".
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BRANCH = "main"


def with_addresses(pyproject: str, repository: str) -> str:
    """The file's text with these addresses in place of any that it has. Raises ValueError for another kind of URL."""
    found = re.fullmatch(r"(?:https://github\.com/|git@github\.com:)([\w.-]+)/([\w.-]+?)(?:\.git)?/?", repository)
    if not found:
        raise ValueError(f"{repository!r} is not the address of a repository on GitHub: https://github.com/OWNER/NAME")
    owner, name = found.groups()
    address = f"https://github.com/{owner}/{name}"
    raw = f"https://raw.githubusercontent.com/{owner}/{name}/{BRANCH}/docs/images"
    urls = {"Repository": address, "Documentation": f"{address}#readme", "Issues": f"{address}/issues"}
    text = re.sub(r"\[project\.urls\]\n(?:\w+ = .*\n)*\n?", "", pyproject)
    text = re.sub(r"^(?:Icon|Banner) = .*\n", "", text, flags=re.MULTILINE)
    # Before the comment above [dependency-groups], which is the first table after [project].
    text = re.sub(
        r"(?m)^((?:#.*\n)*\[dependency-groups\])", lambda match: _lines("[project.urls]", urls) + "\n" + match[1], text
    )
    pictures = {"Icon": f"{raw}/icon.svg", "Banner": f"{raw}/banner.svg"}
    return re.sub(r"(?m)^(DisplayName = .*)\n", lambda match: _lines(match[1], pictures), text)


def _lines(first: str, values: dict[str, str]) -> str:
    return "\n".join([first, *(f'{key} = "{value}"' for key, value in values.items())]) + "\n"


def _origin() -> str:
    done = subprocess.run(["git", "-C", str(ROOT), "remote", "get-url", "origin"], capture_output=True, text=True)
    return done.stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", help='default: that of the git remote "origin"')
    path = ROOT / "pyproject.toml"
    try:
        text = with_addresses(path.read_text(encoding="utf-8"), parser.parse_args().url or _origin())
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    path.write_text(text, encoding="utf-8", newline="\n")
    print(f"{path} has the addresses.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
