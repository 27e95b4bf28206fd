"""The scales of 8-bit moments, kept row by row in a state, so that other ranks can cut it anew.

bitsandbytes gives each 256 numbers of what it is given one float32 scale, counted from the first:
on many ranks, from the first of a rank's rows. So where a block begins hangs on how the weight is
cut. A state therefore holds, for each row, the scales of the blocks that it has a part in, and how
far into the first of them it begins. Where blocks begin as before, which rows of a multiple of 256
numbers always do, nothing changes; elsewhere the moments are rounded anew.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cameleer.train.optim_bytes import BLOCK


def by_row(scales: Tensor, rows: int, columns: int) -> Tensor:
    """Scales of blocks as [rows, blocks of a row + 1]; last how far into its first a row begins."""
    begins = torch.arange(rows, device=scales.device) * columns
    most = (columns + BLOCK - 2) // BLOCK + 1
    blocks = begins[:, None] // BLOCK + torch.arange(most, device=scales.device)
    blocks = blocks.minimum((begins[:, None] + columns - 1) // BLOCK)
    return torch.cat([scales[blocks], (begins[:, None] % BLOCK).float()], dim=1)


def by_block(scales: Tensor, columns: int) -> Tensor | None:
    """What `by_row` was made of; None if blocks of these rows begin elsewhere than they did."""
    rows = len(scales)
    begins = torch.arange(rows, device=scales.device) * columns
    if not torch.equal(scales[:, -1], (begins % BLOCK).float()):
        return None
    starts = torch.arange(0, rows * columns, BLOCK, device=scales.device)
    row = starts // columns
    return scales[row, starts // BLOCK - begins[row] // BLOCK]


def dequantised(codes: Tensor, scales: Tensor, numbers: Tensor) -> Tensor:
    """Moments in float32, in the shape of `codes`: uint8, each standing for one of 256 `numbers`.

    scales: as `by_row` made them, wherever the blocks began.
    """
    flat = codes.reshape(len(scales), -1)
    blocks = (scales[:, -1:].long() + torch.arange(flat.shape[1], device=flat.device)) // BLOCK
    return (numbers[flat.int()] * scales.gather(1, blocks)).view(codes.shape)
