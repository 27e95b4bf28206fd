"""Outputs that repeat themselves: what would come next, to ask a model for all of it at once.

A model that does not stop mostly says the same again and again until it may say no more. The text
to come is then known, and one pass over all of it tells whether the model would have written it
token by token (speculative decoding with the text itself as draft: Leviathan et al. 2023, arXiv
2211.17192; for greedy outputs what is taken is exactly what the model finds likeliest).
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST = 1024  # tokens of what is repeated, at most
TIMES = 3  # so often it must have been said
SURE = 48  # tokens that have been repeated at least
GUESSED = 256  # tokens in one pass
EVERY = 32  # tokens between two looks


def period(ids: Sequence[int]) -> int | None:
    """Tokens of what the end of an output repeats; None if it does not."""
    last = len(ids) - 1
    for size in range(1, min(LONGEST, len(ids) // TIMES) + 1):
        held = max((TIMES - 1) * size, SURE)
        if ids[last] != ids[last - size] or held + size > len(ids):
            continue
        if ids[-held:] == ids[-held - size : -size]:
            return size
    return None


def guess(ids: list[int], count: int) -> list[int]:
    """The tokens to come if an output goes on as it does; empty if it does not repeat itself."""
    size = period(ids)
    if size is None:
        return []
    said = ids[-size:]
    return [said[at % size] for at in range(count)]


def agreed(guessed: Sequence[int], taken: Sequence[int]) -> int:
    """How many guesses the model would have made, one after the other.

    taken: the likeliest tokens, the first of which comes where the first guess stands.
    """
    for number, (one, other) in enumerate(zip(guessed, taken, strict=False)):
        if one != other:
            return number
    return len(guessed)
