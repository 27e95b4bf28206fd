"""Scores with intervals, paired comparisons, correction for many of them, and the power to see one.

Scores lie in 0..1. A benchmark's mean may weigh its items (a mean over tasks), its items may come
in clusters (questions about one passage), and its groups may be a fixed list (the 27 tasks of BBH),
between which nothing is left to chance: all three decide how sure a mean is. Whatever the sample,
no interval has zero width. What intervals hold how often is checked by simulation (bench/coverage).
Nothing here needs more of scipy than its special functions, which load quickly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cameleer.core.errors import UserError

EXACT_FLIPS = 14  # sign flips of so many differences are all tried: 2^14 of them
DRAWS = 10_000  # random sign flips where there are more
SEED = 42


@dataclass(frozen=True, slots=True)
class Items:
    """Scores by item key, with what decides how they make up a mean.

    weights: of an item, 1 where not said. clusters: items of one name do not vary independently;
    one without a name is alone. strata: fixed groups, each with items drawn of its own; all items
    without a name are one.
    """

    scores: Mapping[str, float]
    weights: Mapping[str, float] = field(default_factory=dict)
    clusters: Mapping[str, str] = field(default_factory=dict)
    strata: Mapping[str, str] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        values = [self.scores[key] for key in self.scores]
        return float(
            np.average(values, weights=[self.weights.get(key, 1.0) for key in self.scores])
        )


Run = Mapping[str, Items]
"""What one training run scored: benchmark to its items."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean in 0..1 with its interval, from `n` items."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Paired:
    """A difference of means over the same `n` items, with its interval and two-sided p.

    better, worse, same: on how many items the second scored above, below or as the first.
    effective: how many independent items of equal weight would be as sure.
    """

    n: int
    difference: float
    low: float
    high: float
    p: float
    better: int
    worse: int
    same: int
    effective: float


def mean_interval(
    values: Sequence[float],
    level: float = 0.95,
    *,
    weights: Sequence[float] | None = None,
    clusters: Sequence[str] | None = None,
    strata: Sequence[str] | None = None,
) -> Estimate:
    """The (weighted) mean of scores [n] in 0..1 and its interval at `level`.

    Independent scores of 0 or 1 with equal weights get Wilson's score interval (1927). Others get
    it for as many throws as would vary like them: m (1 - m) / v, where v is the linearised variance
    of the mean m, cluster-robust and within strata, and Student's quantile in place of the normal
    one (as Korn and Graubard, Survey Methodology 24, 1998, do for shares of surveys). It is never
    outside 0..1 and, other than Student's, right for scores most of which are 0. weights, clusters,
    strata: [n] each, see Items. Raises ValueError for no values, or values outside 0..1.
    """
    scores = _scores(values)
    return _mean_interval(scores, _Layout.of(len(scores), weights, clusters, strata), level)


def paired(a: Items, b: Items, level: float = 0.95, draws: int = DRAWS) -> Paired:
    """The difference b - a of two sets of scores over the same items, told by their keys.

    Interval: the limits of both means squared and added, with their correlation, which is lessened
    for continuity (Newcombe's method 10, Statistics in Medicine 17, 1998, 2635-2650; for means of
    any kind Zou and Donner, ibid. 27, 2008, 1693-1702). p: the exact McNemar test for independent
    scores of 0 or 1 with equal weights, else a sign-flip permutation test, of whole clusters: exact
    if few differ, else from `draws` draws of a fixed seed. Interval and p come from different
    methods and can disagree at the margin; verdicts go by p. Weights, clusters and strata are those
    of `a`.

    Raises UserError if the items are not the same, ValueError if there are none.
    """
    first, second, layout = _aligned(a, b)
    difference = second - first
    low, high = _square_and_add(first, second, layout, level)
    if layout.plain and _binary(first) and _binary(second):
        p = _mcnemar(int((difference > 0).sum()), int((difference < 0).sum()))
    else:
        p = sign_flip_p(np.bincount(layout.clusters, layout.weights * difference), draws)
    mean = layout.mean(difference)
    return _paired(difference, mean, low, high, p, layout.effective(difference))


def suite_mean(runs: Sequence[Run], level: float = 0.95) -> Estimate:
    """The mean over benchmarks of their mean scores, averaged over runs (one run for each seed).

    One run of one benchmark is `mean_interval`. Otherwise Student's t interval, clipped, with
    Welch and Satterthwaite's degrees of freedom, whose variance adds that of every benchmark's
    items (scores averaged over runs) and, with several runs, that between the runs' means over
    their number. n counts items. Raises UserError if the runs are not over the same items.
    """
    if len(runs) == 1 and len(runs[0]) == 1:
        (items,) = runs[0].values()
        keys = sorted(items.scores)
        return _mean_interval(_in_order(items, keys), _layout(items, keys), level)
    tables, means = _over_runs(runs)
    value = float(np.mean(means))
    parts = [_part(scores, layout, 0.0, len(tables), level) for scores, layout in tables]
    half = _half_width([*parts, *_between(means)], level)[0]
    count = sum(len(scores) for scores, _ in tables)
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), count)


