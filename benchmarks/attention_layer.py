"""One self-attention layer of SD 2.1, there and back: fused, as a whole map, and as that map in blocks.

    python benchmarks/attention_layer.py --tokens 256 1024 4096 --precision fp32 bf16

Prints a Markdown table of medians in processor time, on one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

HEADS, WIDTH = 5, 64
"""Of the layers at the finest resolution."""
QUERIES_AT_ONCE = 512
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def whole_map(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """As the released programs compute it. q, k, v: [1, heads, tokens, width]."""
    return (q @ k.mT * WIDTH**-0.5).softmax(dim=-1) @ v


def in_blocks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.cat([whole_map(part, k, v) for part in q.split(QUERIES_AT_ONCE, dim=2)], dim=2)


WAYS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "fused": scaled_dot_product_attention,
    "whole map": whole_map,
    "in blocks": in_blocks,
}


def seconds(way: Callable[[Tensor, Tensor, Tensor], Tensor], inputs: list[Tensor], repetitions: int) -> float:
    """The first run is not counted."""

    def once() -> float:
        began = time.process_time()
        torch.autograd.grad(way(*inputs).sum(), inputs)
        return time.process_time() - began

    return median([once() for _ in range(repetitions + 1)][1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--precision", choices=PRECISIONS, nargs="+", default=["fp32"])
    parser.add_argument("--repetitions", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| tokens | precision |", " | ".join(WAYS), "|\n|" + "---|" * (2 + len(WAYS)))
    for precision in given.precision:
        for tokens in given.tokens:
            shape = (1, HEADS, tokens, WIDTH)
            inputs = [torch.randn(shape, dtype=PRECISIONS[precision], requires_grad=True) for _ in range(3)]
            times = [f"{1000 * seconds(way, inputs, given.repetitions):.1f} ms" for way in WAYS.values()]
            print(f"| {tokens} | {precision} |", " | ".join(times), "|", flush=True)


if __name__ == "__main__":
    main()
