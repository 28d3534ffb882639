"""All tests, in a ComfyUI that is prepared once: python scripts/test.py [words for pytest]

    python scripts/test.py -m "not host"     the quick tier, without ComfyUI
    python scripts/test.py -m long           what takes minutes and is left out otherwise
    python scripts/test.py -m gpu            on this machine's CUDA card: tests/gpu
    python scripts/test.py --fake-gpu        the same on a pretended card (tests/fake_gpu), or the files that are named

Without words, tests/gpu runs on the pretended card after all others, where that can be built.
The files of tests are shared out to as many processes as there are processors, four at most; "-n 0" keeps all in one.
Set COMFYUI_PATH (and COMFYUI_PYTHON) to use a ComfyUI that you have; nothing in it is changed.
"""

import os
import sys
from collections.abc import Sequence

if sys.version_info < (3, 10):  # noqa: UP036 - for who starts it with an older one
    sys.exit("This needs Python 3.10 or newer. Run it with one, for example: python3.12 scripts/test.py")

from preparation.foreground import run_prepared
from preparation.installation import ROOT, TEST_MODULES

MOST_PROCESSES = 4
"""Each takes up to 3 GB of memory."""

CANNOT_PRETEND = 69
"""The exit status of tests/fake_gpu/__main__.py on a machine where it cannot be built; it has said why."""


def main(words: Sequence[str]) -> int:
    if "--fake-gpu" in words:
        return on_pretended_card([word for word in words if word != "--fake-gpu"])
    status = pytest(words)
    if words:
        return status
    print("\nAnd on a pretended CUDA card:", flush=True)
    on_card = on_pretended_card([])
    return status or (0 if on_card == CANNOT_PRETEND else on_card)


def on_pretended_card(words: Sequence[str]) -> int:
    named = any(word.startswith("tests") for word in words)
    folders = os.pathsep.join(str(ROOT / name) for name in ("tests", "scripts"))
    return pytest([*words] if named else ["tests/gpu", *words], ["-m", "fake_gpu"], {"PYTHONPATH": folders})


def pytest(words: Sequence[str], through: Sequence[str] = (), variables: dict[str, str] | None = None) -> int:
    """`through`: words for Python, for a program that starts pytest."""
    processors = os.cpu_count() or 1
    processes = min(processors, MOST_PROCESSES)
    # A file stays in one process: what its tests share (a server, a trained concept) is made once. In the order of
    # tests/conftest.py, since xdist's own puts files of few tests last, however long they take.
    shared_out = ["-n", str(processes), "--dist", "loadfile", "--no-loadscope-reorder"]
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(processors // processes))}
    command = [*through, "-m", "pytest", *shared_out, *words]
    return run_prepared(TEST_MODULES, command, ROOT, threads | (variables or {}))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