def suite_difference(a: Sequence[Run], b: Sequence[Run], level: float = 0.95) -> Paired:
    """The difference b - a of two `suite_mean`s over the same benchmarks and items.

    One run each of one benchmark is `paired`. Otherwise interval and p are Student's t, as in
    `suite_mean` with the items' differences in place of their scores; a side of one run adds no
    variance between runs, so that trained models need several for a claim about their data.
    """
    if len(a) == len(b) == len(a[0]) == 1 and a[0].keys() == b[0].keys():
        (first,), (second,) = a[0].values(), b[0].values()
        return paired(first, second, level)
    (before, means_before), (after, means_after) = _over_runs(a, b), _over_runs(b, a)
    moved = [
        (second - first, layout) for (first, layout), (second, _) in zip(before, after, strict=True)
    ]
    value = float(np.mean([layout.mean(part) for part, layout in moved]))
    parts = [_part(part, layout, -1.0, len(moved), level) for part, layout in moved]
    parts += _between(means_before) + _between(means_after)
    half, freedom, error = _half_width(parts, level)
    everything = np.concatenate([part for part, _ in moved])
    effective = sum(layout.effective(part) for part, layout in moved)
    p = _t_p(value / error, freedom) if bool(everything.any()) else 1.0
    low, high = max(-1.0, value - half), min(1.0, value + half)
    return _paired(everything, value, low, high, p, effective)


@dataclass(frozen=True, slots=True)
class _Layout:
    """How n scores make up a mean. weights: [n], their sum is 1; clusters: [n] numbers from 0, of
    which none is in two strata; strata: [clusters] the number of each cluster's stratum."""

    weights: Any
    clusters: Any
    strata: Any

    @classmethod
    def of(
        cls,
        n: int,
        weights: Sequence[float] | None = None,
        clusters: Sequence[str] | None = None,
        strata: Sequence[str] | None = None,
    ) -> _Layout:
        shares = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
        names = list(clusters or [""] * n)
        within = list(strata or [""] * n)
        numbers: dict[Any, int] = {}
        found = [
            numbers.setdefault((group, name) if name else index, len(numbers))
            for index, (group, name) in enumerate(zip(within, names, strict=True))
        ]
        strata_of = np.empty(len(numbers), dtype=int)
        strata_of[found] = np.unique(within, return_inverse=True)[1]
        return cls(shares / shares.sum(), np.array(found), strata_of)

    @property
    def plain(self) -> bool:
        """Whether the items are independent, of equal weight, and of no strata."""
        alone = len(self.strata) == len(self.weights)
        return alone and not self.strata.any() and bool(np.ptp(self.weights) < 1e-12)

    @property
    def count(self) -> float:
        """So many independent items of equal weight the clusters are, if each is all of a piece."""
        return 1 / float((np.bincount(self.clusters, self.weights) ** 2).sum())

    def mean(self, values: Any) -> float:
        """The weighted mean; of equal weights the plain one, to the last bit."""
        equal = bool(np.ptp(self.weights) == 0)
        return float(values.mean()) if equal else float(self.weights @ values)

    def covariance(self, x: Any, y: Any) -> tuple[float, float]:
        """(covariance of the means of x and y [n], degrees of freedom of it), linearised.

        A stratum of a single cluster tells nothing of its own variance and is given that of the
        others; where all are such, their differences are taken for chance, which is too much.
        """
        if len(self.strata) == 1:
            return 0.0, 1.0
        sizes = np.bincount(self.strata)
        strata = self.strata if (sizes > 1).any() else np.zeros_like(self.strata)
        sizes = np.bincount(strata)
        of_item, inside = strata[self.clusters], sizes[strata] > 1
        weights = np.bincount(of_item, self.weights)

        def totals(values: Any) -> Any:
            centre = np.bincount(of_item, self.weights * values) / weights
            return np.bincount(self.clusters, self.weights * (values - centre[of_item]))

        scale = sizes / np.maximum(sizes - 1, 1)
        parts = np.bincount(strata, totals(x) * totals(y)) * scale
        squares = np.bincount(self.clusters, self.weights) ** 2
        if not inside.all():
            known = parts[sizes > 1].sum() / squares[inside].sum()
            parts += np.where(sizes == 1, known * np.bincount(strata, squares), 0.0)
        total = float(parts.sum())
        freedom = np.where(sizes > 1, sizes - 1, max(1, inside.sum()))
        below = float((parts**2 / freedom).sum())
        return total, total**2 / below if below else float(max(1, len(strata) - 1))

    def effective(self, values: Any) -> float:
        """How many independent items of equal weight would be as sure of the mean of `values`."""
        if self.plain:
            return float(len(values))
        variance = self.covariance(values, values)[0]
        spread = self.mean((values - self.mean(values)) ** 2)
        return min(float(len(values)), spread / variance) if variance > 0 else self.count


