"""All tests, in a ComfyUI that is prepared once: python scripts/test.py [words for pytest]

    python scripts/test.py -m "not host"     the quick tier, without ComfyUI
    python scripts/test.py -m long           what takes minutes and is left out otherwise

Set COMFYUI_PATH (and COMFYUI_PYTHON) to use a ComfyUI that you have; nothing in it is changed.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - for who starts it with an older one
    sys.exit("This needs Python 3.10 or newer. Run it with one, for example: python3.12 scripts/test.py")

from preparation.errors import PreparationError
from preparation.foreground import run_in_foreground
from preparation.installation import ROOT, TEST_MODULES, prepare
from preparation.timeline import Timeline


def main() -> int:
    try:
        installation = prepare(Timeline(), TEST_MODULES)
    except PreparationError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    command = [str(installation.python), "-m", "pytest", *sys.argv[1:]]
    return run_in_foreground(command, ROOT, installation.environment())


if __name__ == "__main__":
    sys.exit(main())
