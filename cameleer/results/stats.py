"""Scores with intervals, paired comparisons, correction for many of them, and the power to see one.

Scores lie in 0..1. Whatever the sample, no interval has zero width: where every value is the same,
at most a share q = 1 - (alpha / 2)^(1/n) of all items can be different (Clopper and Pearson's bound
for none seen in n), and each of those by no more than the range allows. Nothing here needs more of
scipy than its special functions, which load quickly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cameleer.core.errors import UserError

EXACT_FLIPS = 14  # sign flips of so many differences are all tried: 2^14 of them
DRAWS = 10_000  # random sign flips where there are more
SEED = 42

Run = Mapping[str, Mapping[str, float]]
"""What one training run scored: benchmark to item key to score."""


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
    """

    n: int
    difference: float
    low: float
    high: float
    p: float
    better: int
    worse: int
    same: int


def mean_interval(values: Sequence[float], level: float = 0.95) -> Estimate:
    """The mean of scores in 0..1 and its interval at `level`.

    Scores that are all 0 or 1 get Wilson's score interval (1927), others Student's t interval
    clipped to 0..1; for others that do not vary (one item is such a case) see the head of this
    file. Raises ValueError for no values, or values outside 0..1.
    """
    scores = _scores(values)
    n, mean = len(scores), float(scores.mean())
    if _binary(scores):
        low, high = _wilson(mean, n, level)
    elif np.ptp(scores) == 0:
        low, high = _no_spread(mean, n, level, 0.0)
    else:
        half = _t_quantile(n - 1, level) * float(scores.std(ddof=1)) / math.sqrt(n)
        low, high = max(0.0, mean - half), min(1.0, mean + half)
    return Estimate(mean, low, high, n)


def paired(a: Mapping[str, float], b: Mapping[str, float], level: float = 0.95) -> Paired:
    """The difference b - a of two sets of scores over the same items, told by their keys.

    Scores that are all 0 or 1: Newcombe's hybrid score interval for paired proportions (Statistics
    in Medicine 17, 1998, 2635-2650, method 10) and the exact McNemar test. Other scores: Student's
    t interval of the differences, clipped to -1..1, and a sign-flip permutation test: exact if few
    items differ, else from DRAWS draws of a fixed seed. Interval and p come from different methods
    and can disagree at the margin; verdicts go by p.

    Raises UserError if the items are not the same, ValueError if there are none.
    """
    first, second = _aligned(a, b)
    difference = second - first
    if _binary(first) and _binary(second):
        low, high = _newcombe(first, second, level)
        p = _mcnemar(int((difference > 0).sum()), int((difference < 0).sum()))
    else:
        low, high = _t_difference(difference, level)
        p = sign_flip_p(difference)
    return _paired(difference, float(difference.mean()), low, high, p)


def suite_mean(runs: Sequence[Run], level: float = 0.95) -> Estimate:
    """The mean over benchmarks of their mean scores, averaged over runs (one run for each seed).

    One run of one benchmark is `mean_interval`. Otherwise Student's t interval, clipped, with
    Welch and Satterthwaite's degrees of freedom, whose variance adds that of every benchmark's
    items (scores averaged over runs) and, with several runs, that between the runs' means over
    their number. n counts items. Raises UserError if the runs are not over the same items.
    """
    if len(runs) == 1 and len(runs[0]) == 1:
        return mean_interval(list(next(iter(runs[0].values())).values()), level)
    items, means = _over_runs(runs)
    value = float(np.mean(means))
    parts = [_part(scores, 0.0, len(items), level) for scores in items]
    half = _half_width([*parts, *_between(means)], level)[0]
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), sum(map(len, items)))


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
    moved = [second - first for first, second in zip(before, after, strict=True)]
    value = float(np.mean([part.mean() for part in moved]))
    parts = [_part(part, -1.0, len(moved), level) for part in moved]
    parts += _between(means_before) + _between(means_after)
    half, freedom, error = _half_width(parts, level)
    everything = np.concatenate(moved)
    p = _t_p(value / error, freedom) if bool(everything.any()) else 1.0
    return _paired(everything, value, max(-1.0, value - half), min(1.0, value + half), p)


def _over_runs(runs: Sequence[Run], other: Sequence[Run] = ()) -> tuple[list[Any], list[float]]:
    """Item scores [items] of each benchmark averaged over runs, and each run's mean of means."""
    shape = runs[0]
    for run in [*runs, *other]:
        if run.keys() != shape.keys():
            raise UserError(f"runs over other benchmarks: {', '.join(run.keys() ^ shape.keys())}")
    tables = [
        np.stack([_aligned(shape[name], run[name])[1] for run in runs]) for name in sorted(shape)
    ]
    for run in other:
        for name in shape:
            _aligned(shape[name], run[name])
    means = np.mean([table.mean(axis=1) for table in tables], axis=0)
    return [table.mean(axis=0) for table in tables], [float(mean) for mean in means]


