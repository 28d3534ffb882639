"""The public address wherever it is needed: python scripts/registry.py URL

Writes [project.urls], Icon and Banner into pyproject.toml, as ComfyUI's registry shows them. README, CITATION.cff and
the issue templates get the address in place of REPOSITORY. Part of a release (CONTRIBUTING.md). URL: of the public
repository on GitHub. Without one, that of the git remote "origin".
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BRANCH = "main"
PLACE = "REPOSITORY"
WITH_PLACE = ("README.md", "CITATION.cff", ".github/ISSUE_TEMPLATE/config.yml")


def public_address(repository: str) -> str:
    """https://github.com/OWNER/NAME. Raises ValueError for another kind of URL."""
    found = re.fullmatch(r"(?:https://github\.com/|git@github\.com:)([\w.-]+)/([\w.-]+?)(?:\.git)?/?", repository)
    if not found:
        raise ValueError(f"{repository!r} is not the address of a repository on GitHub: https://github.com/OWNER/NAME")
    return "https://github.com/{}/{}".format(*found.groups())


def with_addresses(pyproject: str, repository: str) -> str:
    """The file's text with these addresses in place of any that it has. Raises ValueError for another kind of URL."""
    address = public_address(repository)
    raw = f"{address.replace('github.com', 'raw.githubusercontent.com')}/{BRANCH}/docs/images"
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
    repository = parser.parse_args().url or _origin()
    try:
        texts = {"pyproject.toml": with_addresses((ROOT / "pyproject.toml").read_text(encoding="utf-8"), repository)}
        for name in WITH_PLACE:
            texts[name] = (ROOT / name).read_text(encoding="utf-8").replace(PLACE, public_address(repository))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    for name, text in texts.items():
        (ROOT / name).write_text(text, encoding="utf-8", newline="\n")
    print(
        f"{', '.join(texts)} have the address. Once written, another one is put there by hand, but in pyproject.toml."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
