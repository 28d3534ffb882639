"""docs/faults.md, made of the list of faults that the tests inject: python tests/robustness/fault_table.py"""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
DOCUMENT = TESTS.parent / "docs" / "faults.md"

INTRODUCTION = """# When something goes wrong

Made by `python tests/robustness/fault_table.py` from the list of faults in `tests/robustness/faults.py`. The tests
inject each of them while a node works, and hold the node to this table.

After every one of them your models are bit for bit what they were, and no hook or patch is left in them. No half file
has the name of a whole one. The next run gives bit for bit what it gives after a fresh start. When a training stops
early, its node says what was kept, and how to continue.
"""


def document() -> str:
    from robustness.faults import FAULTS

    promises = list(dict.fromkeys(outcome.kept for fault in FAULTS for outcome in fault.outcomes.values()))
    lines = [INTRODUCTION, "| Fault | Where | What you see | What is kept |", "|---|---|---|---|"]
    for fault in FAULTS:
        same: dict[tuple[str, str], list[str]] = {}
        for subject, outcome in fault.outcomes.items():
            same.setdefault((outcome.sees, outcome.kept), []).append(subject.title)
        for (sees, kept), titles in same.items():
            shown = f"… {sees} …" if sees else "(no error)"
            lines.append(f"| {fault.title} | {', '.join(titles)} | {shown} | {promises.index(kept) + 1} |")
    lines += ["", "What is kept:", "", *(f"{number}. {promise}" for number, promise in enumerate(promises, 1))]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(TESTS))
    DOCUMENT.write_text(document(), encoding="utf-8")
