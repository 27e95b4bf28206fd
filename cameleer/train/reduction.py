"""What each supervised token weighs in an optimizer step; the loss is the weighted sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cameleer.train.config import Reduction


@dataclass(frozen=True)
class StepTotals:
    """What the whole optimizer step learns from: over all micro-batches of all ranks."""

    micro_batches: int
    conversations: int
    supervised: int

    @classmethod
    def of(cls, counts: Sequence[Sequence[int]]) -> StepTotals:
        """counts: for each micro-batch, the supervised tokens of each of its documents.

        Documents and micro-batches that nothing is learned of are not counted.
        """
        learned = [number for batch in counts for number in batch if number]
        return cls(sum(any(batch) for batch in counts), len(learned), sum(learned))


def token_weights(counts: Sequence[int], totals: StepTotals, reduction: Reduction) -> Tensor:
    """Weights of a micro-batch's supervised tokens, float32 [supervised]; a step's add up to 1.

    counts: supervised tokens of each document of the micro-batch. `token`: every token of the step
    weighs the same. `conversation`: every conversation does. `paper`: every micro-batch does, so a
    token's weight hangs on what it was batched with (arXiv 2306.04751's code: the mean over
    micro-batches of their means; threads #103, #1728 of open-instruct).
    """
    if reduction == "conversation":
        each = [1 / (totals.conversations * number) if number else 0.0 for number in counts]
    elif reduction == "paper":
        each = [1 / (totals.micro_batches * max(1, sum(counts)))] * len(counts)
    else:
        each = [1 / totals.supervised] * len(counts)
    weights = torch.tensor(each, dtype=torch.float64).float()
    return weights.repeat_interleave(torch.tensor(counts, dtype=torch.long))