def _mean_interval(scores: Any, layout: _Layout, level: float) -> Estimate:
    mean = min(1.0, max(0.0, layout.mean(scores)))
    return Estimate(mean, *_limits(scores, layout, level), len(scores))


def _limits(scores: Any, layout: _Layout, level: float) -> tuple[float, float]:
    """The score interval of a mean; see `mean_interval`."""
    mean = min(1.0, max(0.0, layout.mean(scores)))
    variance, freedom = layout.covariance(scores, scores)
    # Where nothing varies but something could, the scores may be as good as throws of a coin.
    if variance <= 1e-15 or (layout.plain and _binary(scores)):
        return _wilson(mean, layout.count, _z(0.5 + level / 2))
    return _wilson(mean, mean * (1 - mean) / variance, _t_quantile(freedom, level))


def _square_and_add(first: Any, second: Any, layout: _Layout, level: float) -> tuple[float, float]:
    """The interval of the difference of two means of correlated scores; see `paired`."""
    p1, p2 = layout.mean(first), layout.mean(second)
    (l1, u1), (l2, u2) = _limits(first, layout, level), _limits(second, layout, level)
    product = layout.covariance(first, first)[0] * layout.covariance(second, second)[0]
    together = layout.covariance(first, second)[0]
    if together > 0:
        count = layout.count
        together = max(together - 1 / (2 * count * (count - 1)), 0.0) if count > 1 else 0.0
    r = max(-1.0, together / math.sqrt(product)) if product > 0 else 0.0
    below = (p2 - l2) ** 2 - 2 * r * (p2 - l2) * (u1 - p1) + (u1 - p1) ** 2
    above = (u2 - p2) ** 2 - 2 * r * (u2 - p2) * (p1 - l1) + (p1 - l1) ** 2
    difference = p2 - p1
    return difference - math.sqrt(max(below, 0.0)), difference + math.sqrt(max(above, 0.0))


def _over_runs(
    runs: Sequence[Run], other: Sequence[Run] = ()
) -> tuple[list[tuple[Any, _Layout]], list[float]]:
    """(scores [items] averaged over runs, layout) of each benchmark; each run's mean of means."""
    shape = runs[0]
    for run in [*runs, *other]:
        if run.keys() != shape.keys():
            raise UserError(f"runs over other benchmarks: {', '.join(run.keys() ^ shape.keys())}")
    tables, means = [], []
    for name in sorted(shape):
        for run in [*runs, *other]:
            _require_same(shape[name], run[name])
        keys = sorted(shape[name].scores)
        layout = _layout(shape[name], keys)
        table = np.stack([_in_order(run[name], keys) for run in runs])
        tables.append((table.mean(axis=0), layout))
        means.append([layout.mean(row) for row in table])
    return tables, [float(mean) for mean in np.mean(means, axis=0)]


def _part(values: Any, layout: _Layout, least: float, of: int, level: float) -> tuple[float, float]:
    """(variance, degrees of freedom) that one of `of` benchmarks adds to the mean over them."""
    variance, freedom = layout.covariance(values, values)
    if variance > 1e-15:
        return variance / of**2, freedom
    # At most a share 1 - (alpha / 2)^(1/n) of all items can be different (Clopper and Pearson's
    # bound for none seen in n), and each of those by no more than the range allows.
    share = 1 - ((1 - level) / 2) ** (1 / layout.count)
    return (share * (1 - least) / 2 / _z(0.5 + level / 2) / of) ** 2, layout.count


def _between(means: Sequence[float]) -> list[tuple[float, float]]:
    """The variance that the luck of training adds; nothing is known of it from one run."""
    if len(means) == 1:
        return []
    return [(float(np.var(means, ddof=1)) / len(means), len(means) - 1)]


