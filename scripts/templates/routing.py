"""The way of a cable: straight to a neighbour, else through the gutters between columns and above the nodes.

Nodes that share a part of the width are one column. All lengths are the editor's pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[int, int]
Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a node; its title is above the top."""
TITLE = 30
LANE, CABLE = 10, 5
"""Between cables that run above the nodes, and between those in a gutter."""
BEND = 24
"""A cable turns upright so far from its end."""
FAR = 100
"""A difference in height that a cable crosses upright in the gutter."""


@dataclass(frozen=True)
class Columns:
    """edges: left and right of each column, from left to right."""

    edges: Sequence[tuple[int, int]]

    @classmethod
    def of(cls, boxes: Sequence[Box]) -> Columns:
        edges: list[tuple[int, int]] = []
        for left, _, right, _ in sorted(boxes):
            if edges and left < edges[-1][1]:
                edges[-1] = (edges[-1][0], max(right, edges[-1][1]))
            else:
                edges.append((left, right))
        return cls(edges)

    def at(self, box: Box) -> int:
        return next(number for number, (left, right) in enumerate(self.edges) if left <= box[0] < right)

    def way(self, source: tuple[Box, int], target: tuple[Box, int], lane: int) -> tuple[Point, ...]:
        """Places between an output and an input, each a node's box and a height; lane: its own above the nodes."""
        (start, out_height), (end, in_height) = source, target
        first, last = self.at(start), self.at(end)
        leaving, arriving = self._right_of(first, lane), self._left_of(last, lane)
        if last == first + 1:
            return self._between(arriving, out_height, in_height)
        if last == first:  # above the title of the node below
            height = end[1] - TITLE - 10
            turn = ((leaving, out_height + BEND),) if height - out_height > FAR else ()
            return (*turn, (leaving, height), (arriving, height))
        height = -TITLE - 12 - LANE * lane
        rise = ((leaving, out_height - BEND),) if out_height - height > FAR else ()
        descent = ((arriving, in_height - BEND),) if in_height - height > FAR else ()
        return (*rise, (leaving, height), (arriving, height), *descent)

    def _between(self, gutter: int, start: int, end: int) -> tuple[Point, ...]:
        """Between neighbours."""
        if abs(start - end) < FAR:
            return ()
        bend = BEND if end > start else -BEND
        return ((gutter, start + bend), (gutter, end - bend))

    def _right_of(self, column: int, lane: int) -> int:
        """In the gutter, nearer to the column for the cables that are drawn first."""
        return self.edges[column][1] + 8 + CABLE * (lane % 4)

    def _left_of(self, column: int, lane: int) -> int:
        return self.edges[column][0] - 8 - CABLE * (lane % 4)
