"""What sways a judge besides quality: the order shown, length, lists; and does it say it twice.

Everything is counted from verdicts and the texts judged. A preference for longer answers is not yet
a bias, since longer answers may be better: it is laid beside what people prefer of the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from cameleer.results.judgements import swapped
from cameleer.results.powered import Where
from cameleer.results.records import Judgement
from cameleer.results.stats import Estimate, Items, mean_interval, t_quantile

NEITHER = 1e-9  # a preference no further from the middle is for neither
LONGER = 30  # characters that an answer must have more to be called longer, as AlpacaEval has it
STEPS = 50  # of Newton's method, which needs about six
CERTAIN = 30.0  # a coefficient beyond that means that nothing but certainty fits
ITEM = re.compile(r"^[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+\S", re.MULTILINE)
PUBLISHED_ITEM = re.compile(r"[•*-]\s*\w|[\da-zA-Z][.)]\s*\w")

Texts = Mapping[Where, tuple[str, str]]
"""Both answers to an item, of the two models in the order of their names."""
Sides = Mapping[Where, int]
"""Which of two answers has more of something: 1 the second, -1 the first; 0 neither."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judgement that prefers something: `share` in 0..1 is for the second of its models, which
    stand in the order of their names; second_first: whether that one was shown first."""

    where: Where
    who: str
    share: float
    second_first: bool | None

    @property
    def winner(self) -> int:
        """1 for the second, -1 for the first, 0 for neither."""
        return side(self.share)


def side(share: float) -> int:
    """Which of two a share in 0..1 of preference for the second is for."""
    apart = share - 0.5
    return 0 if abs(apart) < NEITHER else 1 if apart > 0 else -1


def verdicts(judgements: Iterable[Judgement]) -> list[Verdict]:
    """The judgements that prefer something."""
    turned = [one if one.a <= one.b else swapped(one) for one in judgements]
    return [
        Verdict((one.item, one.a, one.b), one.who, one.preference - 1, one.b_first)
        for one in turned
        if one.preference is not None
    ]


def first_shown(given: Iterable[Verdict]) -> Estimate | None:
    """The mean preference for the answer shown first; None where no order is known."""
    known = [one for one in given if one.second_first is not None]
    values = [one.share if one.second_first else 1 - one.share for one in known]
    return _mean(values, [one.where for one in known])


@dataclass(frozen=True, slots=True)
class Orders:
    """Pairs of answers shown in both orders. flips: how often another one wins, of which to_first
    the one shown first both times, to_second the one shown second. same: how often the same one
    wins, or neither both times; what is left is a draw in one order only."""

    flips: Estimate
    to_first: Estimate
    to_second: Estimate
    same: Estimate


def both_orders(given: Iterable[Verdict]) -> Orders | None:
    """What turning the order does (Zheng et al. 2023, section 3.3); None where none was turned.

    The k-th verdict that somebody gave in one order goes with the k-th in the other.
    """
    shown: dict[tuple[Where, str], tuple[list[int], list[int]]] = {}
    for one in given:
        if one.second_first is not None:
            shown.setdefault((one.where, one.who), ([], []))[one.second_first].append(one.winner)
    # The winner while the first of the two models was shown first, and while the second was.
    both = [
        (where, *two) for (where, _), sides in shown.items() for two in zip(*sides, strict=False)
    ]
    if not both:
        return None
    places = [where for where, *_ in both]
    shares = [
        [float(one * other < 0) for _, one, other in both],
        [float(one < 0 < other) for _, one, other in both],
        [float(other < 0 < one) for _, one, other in both],
        [float(one == other) for _, one, other in both],
    ]
    return Orders(*(_estimate(values, places) for values in shares))


def repeats(given: Iterable[Verdict]) -> Estimate | None:
    """How often two verdicts of one judge on the same, shown in the same order, prefer the same.

    Of several, the mean over pairs of them; None where nothing was judged twice.
    """
    said: dict[tuple[Where, str, bool | None], list[int]] = {}
    for one in given:
        said.setdefault((one.where, one.who, one.second_first), []).append(one.winner)
    same = {
        at: [a == b for a, b in combinations(winners, 2)]
        for at, winners in said.items()
        if len(winners) > 1
    }
    return _mean([sum(found) / len(found) for found in same.values()], [at[0] for at in same])


def longer(texts: Texts) -> Sides:
    """Which answer is longer, by more than LONGER characters."""
    return {where: _more(len(a), len(b), LONGER) for where, (a, b) in texts.items()}


def lists(texts: Texts) -> Sides:
    """Which answer holds a list where the other does not: two lines or more that begin with a
    bullet or a number."""
    return _has(texts, lambda text: len(ITEM.findall(text)) > 1)


def lists_as_published(texts: Texts) -> Sides:
    """The same by AlpacaEval's rule, which takes a letter or number with a full stop, or a hyphen,
    before a word for a list wherever it stands: most texts of two sentences hold one."""
    return _has(texts, lambda text: PUBLISHED_ITEM.search(text) is not None)


def _has(texts: Texts, holds: Callable[[str], bool]) -> Sides:
    return {where: int(holds(b)) - int(holds(a)) for where, (a, b) in texts.items()}


def _more(a: int, b: int, margin: int) -> int:
    return int(b - a > margin) - int(a - b > margin)


def prefers(given: Iterable[Verdict], sides: Sides) -> Estimate | None:
    """How often the answer that has more of it wins, where one has and one wins; None for never.

    With `longer` and AlpacaEval's margin that is its "Proba. prefer longer".
    """
    told = [one for one in given if one.winner and sides.get(one.where)]
    values = [float(one.winner == sides[one.where]) for one in told]
    return _mean(values, [one.where for one in told])


def preferring(shares: Mapping[Where, float], sides: Sides) -> Items:
    """The same item by item, for a paired comparison: 1 where the one that has more wins."""
    told = {where: side(share) for where, share in shares.items() if sides.get(where)}
    return keyed({where: float(won == sides[where]) for where, won in told.items() if won})


def keyed(values: Mapping[Where, float]) -> Items:
    """Scores of items and pairs of models, those of one item as a cluster."""
    return Items(
        {"\0".join(where): value for where, value in values.items()},
        clusters={"\0".join(where): where[0] for where in values},
    )


@dataclass(frozen=True, slots=True)
class Doubling:
    """By how much the odds to win grow where an answer is twice as long as the other, with its
    interval; n: verdicts that it is fitted to."""

    odds: float
    low: float
    high: float
    n: int


def doubling(given: Iterable[Verdict], texts: Texts, level: float = 0.95) -> Doubling | None:
    """The slope of preference on the logarithm of the ratio of lengths in characters.

    Logistic regression with a constant for each pair of models, so that models which are both
    better and longer do not make it; draws count half (quasi-likelihood), and the variance is the
    sandwich with items as clusters. An empty answer counts as one character. None where it cannot
    be fitted: too little varies, or length decides everything.
    """
    told = _varied([one for one in given if one.where in texts])
    if not told:
        return None
    pairs = sorted({one.where[1:] for one in told})
    x = np.array([_doublings(*texts[one.where]) for one in told])
    design = np.zeros((len(told), len(pairs) + 1))
    design[:, 0] = x
    design[np.arange(len(told)), [1 + pairs.index(one.where[1:]) for one in told]] = 1
    items = np.unique([one.where[0] for one in told], return_inverse=True)[1]
    fitted = _logistic(np.array([one.share for one in told]), design, items)
    if fitted is None:
        return None
    slope, error = fitted
    t = t_quantile(int(items.max()), level)
    limits = [math.exp(min(50.0, slope + sign * t * error)) for sign in (0, -1, 1)]
    return Doubling(limits[0], limits[1], limits[2], len(told))


def _varied(given: Sequence[Verdict]) -> list[Verdict]:
    """Those of pairs of models on which not all verdicts are the same."""
    said: dict[tuple[str, ...], set[float]] = {}
    for one in given:
        said.setdefault(one.where[1:], set()).add(one.share)
    return [one for one in given if len(said[one.where[1:]]) > 1]


def _doublings(a: str, b: str) -> float:
    return math.log2(max(1, len(b)) / max(1, len(a)))


def _logistic(y: Any, x: Any, clusters: Any) -> tuple[float, float] | None:
    """(first coefficient, its standard error) by Newton's method; None without a finite one."""
    count = int(clusters.max()) + 1
    beta = np.zeros(x.shape[1])
    for _ in range(STEPS):
        mean = 1 / (1 + np.exp(-np.clip(x @ beta, -CERTAIN, CERTAIN)))
        bend = x.T @ (x * (mean * (1 - mean))[:, None])
        if count < 2 or np.linalg.cond(bend) > 1e12:
            return None
        step = np.linalg.solve(bend, x.T @ (y - mean))
        beta += step
        if float(np.abs(step).max()) < 1e-9:
            break
    else:
        return None
    moved = np.zeros((count, x.shape[1]))
    np.add.at(moved, clusters, x * (y - mean)[:, None])
    inverse = np.linalg.inv(bend)
    variance = (inverse @ (moved.T @ moved) @ inverse)[0, 0] * count / (count - 1)
    return float(beta[0]), math.sqrt(variance)


