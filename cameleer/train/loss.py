"""The loss: the weighted sum of -log p over supervised tokens; the head works on these alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cameleer.core.console import note
from cameleer.model.attention import Documents, positions

SHAPES = 64  # numbers of tokens are rounded up to a multiple of it: see .micro_batch
CHUNK = {"cpu": 64 << 20, "cuda": 256 << 20}  # bytes of logits that exist at a time
BLOCK = {"cpu": 12 << 20, "cuda": 64 << 20}  # bytes of float32 logits: on a CPU they stay in cache


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
    head = model.get_output_embeddings()
    chunked = getattr(head, "in_chunks", False)

    def run() -> Tensor:
        logits: Tensor = model(
            input_ids=ids,
            position_ids=position_ids,
            logits_to_keep=F.pad(predicting, (0, filling)),
            use_cache=False,
            layout=layout,
        ).logits[0]
        return logits

    if not chunked:
        total, nll = _CrossEntropy.apply(run(), targets, weights)  # type: ignore[no-untyped-call]
        return total, nll
    with _acting_as(head, lambda hidden: hidden):
        hidden = run()
    # Called as a module, so that hooks which bring a sharded weight together are called as well.
    with _acting_as(head, lambda hidden: _fused(head, hidden, targets, weights)):
        total, nll = head(hidden)
    return total, nll


def head_in_chunks(model: Any) -> bool:
    """Have the loss work through the output head in chunks, if that is the same for this model.

    It is where the head is a plain linear layer and the model at most multiplies what comes out of
    it; told by having the head put out numbers of our own. Where it is not (Gemma 2's soft cap, a
    head with adapters) all logits of a micro-batch are held at once, and a note says so.
    """
    head = model.get_output_embeddings()
    plain = (
        isinstance(head, nn.Linear)
        and type(head).forward is nn.Linear.forward
        and head.weight.is_floating_point()
        and head.weight.shape == (head.out_features, head.in_features)
    )
    same = plain and _only_multiplied(model, head)
    if same:
        head.in_chunks = True
    else:
        note("the head of this model is not a plain one: its logits are held whole in memory")
    return same


@torch.no_grad()
def _only_multiplied(model: Any, head: Any) -> bool:
    """Whether the model's logits are a multiple of what its head puts out (1, if it has a bias)."""
    ids = torch.zeros(1, 2, dtype=torch.long, device=model.device)
    at = positions([2]).to(model.device)
    given = torch.linspace(-1e3, 1e3, 2 * head.in_features, device=model.device)
    given = given.view(1, 2, -1).to(head.weight.dtype)
    with _acting_as(head, lambda _: given):
        found = model(input_ids=ids, position_ids=at, use_cache=False, layout=Documents([2])).logits
    if found.shape != given.shape:
        return False
    found, wanted = found.double(), given.double()
    scale = (found * wanted).sum() / wanted.square().sum()
    error = (found - scale * wanted).norm() / wanted.norm()
    exact = torch.finfo(head.weight.dtype).eps
    unscaled = head.bias is None or bool((scale - 1).abs() < exact)
    return unscaled and bool(error < exact * scale.abs())


class _Role(threading.local):
    """What heads do in the place of their own work, in this thread."""

    forward: Callable[[Tensor], Any] | None = None


_role = _Role()


def _forward(head: Any, hidden: Tensor) -> Any:
    return _role.forward(hidden) if _role.forward else type(head).forward(head, hidden)


@contextmanager
def _acting_as(head: Any, forward: Callable[[Tensor], Any]) -> Iterator[None]:
    """Give the head another `forward` for a while; in this thread, as others may use the model."""
    head.forward = MethodType(_forward, head)
    _role.forward = forward
    try:
        yield
    finally:
        _role.forward = None


def _fused(head: Any, hidden: Tensor, targets: Tensor, weights: Tensor) -> Any:
    return _HeadAndCrossEntropy.apply(hidden, head.weight, head.bias, targets, weights)  # type: ignore[no-untyped-call]


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
        nll = _cross_entropies(logits, targets, weights, gradient)
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(nll)
        return _weighted(nll, weights), nll

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return _times(gradient, grads[0]), None, None


class _HeadAndCrossEntropy(torch.autograd.Function):
    """The same from hidden states, the head included, a chunk of rows at a time.

    hidden: [tokens or more, hidden]; weight: [vocabulary, hidden]; bias: [vocabulary] or None. The
    logits of one chunk become their own gradient, and that at once the gradients of hidden states
    and head, so that no more than one chunk of logits ever exists. The head's gradient is added up
    in the weight's own type, like that of micro-batches.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        wanted = ctx.needs_input_grad
        d_hidden = torch.empty_like(hidden) if wanted[0] else None
        d_weight = torch.zeros_like(weight) if wanted[1] else None
        d_bias = torch.zeros_like(bias) if bias is not None and wanted[2] else None
        nll, rows = [], _rows_at_a_time(len(hidden), weight)
        for begin in range(0, len(hidden), rows):
            part = slice(begin, begin + rows)
            own = hidden[part]
            logits = F.linear(own, weight, bias)
            gradient = logits if any(wanted) else None
            nll.append(_cross_entropies(logits, targets[part], weights[part], gradient))
            if d_hidden is not None:
                torch.mm(logits, weight, out=d_hidden[part])
            if d_weight is not None:
                d_weight.addmm_(logits.t(), own, beta=float(begin > 0))
            if d_bias is not None:
                d_bias += logits.sum(0)
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        each = torch.cat(nll)
        ctx.mark_non_differentiable(each)
        return _weighted(each, weights), each

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return (
            *(one if one is None else _times(one, grads[0]) for one in ctx.saved_tensors),
            None,
            None,
        )


def _rows_at_a_time(rows: int, weight: Tensor) -> int:
    """Rows of a chunk: few of equal size, each a multiple of SHAPES."""
    most = CHUNK.get(weight.device.type, CHUNK["cuda"])
    chunks = -(-rows * weight.shape[0] * weight.element_size() // most)
    return -(-rows // (chunks * SHAPES)) * SHAPES


def _cross_entropies(
    logits: Tensor, targets: Tensor, weights: Tensor, gradient: Tensor | None
) -> Tensor:
    """-log p of each target, float32 [tokens]; into `gradient`, that of the logits' weighted sum.

    logits: [tokens or more, vocabulary]; gradient: of the same shape, it may be the logits.
    """
    nll = torch.empty(len(targets), dtype=torch.float32, device=logits.device)
    most = BLOCK.get(logits.device.type, BLOCK["cuda"])
    block = max(1, most // (4 * logits.shape[1]))
    for begin in range(0, len(targets), block):
        wanted = targets[begin : begin + block, None]
        weight = weights[begin : begin + block, None]
        rows = logits[begin : begin + len(wanted)].to(torch.float32, copy=True)
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
    return nll


def _weighted(nll: Tensor, weights: Tensor) -> Tensor:
    exact = torch.float64 if nll.device.type == "cpu" else torch.float32
    return (nll.to(exact) @ weights.to(exact)).float()


def _times(gradient: Tensor, by: Tensor) -> Tensor:
    """`gradient` x `by` in place; on a CPU, where looking costs nothing, not for a plain 1."""
    return gradient if by.device.type == "cpu" and by == 1 else gradient.mul_(by)
