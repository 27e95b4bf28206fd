"""Rounding float32 numbers to bf16 so that what is lost is lost by chance, and nothing on average.

A bf16 number is the upper half of a float32. Rounded to the nearest, an update smaller than half a
step of its weight is lost every time; rounded up with the chance that the lower half says, it is
kept on average (Gupta et al. 2015, arXiv 1502.02551). So training can do without master weights.

What a number draws is told by a key and by its place in the whole weight, and by nothing that was
drawn before: however a weight is cut over ranks, and on whatever device, it gets the same bits.
"""

from __future__ import annotations

from hashlib import blake2b

import torch
from torch import Tensor

LOWER_HALF = 1 << 16
PIECE = {"cpu": 1 << 16, "cuda": 1 << 26}  # numbers at a time: a CPU's cache, and GPU memory


def stochastically_rounded(numbers: Tensor, key: str, first: int = 0) -> Tensor:
    """float32 `numbers` as bf16, each one of its two neighbours, the nearer the likelier.

    A number that bf16 can hold stays itself. key: other keys draw other numbers; first: the place
    of the first number. Infinities stay; a number beyond bf16's largest may become one.
    """
    rounded = torch.empty(numbers.shape, dtype=torch.bfloat16, device=numbers.device)
    given, made, size = numbers.reshape(-1), rounded.view(-1), PIECE[numbers.device.type]
    for at in range(0, len(given), size):
        piece = given[at : at + size].view(torch.int32)
        bits = _drawn(len(piece), key, first + at, piece.device)
        bits.add_(piece).bitwise_and_(-LOWER_HALF)
        made[at : at + size] = bits.view(torch.float32)
    return rounded


def _drawn(count: int, key: str, first: int, device: torch.device) -> Tensor:
    """`count` numbers below LOWER_HALF, of key and place: the hash `lowbias32` (Wellons, 2018)."""
    digest = blake2b(key.encode(), digest_size=8).digest()
    one, other = (int.from_bytes(half, "little", signed=True) for half in (digest[:4], digest[4:]))
    bits = torch.arange(count, dtype=torch.int32, device=device)
    bits.add_(_wrapped(first)).bitwise_xor_(one)
    bits.bitwise_xor_(bits >> 16).mul_(0x7FEB352D).add_(other)
    bits.bitwise_xor_(bits >> 15).mul_(_wrapped(0x846CA68B))
    return bits.bitwise_right_shift_(16).bitwise_and_(LOWER_HALF - 1)


def _wrapped(number: int) -> int:
    """A number as the 32 bits of it are read with a sign."""
    return (number + (1 << 31)) % (1 << 32) - (1 << 31)
