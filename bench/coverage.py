"""How often our 95 % intervals hold the truth, and how often p < 0.05 where there is nothing.

    python -m bench.coverage [--rounds 4000] [--seed 1]

Draws evaluations from populations whose truth is known, of every kind that a report shows, and
counts. Shares of 0/1 scores and their differences are not drawn but summed over all outcomes, and
so is the power at the smallest effect. Prints a table, on stderr what lies outside 93 to 97 %, and
writes bench/out/coverage.json.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from cameleer.core.files import write_json
from cameleer.evals.benchmarks.codex_humaneval import pass_at
from cameleer.results.stats import (
    Items,
    Paired,
    mean_interval,
    paired,
    smallest_effect,
    suite_difference,
    suite_mean,
    tango,
)

OUT = Path(__file__).parent / "out" / "coverage.json"
BAND = (0.93, 0.97)
Rng = Any
Trial = Callable[[Rng], tuple[Any, float]]
"""Draws one evaluation: its interval (an Estimate or a Paired), and the truth."""


@dataclass(frozen=True)
class Kind:
    """A kind of interval in one situation. null: the truth is 0, so p is to be seldom small."""

    name: str
    n: int
    trial: Trial
    null: bool = False


@dataclass(frozen=True)
class Found:
    """covered: share of intervals that held the truth; rejected: share of p below 0.05, or nan."""

    name: str
    n: int
    covered: float
    width: float
    rejected: float = math.nan


def exact(n: int, p: float) -> float:
    """Coverage of the interval of n independent 0/1 scores whose mean is p, without drawing."""
    from scipy.stats import binom

    held = 0.0
    for right in range(n + 1):
        found = mean_interval([1.0] * right + [0.0] * (n - right))
        held += float(binom.pmf(right, n, p)) * (found.low <= p <= found.high)
    return held


def exact_row(n: int, points: int = 49) -> tuple[Found, float, float]:
    """(mean over p from 0.02 to 0.98, the lowest coverage, the highest)."""
    held = [exact(n, p) for p in np.linspace(0.02, 0.98, points)]
    return Found("0/1 scores, mean over p 0.02-0.98", n, float(np.mean(held)), math.nan), *(
        (min(held), max(held))
    )


def tables(n: int, psi: float, effect: float) -> list[tuple[int, int, float]]:
    """(better, worse, probability) of n pairs of which a share psi differs; but for 1e-8 of it."""
    from scipy.stats import binom

    found, up = [], (1 + effect / psi) / 2
    moved = np.arange(n + 1)
    for count, odds in zip(moved, binom.pmf(moved, n, psi), strict=True):
        if odds > 1e-11:
            better = np.arange(count + 1)
            ways = odds * binom.pmf(better, count, up)
            kept = ways > 1e-11
            found += list(zip(better[kept], (count - better)[kept], ways[kept], strict=True))
    return found


@cache
def compared(n: int, better: int, worse: int) -> tuple[float, float, float]:
    """(low, high, p) that `paired` has for n pairs of which so many rose and fell."""
    return tango(better / n, worse / n, n)[1:]


def pairs_row(n: int, psi: float) -> tuple[Found, float, float]:
    """(mean over true differences of 0 to 0.9 of psi, the lowest coverage, the highest)."""
    held, width, rejected = [], [], 0.0
    for effect in psi * np.array([0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9]):
        rows = [(compared(n, *table), odds) for *table, odds in tables(n, psi, effect)]
        held.append(sum(odds * (low <= effect <= high) for (low, high, _), odds in rows))
        width.append(sum(odds * (high - low) for (low, high, _), odds in rows))
        if effect == 0:
            rejected = sum(odds * (p < 0.05) for (_, _, p), odds in rows)
    name = f"difference of 0/1, {100 * psi:.0f} % differ"
    found = Found(name, n, float(np.mean(held)), float(np.mean(width)), rejected)
    return found, min(held), max(held)


def power_row(n: int, psi: float) -> tuple[float, float]:
    """(the smallest effect, how often `paired` finds it)."""
    effect = smallest_effect(n, discordance=psi)
    rows = tables(n, max(psi, effect), effect)
    return effect, sum(odds * (compared(n, up, down)[2] < 0.05) for up, down, odds in rows)


def simulate(kind: Kind, rounds: int, seed: int) -> Found:
    """Count over `rounds` draws."""
    rng = np.random.default_rng([seed, *kind.name.encode(), kind.n])
    held = rejected = 0
    width = 0.0
    for _ in range(rounds):
        found, truth = kind.trial(rng)
        held += found.low <= truth <= found.high
        width += (found.high - found.low) / rounds
        rejected += isinstance(found, Paired) and found.p < 0.05
    share = rejected / rounds if kind.null else math.nan
    return Found(kind.name, kind.n, held / rounds, width, share)


def kinds() -> list[Kind]:
    """All situations."""
    found = [
        Kind(f"F1 with {name}", n, _f1(shares, n))
        for name, shares in {
            "most 0": (0.85, 0.05),
            "many 0 and 1": (0.4, 0.3),
            "most 1": (0.05, 0.8),
        }.items()
        for n in (30, 100, 400)
    ]
    found += [Kind("pass@10 of 20 samples", n, _pass_at_10(n)) for n in (40, 164)]
    found += [
        Kind("mean over 27 tasks of 146-250", 6511, _macro([146, 178, 187] + [250] * 24)),
        Kind("mean over 27 tasks of 3-4", 102, _macro([3, 4, 4, 4, 3, 4, 4, 4, 4] * 3)),
        Kind("mean over 9 unequal groups", 534, _macro([20, 113, 44, 78, 56, 27, 81, 49, 66])),
    ]
    found += [
        Kind(f"{count} clusters of 1-10, icc {icc}, mean {p}", count, _clustered(count, icc, p))
        for count in (10, 20, 50, 150)
        for icc in (0.0, 0.2, 0.6)
        for p in (0.15, 0.5)
    ]
    found += [Kind("50 clusters of 1-10, icc 0.6, mean 0.05", 50, _clustered(50, 0.6, 0.05))]
    found += [Kind("clusters in 9 groups, mean over groups", 900, _clustered_macro())]
    found += [
        Kind(f"difference, {name}", n, _difference(name, n), name.startswith("no"))
        for name in ("0/1", "F1", "F1, few differ", "none in truth", "no F1, few differ")
        for n in (30, 100, 400)
    ]
    found += [
        Kind(f"{name}, {count} clusters", count, _clustered_difference(gain, count), gain == 0)
        for name, gain in {"difference": 0.1, "no difference": 0.0}.items()
        for count in (10, 20, 50)
    ]
    found += [
        Kind(f"difference, {share} of clusters change", n, _clusters_change(share, n))
        for share in (0.1, 0.3)
        for n in (20, 50, 150)
    ]
    found += [
        Kind("average of tasks, settings together", 6, _tasks_mean),
        Kind("mean of six benchmarks", 6, _suite_mean),
        Kind("difference of means of six", 6, _suite_difference(0.05)),
        Kind("no difference of means of six", 6, _suite_difference(0.0), null=True),
        Kind("three seeds against one base", 3, _seeds),
    ]
    return found


def _keyed(values: Any, clusters: Any = None) -> Items:
    """Items of the values in order."""
    names = {} if clusters is None else {str(i): f"c{one}" for i, one in enumerate(clusters)}
    return Items({str(index): float(value) for index, value in enumerate(values)}, clusters=names)


def _f1(shares: tuple[float, float], n: int) -> Trial:
    """Scores of 0, of 1, and between, with these shares of 0 and 1."""
    none, full = shares
    truth = full + (1 - none - full) / 2

    def trial(rng: Rng) -> tuple[Any, float]:
        u = rng.random(n)
        between = rng.beta(2, 2, n)
        scores = np.where(u < none, 0.0, np.where(u < none + full, 1.0, between))
        return mean_interval(scores.tolist()), truth

    return trial


def _pass_at_10(n: int) -> Trial:
    """Problems with a chance each, 20 samples of each, the unbiased estimate of pass@10."""
    truth = 1 - math.prod((1.5 + i) / (1.8 + i) for i in range(10))  # E (1-p)^10 of Beta(0.3, 1.5)
    found = np.array([pass_at(10, 20, passed) for passed in range(21)])

    def trial(rng: Rng) -> tuple[Any, float]:
        right = rng.binomial(20, rng.beta(0.3, 1.5, n))
        return mean_interval(found[right].tolist()), truth

    return trial


def _macro(sizes: list[int]) -> Trial:
    """Groups whose shares are given and differ much; the score is the mean over groups."""
    groups = [f"g{number}" for number, size in enumerate(sizes) for _ in range(size)]
    weights = [len(groups) / (len(sizes) * size) for size in sizes for _ in range(size)]
    chances = np.repeat(np.linspace(0.1, 0.9, len(sizes)), sizes)

    def trial(rng: Rng) -> tuple[Any, float]:
        scores = (rng.random(len(groups)) < chances).astype(float)
        return mean_interval(scores, weights=weights, strata=groups), 0.5

    return trial


def _chances(rng: Rng, count: int, icc: float, p: float) -> Any:
    """A chance for each cluster, so that scores within one correlate by `icc`."""
    if icc == 0:
        return np.full(count, p)
    return rng.beta(p * (1 / icc - 1), (1 - p) * (1 / icc - 1), count)


def _clustered(count: int, icc: float, p: float) -> Trial:
    def trial(rng: Rng) -> tuple[Any, float]:
        cluster = np.repeat(np.arange(count), rng.integers(1, 11, count))
        chance = _chances(rng, count, icc, p)[cluster]
        scores = (rng.random(len(cluster)) < chance).astype(float)
        return mean_interval(scores, clusters=[f"c{one}" for one in cluster]), p

    return trial


def _clustered_macro() -> Trial:
    """Nine groups of 5 to 25 clusters of one to ten 0/1 scores: questions about passages."""

    def trial(rng: Rng) -> tuple[Any, float]:
        scores, clusters, groups, weights = [], [], [], []
        for number, chance in enumerate(np.linspace(0.2, 0.8, 9)):
            count = 5 + 20 * number // 8
            cluster = np.repeat(np.arange(count), rng.integers(1, 11, count))
            chances = _chances(rng, count, 0.3, chance)[cluster]
            scores += list((rng.random(len(cluster)) < chances).astype(float))
            clusters += [f"{number}/{one}" for one in cluster]
            groups += [f"g{number}"] * len(cluster)
            weights += [1 / len(cluster)] * len(cluster)
        return mean_interval(scores, weights=weights, clusters=clusters, strata=groups), 0.5

    return trial


def _graded(rng: Rng, ease: Any) -> Any:
    """F1-like scores that are the higher the easier: mean 0.1 + 0.8 ease."""
    u, between = rng.random(len(ease)), rng.beta(2, 2, len(ease))
    return np.where(u < 0.8 * (1 - ease), 0.0, np.where(u < 0.8, 1.0, between))


def _difference(name: str, n: int) -> Trial:
    def trial(rng: Rng) -> tuple[Any, float]:
        ease = rng.random(n)
        if name == "0/1":
            a, b, truth = rng.random(n) < ease, rng.random(n) < 0.8 * ease, -0.1
        elif name == "none in truth":
            a, b, truth = rng.random(n) < ease, rng.random(n) < ease, 0.0
        elif name == "F1":
            a, b, truth = _graded(rng, ease), _graded(rng, 0.8 * ease), -0.08
        else:  # one item in ten is answered anew
            a, again = _graded(rng, ease), rng.random(n) < 0.1
            null = name.startswith("no")
            fresh = _graded(rng, ease) if null else rng.random(n) < 0.6
            b, truth = np.where(again, fresh, a), 0.0 if null else 0.01
        return paired(_keyed(a), _keyed(b)), truth

    return trial


def _clustered_difference(gain: float, count: int) -> Trial:
    def trial(rng: Rng) -> tuple[Any, float]:
        cluster = np.repeat(np.arange(count), rng.integers(1, 11, count))
        luck = rng.normal(0, 0.15, (2, count))[:, cluster]
        a = rng.random(len(cluster)) < np.clip(0.4 + luck[0], 0.0, 0.8)
        b = rng.random(len(cluster)) < np.clip(0.4 + luck[1], 0.0, 0.8) + gain
        return paired(_keyed(a, cluster), _keyed(b, cluster)), gain

    return trial


def _clusters_change(share: float, count: int) -> Trial:
    """All items of some clusters are answered anew, and better: right by 0.7 where it was 0.5."""

    def trial(rng: Rng) -> tuple[Any, float]:
        cluster = np.repeat(np.arange(count), rng.integers(1, 11, count))
        a, again = rng.random(len(cluster)) < 0.5, (rng.random(count) < share)[cluster]
        b = np.where(again, rng.random(len(cluster)) < 0.7, a)
        return paired(_keyed(a, cluster), _keyed(b, cluster)), 0.2 * share

    return trial


def _tasks_mean(rng: Rng) -> tuple[Any, float]:
    """Six tasks of two settings that ask the same items, of which each item's mean is taken."""
    run = {}
    for number, n in enumerate(SIZES):
        ease = 0.1 * (number + 1) + np.clip(rng.normal(0, 0.05, n), -0.1, 0.1)
        run[str(number)] = _keyed((rng.random((2, n)) < ease).mean(axis=0))
    return suite_mean([run]), 0.35