def _part(values: Any, least: float, of: int, level: float) -> tuple[float, float]:
    """(variance, degrees of freedom) that one of `of` benchmarks adds to the mean over them."""
    n, mean = len(values), float(values.mean())
    if np.ptp(values) > 0:
        return float(values.var(ddof=1)) / n / of**2, n - 1
    low, high = _no_spread(mean, n, level, least)
    return ((high - low) / 2 / _z(0.5 + level / 2) / of) ** 2, n


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


def sign_flip_p(difference: Any) -> float:
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
    for _ in range(DRAWS // block):
        signs = rng.integers(0, 2, (block, len(moved)), dtype=np.int8)
        sums = 2 * (signs.astype(np.float32) @ moved.astype(np.float32)) - moved.sum()
        reached += int((np.abs(sums) >= least - 1e-6 * np.abs(moved).sum()).sum())
    return (reached + 1) / (DRAWS + 1)


def _scores(values: Any) -> Any:
    scores = np.asarray(values, dtype=float)
    if not len(scores):
        raise ValueError("no values: the mean of nothing is not a score")
    if not bool(((scores >= 0) & (scores <= 1)).all()):
        raise ValueError("scores must lie in 0..1")
    return scores


def _aligned(a: Mapping[str, float], b: Mapping[str, float]) -> tuple[Any, Any]:
    unshared = len(a.keys() ^ b.keys())
    if unshared:
        raise UserError(
            f"{unshared} items are in one of the two runs only ({len(a.keys() & b.keys())} shared)",
            hint="compare runs over the same items: same data, same --limit",
        )
    keys = sorted(a)
    return _scores([a[key] for key in keys]), _scores([b[key] for key in keys])


def _paired(difference: Any, mean: float, low: float, high: float, p: float) -> Paired:
    better, worse = int((difference > 0).sum()), int((difference < 0).sum())
    n = len(difference)
    return Paired(n, mean, low, high, p, better, worse, n - better - worse)


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


def _wilson(mean: float, n: int, level: float) -> tuple[float, float]:
    """Wilson's interval (1927) for a share `mean` of n; it holds the share itself."""
    z = _z(0.5 + level / 2)
    centre = (mean + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half))


def _no_spread(mean: float, n: int, level: float, least: float) -> tuple[float, float]:
    """The interval where n values, which could be anything in least..1, were all `mean`."""
    share = 1 - ((1 - level) / 2) ** (1 / n)
    return mean - share * (mean - least), mean + share * (1 - mean)


def _t_difference(difference: Any, level: float) -> tuple[float, float]:
    n, mean = len(difference), float(difference.mean())
    if np.ptp(difference) == 0:
        return _no_spread(mean, n, level, -1.0)
    half = _t_quantile(n - 1, level) * float(difference.std(ddof=1)) / math.sqrt(n)
    return max(-1.0, mean - half), min(1.0, mean + half)


def _mcnemar(better: int, worse: int) -> float:
    """Exact two-sided p: the items that differ are so many throws of a fair coin."""
    from scipy.special import bdtr

    moved = better + worse
    return min(1.0, 2 * float(bdtr(min(better, worse), moved, 0.5))) if moved else 1.0


def _newcombe(first: Any, second: Any, level: float) -> tuple[float, float]:
    """Newcombe's method 10 for second - first: Wilson's limits of both, squared and added.

    phi is the correlation of the pairs, its numerator corrected for continuity if positive.
    """
    n = len(first)
    both, neither = int((first * second).sum()), int(((1 - first) * (1 - second)).sum())
    only_first, only_second = int((first > second).sum()), int((second > first).sum())
    p1, p2 = (both + only_first) / n, (both + only_second) / n
    (l1, u1), (l2, u2) = _wilson(p1, n, level), _wilson(p2, n, level)
    product = p1 * (1 - p1) * p2 * (1 - p2)
    surplus = float(both * neither - only_first * only_second)
    if surplus > 0:
        surplus = max(surplus - n / 2, 0.0)
    phi = surplus / (n * n * math.sqrt(product)) if product else 0.0
    below = (p2 - l2) ** 2 - 2 * phi * (p2 - l2) * (u1 - p1) + (u1 - p1) ** 2
    above = (u2 - p2) ** 2 - 2 * phi * (u2 - p2) * (p1 - l1) + (p1 - l1) ** 2
    difference = p2 - p1
    return difference - math.sqrt(max(below, 0.0)), difference + math.sqrt(max(above, 0.0))
