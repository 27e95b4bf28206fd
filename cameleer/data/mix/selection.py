"""Which conversations a mixture takes: amounts, weights, repeats and caps, by seeds alone."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cameleer.core.errors import UserError
from cameleer.data.mix.config import MixConfig, Part, Unit

Positions = NDArray[np.int64]
"""Conversations by their place among all that were read; a repeated one stands there again."""

SEED = 42  # the paper's


@dataclass(frozen=True)
class Place:
    """Where in the tree a part or mixture stands: path and seed decide its choices."""

    path: str = ""
    seed: str = str(SEED)
    field: str = ""

    def of(self, mixture: MixConfig) -> Place:
        """The place of a mixture, whose own seed comes before that of what is around it."""
        seed = self.seed if mixture.seed is None else str(mixture.seed)
        return Place(self.path, seed, f"{self.field}mix." if self.path else "")

    def below(self, index: int, part: Part) -> Place:
        path = f"{self.path}/{part.name}" if self.path else part.name
        return Place(path, f"{self.seed}/{part.name}", f"{self.field}parts.{index}.")

    def random(self, part: Part) -> random.Random:
        return random.Random(self.seed if part.seed is None else str(part.seed))


@dataclass(frozen=True)
class Selection:
    """There is, to choose from: `pools`, by path of each part that is read, and the supervised
    tokens of every conversation (all 0 where no tokenizer counts)."""

    pools: Mapping[str, Positions]
    tokens: NDArray[np.int64]

    def mixture(
        self, mixture: MixConfig, place: Place = Place(), target: float | None = None
    ) -> Positions:
        """What a mixture takes. target: how much, in its own unit, where its weights pass it on."""
        place = place.of(mixture)
        if not mixture.weighted:
            shares: list[float | None] = [None] * len(mixture.parts)
        else:
            total = target or mixture.total or self._capacity(mixture, place)
            whole = sum(part.weight or 0 for part in mixture.parts)
            shares = [total * (part.weight or 0) / whole for part in mixture.parts]
        taken = [
            self._part(part, place.below(index, part), mixture.weigh, share)
            for index, (part, share) in enumerate(zip(mixture.parts, shares, strict=True))
        ]
        return np.concatenate(taken)

    def _part(self, part: Part, place: Place, unit: Unit, target: float | None) -> Positions:
        chance = place.random(part)
        if target is not None and (inner := _passes_on(part, unit, place)):
            taken = self.mixture(inner, place, target)
        else:
            pool = self._pool(part, place)
            if target is not None:
                taken = self._fill(pool, unit, target, chance, place)
            else:
                taken = np.tile(_sample(pool, part, place, chance), part.repeat)
        return self._capped(taken, part, place, chance)

    def _pool(self, part: Part, place: Place) -> Positions:
        """All that a part has to give, once."""
        if isinstance(part.mix, MixConfig):
            return self.mixture(part.mix, place)
        return self.pools[place.path]

    def _capacity(self, mixture: MixConfig, place: Place) -> float:
        """The largest total that a weighted mixture gives without repeating a conversation."""
        whole = sum(part.weight or 0 for part in mixture.parts)
        fits = []
        for index, part in enumerate(mixture.parts):
            below = place.below(index, part)
            inner = _passes_on(part, mixture.weigh, below)
            if inner:
                size = self._capacity(inner, below.of(inner))
            else:
                there = self._capped(self._pool(part, below), part, below, below.random(part))
                size = float(self._size(there, mixture.weigh))
            fits.append(size * whole / (part.weight or 1))
        return min(fits)

    def _size(self, positions: Positions, unit: Unit) -> int:
        return len(positions) if unit == "examples" else int(self.tokens[positions].sum())

    def _fill(
        self,
        pool: Positions,
        unit: Unit,
        target: float,
        chance: random.Random,
        place: Place,
    ) -> Positions:
        """As much of a pool as comes nearest to `target`: whole passes, then a sample."""
        whole = self._size(pool, unit)
        if not whole:
            raise UserError(
                f"part '{place.path}' has no supervised token, so tokens cannot weigh it",
                field=f"{place.field}weight",
            )
        passes = int(target // whole)
        rest = target - passes * whole
        if unit == "examples":
            count = round(rest)
            order = chance.sample(range(len(pool)), min(count, len(pool)))
        else:
            order = chance.sample(range(len(pool)), len(pool))
            order = order[: _nearest(self.tokens[pool[order]], rest)]
        taken = np.concatenate([np.tile(pool, passes), pool[sorted(order)]])
        if not len(taken):
            raise UserError(
                f"the weight of part '{place.path}' gives it no conversation",
                field=f"{place.field}weight",
                hint="raise the weight or the mixture's 'total', or leave the part out",
            )
        return taken

    def _capped(
        self, taken: Positions, part: Part, place: Place, chance: random.Random
    ) -> Positions:
        """A sample that keeps to the part's caps; no conversation twice before all are there."""
        most = len(taken) if part.max_count is None else part.max_count
        tokens = self._size(taken, "tokens")
        limit = tokens if part.max_tokens is None else part.max_tokens
        if len(taken) <= most and tokens <= limit:
            return taken
        order = chance.sample(range(len(taken)), len(taken))
        order.sort(key=_times_before(taken).__getitem__)
        fits = int((self.tokens[taken[order]].cumsum() <= limit).sum())
        if not fits:
            raise UserError(
                f"the cap of part '{place.path}' is under the first conversation drawn",
                field=f"{place.field}max_tokens",
                hint="raise 'max_tokens', or leave the part out",
            )
        kept: Positions = taken[sorted(order[: min(most, fits)])]
        return kept


def _times_before(positions: Positions) -> list[int]:
    """How often each has stood in the list before."""
    seen = Counter[int]()
    times = []
    for position in positions.tolist():
        times.append(seen[position])
        seen[position] += 1
    return times


def _passes_on(part: Part, unit: Unit, place: Place) -> MixConfig | None:
    """The mixture among whose parts a weighted part is shared out: weights multiply.

    A mixture with a total, or without weights, is made as it says instead, and is a pool.
    """
    inner = part.mix
    if not isinstance(inner, MixConfig) or not inner.weighted or inner.total is not None:
        return None
    if inner.weigh != unit:
        raise UserError(
            f"mixture '{inner.name}' weighs by {inner.weigh} inside one that weighs by {unit}",
            field=f"{place.field}mix",
            hint=f"weigh both by the same, or give '{inner.name}' a 'total'",
        )
    return inner


def _sample(pool: Positions, part: Part, place: Place, chance: random.Random) -> Positions:
    """`count` or `fraction` of a pool, or all of it, in its order."""
    count = len(pool)
    if part.count is not None:
        count = part.count
    elif part.fraction is not None:
        count = max(1, round(part.fraction * len(pool)))
    if count > len(pool):
        raise UserError(
            f"{count} of '{place.path}' are asked for, it gives {len(pool)}",
            field=f"{place.field}count",
            hint=f"ask for at most {len(pool)}, or leave 'count' out and 'repeat' it",
        )
    return pool[sorted(chance.sample(range(len(pool)), count))]


def _nearest(tokens: NDArray[np.int64], target: float) -> int:
    """How many of the first conversations have the number of tokens that is nearest to target."""
    sums = tokens.cumsum()
    count = int(np.searchsorted(sums, target, side="right"))
    if count < len(sums):
        under = target - (sums[count - 1] if count else 0)
        count += int(sums[count] - target < under)
    return count
