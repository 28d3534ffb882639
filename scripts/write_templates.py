"""The workflows of the template browser, written anew from scripts/templates: python scripts/write_templates.py

Run it when a node's inputs have changed. Set COMFYUI_PATH (and COMFYUI_PYTHON) to use a ComfyUI that you have; nothing
in it is changed.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - for who starts it with an older one
    sys.exit("This needs Python 3.10 or newer. Run it with one, for example: python3.12 scripts/write_templates.py")

from preparation.foreground import run_prepared
from preparation.installation import DEMO_MODULES, ROOT

if __name__ == "__main__":
    sys.exit(run_prepared(DEMO_MODULES, ["-m", "templates"], ROOT / "scripts"))
