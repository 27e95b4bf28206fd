"""The loss: sum over supervised tokens of -log p; the head only where a token is supervised."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SHAPES = 64  # numbers of tokens are rounded up to a multiple of it: see cameleer.train.loop
ROWS = 64  # logits are worked on so many rows at a time: 64 x 49,152 floats stay in cache


def supervised_sum(
    model: Any, ids: Tensor, position_ids: Tensor, supervised: Tensor, layout: Any
) -> Tensor:
    """Sum of -log p(token | what stands before it in its document) over supervised tokens, nats.

    ids, position_ids: [1, tokens]; supervised: [tokens] bool, never true for a document's first
    token; layout: how the row attends. Divide by the number of supervised tokens of the *whole*
    optimizer step (arXiv 2306.04751 section 3.2; threads #103, #1728 of open-instruct on why).
    """
    predicting = supervised.nonzero()[:, 0] - 1  # logits at t are for the token at t + 1
    targets = ids[0].index_select(0, predicting + 1)
    logits = model(
        input_ids=ids,
        position_ids=position_ids,
        logits_to_keep=F.pad(predicting, (0, -len(predicting) % SHAPES)),
        use_cache=False,
        layout=layout,
    ).logits[0]
    total: Tensor = _CrossEntropySum.apply(logits, targets)  # type: ignore[no-untyped-call]
    return total


class _CrossEntropySum(torch.autograd.Function):
    """Sum of cross-entropies in float32 whose gradient is worked out on the way forward.

    logits: [tokens or more, vocabulary] in any float type, those beyond the targets being filling;
    targets: [tokens]. One pass over the logits instead of the four of log_softmax forward and
    backward with their casts.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        total = torch.zeros(
            (), dtype=torch.float64 if logits.device.type == "cpu" else torch.float32
        )
        total = total.to(logits.device)
        for begin in range(0, len(targets), ROWS):
            wanted = targets[begin : begin + ROWS, None]
            rows = logits[begin : begin + len(wanted)].float()
            top = rows.amax(1, keepdim=True)
            at_target = rows.gather(1, wanted) - top
            rows.sub_(top).exp_()
            mass = rows.sum(1, keepdim=True)
            total += (mass.log() - at_target).sum()
            if gradient is not None:
                rows.div_(mass)
                rows.scatter_add_(1, wanted, torch.full_like(mass, -1.0))
                gradient[begin : begin + len(wanted)] = rows
        if gradient is not None:
            gradient[len(targets) :] = 0
        ctx.save_for_backward(gradient)
        return total.float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient.mul_(grads[0]), None
