"""Rounding float32 numbers to bf16 so that what is lost is lost by chance, and nothing on average.

A bf16 number is the upper half of a float32. Rounded to the nearest, an update smaller than half a
step of its weight is lost every time; rounded up with the chance that the lower half says, it is
kept on average (Gupta et al. 2015, arXiv 1502.02551). So training can do without master weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

LOWER_HALF = 1 << 16


def stochastically_rounded(numbers: Tensor, draw: torch.Generator) -> Tensor:
    """float32 `numbers` as bf16, each one of its two neighbours, the nearer the likelier.

    A number that bf16 can hold stays itself. draw: on the device of `numbers`; the same state of it
    gives the same bits. Infinities stay; a number beyond bf16's largest may become one.
    """
    chance = torch.empty_like(numbers, dtype=torch.int32)
    bits = chance.random_(0, LOWER_HALF, generator=draw).add_(numbers.view(torch.int32))
    return bits.bitwise_and_(-LOWER_HALF).view(torch.float32).bfloat16()
