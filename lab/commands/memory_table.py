"""What trains on which card: the memory that trainings at published sizes take, by the plan that the nodes refuse by.

Each row is planned as on a CUDA card that loads the checkpoint in fp16, from a rehearsal of one step: no card is
needed, and no memory. docs/memory.md says how near the plan is to what torch's allocator then counts.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    sizes = ("sd15", "sd21", "sdxl")
    parser.add_argument("sizes", nargs="*", metavar="size", help=f"of {', '.join(sizes)}; all of them by default")
    taken = "in place of the table: what small trainings take at 256 pixels on the card that there is"
    parser.add_argument("--taken", action="store_true", help=taken)
    parser.set_defaults(every_size=sizes)


def run(given: argparse.Namespace) -> None:
    from ..memory_table import print_table, print_taken, started

    with started():
        (print_taken if given.taken else print_table)(given.sizes or given.every_size)
