"""Causal attention a block of queries at a time: what no query of a block sees is not computed.

Half of the scores of a long document lie above the diagonal. Queries are taken in blocks of some
128, each against the keys up to its own end (and from where its window begins), by plain matrix
products with a backward pass of our own, whose gradients are added up in place. On a CPU that is
two to three times as fast as torch's fused kernel, and takes half the memory of all scores; for
long documents the weights are worked out again on the way back (dev/LOG.md has the figures).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cameleer.model.scoring import visible

BLOCK = 128  # queries, more or less: smaller ones compute less, larger ones are quicker products
SHAPES = 16  # blocks are as long as a multiple of it: each shape needs kernels of its own
KEEP_UP_TO = 1024  # tokens; of longer documents the weights are worked out twice


class Block(NamedTuple):
    """Queries begin..end see keys first..end; those from `hidden_from` on not all of them."""

    begin: int
    end: int
    first: int
    hidden_from: int


def blocks(tokens: int, window: int | None) -> Iterator[Block]:
    """The blocks of a document, near each other in size."""
    count = max(1, round(tokens / BLOCK))
    size = -(-tokens // (count * SHAPES)) * SHAPES
    for begin in range(0, tokens, size):
        first = 0 if window is None else max(0, begin - window + 1)
        hidden_from = begin if window is None else first
        yield Block(begin, min(tokens, begin + size), first, hidden_from)


def causal_attention(
    q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None = None
) -> Tensor:
    """Each document attends causally to itself.

    q: [kv_heads, documents, group, tokens, head_dim], a group being the heads that share a key
    head; k, v: [kv_heads x documents, tokens, head_dim]. Returns the shape of q.
    """
    mixed: Tensor = _Causal.apply(q, k, v, scale, window)  # type: ignore[no-untyped-call]
    return mixed


def _weights(q: Tensor, k: Tensor, block: Block, scale: float, window: int | None) -> Tensor:
    """What a block's queries take of each key: [kv_heads x documents, group x queries, keys]."""
    own = _rows(q, block)
    keys = k[:, block.first : block.end]
    scores = own.new_empty(len(own), own.shape[1], keys.shape[1])
    scores.baddbmm_(own, keys.transpose(1, 2), beta=0, alpha=scale)
    some = scores[..., block.hidden_from - block.first :]
    before = block.begin - block.hidden_from
    some.add_(_mask(block.end - block.begin, before, window, q.shape[2], q.dtype, q.device))
    return scores.softmax(-1)


@lru_cache(32)
def _mask(
    queries: int,
    before: int,
    window: int | None,
    group: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """0 or -inf for so many queries and as many keys beside `before` earlier ones, for each head.

    [group x queries, before + queries]. All layers and rows want the same few.
    """
    at = torch.arange(before + queries, device=device)
    hidden = ~visible(at[before:, None], at, window)
    mask = torch.zeros(hidden.shape, dtype=dtype, device=device)
    return mask.masked_fill_(hidden, float("-inf")).repeat(group, 1)


def _rows(x: Tensor, block: Block) -> Tensor:
    """The block's rows of what has the shape of q: [kv_heads x documents, group x queries, …]."""
    kv_heads, documents, group, _, head_dim = x.shape
    part = x[:, :, :, block.begin : block.end]
    return part.reshape(kv_heads * documents, group * part.shape[3], head_dim)


class _Causal(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None
    ) -> Tensor:
        kept = []
        keep = any(ctx.needs_input_grad) and q.shape[3] <= KEEP_UP_TO
        mixed = torch.empty_like(q, memory_format=torch.contiguous_format)
        for block in blocks(q.shape[3], window):
            weights = _weights(q, k, block, scale, window)
            here = mixed[:, :, :, block.begin : block.end]
            here.copy_(torch.bmm(weights, v[:, block.first : block.end]).view_as(here))
            if keep:
                kept.append(weights)
        ctx.save_for_backward(q, k, v, *kept)
        ctx.scale, ctx.window = scale, window
        return mixed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        scale, window = ctx.scale, ctx.window
        d_q = torch.empty_like(q, memory_format=torch.contiguous_format)
        exact = torch.float32 if k.dtype.itemsize < 4 else k.dtype  # of sums of a few blocks
        d_k, d_v = (torch.zeros(k.shape, dtype=exact, device=k.device) for _ in range(2))
        for number, block in enumerate(blocks(q.shape[3], window)):
            weights = kept[number] if kept else _weights(q, k, block, scale, window)
            keys = slice(block.first, block.end)
            d_mixed = _rows(grads[0], block)
            d_v[:, keys] += torch.bmm(weights.transpose(1, 2), d_mixed)
            d_weights = torch.bmm(d_mixed, v[:, keys].transpose(1, 2))
            d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
            here = d_q[:, :, :, block.begin : block.end]
            here.copy_(torch.bmm(d_scores, k[:, keys]).mul_(scale).view_as(here))
            d_k[:, keys] += torch.bmm(d_scores.transpose(1, 2), _rows(q, block))
        return d_q, d_k.mul_(scale).to(k.dtype), d_v.to(v.dtype), None, None
