"""All tests, in a ComfyUI that is prepared once: python scripts/test.py [words for pytest]

    python scripts/test.py -m "not host"     the quick tier, without ComfyUI
    python scripts/test.py -m long           what takes minutes and is left out otherwise

The files of tests are shared out to as many processes as there are processors, four at most; "-n 0" keeps all in one.
Set COMFYUI_PATH (and COMFYUI_PYTHON) to use a ComfyUI that you have; nothing in it is changed.
"""

import os
import sys

if sys.version_info < (3, 10):  # noqa: UP036 - for who starts it with an older one
    sys.exit("This needs Python 3.10 or newer. Run it with one, for example: python3.12 scripts/test.py")

from preparation.foreground import run_prepared
from preparation.installation import ROOT, TEST_MODULES

MOST_PROCESSES = 4
"""Each takes up to 3 GB of memory."""


def main() -> int:
    processors = os.cpu_count() or 1
    processes = min(processors, MOST_PROCESSES)
    # A file stays in one process: what its tests share (a server, a trained concept) is made once. In the order of
    # tests/conftest.py, since xdist's own puts files of few tests last, however long they take.
    shared_out = ["-n", str(processes), "--dist", "loadfile", "--no-loadscope-reorder"]
    threads = os.environ.get("OMP_NUM_THREADS", str(processors // processes))
    return run_prepared(TEST_MODULES, ["-m", "pytest", *shared_out, *sys.argv[1:]], ROOT, {"OMP_NUM_THREADS": threads})


if __name__ == "__main__":
    sys.exit(main())