SIZES = (40, 60, 80, 100, 164, 300)


def _suite_mean(rng: Rng) -> tuple[Any, float]:
    """Six benchmarks of other sizes and scores."""
    chances = np.linspace(0.1, 0.6, 6)
    run = {str(p): _keyed(rng.random(n) < p) for n, p in zip(SIZES, chances, strict=True)}
    return suite_mean([run]), 0.35


def _suite_difference(gain: float) -> Trial:
    def trial(rng: Rng) -> tuple[Any, float]:
        a, b = {}, {}
        for number, n in enumerate(SIZES):
            ease = 0.8 * rng.random(n)
            a[str(number)] = _keyed(rng.random(n) < ease)
            b[str(number)] = _keyed(rng.random(n) < ease + gain)
        return suite_difference([a], [b]), gain

    return trial


def _seeds(rng: Rng) -> tuple[Any, float]:
    """Three runs whose training luck moves all items together, against one fixed base."""
    ease = 0.1 + 0.6 * rng.random(200)
    base = {"x": _keyed(rng.random(200) < ease)}
    runs = [{"x": _keyed(rng.random(200) < ease + 0.1 + rng.normal(0, 0.03))} for _ in range(3)]
    return suite_difference([base], runs), 0.1


def main() -> None:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(f"{'kind':52}{'n':>6}{'covered':>9}{'width':>8}{'p<.05':>8}")
    for n in (20, 50, 100, 164, 400, 1000):
        found, least, most = exact_row(n)
        _say(found, rows)
        print(f"    of single p from {100 * least:.1f} to {100 * most:.1f} %")
    for n in (30, 60, 100, 200, 1000):
        for psi in (0.02, 0.04, 0.07, 0.1, 0.2, 0.4):
            found, least, most = pairs_row(n, psi)
            _say(found, rows)
            effect, power = power_row(n, psi)
            print(
                f"    by the difference from {100 * least:.1f} to {100 * most:.1f} %; the smallest "
                f"effect, {100 * effect:.1f}, is found {100 * power:.1f} times in 100",
                flush=True,
            )
        compared.cache_clear()
    for kind in kinds():
        sys.stdout.flush()
        _say(simulate(kind, given.rounds, given.seed), rows)
    write_json(OUT, {"rounds": given.rounds, "seed": given.seed, "rows": rows})


def _say(found: Found, rows: list[dict[str, Any]]) -> None:
    rejected = "" if math.isnan(found.rejected) else f"{100 * found.rejected:.1f}"
    width = "" if math.isnan(found.width) else f"{100 * found.width:.1f}"
    print(f"{found.name:52}{found.n:>6}{100 * found.covered:>9.1f}{width:>8}{rejected:>8}")
    if not BAND[0] <= found.covered <= BAND[1]:
        print(f"outside 93 to 97 %: {found.name}, n {found.n}", file=sys.stderr)
    facts = {"name": found.name, "n": found.n, "covered": found.covered}
    extra = {"width": found.width, "rejected": found.rejected}
    rows.append(facts | {key: None if math.isnan(v) else v for key, v in extra.items()})


if __name__ == "__main__":
    main()
