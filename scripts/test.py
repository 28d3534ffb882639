"""All tests, in a ComfyUI that is prepared once: python scripts/test.py [words for pytest]

    python scripts/test.py -m "not host"     the quick tier, without ComfyUI
    python scripts/test.py -m long           what takes minutes and is left out otherwise
    python scripts/test.py --comfyui NAME    the host tier in another ComfyUI: a version that the package index has, or
                                             the folder of a checkout; words for pytest choose other tests

Without any words, a short selection runs in a second ComfyUI after all of them have passed.
The files of tests are shared out to as many processes as there are processors, four at most; "-n 0" keeps all in one.
Set COMFYUI_PATH (and COMFYUI_PYTHON) to use a ComfyUI that you have; nothing in it is changed.
"""

import argparse
import os
import sys

if sys.version_info < (3, 10):  # noqa: UP036 - for who starts it with an older one
    sys.exit("This needs Python 3.10 or newer. Run it with one, for example: python3.12 scripts/test.py")

from preparation.comfyui_source import SECOND, SOURCES
from preparation.foreground import run_prepared
from preparation.installation import ROOT, TEST_MODULES

MOST_PROCESSES = 4
"""Each takes up to 3 GB of memory."""
HOST_TIER = ["tests/host", "tests/robustness"]
EVERY_COMFYUI = ["tests/host", "-m", "every_comfyui"]


def main() -> int:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)  # The rest is pytest's, with its own help.
    parser.add_argument("--comfyui", metavar="NAME", help=f"{', '.join(SOURCES)}, or a folder")
    options, words = parser.parse_known_args()
    if options.comfyui:
        return run_tests(words or HOST_TIER, options.comfyui)
    status = run_tests(words)
    if status or words or os.environ.get("COMFYUI_PATH"):
        return status
    print(f"\nA short selection in ComfyUI {SECOND.version}", flush=True)
    return run_tests(EVERY_COMFYUI, SECOND.version)


def run_tests(words: list[str], comfyui: str | None = None) -> int:
    processors = os.cpu_count() or 1
    processes = min(processors, MOST_PROCESSES)
    # A file stays in one process: what its tests share (a server, a trained concept) is made once. In the order of
    # tests/conftest.py, since xdist's own puts files of few tests last, however long they take.
    shared_out = ["-n", str(processes), "--dist", "loadfile", "--no-loadscope-reorder"]
    variables = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(processors // processes))}
    return run_prepared(TEST_MODULES, ["-m", "pytest", *shared_out, *words], ROOT, variables, comfyui)


if __name__ == "__main__":
    sys.exit(main())
