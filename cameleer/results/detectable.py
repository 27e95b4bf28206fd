"""The smallest difference that a planned comparison can show, and what would halve it.

Before anything is run nothing is known of how much answers vary: `Assumed` says what is taken for
granted. An item's score is taken to be its own ease, a part of the mixture's and a part of the very
training's, beside u, the luck of one training, which moves all items. So the mean of a comparison
(a weighted sum over mixtures, each the mean of its seeds) varies by its items over their number,
and by u over the seeds. The tests are those of the report: `stats.paired` for single trainings,
`stats.suite_difference` for several, `effects.attribute` for effects. Power in a test with the
degrees of freedom f is t(f, 1 - level / 2) times the error that the test sees, and t(f, power)
times the true one. Checked by simulation in tests/results/test_detectable.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cameleer.results.effects import DesignMatrix, Tuned
from cameleer.results.stats import Layout, half_width, smallest_effect, t_quantile

POWER, LEVEL = 0.8, 0.05
MOST_SEEDS = 64  # more are not advised


@dataclass(frozen=True)
class Assumed:
    """What a plan takes for granted.

    discordance: share of items that two models score differently that learned from different data;
    seeds: share that two trainings on the same data do; luck: standard deviation of u, in score.
    """

    discordance: float = 0.2
    seeds: float = 0.1
    luck: float = 0.01

    @property
    def training(self) -> float:
        """An item's variance between trainings on the same data."""
        return min(self.seeds, self.discordance) / 2

    @property
    def mixture(self) -> float:
        """An item's variance between mixtures, over all seeds that there could be."""
        return self.discordance / 2 - self.training


@dataclass(frozen=True)
class Contrast:
    """A comparison as weights. trained: of each mixture's mean; base: of the untuned model's, which
    is there once. pooled: mixtures from whose seeds the luck is judged together, as of effects; 0
    where each side of a difference judges its own. spare: mixtures beyond those that effects need,
    from which the luck of single seeds is judged."""

    trained: tuple[float, ...]
    base: float = 0.0
    pooled: int = 0
    spare: int = 0

    def smallest(
        self, n: float, seeds: int, level: float = LEVEL, assumed: Assumed | None = None
    ) -> float:
        """The smallest effect that is seen with 80 % power on n independent items; at most 1.

        With single seeds that tell nothing of luck, it is one of these very trainings.
        """
        given = assumed or Assumed()
        if n < 2:
            return 1.0
        if seeds == 1 and not self.pooled:
            return smallest_effect(round(n), POWER, level, given.discordance)
        parts, truth = self._variances(n, seeds, given)
        _, freedom, error = half_width(parts, 1 - level)
        seen = _t(freedom, 1 - level / 2) * error + _t(freedom, POWER) * math.sqrt(truth)
        return min(1.0, seen)

    def _variances(
        self, n: float, seeds: int, given: Assumed
    ) -> tuple[list[tuple[float, float]], float]:
        """What the test adds up, as (variance, degrees of freedom), and the true variance."""
        squares, luck = sum(weight**2 for weight in self.trained), given.luck**2
        of_items = squares * (given.mixture + given.training / seeds)
        of_items = (of_items + self.base**2 * (given.mixture + given.training)) / n
        parts, own = [(of_items, n - 1)], given.training / n
        if not self.pooled:  # differences between seeds hold what their items add once more
            between = [(w**2 * (luck + own) / seeds, seeds - 1.0) for w in self.trained if w]
            return parts + between, of_items + luck * squares / seeds
        freedom = self.pooled * (seeds - 1) or self.spare
        if not freedom or not luck:
            return parts, of_items
        noise = own if seeds > 1 else own + given.mixture / n
        known = max(1.0, freedom * (luck / (luck + noise)) ** 2)
        return [*parts, (luck * squares / seeds, known)], of_items + luck * squares / seeds


def difference(base: bool) -> Contrast:
    """A mixture against the untuned base, or against another mixture."""
    return Contrast((1.0,), -1.0) if base else Contrast((1.0, -1.0))


def effects(mixtures: Mapping[str, Mapping[str, float]]) -> dict[str, Contrast]:
    """The effect of each source that the mixtures tell apart from the others'; mixtures:
    conversations by source.

    Raises UserError where they tell none, as `effects.attribute` does.
    """
    design = DesignMatrix.of(
        [Tuned(name, held, {}) for name, held in mixtures.items()], {}, "amount"
    )
    spare = len(design.amounts) - design.rank
    found = {}
    each = zip(design.sources, design.solve[1:].tolist(), design.told, strict=True)
    for source, row, told in each:
        base = row.pop(0) if design.with_base else 0.0
        if told:
            found[source] = Contrast(tuple(row), base, len(mixtures), spare)
    return found


@dataclass(frozen=True)
class Halved:
    """What would halve a smallest effect: items in all, or seeds of each mixture, each by itself;
    both: the fewest more seeds with as many items as there are or fewer. None where it would not.
    """

    items: int | None
    seeds: int | None
    both: tuple[int, int] | None


def halved(
    contrast: Contrast, items: int, independent: float, there: int, seeds: int, assumed: Assumed
) -> Halved:
    """independent: so many independent items the `items` are; there: of the whole benchmark."""
    share = independent / items
    goal = contrast.smallest(independent, seeds, assumed=assumed) / 2

    def on(count: float, runs: int) -> bool:
        return contrast.smallest(count * share, runs, assumed=assumed) <= goal

    more = _least(lambda runs: on(there, runs), seeds, MOST_SEEDS)
    count = more and _least(lambda count: on(count, more), items, there)
    return Halved(
        items=_least(lambda count: on(count, seeds), items, items * 1024),
        seeds=_least(lambda runs: on(items, runs), seeds, MOST_SEEDS),
        both=(count, more) if count and more else None,
    )


def _least(enough: Callable[[int], bool], low: int, high: int) -> int | None:
    """The least whole number above `low`, up to `high`, that is enough."""
    if not enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def holm_strictest(comparisons: int, level: float = LEVEL) -> float:
    """The level at which Holm's correction tries the first of so many comparisons."""
    return level / max(1, comparisons)


def _t(freedom: float, probability: float) -> float:
    """Student's quantile of a probability above one half."""
    return t_quantile(freedom, 2 * probability - 1)


def independent_items(
    weights: Sequence[float], clusters: Sequence[str], strata: Sequence[str] | None
) -> float:
    """So many independent items of equal weight there are at least, as `stats.Layout` counts."""
    return Layout.of(len(weights), weights, clusters, strata).count
