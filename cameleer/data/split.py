"""Splitting a long conversation into chunks of whole rounds that fit a number of tokens.

A round is a question and its answer. The walk is that of the paper's `split_sharegpt_conversations`
(from FastChat), with its losses by rule `paper` and with them mended by rule `fixed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

PER_MESSAGE = 6  # tokens that the paper allows for what a template puts around a message

Chunks = list[tuple[int, int]]
"""First round of each chunk, and the one after its last."""


def round_lengths(texts: Sequence[str], tokenizer: Any) -> list[int]:
    """Tokens of each round of `texts`, two messages a round, as the paper measured them.

    A message has the tokens that the tokenizer makes of it alone, those that it adds of its own
    included (LLaMA's puts one before), and 6 more. That is near what a template makes of it, not
    the same: in `tulu` a chunk may pass the limit by a token or two a message, which rendering then
    cuts and counts.
    """
    encoded = tokenizer(list(texts), return_attention_mask=False, verbose=False)["input_ids"]
    lengths = [len(ids) + PER_MESSAGE for ids in encoded]
    return [asked + said for asked, said in zip(lengths[::2], lengths[1::2], strict=True)]


def split_paper(rounds: Sequence[int], most: int) -> Chunks:
    """The chunks of the paper's code, for rounds of so many tokens each.

    With what it loses: a last round that does not fit is in no chunk; the length of a round that is
    too long for any chunk is carried over, so that the round after it closes an empty chunk.
    """
    chunks, start, length = [], 0, 0
    for place, size in enumerate(rounds):
        if length + size > most:
            chunks.append((start, place))
            start = place + 1 if size > most else place
            length = 0
        elif place == len(rounds) - 1:
            chunks.append((start, place + 1))
        length += size
    return chunks


def split_fixed(rounds: Sequence[int], most: int) -> Chunks:
    """As few chunks as keep the order, with every round that fits into one; none is empty."""
    chunks, start, length = [], 0, 0
    for place, size in enumerate(rounds):
        if length + size > most:
            chunks.append((start, place))
            start, length = (place + 1, 0) if size > most else (place, 0)
        if size <= most:
            length += size
    chunks.append((start, len(rounds)))
    return [(first, end) for first, end in chunks if first < end]
