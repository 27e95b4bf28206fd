"""Attention over documents of similar length, stacked into batches of matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cameleer.model.blocks import SHAPES, causal_attention
from cameleer.model.scoring import KeysValues, Scoring, capped, visible, weigh

STACK_SCORES = 1 << 25  # most scores (heads x tokens x tokens) that one stack may hold
PADDING = 1.25  # of documents in one stack, how much longer the longest may be than the shortest


class Stacks:
    """Documents of a row sorted by length into stacks [count, longest], the short ones padded.

    A padded place repeats token 0. It comes after its document's own tokens, so that the causal
    mask hides it from them; its own output is left behind, and its gradient is set to zero.

    places: [padded tokens] which token of the row stands there; back: [tokens] where each token
    went; padding: the padded places; moved: whether any token went to another place.
    """

    def __init__(self, lengths: Sequence[int], q: Tensor, _past: int) -> None:
        starts = list(accumulate(lengths, initial=0))
        self.shapes: list[tuple[int, int]] = []
        places: list[Tensor] = []
        back = torch.empty(starts[-1], dtype=torch.long)
        filled = 0
        for group in _groups(lengths, heads=q.shape[1]):
            longest = -(-lengths[group[0]] // SHAPES) * SHAPES
            self.shapes.append((len(group), longest))
            for index in group:
                length = lengths[index]
                own = torch.arange(starts[index], starts[index] + length)
                places.append(F.pad(own, (0, longest - length), value=-1))
                back[own] = torch.arange(filled, filled + length)
                filled += longest
        where = torch.cat(places)
        self.padding = (where < 0).nonzero()[:, 0].to(q.device)
        self.places, self.back = where.clamp(min=0).to(q.device), back.to(q.device)
        self.moved = filled > len(back) or bool((back != torch.arange(filled)).any())

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, how: Scoring, before: KeysValues | None
    ) -> Tensor:
        nothing = self.padding[:0]
        sizes = [count * longest for count, longest in self.shapes]
        q, k, v = q[0], k[0], v[0]
        if self.moved:
            q, k, v = (_pick(x, self.places, self.back, nothing) for x in (q, k, v))
        split_q, split_k, split_v = (torch.split(x, sizes, 1) for x in (q, k, v))
        parts = zip(self.shapes, split_q, split_k, split_v, strict=True)
        mixed = torch.cat([_stack(*part, how, before) for part in parts], 1)
        if self.moved:
            mixed = _pick(mixed, self.back, self.places, self.padding)
        return mixed[None]


def _groups(lengths: Sequence[int], heads: int) -> list[list[int]]:
    """Indices of documents of similar length, longest first; each group makes one stack."""
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        longest = lengths[groups[-1][0]] if groups else 0
        scores = (len(groups[-1]) + 1) * heads * longest**2 if groups else 0
        if not groups or scores > STACK_SCORES or longest > PADDING * lengths[index] + 8:
            groups.append([])
        groups[-1].append(index)
    return groups


def _stack(
    shape: tuple[int, int],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    how: Scoring,
    before: KeysValues | None,
) -> Tensor:
    """Causal attention of a stack [count, longest] of documents.

    q [heads, count x longest, head_dim], k and v [kv_heads, …]. Heads that share a key head are
    laid one under the other, so that keys are never repeated; nor is what stands before.
    """
    (count, longest), head_dim, kv_heads = shape, q.shape[-1], k.shape[0]
    group = q.shape[0] // kv_heads
    q = q.view(kv_heads, group, count, longest, head_dim).transpose(1, 2)
    k = k.reshape(kv_heads * count, longest, head_dim)
    v = v.reshape(kv_heads * count, longest, head_dim)
    if how.softcap is None and not how.dropout and before is None:
        mixed = causal_attention(q, k, v, how.scale, how.window)
    else:
        mixed = _whole(q, k, v, how, before)
    return mixed.transpose(1, 2).reshape(kv_heads * group, count * longest, head_dim)


def _whole(q: Tensor, k: Tensor, v: Tensor, how: Scoring, before: KeysValues | None) -> Tensor:
    """What causal attention in blocks cannot do, with all scores at once; shapes as there."""
    kv_heads, count, group, longest, head_dim = q.shape
    flat = q.reshape(kv_heads * count, group * longest, head_dim) * how.scale
    past = 0 if before is None else before[0].shape[1]
    at = torch.arange(past + longest, device=q.device)
    seen = visible(at[past:, None], at if how.window else at[past:], how.window)
    mask = torch.zeros(seen.shape, dtype=q.dtype, device=q.device)
    mask = mask.masked_fill_(~seen, float("-inf")).repeat(group, 1)[None]
    own, hidden = mask[..., -longest:], mask[..., :-longest] if how.window else None
    scores = capped(torch.bmm(flat, k.transpose(1, 2)), how) + own
    return weigh(scores, v, flat, how, before, hidden).view(q.shape)


def _pick(x: Tensor, index: Tensor, back: Tensor, unused: Tensor) -> Tensor:
    """`x.index_select(1, index)`, whose gradient is picked through `back` instead of added up.

    Right because every place that matters is picked once: row i of x went to `back[i]`, unless i is
    one of `unused`, whose gradient is zero.
    """
    picked: Tensor = _Pick.apply(x, index, back, unused)  # type: ignore[no-untyped-call]
    return picked


class _Pick(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, back: Tensor, unused: Tensor) -> Tensor:
        ctx.save_for_backward(back, unused)
        return x.index_select(1, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        back, unused = ctx.saved_tensors
        return grads[0].index_select(1, back).index_fill_(1, unused, 0), None, None, None
