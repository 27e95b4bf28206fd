"""The tensors of a micro-batch: packed rows laid one behind the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cameleer.data.loader import Row, Tokens
from cameleer.model.attention import positions
from cameleer.train.loss import SHAPES


@dataclass(frozen=True)
class MicroBatch:
    """Rows laid one behind the other: ids and positions [1, tokens], supervised [tokens].

    documents: their indices; lengths: of them, the last with the filling behind it; counts:
    supervised tokens of each; tokens: all without the filling.
    """

    ids: Tensor
    positions: Tensor
    supervised: Tensor
    documents: list[int]
    lengths: list[int]
    counts: list[int]
    tokens: int


def micro_batch(rows: list[Row], tokens: Tokens, device: torch.device) -> MicroBatch:
    """The tensors of some rows; what lies across two documents is never attended to.

    They are filled up to a multiple of SHAPES by tokens that nothing is learned of: matrices of few
    different shapes are multiplied by few different kernels, and each costs time and memory. They
    lie behind the last document, which does not see them: attention has no document more.
    """
    documents = [index for row in rows for index in row]
    spans = [slice(tokens.starts[index], tokens.starts[index + 1]) for index in documents]
    ids = _joined([tokens.ids[span].astype("int64") for span in spans])
    mask = _joined([tokens.supervised[span].copy() for span in spans], torch.bool)
    lengths = [int(span.stop - span.start) for span in spans]
    filling = -len(ids) % SHAPES if documents else SHAPES  # without: others wait for this rank
    if filling:
        ids, mask = F.pad(ids, (0, filling)), F.pad(mask, (0, filling))
    filled = [*lengths[:-1], sum(lengths[-1:]) + filling]
    return MicroBatch(
        ids[None].to(device),
        positions([*lengths, filling]).to(device),
        mask.to(device),
        documents,
        filled,
        [int(part.sum()) for part in torch.split(mask, filled)],
        len(ids) - filling,
    )


def supervised_counts(rows: list[Row], tokens: Tokens) -> list[int]:
    """Supervised tokens of each document of some rows."""
    spans = [slice(tokens.starts[i], tokens.starts[i + 1]) for row in rows for i in row]
    return [int(tokens.supervised[span].sum()) for span in spans]


def _joined(parts: list[NDArray[Any]], dtype: torch.dtype = torch.long) -> Tensor:
    return torch.cat([torch.zeros(0, dtype=dtype), *(torch.from_numpy(part) for part in parts)])
