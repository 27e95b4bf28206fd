"""The loss: the weighted sum of -log p over supervised tokens; the head works on these alone."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SHAPES = 64  # numbers of tokens are rounded up to a multiple of it: see cameleer.train.loop
ROWS = 64  # logits are worked on so many rows at a time: 64 x 49,152 floats stay in cache


def supervised_loss(
    model: Any,
    ids: Tensor,
    position_ids: Tensor,
    supervised: Tensor,
    weights: Tensor,
    layout: Any,
) -> tuple[Tensor, Tensor]:
    """Sum of weight x -log p(token | what stands before it in its document), and each -log p, nats.

    ids, position_ids: [1, tokens]; supervised: [tokens] bool, never true for a document's first
    token; weights: [supervised] float32, see cameleer.train.reduction; layout: how the row attends.
    Returns a scalar to differentiate and [supervised] detached, both float32.
    (arXiv 2306.04751 section 3.2.)
    """
    predicting = supervised.nonzero()[:, 0] - 1  # logits at t are for the token at t + 1
    targets = ids[0].index_select(0, predicting + 1)
    filling = -len(predicting) % SHAPES if len(predicting) else SHAPES
    logits = model(
        input_ids=ids,
        position_ids=position_ids,
        logits_to_keep=F.pad(predicting, (0, filling)),
        use_cache=False,
        layout=layout,
    ).logits[0]
    total, nll = _CrossEntropy.apply(logits, targets, weights)  # type: ignore[no-untyped-call]
    return total, nll


class _CrossEntropy(torch.autograd.Function):
    """Weighted sum of cross-entropies in float32 whose gradient is worked out on the way forward.

    logits: [tokens or more, vocabulary] in any float type, those beyond the targets being filling;
    targets, weights: [tokens]. One pass over the logits instead of the four of log_softmax forward
    and backward with their casts.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        nll = torch.empty(len(targets), dtype=torch.float32, device=logits.device)
        for begin in range(0, len(targets), ROWS):
            wanted = targets[begin : begin + ROWS, None]
            weight = weights[begin : begin + ROWS, None]
            rows = logits[begin : begin + len(wanted)].float()
            top = rows.amax(1, keepdim=True)
            at_target = rows.gather(1, wanted) - top
            rows.sub_(top).exp_()
            mass = rows.sum(1, keepdim=True)
            nll[begin : begin + len(wanted)] = (mass.log() - at_target)[:, 0]
            if gradient is not None:
                rows.mul_(weight / mass)
                rows.scatter_add_(1, wanted, -weight)
                gradient[begin : begin + len(wanted)] = rows
        if gradient is not None:
            gradient[len(targets) :] = 0
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(nll)
        exact = torch.float64 if nll.device.type == "cpu" else torch.float32
        return (nll.to(exact) @ weights.to(exact)).float(), nll

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient.mul_(grads[0]), None, None
