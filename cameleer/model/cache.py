"""Keys and values of sequences that are being generated, in pages, and how next tokens attend.

A sequence lies in pages of PAGE tokens, wherever one is free (as in vLLM, arXiv 2309.06180): a
long one beside short ones costs its own length, none is copied when another joins or leaves, and
matrix products meet few shapes, for each of which oneDNN would keep memory (dev/LOG.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from cameleer.model.attention import Before, Prefix, Segments
from cameleer.model.scoring import Scoring, capped, visible

PAGE = 64  # tokens
STEP = 16  # pages: products are over a multiple of it
NOBODY = -1  # who has a free page


class Places(NamedTuple):
    """Where tokens lie: [tokens] each, the page and the place in it."""

    pages: Tensor
    slots: Tensor


class Cache:
    """Keys and values of some sequences, beyond the prefixes that they share.

    keys, values: for each layer [pages, kv_heads, PAGE, head_dim], zeros where nothing was put;
    owner: [pages] whose each page is; begins: [pages] which of its owner's tokens is the first in
    it; lengths: [sequences] tokens; pages: those of each sequence, in order; prefixes: what stands
    before each sequence. Sequences with the same prefix stand together.
    """

    def __init__(self, layers: int) -> None:
        self.keys: list[Tensor | None] = [None] * layers
        self.values: list[Tensor | None] = [None] * layers
        self.owner = torch.zeros(0, dtype=torch.long)
        self.begins = torch.zeros(0, dtype=torch.long)
        self.free: list[int] = []
        self.lengths = torch.zeros(0, dtype=torch.long)
        self.pages: list[list[int]] = []
        self.prefixes: list[Prefix | None] = []

    def add(self, lengths: Sequence[int], prefixes: Sequence[Prefix | None]) -> None:
        """Make place for more sequences, which have these lengths once they are filled in."""
        self.lengths = torch.cat([self.lengths, torch.tensor(lengths, dtype=torch.long)])
        self.prefixes += prefixes
        for length in lengths:
            self.pages.append([])
            self._make_room(len(self.pages) - 1, length)

    def grow(self) -> Places:
        """Make place for one more token of each sequence, and say where; `lengths` stay."""
        if len(self.free) > STEP + len(self.owner) // 4:
            self._close_up()
        lengths = self.lengths.tolist()
        for row, length in enumerate(lengths):
            self._make_room(row, length + 1)
        pages = torch.tensor([pages[-1] for pages in self.pages], dtype=torch.long)
        return Places(pages, self.lengths % PAGE)

    def places(self, row: int, start: int, count: int) -> Places:
        """Where `count` tokens of a sequence lie, from its `start` on."""
        at = torch.arange(start, start + count)
        return Places(torch.tensor(self.pages[row], dtype=torch.long)[at // PAGE], at % PAGE)

    def room(self, row: int, count: int) -> Places:
        """Make place for more tokens of one sequence, and say where; `lengths` stay."""
        length = int(self.lengths[row])
        self._make_room(row, length + count)
        return self.places(row, length, count)

    def trim(self, row: int) -> None:
        """Give up the pages that a sequence does not fill."""
        own = self.pages[row]
        kept = -(-int(self.lengths[row]) // PAGE)
        self.owner[own[kept:]] = NOBODY
        self.free += own[kept:]
        del own[kept:]

    def put(self, layer: int, at: Places, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put tokens [kv_heads, tokens, head_dim] at their places; returns all of the layer."""
        keys, values = self._layer(layer, k)
        pages, slots = (x.to(k.device, non_blocking=True) for x in at)
        keys[pages, :, slots], values[pages, :, slots] = k.transpose(0, 1), v.transpose(0, 1)
        return keys, values

    def select(self, rows: Sequence[int]) -> None:
        """Keep these sequences, in this order; a sequence may be kept more than once."""
        old, self.pages = self.pages, [[] for _ in rows]
        self.prefixes = [self.prefixes[row] for row in rows]
        self.lengths = self.lengths[torch.tensor(rows, dtype=torch.long)]
        again: list[int] = []
        for new, row in enumerate(rows):
            if old[row]:
                self.pages[new], old[row] = old[row], []
                self.owner[self.pages[new]] = new
            else:
                again.append(new)
        for left in old:
            self.free += left
            self.owner[left] = NOBODY
        first = {row: new for new, row in reversed(list(enumerate(rows)))}
        for new in again:
            self._copy(self.pages[first[rows[new]]], new)

    def _copy(self, pages: list[int], row: int) -> None:
        """Give a sequence pages of its own that hold what these hold."""
        self._make_room(row, len(pages) * PAGE)
        for kept in (self.keys, self.values):
            for layer, own in enumerate(kept):
                if own is not None:
                    kept[layer] = own = self._roomy(own)
                    own[self.pages[row]] = own[pages]

    def _make_room(self, row: int, tokens: int) -> None:
        """Give a sequence as many pages as so many tokens need."""
        own = self.pages[row]
        while len(own) * PAGE < tokens:
            if not self.free:
                self._more_pages()
            page = self.free.pop()
            self.owner[page], self.begins[page] = row, len(own) * PAGE
            own.append(page)

    def _more_pages(self) -> None:
        """An eighth more, so that the pages are seldom copied and few are free."""
        count = len(self.owner)
        more = max(STEP, -(-count // 8 // STEP) * STEP)
        self.owner = torch.cat([self.owner, torch.full((more,), NOBODY)])
        self.begins = torch.cat([self.begins, torch.zeros(more, dtype=torch.long)])
        self.free += reversed(range(count, count + more))  # the first ones are taken first

    def _close_up(self) -> None:
        """Give up most of the free pages, which cost as much as others in every product."""
        live = [page for pages in self.pages for page in pages]
        more = -len(live) % STEP
        order = torch.tensor(live + self.free[:more], dtype=torch.long)
        for kept in (self.keys, self.values):
            for layer, own in enumerate(kept):
                if own is not None:
                    kept[layer] = self._roomy(own)[order]
        self.owner, self.begins = self.owner[order], self.begins[order]
        numbers = iter(range(len(live)))
        self.pages = [[next(numbers) for _ in pages] for pages in self.pages]
        self.free = list(reversed(range(len(live), len(order))))

    def _layer(self, layer: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, with place for all pages."""
        found = []
        for kept in (self.keys, self.values):
            own = kept[layer]
            if own is None:
                own = like.new_zeros(0, like.shape[0], PAGE, like.shape[2])
            kept[layer] = own = self._roomy(own)
            found.append(own)
        return found[0], found[1]

    def _roomy(self, own: Tensor) -> Tensor:
        """One layer's keys or values, with place for all pages."""
        if len(own) == len(self.owner):
            return own
        roomy = own.new_zeros(len(self.owner), *own.shape[1:])
        roomy[: len(own)] = own
        return roomy


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
        self.cache = cache
        self.copied: list[tuple[Before, int, Places]] = []  # its last tokens, so many
        own: list[Places] = []
        documents = [(length, group) for group in self.groups for length in group.lengths]
        for row, (length, group) in enumerate(documents, first):
            shared = cache.prefixes[row]
            start = group.past - (shared.tokens if shared else 0)
            if start and group.prefix:
                self.copied.append((group.prefix, start, cache.places(row, 0, start)))
            own.append(cache.places(row, start, length))
        self.own = Places(*(torch.cat(parts) for parts in zip(*own, strict=True)))

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: Scoring) -> Tensor:
        for prefix, tokens, places in self.copied:
            keys, values = (x[:, -tokens:] for x in prefix.of(layer))
            self.cache.put(layer, places, keys, values)
        self.cache.put(layer, self.own, k[0], v[0])
        return super().attend(layer, q, k, v, how)


class Past:
    """What a cache holds of one sequence, read layer by layer."""

    def __init__(self, cache: Cache, row: int) -> None:
        self.cache, self.shared = cache, cache.prefixes[row]
        self.own = cache.places(row, 0, int(cache.lengths[row]))

    @property
    def tokens(self) -> int:
        return len(self.own.slots) + (self.shared.tokens if self.shared else 0)

    def of(self, layer: int) -> tuple[Tensor, Tensor]:
        pages, slots = self.own
        keys, values = (
            kept[pages.to(kept.device), :, slots.to(kept.device)].transpose(0, 1)
            for kept in (self.cache.keys[layer], self.cache.values[layer])
            if kept is not None
        )
        if self.shared is None:
            return keys, values
        before = self.shared.of(layer)
        return torch.cat([before[0], keys], 1), torch.cat([before[1], values], 1)


class Guessing(Segments):
    """Tokens that may come next in one sequence of a cache, all at once; `lengths` stay."""

    def __init__(self, cache: Cache, row: int, count: int) -> None:
        super().__init__([([count], Past(cache, row))])
        self.cache = cache
        self.own = cache.room(row, count)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: Scoring) -> Tensor:
        mixed = super().attend(layer, q, k, v, how)
        self.cache.put(layer, self.own, k[0], v[0])
        return mixed


class Mixed(NamedTuple):
    """Values mixed by the weights of some of the keys, so that more keys can join later.

    highest: the highest score; sum: of exp(score - highest); values: so weighted, not divided yet.
    """

    highest: Tensor
    sum: Tensor
    values: Tensor


class Decoding:
    """One new token for each sequence of a cache, laid side by side in one row."""

    def __init__(self, cache: Cache, device: torch.device) -> None:
        self.cache = cache
        self.new = cache.grow()
        self.past = torch.tensor([prefix.tokens if prefix else 0 for prefix in cache.prefixes])
        self.at = cache.lengths + self.past
        self.longest = int(self.at.max()) + 1
        self.device = device
        self.owner = cache.owner.clamp(min=0).to(device)
        self.groups: list[tuple[int, int, Prefix]] = []
        for _, same in groupby(range(len(cache.prefixes)), key=lambda i: id(cache.prefixes[i])):
            members = list(same)
            prefix = cache.prefixes[members[0]]
            if prefix is not None:
                self.groups.append((members[0], members[-1] + 1, prefix))
        self.masks: dict[tuple[int | None, int], Tensor] = {}

    def positions(self) -> Tensor:
        """Positions [1, sequences] of the new tokens."""
        return self.at[None]

    def _of_pages(self, window: int | None) -> Tensor:
        """What is added to the scores of pages, [pages, 1, 1, PAGE]: 0 or -inf."""
        key = window, -1
        if key not in self.masks:
            owner, begins = self.cache.owner, self.cache.begins
            keys = begins[:, None] + torch.arange(PAGE)
            seen = visible(self.cache.lengths[owner.clamp(min=0)][:, None], keys, window)
            self.masks[key] = self._hiding(seen & (owner != NOBODY)[:, None])[:, None, None]
        return self.masks[key]

    def _of_prefix(self, window: int, group: int) -> Tensor:
        """What is added to the scores of a group's prefix, [members, 1, keys]: 0 or -inf."""
        if (window, group) not in self.masks:
            begin, end, prefix = self.groups[group]
            seen = visible(self.at[begin:end, None], torch.arange(prefix.tokens), window)
            self.masks[window, group] = self._hiding(seen)[:, None]
        return self.masks[window, group]

    def _hiding(self, seen: Tensor) -> Tensor:
        return torch.zeros(seen.shape).masked_fill_(~seen, float("-inf")).to(self.device)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: Scoring) -> Tensor:
        """q [1, heads, sequences, head_dim], k and v [1, kv_heads, …] to q's shape."""
        keys, values = self.cache.put(layer, self.new, k[0], v[0])
        kv_heads, count, head_dim = k.shape[1:]
        scaled = (q[0] * how.scale).view(kv_heads, -1, count, head_dim).transpose(1, 2)
        highest, total, mixed = self._own(scaled, keys, values, how)
        for number, (begin, end, prefix) in enumerate(self.groups):
            hidden = self._of_prefix(how.window, number) if how.window else None
            before = self._before(scaled[:, begin:end], prefix.of(layer), hidden, how)
            own = Mixed(highest[:, begin:end], total[:, begin:end], mixed[:, begin:end])
            _join(own, before)
        mixed = mixed.div_(total[..., None]).transpose(1, 2)
        return mixed.reshape(1, -1, count, head_dim).to(q.dtype)

    def _own(self, scaled: Tensor, keys: Tensor, values: Tensor, how: Scoring) -> Mixed:
        """Of the sequences' own tokens, [kv_heads, sequences, group (, head_dim)] in float32.

        scaled: [kv_heads, sequences, group, head_dim]. Each page is a product of its own.
        """
        kv_heads, count, group, head_dim = scaled.shape
        asked = scaled.transpose(0, 1)[self.owner].flatten(0, 1)
        scores = capped(torch.bmm(asked, keys.flatten(0, 1).transpose(1, 2)), how)
        scores = scores.view(-1, kv_heads, group, PAGE).float().add_(self._of_pages(how.window))
        highest = scores.new_full((count, kv_heads, group), float("-inf"))
        whose = self.owner[:, None, None].expand(-1, kv_heads, group)
        highest.scatter_reduce_(0, whose, scores.amax(-1), "amax")
        weights = scores.sub_(highest[self.owner][..., None]).exp_()
        total = torch.zeros_like(highest).index_add_(0, self.owner, weights.sum(-1))
        some = torch.bmm(weights.to(values.dtype).view(-1, group, PAGE), values.flatten(0, 1))
        some = some.view(-1, kv_heads, group, head_dim).float()
        mixed = some.new_zeros(count, kv_heads, group, head_dim).index_add_(0, self.owner, some)
        return Mixed(*(x.transpose(0, 1).contiguous() for x in (highest, total, mixed)))

    def _before(
        self, scaled: Tensor, prefix: tuple[Tensor, Tensor], hidden: Tensor | None, how: Scoring
    ) -> Mixed:
        """Of a prefix, as `_own`: one product for all sequences that share it."""
        keys, values = prefix
        kv_heads, members, group, head_dim = scaled.shape
        asked = scaled.reshape(kv_heads, members * group, head_dim)
        scores = capped(torch.bmm(asked, keys.transpose(1, 2)), how).float()
        if hidden is not None:
            scores.view(kv_heads, members, group, -1).add_(hidden)
        highest = scores.amax(-1)
        weights = scores.sub_(highest.clamp(min=-1e30)[..., None]).exp_()
        mixed = torch.bmm(weights.to(values.dtype), values).float()
        total = weights.sum(-1)
        shape = kv_heads, members, group
        return Mixed(highest.view(shape), total.view(shape), mixed.view(*shape, head_dim))


def _join(own: Mixed, other: Mixed) -> None:
    """Have `own`, in its own memory, be of the other's keys as well."""
    highest = torch.maximum(own.highest, other.highest)
    mine, others = (own.highest - highest).exp_(), (other.highest - highest).exp_()
    own.sum.mul_(mine).add_(other.sum * others)
    own.values.mul_(mine[..., None]).add_(other.values * others[..., None])
    own.highest.copy_(highest)