def _half_width(parts: Sequence[tuple[float, float]], level: float) -> tuple[float, float, float]:
    """(half width, degrees of freedom, standard error) of a sum of independent variances."""
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / free for part, free in parts)
    error = math.sqrt(variance)
    return _t_quantile(freedom, level) * error, freedom, error


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p values, in the order given: they control the familywise error."""
    adjusted = [0.0] * len(ps)
    reached = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        reached = max(reached, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = reached
    return adjusted


def smallest_effect(
    n: int, power: float = 0.8, level: float = 0.05, discordance: float = 0.2
) -> float:
    """The smallest paired difference of 0/1 scores that a test on `n` items sees with `power`.

    level: two-sided error of the test; discordance: share of items that the two score differently,
    which is at least the difference itself and is raised to it where need be. Solves Connor's
    (Biometrics 43, 1987) n d^2 = (z_a sqrt(psi) + z_b sqrt(psi - d^2))^2 for d. 1.0 means that
    not even a difference on every item is sure to be seen.
    """
    if n < 1 or not 0 < discordance <= 1:
        raise ValueError("needs n of at least 1 and a discordance in (0, 1]")
    za, zb = _z(1 - level / 2), _z(power)
    inside = n + zb * zb - za * za
    if inside >= 0:
        effect = math.sqrt(discordance) * (math.sqrt(n) * za + zb * math.sqrt(inside))
        effect /= n + zb * zb
        if effect <= discordance:
            return effect
    return _effect_all_one_way(n, za, zb)


def _effect_all_one_way(n: int, za: float, zb: float) -> float:
    """Connor's d where every item that differs does so in the same direction, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        seen = math.sqrt(n * middle) >= za + zb * math.sqrt(1 - middle)
        low, high = (low, middle) if seen else (middle, high)
    return high


def sign_flip_p(difference: Any, draws: int = DRAWS) -> float:
    """Two-sided p of the sum of differences [n] if each had either sign with even odds."""
    moved = np.asarray(difference, dtype=float)
    moved = moved[moved != 0]
    if not len(moved):
        return 1.0
    least = abs(float(moved.sum())) - 1e-9 * float(np.abs(moved).sum())
    if len(moved) <= EXACT_FLIPS:
        bits = np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved)) & 1
        return float((np.abs((2 * bits - 1) @ moved) >= least).mean())
    rng, reached, block = np.random.default_rng(SEED), 0, 500
    for _ in range(draws // block):
        signs = rng.integers(0, 2, (block, len(moved)), dtype=np.int8)
        sums = 2 * (signs.astype(np.float32) @ moved.astype(np.float32)) - moved.sum()
        reached += int((np.abs(sums) >= least - 1e-6 * np.abs(moved).sum()).sum())
    return (reached + 1) / (draws // block * block + 1)


def _scores(values: Any) -> Any:
    scores = np.asarray(values, dtype=float)
    if not len(scores):
        raise ValueError("no values: the mean of nothing is not a score")
    if not bool(((scores >= 0) & (scores <= 1)).all()):
        raise ValueError("scores must lie in 0..1")
    return scores


def _aligned(a: Items, b: Items) -> tuple[Any, Any, _Layout]:
    """Scores [n] of both over the same keys in one order, and the layout of `a`."""
    _require_same(a, b)
    keys = sorted(a.scores)
    return _in_order(a, keys), _in_order(b, keys), _layout(a, keys)


def _require_same(a: Items, b: Items) -> None:
    unshared = len(a.scores.keys() ^ b.scores.keys())
    if unshared:
        shared = len(a.scores.keys() & b.scores.keys())
        raise UserError(
            f"{unshared} items are in one of the two runs only ({shared} shared)",
            hint="compare runs over the same items: same data, same --limit",
        )


def _in_order(items: Items, keys: Sequence[str]) -> Any:
    return _scores([items.scores[key] for key in keys])


def _layout(items: Items, keys: Sequence[str]) -> _Layout:
    return _Layout.of(
        len(keys),
        [items.weights.get(key, 1.0) for key in keys],
        [items.clusters.get(key, "") for key in keys],
        [items.strata.get(key, "") for key in keys],
    )


def _paired(
    difference: Any, mean: float, low: float, high: float, p: float, effective: float
) -> Paired:
    better, worse = int((difference > 0).sum()), int((difference < 0).sum())
    n = len(difference)
    return Paired(n, mean, low, high, p, better, worse, n - better - worse, effective)


def _binary(scores: Any) -> bool:
    return bool(((scores == 0) | (scores == 1)).all())


def _z(probability: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(probability))


def _t_quantile(freedom: float, level: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + level / 2))


def _t_p(t: float, freedom: float) -> float:
    from scipy.special import stdtr

    return 2 * float(stdtr(freedom, -abs(t)))


def _wilson(mean: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's interval (1927) for a share `mean` of n throws; it holds the share itself."""
    centre = (mean + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half))


def _mcnemar(better: int, worse: int) -> float:
    """Exact two-sided p: the items that differ are so many throws of a fair coin."""
    from scipy.special import bdtr

    moved = better + worse
    return min(1.0, 2 * float(bdtr(min(better, worse), moved, 0.5))) if moved else 1.0
