"""Keys and values of sequences that are being generated, and how their next tokens attend."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from cameleer.model.attention import Prefix, Segments
from cameleer.model.scoring import Scoring, capped, visible, weigh

GROW = 128  # tokens of room that are added at a time


class Cache:
    """Keys and values of some sequences, beyond the prefixes that they share.

    keys, values: for each layer [kv_heads, sequences, room, head_dim]; lengths: [sequences];
    prefixes: what stands before each sequence. Sequences with the same prefix stand together.
    """

    def __init__(self, layers: int) -> None:
        self.keys: list[Tensor | None] = [None] * layers
        self.values: list[Tensor | None] = [None] * layers
        self.lengths = torch.zeros(0, dtype=torch.long)
        self.prefixes: list[Prefix | None] = []

    def add(self, lengths: Sequence[int], prefixes: Sequence[Prefix | None]) -> None:
        """Make place for more sequences, which have these lengths once they are filled in."""
        self.lengths = torch.cat([self.lengths, torch.tensor(lengths, dtype=torch.long)])
        self.prefixes += prefixes

    def fill(self, layer: int, row: int, start: int, k: Tensor, v: Tensor) -> None:
        """Put tokens [kv_heads, tokens, head_dim] into sequence `row`, from its `start` on."""
        keys, values = self._layer(layer, k, int(self.lengths.max()))
        keys[:, row, start : start + k.shape[1]] = k
        values[:, row, start : start + k.shape[1]] = v

    def append(
        self, layer: int, rows: Tensor, at: Tensor, k: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Put one more token [kv_heads, sequences, head_dim] behind each sequence, at `at`.

        Returns all keys and values of the layer, up to the longest sequence's new token.
        """
        longest = int(self.lengths.max()) + 1
        keys, values = self._layer(layer, k, longest)
        keys[:, rows, at], values[:, rows, at] = k, v
        return keys[:, :, :longest], values[:, :, :longest]

    def select(self, rows: Sequence[int]) -> None:
        """Keep these sequences, in this order; a sequence may be kept more than once."""
        self.prefixes = [self.prefixes[row] for row in rows]
        chosen = torch.tensor(rows, dtype=torch.long)
        self.lengths = self.lengths[chosen]
        for kept in (self.keys, self.values):
            for layer, old in enumerate(kept):
                kept[layer] = None if old is None else old[:, chosen.to(old.device)]

    def _layer(self, layer: int, like: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, with place for all sequences and `longest` tokens."""
        keys, values = self.keys[layer], self.values[layer]
        count = len(self.lengths)
        if keys is None or values is None or keys.shape[1] < count or keys.shape[2] < longest:
            shape = (like.shape[0], count, -(-longest // GROW) * GROW, like.shape[2])
            keys = self.keys[layer] = _grown(keys, like.new_zeros(shape))
            values = self.values[layer] = _grown(values, like.new_zeros(shape))
        return keys, values


def _grown(old: Tensor | None, new: Tensor) -> Tensor:
    """What was there, in the larger room."""
    if old is not None:
        room = min(old.shape[2], new.shape[2])  # who was longest may have left
        new[:, : old.shape[1], :room] = old[:, :, :room]
    return new


class Capturing(Segments):
    """Documents whose keys and values become prefixes of others: `captured`, one for each."""

    def __init__(self, groups: Sequence[tuple[Sequence[int], Prefix | None]]) -> None:
        super().__init__(groups)
        self.captured = [Prefix([], [], g.prefix) for g in self.groups for _ in g.lengths]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: Scoring) -> Tensor:
        lengths = [length for group in self.groups for length in group.lengths]
        parts = zip(self.captured, *(torch.split(x[0], lengths, 1) for x in (k, v)), strict=True)
        for prefix, own_k, own_v in parts:
            prefix.keys.append(own_k.clone())
            prefix.values.append(own_v.clone())
        return super().attend(layer, q, k, v, how)


class Filling(Segments):
    """Documents whose keys and values are kept in a cache, as its sequences from `first` on.

    What of a document's prefix is not its sequence's in the cache is copied into the sequence.
    """

    def __init__(
        self, groups: Sequence[tuple[Sequence[int], Prefix | None]], cache: Cache, first: int
    ) -> None:
        super().__init__(groups)
        self.cache, self.first = cache, first

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: Scoring) -> Tensor:
        own = [(length, group) for group in self.groups for length in group.lengths]
        lengths = [length for length, _ in own]
        parts = zip(own, *(torch.split(x[0], lengths, 1) for x in (k, v)), strict=True)
        for row, ((_, group), own_k, own_v) in enumerate(parts, self.first):
            shared = self.cache.prefixes[row]
            start = group.past - (shared.tokens if shared else 0)
            if start and group.prefix:
                before = (x[:, -start:] for x in group.prefix.of(layer))
                self.cache.fill(layer, row, 0, *before)
            self.cache.fill(layer, row, start, own_k, own_v)
        return super().attend(layer, q, k, v, how)


class Decoding:
    """One new token for each sequence of a cache, laid side by side in one row."""

    def __init__(self, cache: Cache, device: torch.device) -> None:
        self.cache = cache
        self.own = int(cache.lengths.max()) + 1
        self.rows = torch.arange(len(cache.lengths), device=device)
        self.lengths = cache.lengths.to(device)
        self.groups: list[tuple[int, int, Prefix | None]] = []
        for _, same in groupby(range(len(cache.prefixes)), key=lambda i: id(cache.prefixes[i])):
            members = list(same)
            self.groups.append((members[0], members[-1] + 1, cache.prefixes[members[0]]))
        self.longest = self.own + max(p.tokens if p else 0 for _, _, p in self.groups)
        self.masks: dict[tuple[int | None, int], Tensor] = {}

    def positions(self) -> Tensor:
        """Positions [1, sequences] of the new tokens."""
        past = [prefix.tokens if prefix else 0 for prefix in self.cache.prefixes]
        return (self.cache.lengths + torch.tensor(past))[None]

    def _mask(self, window: int | None, like: Tensor, group: int = -1) -> Tensor:
        """What is added to scores, [sequences, 1, keys]: 0 or -inf; keys are a group's prefix's,

        or for group -1 the sequences' own.
        """
        if (window, group) not in self.masks:
            begin, end, prefix = (0, len(self.rows), None) if group < 0 else self.groups[group]
            past = prefix.tokens if prefix else 0
            keys = torch.arange(past if group >= 0 else self.own, device=like.device)
            seen = visible(past + self.lengths[begin:end, None], keys, window)
            mask = torch.zeros(seen.shape, dtype=like.dtype, device=like.device)
            self.masks[window, group] = mask.masked_fill_(~seen, float("-inf"))[:, None]
        return self.masks[window, group]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: Scoring) -> Tensor:
        """q [1, heads, sequences, head_dim], k and v [1, kv_heads, …] to q's shape."""
        keys, values = self.cache.append(layer, self.rows, self.lengths, k[0], v[0])
        (kv_heads, count, _, head_dim), group = keys.shape, q.shape[1] // k.shape[1]
        # [kv_heads, sequences, …]: the prefix's product wants the key heads outermost.
        scaled = (q[0] * how.scale).view(kv_heads, group, count, head_dim).transpose(1, 2)
        scaled = scaled.reshape(kv_heads * count, group, head_dim)
        scores = capped(torch.bmm(scaled, keys.flatten(0, 1).transpose(1, 2)), how)
        scores = scores.view(kv_heads, count, group, -1).add_(self._mask(how.window, q))
        scaled = scaled.view(kv_heads, count, group, head_dim)
        mixed = []
        for number, (begin, end, prefix) in enumerate(self.groups):
            own, own_v, own_q = (x[:, begin:end].flatten(0, 1) for x in (scores, values, scaled))
            before = hidden = None
            if prefix is not None:
                before = prefix.of(layer)
            if prefix is not None and how.window:
                hidden = self._mask(how.window, q, number).repeat(kv_heads, 1, 1)
            part = weigh(own, own_v, own_q, how, before, hidden)
            mixed.append(part.view(kv_heads, end - begin, group, head_dim))
        joined = torch.cat(mixed, 1) if len(mixed) > 1 else mixed[0]
        return joined.transpose(1, 2).reshape(1, kv_heads * group, count, head_dim)
