"""Packing: which conversations share a row of the batch, so that little of it is padding."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np

from cameleer.core.errors import UserError


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices of `lengths` in packs of at most `capacity` tokens, by best fit, longest first.

    lengths: [items] tokens of each. Every index is in one pack; the result depends on the lengths
    alone. About n log n steps: the free places are kept sorted, packs with equal place together.

    Raises UserError for a length over the capacity: nothing is cut or left out here.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    if capacity < 1:
        raise UserError(f"packs of {capacity} tokens hold nothing")
    if len(sizes) and (sizes.max() > capacity or sizes.min() < 0):
        index = int(np.argmax((sizes > capacity) | (sizes < 0)))
        raise UserError(
            f"conversation {index} has {sizes[index]} tokens, a pack holds {capacity}",
            hint="cut conversations when rendering, or make packs larger",
        )
    packs: list[list[int]] = []
    places: list[int] = []  # the different numbers of free tokens, sorted
    having: dict[int, list[list[int]]] = {}  # packs with so many free tokens
    order = np.argsort(-sizes, kind="stable")
    for index, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        best = bisect_left(places, size)
        if best == len(places):
            chosen, free = list[int](), capacity
            packs.append(chosen)
        else:
            free = places[best]
            chosen = having[free].pop()
            if not having[free]:
                del places[best], having[free]
        chosen.append(index)
        left = free - size
        if left not in having:
            having[left] = []
            insort(places, left)
        having[left].append(chosen)
    return packs


def fill(packs: Sequence[Sequence[int]], lengths: Sequence[int], capacity: int) -> float:
    """The share of the packs' places that hold a token, 0..1."""
    used = sum(lengths[index] for pack in packs for index in pack)
    return used / (len(packs) * capacity) if packs else 0.0
