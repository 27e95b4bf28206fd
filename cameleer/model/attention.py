"""Attention over rows in which documents lie one behind the other, by the model's own interface.

transformers hands every attention layer's queries, keys and values to the function registered under
the name in `attn_implementation`, and passes unknown keyword arguments of `forward` on to it. So a
model stays untouched: it is called with one row `input_ids [1, tokens]`, positions that restart per
document, and `layout=`, which says where documents lie and what else they may look at.

On a CPU, documents of similar length are stacked and multiplied as one batch: for lengths up to
some hundreds that is two to three times as fast as the fused kernel (dev/LOG.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from cameleer.core.errors import UserError

NAME = "cameleer"
UNKNOWN = ("softcap", "s_aux", "position_bias")  # what some families' attention has besides
STACK_UP_TO = 512  # tokens; rows with documents twice as long go to the fused kernel
STACK_SCORES = 1 << 25  # most scores (heads x tokens x tokens) that one stack may hold
SHAPES = 16  # stacks are as long as a multiple of it: each shape needs kernels of its own
PADDING = 1.25  # of documents in one stack, how much longer the longest may be than the shortest


class Layout(Protocol):
    """Says how the tokens of one row attend."""

    @property
    def longest(self) -> int:
        """Tokens between a token of the row and the furthest that it attends to, both counted."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """q [1, heads, tokens, head_dim], k and v [1, kv_heads, tokens, head_dim] to q's shape."""


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    *,
    layout: Layout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    for name in UNKNOWN:
        if more.get(name) is not None:
            raise UserError(f"the model's attention has a '{name}', which packed rows lack")
    if sliding_window is not None and layout.longest > sliding_window:
        raise UserError(
            f"a document of {layout.longest} tokens is longer than the {sliding_window} that the "
            "model's attention reaches back"
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    mixed = layout.attend(module.layer_idx, query, key, value, scale)
    return mixed.transpose(1, 2), None


ALL_ATTENTION_FUNCTIONS.register(NAME, _attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, lambda *_, **__: None)


KeysValues = tuple[Tensor, Tensor]


def positions(lengths: Sequence[int], start: int = 0) -> Tensor:
    """Positions [1, tokens] that restart at `start` for each document."""
    return torch.cat([torch.arange(start, start + length) for length in lengths])[None]


@dataclass(frozen=True)
class Prefix:
    """Keys and values of tokens that come before every document of a row.

    keys, values: one [kv_heads, tokens, head_dim] for each layer.
    """

    keys: list[Tensor]
    values: list[Tensor]

    @property
    def tokens(self) -> int:
        return self.keys[0].shape[1]

    def of(self, layer: int) -> KeysValues:
        """Keys and values [kv_heads, tokens, head_dim] of one layer."""
        return self.keys[layer], self.values[layer]


class Documents:
    """Each document attends to the prefix, if any, and causally to itself; to no other document."""

    def __init__(self, lengths: Sequence[int], prefix: Prefix | None = None) -> None:
        """lengths: tokens of each document, in the order in which they lie in the row."""
        self.lengths, self.prefix = list(lengths), prefix
        self.stacking: _Stacking | None = None

    @property
    def longest(self) -> int:
        return max(self.lengths) + (self.prefix.tokens if self.prefix else 0)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        before = self.prefix.of(layer) if self.prefix else None
        if q.device.type != "cpu" or max(self.lengths) > 2 * STACK_UP_TO:
            return _one_by_one(q, k, v, scale, self.lengths, before)
        if self.stacking is None:
            self.stacking = _Stacking(self.lengths, heads=q.shape[1])
        return self.stacking.attend(q[0], k[0], v[0], scale, before)[None]


def _one_by_one(
    q: Tensor, k: Tensor, v: Tensor, scale: float, lengths: list[int], before: KeysValues | None
) -> Tensor:
    """The fused kernel on each document; split, unlike slicing, has one cheap gradient."""
    mixed = []
    for own_q, own_k, own_v in zip(*(torch.split(x, lengths, 2) for x in (q, k, v)), strict=True):
        mask = None
        if before is not None:
            past, own = before[0].shape[1], own_q.shape[2]
            own_k = torch.cat([before[0][None], own_k], 2)
            own_v = torch.cat([before[1][None], own_v], 2)
            mask = torch.ones(own, past + own, dtype=torch.bool, device=q.device).tril(past)
        mixed.append(
            F.scaled_dot_product_attention(
                own_q,
                own_k,
                own_v,
                attn_mask=mask,
                is_causal=mask is None,
                scale=scale,
                enable_gqa=q.shape[1] != k.shape[1],
            )
        )
    return torch.cat(mixed, 2)


class _Stacking:
    """Documents of a row sorted by length into stacks [count, longest], the short ones padded.

    A padded place repeats token 0. It comes after its document's own tokens, so that the causal
    mask hides it from them; its own output is left behind, and its gradient is set to zero.

    places: [padded tokens] which token of the row stands there; back: [tokens] where each token
    went; padding: the padded places.
    """

    def __init__(self, lengths: Sequence[int], heads: int) -> None:
        starts = list(accumulate(lengths, initial=0))
        self.shapes: list[tuple[int, int]] = []
        places: list[Tensor] = []
        back = torch.empty(starts[-1], dtype=torch.long)
        filled = 0
        for group in _groups(lengths, heads):
            longest = -(-lengths[group[0]] // SHAPES) * SHAPES
            self.shapes.append((len(group), longest))
            for index in group:
                length = lengths[index]
                own = torch.arange(starts[index], starts[index] + length)
                places.append(F.pad(own, (0, longest - length), value=-1))
                back[own] = torch.arange(filled, filled + length)
                filled += longest
        where = torch.cat(places)
        self.padding = (where < 0).nonzero()[:, 0]
        self.places, self.back = where.clamp(min=0), back

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, scale: float, before: KeysValues | None
    ) -> Tensor:
        """q [heads, tokens, head_dim], k and v [kv_heads, …] to [heads, tokens, head_dim]."""
        nothing = self.padding[:0]
        sizes = [count * longest for count, longest in self.shapes]
        q, k, v = (_pick(x, self.places, self.back, nothing) for x in (q, k, v))
        split_q, split_k, split_v = (torch.split(x, sizes, 1) for x in (q, k, v))
        parts = zip(self.shapes, split_q, split_k, split_v, strict=True)
        mixed = torch.cat([_stack(*part, scale, before) for part in parts], 1)
        return _pick(mixed, self.back, self.places, self.padding)


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
    scale: float,
    before: KeysValues | None,
) -> Tensor:
    """Causal attention of a stack [count, longest] of documents, as batched products.

    q [heads, count x longest, head_dim], k and v [kv_heads, …]. The heads that share a key head
    are laid one under the other, so that keys are never repeated; nor is what stands before.
    """
    (count, longest), head_dim, kv_heads = shape, q.shape[-1], k.shape[0]
    group = q.shape[0] // kv_heads
    q = q.view(kv_heads, group, count, longest, head_dim).transpose(1, 2)
    q = q.reshape(kv_heads * count, group * longest, head_dim)
    k = k.reshape(kv_heads * count, longest, head_dim)
    v = v.reshape(kv_heads * count, longest, head_dim)
    future = torch.ones(longest, longest, dtype=torch.bool).triu(1)
    mask = torch.zeros(longest, longest, dtype=q.dtype).masked_fill_(future, float("-inf"))
    scores = torch.baddbmm(mask.repeat(group, 1)[None], q, k.transpose(1, 2), alpha=scale)
    mixed = weigh(scores, v, q * scale, kv_heads, before)
    mixed = mixed.view(kv_heads, count, group, longest, head_dim).transpose(1, 2)
    return mixed.reshape(kv_heads * group, count * longest, head_dim)


def weigh(
    scores: Tensor, v: Tensor, scaled_q: Tensor, kv_heads: int, before: KeysValues | None
) -> Tensor:
    """Softmax over a prefix's keys and a batch's own, then the mean of values by its weights.

    scores: [kv_heads x documents, queries, own keys], masked; v: [kv_heads x documents, own keys,
    head_dim]; scaled_q: [kv_heads x documents, queries, head_dim]. The prefix is one matrix
    product for all documents, whatever their number.
    """
    if before is None:
        return torch.bmm(scores.softmax(-1), v)
    keys, values = before
    flat = scaled_q.view(kv_heads, -1, scaled_q.shape[-1])
    past = torch.bmm(flat, keys.transpose(1, 2)).view(*scores.shape[:2], -1)
    weights = torch.cat([past, scores], -1).softmax(-1)
    seen = keys.shape[1]
    mixed = torch.bmm(weights[..., seen:], v)
    past = weights[..., :seen].reshape(kv_heads, -1, seen)
    return mixed.add_(torch.bmm(past, values).view_as(mixed))


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
