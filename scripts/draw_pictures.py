"""The pictures of templates and help pages, from real runs: python scripts/draw_pictures.py [name ...]

    python scripts/draw_pictures.py                  all; the runs take about half an hour on two CPU cores, once
    python scripts/draw_pictures.py "Train a DreamBooth LoRA"    one template's; of nodes: CoReTrainEmbedding and so on

Runs the example workflows in ComfyUI with the embedded checkpoint and keeps what they show in .host/pictures, until
workflow or checkpoint change. Set COMFYUI_PATH (and COMFYUI_PYTHON) to use a ComfyUI that you have.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - for who starts it with an older one
    sys.exit("This needs Python 3.10 or newer. Run it with one, for example: python3.12 scripts/draw_pictures.py")

from preparation.foreground import run_prepared
from preparation.installation import DEMO_MODULES, ROOT

if __name__ == "__main__":
    sys.exit(run_prepared(DEMO_MODULES, ["-m", "pictures", *sys.argv[1:]], ROOT / "scripts"))
