"""Scores with intervals, paired comparisons, correction for many of them, and the power to see one.

Scores lie in 0..1. A benchmark's mean may weigh its items (a mean over tasks), its items may come
in clusters (questions about one passage), and its groups may be a fixed list (the 27 tasks of BBH),
between which nothing is left to chance: all three decide how sure a mean is. Whatever the sample,
no interval has zero width, and 0 is outside an interval of 95 % exactly where p < 0.05. How often
intervals hold the truth is checked by simulation (bench/coverage).
Nothing here needs more of scipy than its special functions, which load quickly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cameleer.core.errors import UserError


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


NOTHING = 1e-15  # a variance that is none but for rounding

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
    discordance: mean size of the items' differences; of 0/1 scores the share that differs.
    effective: how many independent 0/1 items of that discordance would be as sure.
    """

    n: int
    difference: float
    low: float
    high: float
    p: float
    better: int
    worse: int
    same: int
    discordance: float
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
    it for as many throws as would vary like them: m (1 - m) / v, where v is the variance of the
    mean m, and Student's quantile in place of the normal one (as Korn and Graubard, Survey
    Methodology 24, 1998, do for shares of surveys). It is never outside 0..1 and, other than
    Student's, right for scores most of which are 0. v is the jackknife's, leaving out a cluster at
    a time within strata. weights, clusters, strata: [n] each, see Items. Raises ValueError for no
    values, or values outside 0..1.
    """
    scores = _scores(values)
    return _mean_interval(scores, Layout.of(len(scores), weights, clusters, strata), level)


def paired(a: Items, b: Items, level: float = 0.95) -> Paired:
    """The difference b - a of two sets of scores over the same items, told by their keys.

    Interval and p are those of one test. Independent scores of 0 or 1 with equal weights get
    Tango's score interval (Statistics in Medicine 17, 1998, 891-908), to which McNemar's test
    (1947, without continuity correction) belongs. Others get it for as many pairs as would vary
    like them: (r + f - d^2) / v, where r and f are the mean rise and fall of an item's score,
    d = r - f, and v the variance of d as in `mean_interval`; with Student's quantile. Weights,
    clusters and strata are those of `a`.

    Raises UserError if the items are not the same, ValueError if there are none.
    """
    (first, second), layout = score_table([a, b])
    change = second - first
    rise, fall = _rise_and_fall(change, layout)
    counted = _binary(first) and _binary(second)
    pairs, freedom = layout.throws(change, rise + fall - (rise - fall) ** 2, counted)
    return _paired(change, tango(rise, fall, pairs, freedom, level), rise + fall, pairs)


def tango(
    rise: float, fall: float, n: float, freedom: float = math.inf, level: float = 0.95
) -> tuple[float, float, float, float]:
    """(difference, low, high, p) where of n pairs of 0/1 scores these shares rose and fell."""
    t = t_quantile(freedom, level)
    low, high = -_tango_limit(fall, rise, n, t), _tango_limit(rise, fall, n, t)
    p = t_p((rise - fall) * math.sqrt(n / (rise + fall)), freedom) if rise + fall else 1.0
    return rise - fall, low, high, p


def suite_mean(runs: Sequence[Run], level: float = 0.95) -> Estimate:
    """The mean over benchmarks of their mean scores, averaged over runs (one run for each seed).

    One run of one benchmark is `mean_interval`. Otherwise Student's t interval, clipped, with
    Welch and Satterthwaite's degrees of freedom, whose variance adds that of every benchmark's
    items (scores averaged over runs) and, with several runs, that between the runs' means over
    their number. n counts items. Raises UserError if the runs are not over the same items.
    """
    if len(runs) == 1 and len(runs[0]) == 1:
        (items,) = runs[0].values()
        (scores,), layout = score_table([items])
        return _mean_interval(scores, layout, level)
    tables, means = _over_runs(runs)
    value = float(np.mean(means))
    parts = [variance_part(scores, layout, 0.0, len(tables), level) for scores, layout in tables]
    half = half_width([*parts, *_between(means)], level)[0]
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
    rise, fall = np.mean([_rise_and_fall(part, layout) for part, layout in moved], axis=0).tolist()
    parts = [variance_part(part, layout, -1.0, len(moved), level) for part, layout in moved]
    parts += _between(means_before) + _between(means_after)
    half, freedom, error = half_width(parts, level)
    everything, value = np.concatenate([part for part, _ in moved]), rise - fall
    p = t_p(value / error, freedom) if rise + fall else 1.0
    limits = (value, max(-1.0, value - half), min(1.0, value + half), p)
    worth = (rise + fall - value**2) / error**2 or sum(layout.count for _, layout in moved)
    return _paired(everything, limits, rise + fall, worth)


@dataclass(frozen=True, slots=True)
class Layout:
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
    ) -> Layout:
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
        if self.plain:
            return float(len(self.weights))
        return 1 / float((np.bincount(self.clusters, self.weights) ** 2).sum())

    def mean(self, values: Any) -> float:
        """The weighted mean; of equal weights the plain one, to the last bit."""
        equal = bool(np.ptp(self.weights) == 0)
        return float(values.mean()) if equal else float(self.weights @ values)

    def variance(self, values: Any) -> tuple[float, float]:
        """(variance of the mean of values [n], its degrees of freedom), by the jackknife.

        A cluster at a time is left out (within strata, Rust and Rao, Statistical Methods in Medical
        Research 5, 1996), and a stratum has one degree of freedom less than clusters of equal
        weight that would weigh as evenly, together Welch and Satterthwaite's. A stratum of a single
        cluster tells nothing of its own variance and is given that of the others; where all are
        such, their differences are taken for chance, which is too much.
        """
        if len(self.strata) == 1:
            return 0.0, 1.0
        sizes = np.bincount(self.strata)
        strata = self.strata if (sizes > 1).any() else np.zeros_like(self.strata)
        sizes = np.bincount(strata)
        of_item, inside = strata[self.clusters], sizes[strata] > 1
        weights = np.bincount(of_item, self.weights)
        clusters = np.bincount(self.clusters, self.weights)
        shares = clusters / weights[strata]
        centre = np.bincount(of_item, self.weights * values) / weights
        totals = np.bincount(self.clusters, self.weights * (values - centre[of_item]))
        moved = np.where(inside, totals / np.maximum(1 - shares, 1e-9), 0.0)
        parts = np.bincount(strata, moved**2) * (sizes - 1) / sizes
        if not inside.all():
            known = parts.sum() / (clusters[inside] ** 2).sum()
            parts += np.where(sizes == 1, known * np.bincount(strata, clusters**2), 0.0)
        total = float(parts.sum())
        even = 1 / np.bincount(strata, shares**2)
        freedom = np.maximum(1.0, np.where(sizes > 1, even - 1, inside.sum()))
        below = float((parts**2 / freedom).sum())
        return total, total**2 / below if below else float(max(1, len(strata) - 1))

    def throws(self, values: Any, spread: float, counted: bool) -> tuple[float, float]:
        """(how many throws with the variance `spread` have a mean that varies like that of values
        [n], degrees of freedom of this number). counted: each value is one such throw."""
        variance, freedom = self.variance(values)
        # Where nothing varies but something could, they may be as good as throws.
        if variance <= NOTHING or (counted and self.plain):
            return self.count, math.inf
        return spread / variance, freedom


def _mean_interval(scores: Any, layout: Layout, level: float) -> Estimate:
    mean = min(1.0, max(0.0, layout.mean(scores)))
    throws, freedom = layout.throws(scores, mean * (1 - mean), _binary(scores))
    return Estimate(mean, *wilson(mean, throws, t_quantile(freedom, level)), len(scores))


def _rise_and_fall(change: Any, layout: Layout) -> tuple[float, float]:
    """The mean of what items gained and of what they lost, both at least 0."""
    return layout.mean(np.maximum(change, 0.0)), layout.mean(np.maximum(-change, 0.0))


def score_table(runs: Sequence[Items]) -> tuple[Any, Layout]:
    """(scores [runs, items] in the order of the items' keys, the layout that the first run tells).

    Raises UserError if the runs are not over the same items, ValueError if there are none.
    """
    for run in runs[1:]:
        _require_same(runs[0], run)
    first, keys = runs[0], sorted(runs[0].scores)
    table = np.stack([_scores([run.scores[key] for key in keys]) for run in runs])
    named = [[by.get(key, "") for key in keys] for by in (first.clusters, first.strata)]
    return table, Layout.of(len(keys), [first.weights.get(key, 1.0) for key in keys], *named)


def _over_runs(
    runs: Sequence[Run], other: Sequence[Run] = ()
) -> tuple[list[tuple[Any, Layout]], list[float]]:
    """(scores [items] averaged over runs, layout) of each benchmark; each run's mean of means."""
    shape = runs[0]
    for run in [*runs, *other]:
        if run.keys() != shape.keys():
            raise UserError(f"runs over other benchmarks: {', '.join(run.keys() ^ shape.keys())}")
    tables, means = [], []
    for name in sorted(shape):
        every, layout = score_table([run[name] for run in [*runs, *other]])
        table = every[: len(runs)]
        tables.append((table.mean(axis=0), layout))
        means.append([layout.mean(row) for row in table])
    return tables, [float(mean) for mean in np.mean(means, axis=0)]


def variance_part(
    values: Any, layout: Layout, least: float, of: int, level: float
) -> tuple[float, float]:
    """(variance, degrees of freedom) that one of `of` benchmarks adds to the mean over them.

    values: [items], none under `least` or over 1. Where nothing varies, they are those of the most
    that could have stayed unseen in as many items.
    """
    variance, freedom = layout.variance(values)
    if variance > NOTHING:
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


def half_width(parts: Sequence[tuple[float, float]], level: float) -> tuple[float, float, float]:
    """(half width, degrees of freedom, standard error) of a sum of independent variances."""
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / free for part, free in parts)
    error = math.sqrt(variance)
    return t_quantile(freedom, level) * error, freedom, error


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
    which is at least the difference itself and is raised to it where need be. The power is that of
    the test of `paired`, summed over all outcomes, not approximated. 1.0 means that not even a
    difference on every item is sure to be seen.
    """
    if n < 1 or not 0 < discordance <= 1:
        raise ValueError("needs n of at least 1 and a discordance in (0, 1]")
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        seen = _seen(n, middle, max(middle, discordance), _z(1 - level / 2)) >= power
        low, high = (low, middle) if seen else (middle, high)
    return high


def _seen(n: int, effect: float, discordance: float, z: float) -> float:
    """The chance that McNemar's test, beyond z, shows an `effect` of 0/1 scores for what it is."""
    from scipy.special import bdtrc, gammaln, xlog1py, xlogy

    middle, reach = n * discordance, 8 * math.sqrt(n * discordance) + 8  # beyond it are 1e-14
    moved = np.arange(max(1, math.floor(middle - reach)), min(n, math.ceil(middle + reach)) + 1)
    ways = gammaln(n + 1) - gammaln(moved + 1) - gammaln(n - moved + 1)
    odds = np.exp(ways + xlogy(moved, discordance) + xlog1py(n - moved, -discordance))
    needed = np.ceil((moved + z * np.sqrt(moved)) / 2)
    upward = (1 + effect / discordance) / 2
    return float(odds @ bdtrc(np.minimum(needed - 1, moved), moved, upward))