@dataclass(frozen=True, slots=True)
class Step:
    """How often the longer answer wins where it is `low` to `high` times as long as the other."""

    low: float
    high: float
    share: Estimate


RATIOS = (1.0, 1.25, 1.5, 2.0, 3.0, 5.0, math.inf)


def by_length(given: Iterable[Verdict], texts: Texts) -> list[Step]:
    """How often the longer answer wins, draws half, by how much longer it is."""
    found: dict[int, list[tuple[Where, float]]] = {}
    for one in given:
        ratio = _doublings(*texts[one.where]) if one.where in texts else 0.0
        if ratio:
            step = sum(2 ** abs(ratio) >= least for least in RATIOS) - 1
            found.setdefault(step, []).append(
                (one.where, one.share if ratio > 0 else 1 - one.share)
            )
    return [
        Step(
            RATIOS[step],
            RATIOS[step + 1],
            _estimate([share for _, share in found[step]], [where for where, _ in found[step]]),
        )
        for step in sorted(found)
    ]


def _mean(values: Sequence[float], places: Sequence[Where]) -> Estimate | None:
    return _estimate(values, places) if values else None


def _estimate(values: Sequence[float], places: Sequence[Where]) -> Estimate:
    """A mean of values in 0..1 with its interval; those of one item are a cluster."""
    return mean_interval(values, clusters=[item for item, *_ in places])
