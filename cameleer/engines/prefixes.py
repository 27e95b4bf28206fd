"""Which beginnings of many prompts are common, as a tree whose nodes are computed once.

A node is a run of tokens that at least two rows share beyond the node above it, and that saves
enough to be worth a place of its own: few-shot examples, a stem, a passage asked about repeatedly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

SHARED = 48  # tokens that a node must save: its own tokens for every row but one
SHORTEST = 8  # tokens of a node: fewer are not worth the bookkeeping, for however many rows


@dataclass(eq=False)
class Node:
    """Tokens that several rows have in common, after those of the nodes above."""

    ids: list[int]
    above: Node | None
    end: int = field(init=False)

    def __post_init__(self) -> None:
        self.end = len(self.ids) + (self.above.end if self.above else 0)

    def chain(self) -> list[Node]:
        """The nodes from the root down to this one."""
        return [*(self.above.chain() if self.above else []), self]


def tree(rows: Sequence[Sequence[int]], most: Sequence[int]) -> list[tuple[int, Node | None]]:
    """Rows of tokens, depth first: (index, the deepest node that the row begins with).

    most: how many tokens of each row may lie in nodes; the others are its own. Rows of one node
    come together, before those of the nodes below it. The order of `rows` decides nothing but the
    order of rows that are equal.
    """
    keys = [np.asarray(ids, dtype=">u4").tobytes() for ids in rows]  # sorts like the tokens
    order = sorted(range(len(rows)), key=lambda index: keys[index])
    arrays = [np.frombuffer(keys[index], dtype=">u4") for index in order]
    limits = [most[index] for index in order]
    alike = np.zeros(len(order), dtype=np.int64)
    for place in range(1, len(order)):
        either = min(limits[place - 1], limits[place])
        alike[place] = _common(arrays[place - 1], arrays[place], either)
    found: list[tuple[int, Node | None]] = []
    waiting: list[tuple[int, int, Node | None]] = [(0, len(order), None)] if order else []
    while waiting:
        begin, end, node = waiting.pop()
        if end - begin == 1:
            found.append((order[begin], node))
            continue
        common = int(alike[begin + 1 : end].min())
        start = node.end if node else 0
        if common - start >= SHORTEST and (end - begin - 1) * (common - start) >= SHARED:
            node = Node(list(rows[order[begin]][start:common]), node)
        splits = [begin, *(np.flatnonzero(alike[begin + 1 : end] == common) + begin + 1), end]
        parts = [(int(a), int(b)) for a, b in pairwise(splits)]
        # A stack gives back the last first: those that stand alone come before deeper nodes.
        waiting += [(a, b, node) for a, b in reversed(parts) if b - a > 1]
        found += [(order[a], node) for a, b in parts if b - a == 1]
    return found


def _common(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic], most: int) -> int:
    """Tokens that two rows begin with alike, at most `most`."""
    differ = np.flatnonzero(a[:most] != b[:most])
    return int(differ[0]) if len(differ) else most
