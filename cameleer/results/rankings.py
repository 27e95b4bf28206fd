"""How alike two rankings of a few models are: rank correlations, and how little few models tell.

An interval is that of a test turned round: it holds every correlation of a population, from which
the models could have been drawn, that makes what was found no rarer than one in forty on its side.
The population is one whose two scores have a normal copula, all that ranks know of it; chances are
counted in simulated draws. Unlike Fisher's z and a bootstrap it has a width for rankings that are
equal, and for three models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

Kind = Literal["kendall", "spearman"]
FEWEST = 3  # models; of two there is only: in the same order, or not
SEED, DRAWS, MOST_PAIRS = 42, 4000, 2_000_000  # pairs of models over all draws, for the memory
STEPS = 14  # halvings of -1..1, finer than the draws


@dataclass(frozen=True, slots=True)
class Correlation:
    """A rank correlation in -1..1 over `n` models, with its interval of 95 %."""

    value: float
    low: float
    high: float
    n: int


def rank_correlation(kind: Kind, x: Sequence[float], y: Sequence[float]) -> Correlation | None:
    """Kendall's tau-b (1945) or Spearman's rho (1904; mean ranks for ties) of two scores [n].

    None where there is none: fewer than FEWEST models, or all of one score.
    """
    if len(x) < FEWEST or len(set(x)) == 1 or len(set(y)) == 1:
        return None
    value = _kendall(x, y) if kind == "kendall" else _spearman(x, y)
    return Correlation(value, *_interval(kind, round(value, 9), len(x)), len(x))


def chance_of_equal(n: int) -> float:
    """How likely two rankings of `n` models are one and the same, if nothing ties them."""
    return 1 / math.factorial(n)


@cache
def _interval(kind: Kind, value: float, n: int) -> tuple[float, float]:
    """The correlations at which `value` or more, or less, is seen once in forty."""
    draws = max(200, min(DRAWS, MOST_PAIRS // n**2))
    first, second = np.random.default_rng(SEED).standard_normal((2, draws, n))
    measured = _drawn(kind, first)

    def share(normal: float, least: bool) -> float:
        """How often the population with this normal correlation shows at least (most) `value`."""
        found = measured(normal * first + math.sqrt(1 - normal**2) * second)
        seen = found >= value - 1e-9 if least else found <= value + 1e-9
        return float(seen.mean())

    def limit(least: bool) -> float:
        low, high = -1.0, 1.0
        for _ in range(STEPS):
            middle = (low + high) / 2
            # `at least` grows with the correlation, `at most` falls: both cross 1/40 once.
            rare = share(middle, least) < 0.025
            low, high = (middle, high) if rare == least else (low, middle)
        return _of_normal(kind, (low + high) / 2)

    lowest = -1.0 if value <= -1 + 1e-9 else min(value, limit(least=True))
    highest = 1.0 if value >= 1 - 1e-9 else max(value, limit(least=False))
    return lowest, highest


def _of_normal(kind: Kind, normal: float) -> float:
    """The rank correlation of a bivariate normal population (Kruskal, JASA 53, 1958, 814-861)."""
    if kind == "kendall":
        return 2 / math.pi * math.asin(normal)
    return 6 / math.pi * math.asin(normal / 2)


def _kendall(x: Sequence[float], y: Sequence[float]) -> float:
    """tau-b."""
    signs = [_signs(np.array([one], dtype=float))[0] for one in (x, y)]
    untied = math.sqrt(math.prod(float(one @ one) for one in signs))
    return float(signs[0] @ signs[1]) / untied


def _spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Pearson's correlation of the ranks, the mean one for ties."""
    ranks = [
        np.array([2 * sum(o < v for o in one) + sum(o == v for o in one) for v in one])
        for one in (x, y)
    ]
    return float(np.corrcoef(ranks)[0, 1])


def _drawn(kind: Kind, first: Any) -> Callable[[Any], Any]:
    """What gives the correlation [draws] of `first` with another table [draws, n]; no ties."""
    if kind == "kendall":
        signs = _signs(first)
        return lambda second: (signs * _signs(second)).mean(axis=1)
    ranks = _centred(first)
    spread = (ranks[0] ** 2).sum()
    return lambda second: (ranks * _centred(second)).sum(axis=1) / spread


def _signs(table: Any) -> Any:
    """For every two columns of [draws, n], which is larger: -1, 0 or 1."""
    first, second = np.triu_indices(table.shape[1], 1)
    return np.sign(table[:, first] - table[:, second])


def _centred(table: Any) -> Any:
    """Ranks within each row, less their mean."""
    return table.argsort(axis=1).argsort(axis=1) - (table.shape[1] - 1) / 2
