"""All tests, in a ComfyUI that is prepared once: python scripts/test.py [words for pytest]

    python scripts/test.py -m "not host"     the quick tier, without ComfyUI
    python scripts/test.py -m long           what takes minutes and is left out otherwise
    python scripts/test.py -m gpu            on this machine's CUDA card: tests/gpu
    python scripts/test.py --fake-gpu        the same on a pretended card (tests/fake_gpu), or the files that are named
    python scripts/test.py --comfyui NAME    the host tier in another ComfyUI: a version that the package index has, or
                                             the folder of a checkout; words for pytest choose other tests

Without any words, a short selection runs in a second ComfyUI after all of them have passed, and then tests/gpu on the
pretended card, where that can be built.
The files of tests are shared out to as many processes as there are processors, four at most; "-n 0" keeps all in one.
Set COMFYUI_PATH (and COMFYUI_PYTHON) to use a ComfyUI that you have; nothing in it is changed.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

if sys.version_info < (3, 10):  # noqa: UP036 - for who starts it with an older one
    sys.exit("This needs Python 3.10 or newer. Run it with one, for example: python3.12 scripts/test.py")

from preparation.comfyui_source import SECOND, SOURCES
from preparation.foreground import run_prepared
from preparation.installation import ROOT, TEST_MODULES

MOST_PROCESSES = 4
"""Each takes up to 3 GB of memory."""
BYTECODE = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(ROOT / "build" / "bytecode")}
"""Tests start dozens of processes: all that they import is compiled once, and nowhere beside its source."""
HOST_TIER = ["tests/host", "tests/robustness"]
EVERY_COMFYUI = ["tests/host", "-m", "every_comfyui"]

CANNOT_PRETEND = 69
"""The exit status of tests/fake_gpu/__main__.py on a machine where it cannot be built; it has said why."""


def main() -> int:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)  # The rest is pytest's, with its own help.
    parser.add_argument("--comfyui", metavar="NAME", help=f"{', '.join(SOURCES)}, or a folder")
    parser.add_argument("--fake-gpu", action="store_true")
    options, words = parser.parse_known_args()
    if options.fake_gpu:
        return on_pretended_card(words, options.comfyui)
    if options.comfyui:
        return run_tests(words or HOST_TIER, options.comfyui)
    status = run_tests(words)
    if status or words:
        return status
    if not os.environ.get("COMFYUI_PATH"):
        print(f"\nA short selection in ComfyUI {SECOND.version}", flush=True)
        status = run_tests(EVERY_COMFYUI, SECOND.version)
    print("\ntests/gpu on a pretended CUDA card", flush=True)
    on_card = on_pretended_card([])
    return status or (0 if on_card == CANNOT_PRETEND else on_card)


def on_pretended_card(words: list[str], comfyui: str | None = None) -> int:
    chosen = words if any(word.startswith("tests") for word in words) else ["tests/gpu", *words]
    folders = os.pathsep.join(str(ROOT / name) for name in ("tests", "scripts"))
    return run_tests(chosen, comfyui, ["-m", "fake_gpu"], {"PYTHONPATH": folders})


def run_tests(
    words: list[str], comfyui: str | None = None, through: Sequence[str] = (), more: Mapping[str, str] | None = None
) -> int:
    """through: words for Python that start pytest on something. more: variables of the environment."""
    processors = os.cpu_count() or 1
    processes = min(processors, MOST_PROCESSES)
    # A file stays in one process: what its tests share (a server, a trained concept) is made once. In the order of
    # tests/conftest.py, since xdist's own puts files of few tests last, however long they take.
    shared_out = ["-n", str(processes), "--dist", "loadfile", "--no-loadscope-reorder"]
    threads = os.environ.get("OMP_NUM_THREADS", str(processors // processes))
    on_cpu = {} if through or "gpu" in words else {"TEST_ON_CPU": "1"}
    variables = {"OMP_NUM_THREADS": threads, **BYTECODE, **on_cpu, **(more or {})}
    return run_prepared(TEST_MODULES, [*through, "-m", "pytest", *shared_out, *words], ROOT, variables, comfyui)


if __name__ == "__main__":
    sys.exit(main())
