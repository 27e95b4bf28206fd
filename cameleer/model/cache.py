"""Keys and values of sequences that are being generated, and how their next tokens attend."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cameleer.model.attention import Documents, Prefix
from cameleer.model.scoring import Scoring, capped, visible, weigh

GROW = 128  # tokens of room that are added at a time


class Cache:
    """Keys and values of some sequences, beyond the prefix that they share.

    keys, values: for each layer [sequences, kv_heads, room, head_dim]; lengths: [sequences].
    """

    def __init__(self, layers: int, prefix: Prefix | None) -> None:
        self.keys: list[Tensor | None] = [None] * layers
        self.values: list[Tensor | None] = [None] * layers
        self.lengths = torch.zeros(0, dtype=torch.long)
        self.prefix = prefix

    def start(self, lengths: Sequence[int]) -> None:
        """Make place for sequences of these lengths."""
        self.lengths = torch.tensor(lengths)

    def fill(self, layer: int, first: int, lengths: Sequence[int], k: Tensor, v: Tensor) -> None:
        """Put in the tokens [1, kv_heads, tokens, head_dim] of sequences `first`, `first` + 1, …"""
        if self.keys[layer] is None:
            room = -(-int(self.lengths.max()) // GROW) * GROW
            shape = (len(self.lengths), k.shape[1], room, k.shape[3])
            self.keys[layer], self.values[layer] = k.new_zeros(shape), v.new_zeros(shape)
        keys, values = self._layer(layer)
        parts = zip(*(torch.split(x[0], list(lengths), 1) for x in (k, v)), strict=True)
        for row, (own_k, own_v) in enumerate(parts, first):
            keys[row, :, : own_k.shape[1]] = own_k
            values[row, :, : own_v.shape[1]] = own_v

    def append(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Put one more token [sequences, kv_heads, head_dim] behind each sequence."""
        keys, values = self._layer(layer)
        if int(self.lengths.max()) >= keys.shape[2]:
            grown = (*keys.shape[:2], GROW, keys.shape[3])
            keys = self.keys[layer] = torch.cat([keys, keys.new_zeros(grown)], 2)
            values = self.values[layer] = torch.cat([values, values.new_zeros(grown)], 2)
        rows = torch.arange(len(keys), device=keys.device)
        keys[rows, :, self.lengths] = k
        values[rows, :, self.lengths] = v

    def select(self, rows: Tensor) -> None:
        """Keep these sequences, in this order; a sequence may be kept more than once."""
        self.lengths = self.lengths[rows]
        for layer in range(len(self.keys)):
            keys, values = self._layer(layer)
            self.keys[layer], self.values[layer] = keys[rows], values[rows]

    def _layer(self, layer: int) -> tuple[Tensor, Tensor]:
        keys, values = self.keys[layer], self.values[layer]
        assert keys is not None
        assert values is not None
        return keys, values


class Filling(Documents):
    """Documents whose keys and values are kept in a cache, as its sequences from `first` on."""

    def __init__(self, lengths: Sequence[int], cache: Cache, first: int) -> None:
        super().__init__(lengths, cache.prefix)
        self.cache, self.first = cache, first

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: Scoring) -> Tensor:
        self.cache.fill(layer, self.first, self.lengths, k, v)
        return super().attend(layer, q, k, v, how)


class Capturing(Documents):
    """One document whose keys and values become the prefix of others."""

    def __init__(self, length: int) -> None:
        super().__init__([length])
        self.captured = Prefix([], [])

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: Scoring) -> Tensor:
        self.captured.keys.append(k[0].clone())
        self.captured.values.append(v[0].clone())
        return super().attend(layer, q, k, v, how)


class Decoding:
    """One new token for each sequence of a cache, laid side by side in one row."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.own = int(cache.lengths.max()) + 1
        self.past = cache.prefix.tokens if cache.prefix else 0
        self.longest = self.past + self.own
        self.masks: dict[int | None, Tensor] = {}

    def _mask(self, window: int | None, like: Tensor) -> Tensor:
        """What is added to scores, [1, sequences, 1, past + own]: 0 or -inf."""
        if window not in self.masks:
            keys, queries = torch.arange(self.longest), self.past + self.cache.lengths[:, None]
            unseen = ~visible(queries, keys, window)
            mask = torch.zeros(unseen.shape).masked_fill_(unseen, float("-inf"))
            self.masks[window] = mask.to(like.device, like.dtype)[None, :, None]
        return self.masks[window]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: Scoring) -> Tensor:
        """q [1, heads, sequences, head_dim], k and v [1, kv_heads, …] to q's shape."""
        self.cache.append(layer, k[0].transpose(0, 1), v[0].transpose(0, 1))
        keys, values = self.cache._layer(layer)
        (count, kv_heads, _, head_dim), group = keys.shape, q.shape[1] // k.shape[1]
        # [kv_heads x sequences, …]: the prefix's product wants the key heads outermost.
        own_k = keys[:, :, : self.own].transpose(0, 1).flatten(0, 1)
        own_v = values[:, :, : self.own].transpose(0, 1).flatten(0, 1)
        scaled = (q[0] * how.scale).view(kv_heads, group, count, head_dim).transpose(1, 2)
        scaled = scaled.reshape(kv_heads * count, group, head_dim)
        mask = self._mask(how.window, q).expand(kv_heads, -1, group, -1).flatten(0, 1)
        scores = capped(torch.bmm(scaled, own_k.transpose(1, 2)), how).add_(mask[..., self.past :])
        before = self.cache.prefix.of(layer) if self.cache.prefix else None
        hidden = mask[..., : self.past] if how.window else None
        mixed = weigh(scores, own_v, scaled, how, before, hidden)
        mixed = mixed.view(kv_heads, count, group, head_dim).transpose(1, 2)
        return mixed.reshape(1, kv_heads * group, count, head_dim)