def _scores(values: Any) -> Any:
    scores = np.asarray(values, dtype=float)
    if not len(scores):
        raise ValueError("no values: the mean of nothing is not a score")
    if not bool(((scores >= 0) & (scores <= 1)).all()):
        raise ValueError("scores must lie in 0..1")
    return scores


def _require_same(a: Items, b: Items) -> None:
    unshared = len(a.scores.keys() ^ b.scores.keys())
    if unshared:
        shared = len(a.scores.keys() & b.scores.keys())
        raise UserError(
            f"{unshared} items are in one of the two runs only ({shared} shared)",
            hint="compare runs over the same items: same data, same --limit",
        )


def _paired(
    change: Any, found: tuple[float, float, float, float], discordance: float, effective: float
) -> Paired:
    """found: difference, low, high, p."""
    better, worse, n = int((change > 0).sum()), int((change < 0).sum()), len(change)
    return Paired(n, *found, better, worse, n - better - worse, discordance, effective)


def _binary(scores: Any) -> bool:
    return bool(((scores == 0) | (scores == 1)).all())


def _z(probability: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(probability))


def t_quantile(freedom: float, level: float) -> float:
    """How many standard errors hold the middle `level` of Student's distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + level / 2))


def t_p(t: float, freedom: float) -> float:
    """Two-sided p of Student's t."""
    from scipy.special import stdtr

    return 2 * float(stdtr(freedom, -abs(t)))


def wilson(mean: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's interval (1927) for a share `mean` of n throws; it holds the share itself."""
    centre = (mean + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half))


def _tango_limit(rise: float, fall: float, n: float, t: float) -> float:
    """The upper limit of Tango's interval (1998) for rise - fall, as shares of n pairs."""
    difference = rise - fall

    def held(truth: float) -> bool:
        """Whether a difference `truth` is no further off than t times its standard error."""
        # The likeliest share of falls, were `truth` the difference, solves 2 q^2 - b q = c.
        b, c = rise + fall - (2 - difference) * truth, fall * truth * (1 - truth)
        falls = (math.sqrt(b * b + 8 * c) + b) / 4
        variance = 2 * falls + truth * (1 - truth)
        return n * (truth - difference) ** 2 <= t * t * variance

    low, high = difference, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if held(middle) else (low, middle)
    return high
