"""The English texts of all nodes as a translation file, written anew from the nodes: python scripts/texts.py

Run it when a name or tooltip changed; it lists what is to be translated anew in locales/zh. Set COMFYUI_PATH (and
COMFYUI_PYTHON) to use a ComfyUI that you have; nothing in it is changed.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - for who starts it with an older one
    sys.exit("This needs Python 3.10 or newer. Run it with one, for example: python3.12 scripts/texts.py")

from preparation.foreground import run_prepared
from preparation.installation import DEMO_MODULES, ROOT

if __name__ == "__main__":
    sys.exit(run_prepared(DEMO_MODULES, ["-m", "driver.texts"], ROOT / "scripts"))
