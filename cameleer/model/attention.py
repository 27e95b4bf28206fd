"""Attention over rows in which documents lie one behind the other, by the model's own interface.

transformers hands every attention layer's queries, keys and values to the function registered under
the name in `attn_implementation`, and passes unknown keyword arguments of `forward` on to it. So a
model stays untouched: it is called with one row `input_ids [1, tokens]`, positions that restart per
document, and `layout=`, which says where documents lie and what else they may look at. Layers with
a sliding window, capped scores (Gemma 2) or attention dropout (GPT-2) get what they ask for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from cameleer.core.errors import UserError
from cameleer.model.kernels import Kernel, kernel_for
from cameleer.model.scoring import KeysValues, Scoring

NAME = "cameleer"
UNKNOWN = ("s_aux", "position_bias")  # what some families' attention has besides


class Layout(Protocol):
    """Says how the tokens of one row attend."""

    @property
    def longest(self) -> int:
        """Tokens between a token of the row and the furthest that it attends to, both counted."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: Scoring) -> Tensor:
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
    softcap: float | None = None,
    dropout: float = 0.0,
    **more: Any,
) -> tuple[Tensor, None]:
    for name in UNKNOWN:
        if more.get(name) is not None:
            raise UserError(f"the model's attention has a '{name}', which packed rows lack")
    if sliding_window is not None and sliding_window >= layout.longest:
        sliding_window = None  # it hides nothing, and kernels are faster without
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    how = Scoring(scale, sliding_window, softcap, dropout)
    mixed = layout.attend(module.layer_idx, query, key, value, how)
    return mixed.transpose(1, 2), None


ALL_ATTENTION_FUNCTIONS.register(NAME, _attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, lambda *_, **__: None)


def positions(lengths: Sequence[int], start: int = 0) -> Tensor:
    """Positions [1, tokens] that restart at `start` for each document."""
    return torch.cat([torch.arange(start, start + length) for length in lengths])[None]


class Before(Protocol):
    """What stands before every document of a row: a `Prefix`, or what a cache holds."""

    @property
    def tokens(self) -> int: ...

    def of(self, layer: int) -> KeysValues:
        """Keys and values [kv_heads, tokens, head_dim] of one layer."""


@dataclass(frozen=True, eq=False)
class Prefix:
    """Keys and values of tokens that come before every document of a row.

    keys, values: one [kv_heads, own tokens, head_dim] for each layer; before: what stands before
    these tokens, and is part of the prefix.
    """

    keys: list[Tensor]
    values: list[Tensor]
    before: Before | None = None

    @property
    def own(self) -> int:
        return self.keys[0].shape[1]

    @property
    def tokens(self) -> int:
        return self.own + (self.before.tokens if self.before else 0)

    def of(self, layer: int) -> KeysValues:
        """Keys and values [kv_heads, tokens, head_dim] of one layer."""
        if self.before is None:
            return self.keys[layer], self.values[layer]
        k, v = self.before.of(layer)
        return torch.cat([k, self.keys[layer]], 1), torch.cat([v, self.values[layer]], 1)

    def joined(self) -> Prefix:
        """The same in one piece, for use over and over."""
        if self.before is None:
            return self
        pairs = [self.of(layer) for layer in range(len(self.keys))]
        return Prefix([k for k, _ in pairs], [v for _, v in pairs])


class Documents:
    """Each document attends to the prefix, if any, and causally to itself; to no other document."""

    def __init__(self, lengths: Sequence[int], prefix: Before | None = None) -> None:
        """lengths: tokens of each document, in the order in which they lie in the row."""
        self.lengths, self.prefix = list(lengths), prefix
        self.past = prefix.tokens if prefix else 0
        self.longest = max(self.lengths) + self.past
        self.kernels: dict[type[Kernel], Kernel] = {}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: Scoring) -> Tensor:
        chosen = kernel_for(
            q.device, q.dtype, q.shape[-1], how, longest=max(self.lengths), past=self.past
        )
        if chosen not in self.kernels:
            self.kernels[chosen] = chosen(self.lengths, q, self.past)
        before = self.prefix.of(layer) if self.prefix else None
        return self.kernels[chosen](q, k, v, how, before)


class Segments:
    """Documents in groups that lie one behind the other, each group with a prefix of its own."""

    def __init__(self, groups: Sequence[tuple[Sequence[int], Before | None]]) -> None:
        """groups: tokens of each document, and what all documents of the group see whole."""
        self.groups = [Documents(lengths, prefix) for lengths, prefix in groups]
        self.sizes = [sum(group.lengths) for group in self.groups]
        self.longest = max(group.longest for group in self.groups)

    def positions(self) -> Tensor:
        """Positions [1, tokens], those of each document counted from its prefix's beginning."""
        return torch.cat([positions(group.lengths, group.past) for group in self.groups], 1)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: Scoring) -> Tensor:
        if len(self.groups) == 1:
            return self.groups[0].attend(layer, q, k, v, how)
        parts = zip(self.groups, *(torch.split(x, self.sizes, 2) for x in (q, k, v)), strict=True)
        return torch.cat([group.attend(layer, *own, how) for group, *own in parts], 2)
