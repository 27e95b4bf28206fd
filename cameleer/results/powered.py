"""A win rate from few human labels and many verdicts of a judge: prediction-powered inference.

A judge's win rate is sure of itself and may be wrong; that of a few people is right and unsure.
Where people and judge have looked at the same answers the judge's error is seen, and taken off what
it says of all (Angelopoulos et al., arXiv 2301.09633), as far as its verdicts go with those of
people (PPI++, arXiv 2311.01453). The published interval holds the truth far too seldom where labels
are few or nearly all alike. What is done about that stands at `powered`; how often the interval
holds the truth is counted by simulation (bench/powered).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cameleer.core.errors import UserError
from cameleer.results.judgements import Pair, pairs
from cameleer.results.records import Judgement
from cameleer.results.stats import (
    NOTHING,
    Estimate,
    mean_interval,
    t_p,
    t_quantile,
    wilson,
)

FEW = 20
"""Of fewer labelled items the corrected interval is hardly narrower than the labels' own, and holds
the truth less often than it says."""
HALVES = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
"""What a label and the verdict beside it can be; half an item of each is added to those seen."""

Where = tuple[str, str, str]
"""An item and the two models whose answers to it are compared."""


@dataclass(frozen=True, slots=True)
class Powered:
    """A mean in 0..1 by people alone, by the judge alone, and by both.

    labels: how many items people labelled; verdicts: how many the judge has a verdict of. people:
    from the labels. judge: from all verdicts, as if it never erred. corrected: from both. power:
    how much of the judge is used, PPI++'s lambda in 0..1. effective: so many labels alone would be
    as sure as `corrected`. odd: two-sided p that the judge thinks of the labelled items as of the
    others; small where the labels are no random part of all items. note: why `corrected` is no
    more than `people`, or "".
    """

    labels: int
    verdicts: int
    people: Estimate
    judge: Estimate
    corrected: Estimate
    power: float
    effective: float
    odd: float
    note: str = ""

    @property
    def saved(self) -> float:
        """How many further labels the judge's verdicts are worth."""
        return self.effective - self.labels


def powered(
    labels: Sequence[float],
    verdicts: Sequence[float],
    others: Sequence[float],
    level: float = 0.95,
    *,
    weights: tuple[Sequence[float], Sequence[float]] | None = None,
    clusters: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Powered:
    """The mean label over all items, with an interval at `level`.

    labels [n]: what people said of n items, in 0..1; verdicts [n]: what the judge said of them;
    others [N]: what it said of items without a label, of which the labelled ones are to be a random
    part. weights, clusters: ([n], [N]) of the items with and without a label. Items of one cluster
    do not vary independently (one instruction that several pairs of models answered); one without a
    name is alone.

    The estimate is that of PPI++, mean(labels) - power (mean(verdicts) - mean(others)) with
    power = cov(labels, verdicts) / ((1 + n/N) var(verdicts and others)), both cut to 0..1.
    Its variance v is that of the mean of labels - power verdicts plus that of power others, where
    half an item each of labels 0 and 1 with verdicts 0 and 1 is added to the labels (as Agresti and
    Min do for differences of paired shares, Statistics in Medicine 24, 2005): a judge that agreed
    on all of 30 labels is not taken to be always right. The interval is Wilson's for as many throws
    as would vary like that, m (1 - m) / v, where m is the estimate with those halves, and with
    Student's quantile of n - 2 degrees of freedom: one is lost to the mean, one to the power.
    Where there are clusters, sums over them stand in the place of items. With fewer than FEW
    labelled clusters, or with no others, the estimate is `mean_interval` of the labels, and `note`
    says so.

    Raises ValueError for values outside 0..1, for no labels, or for lengths that differ.
    """
    both = clusters or ([""] * len(labels), [""] * len(others))
    heavy = weights or ([1.0] * len(labels), [1.0] * len(others))
    table = _table(labels, verdicts, others, heavy, both)
    people = mean_interval(labels, level, weights=weights and weights[0], clusters=both[0])
    n = len(labels)
    # Either side counts as many items as it has, whatever its weights add up to.
    even = [len(side) * one / sum(side) for side in heavy for one in side] if weights else None
    judge = mean_interval([*verdicts, *others], level, weights=even, clusters=[*both[0], *both[1]])
    facts = (n, n + len(others), people, judge)
    note = _too_little(table)
    if note:
        return Powered(*facts, people, 0.0, float(n), 1.0, note)
    power = _power(table)
    worth = n * _variance(table, 0.0) / _variance(table, power)
    return Powered(*facts, _interval(table, power, level), power, worth, _odd(table))


@dataclass(frozen=True, slots=True)
class _Side:
    """Items with or without a label: the judge's verdicts on them, their weights, whose sum is 1,
    and the numbers of their clusters, [n] each."""

    verdicts: Any
    weights: Any
    clusters: Any

    def mean(self, values: Any) -> float:
        return float(self.weights @ values)

    def sums(self, values: Any, count: int) -> Any:
        """How much each cluster moves the mean of values [n], [count]."""
        moved = self.weights * (values - self.mean(values))
        return np.bincount(self.clusters, moved, minlength=count)

    @property
    def groups(self) -> int:
        """How many clusters there are."""
        return len(np.unique(self.clusters))


@dataclass(frozen=True, slots=True)
class _Table:
    """Labels [n] of the labelled items, these and the others; `count` clusters in all."""

    labels: Any
    labelled: _Side
    others: _Side
    count: int


def _table(
    labels: Sequence[float],
    verdicts: Sequence[float],
    others: Sequence[float],
    weights: tuple[Sequence[float], Sequence[float]],
    clusters: tuple[Sequence[str], Sequence[str]],
) -> _Table:
    numbers: dict[Any, int] = {}
    sides = []
    for values, heavy, names in zip((verdicts, others), weights, clusters, strict=True):
        if not len(values) == len(heavy) == len(names):
            raise ValueError("needs a weight and a cluster for each item, or for none")
        found = [numbers.setdefault(name or len(numbers), len(numbers)) for name in names]
        shares = np.asarray(heavy, dtype=float) / max(sum(heavy), 1e-300)
        sides.append(_Side(np.asarray(values, dtype=float), shares, np.array(found, dtype=int)))
    truth = np.asarray(labels, dtype=float)
    if not len(truth) or len(truth) != len(verdicts):
        raise ValueError("needs labels, and a verdict beside each")
    if not all(((part >= 0) & (part <= 1)).all() for part in (truth, *(s.verdicts for s in sides))):
        raise ValueError("labels and verdicts must lie in 0..1")
    return _Table(truth, sides[0], sides[1], len(numbers))


def _too_little(table: _Table) -> str:
    """Why there is nothing to correct by, or ""."""
    if table.labelled.groups < FEW:
        return f"{table.labelled.groups} labelled items are too few: {FEW} are needed"
    if not len(table.others.verdicts):
        return "the judge has no verdict beyond the labelled items: nothing can be gained"
    return ""


def _power(table: _Table) -> float:
    """PPI++'s lambda for a mean; with clusters, of their sums."""
    labelled, others = table.labelled, table.others
    n, more = len(labelled.verdicts), len(others.verdicts)
    every = _Side(
        np.concatenate([labelled.verdicts, others.verdicts]),
        np.concatenate([n * labelled.weights, more * others.weights]) / (n + more),
        np.concatenate([labelled.clusters, others.clusters]),
    )
    sums = (n + more) * every.sums(every.verdicts, table.count)
    spread = float(sums @ sums) / (n + more - 1)
    first = n * labelled.sums(table.labels, table.count)
    together = float(first @ (n * labelled.sums(labelled.verdicts, table.count))) / n
    if spread <= NOTHING:
        return 0.0
    return min(1.0, max(0.0, together / ((1 + n / more) * spread)))


def _variance(table: _Table, power: float) -> float:
    """The variance of the estimate, halves of items added to the labelled ones."""
    labelled, others = table.labelled, table.others
    groups, rest = labelled.groups, others.groups
    residuals, added = table.labels - power * labelled.verdicts, HALVES @ (1.0, -power)
    # What is added weighs as two average clusters do, and its four kinds as half of one each.
    mean = (groups * labelled.mean(residuals) + added.sum() / 2) / (groups + 2)
    seen = np.bincount(
        labelled.clusters, labelled.weights * (residuals - mean), minlength=table.count
    )
    share = groups / (groups + 2)
    unseen = float(((added - mean) ** 2).sum()) / 2 / (groups + 2) ** 2
    # A cluster with items on both sides moves both at once.
    moved = math.sqrt(share) * seen + power * math.sqrt(rest / max(1, rest - 1)) * others.sums(
        others.verdicts, table.count
    )
    return float(moved @ moved) + unseen / share


def _interval(table: _Table, power: float, level: float) -> Estimate:
    labelled, others = table.labelled, table.others
    raw = labelled.mean(table.labels - power * labelled.verdicts)
    value = min(1.0, max(0.0, raw + power * others.mean(others.verdicts)))
    middle = (value * labelled.groups + 1) / (labelled.groups + 2)  # two items more, one is 1
    throws = middle * (1 - middle) / _variance(table, power)
    even = 1 / float((np.bincount(labelled.clusters, labelled.weights) ** 2).sum())
    limits = wilson(value, throws, t_quantile(max(1.0, even - 2), level))
    return Estimate(value, *limits, len(table.labels) + len(others.verdicts))


def _odd(table: _Table) -> float:
    """p of Welch's test that the verdicts on labelled items have the mean of the others."""
    parts = []
    for side in (table.labelled, table.others):
        sums = side.sums(side.verdicts, table.count)
        parts.append((float(sums @ sums), max(1, side.groups - 1)))
    variance = sum(part for part, _ in parts)
    if variance <= NOTHING:
        return 1.0
    freedom = variance**2 / sum(part**2 / free for part, free in parts)
    means = [side.mean(side.verdicts) for side in (table.labelled, table.others)]
    return t_p((means[0] - means[1]) / math.sqrt(variance), freedom)


@dataclass(frozen=True, slots=True)
class Corrected:
    """How often `b` wins against `a`, a draw counting half, by one judge and by people.

    a is "" where all opponents of b are taken together. found: None where people have labelled
    nothing of it. unknown: verdicts of the judge that are none; unlabelled: the same of people;
    unjudged: labelled items that the judge has no verdict of, which are left out.
    """

    judge: str
    a: str
    b: str
    found: Powered | None
    unknown: int
    unlabelled: int
    unjudged: int


def correct(
    judged: Iterable[Judgement], people: Iterable[Judgement], level: float = 0.95
) -> list[Corrected]:
    """What people would say of all that was judged: a row for each judge and pair of models.

    Several verdicts on one item and pair are averaged, and so are several people's. A pair stands
    as the judge has it. A model with several opponents gets one row more, against all of
    them, clustered by item. Raises UserError where people and judges share nothing.
    """
    labels = opinion(people)
    rows = [
        row
        for judge, judgements in by_judge(judged).items()
        for row in _corrected(judge, judgements, labels, level)
    ]
    if not any(row.found for row in rows):
        raise UserError(
            "people labelled nothing that was judged: no item and pair of models is in both",
            hint="item keys and names of models must be the same in both files",
        )
    return rows


@dataclass(frozen=True, slots=True)
class Opinion:
    """What was said of each item and pair of models, who stand in the order of their names.

    shares: mean preference for the second of them, in 0..1; unknown: how many times there was no
    verdict on a pair.
    """

    shares: Mapping[Where, float]
    unknown: Mapping[Pair, int]

    def of(self, a: str, b: str) -> dict[str, float]:
        """Mean preference for b against a, by item."""
        first, second = sorted((a, b))
        return {
            item: share if (a, b) == (first, second) else 1 - share
            for (item, *models), share in self.shares.items()
            if models == [first, second]
        }


def by_judge(judgements: Iterable[Judgement]) -> dict[str, list[Judgement]]:
    """Judgements by who gave them, in the order of the first."""
    found: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        found.setdefault(judgement.who, []).append(judgement)
    return found


def opinion(judgements: Iterable[Judgement]) -> Opinion:
    """The mean of all verdicts on each item and pair, whoever gave them and in whatever order."""
    said: dict[Where, list[float]] = {}
    unknown: dict[Pair, int] = {}
    for judgement in judgements:
        first, second = sorted((judgement.a, judgement.b))
        if judgement.preference is None:
            unknown[first, second] = unknown.get((first, second), 0) + 1
            continue
        share = judgement.preference - 1
        where = (judgement.item, first, second)
        said.setdefault(where, []).append(share if judgement.a == first else 1 - share)
    return Opinion({where: math.fsum(all_) / len(all_) for where, all_ in said.items()}, unknown)


def _corrected(
    judge: str, judgements: Sequence[Judgement], labels: Opinion, level: float
) -> list[Corrected]:
    """The rows of one judge: its pairs, then models with several opponents."""
    verdicts = opinion(judgements)
    found = list(pairs(judgements))
    split = {pair: _split(pair, verdicts, labels) for pair in found}
    rows = [_row(judge, [pair], split, verdicts, labels, level) for pair in found]
    for model in dict.fromkeys(name for pair in found for name in pair):
        against = [(b if model == a else a, model) for a, b in found if model in (a, b) and a != b]
        turned = {pair: _split(pair, verdicts, labels) for pair in against}
        if len(against) > 1 and all(part.both and part.others for part in turned.values()):
            rows.append(_row(judge, against, turned, verdicts, labels, level))
    return rows


@dataclass(frozen=True, slots=True)
class _Split:
    """A pair's items: those with label and verdict, those with a verdict only (item to share), and
    how many have a label only."""

    both: dict[str, tuple[float, float]]
    others: dict[str, float]
    unjudged: int


def _split(pair: Pair, verdicts: Opinion, labels: Opinion) -> _Split:
    said, told = verdicts.of(*pair), labels.of(*pair)
    return _Split(
        {item: (told[item], share) for item, share in said.items() if item in told},
        {item: share for item, share in said.items() if item not in told},
        len(told.keys() - said.keys()),
    )


def _row(
    judge: str,
    against: Sequence[Pair],
    split: Mapping[Pair, _Split],
    verdicts: Opinion,
    labels: Opinion,
    level: float,
) -> Corrected:
    """One row over pairs, the second model of which is the same."""
    known = [(min(pair), max(pair)) for pair in against]
    unknown, unlabelled = (
        sum(part.unknown.get(pair, 0) for pair in known) for part in (verdicts, labels)
    )
    a = against[0][0] if len(against) == 1 else ""
    found = _pooled([split[pair] for pair in against], level)
    unjudged = sum(split[pair].unjudged for pair in against)
    return Corrected(judge, a, against[0][1], found, unknown, unlabelled, unjudged)


def _pooled(parts: Sequence[_Split], level: float) -> Powered | None:
    """The estimate over the items of one or several pairs; None without labels.

    Each pair weighs by how many of its items are judged, however many of them are labelled.
    """
    labelled = [(item, *values) for part in parts for item, values in part.both.items()]
    others = [(item, share) for part in parts for item, share in part.others.items()]
    if not labelled:
        return None
    sizes = [len(part.both) + len(part.others) for part in parts]
    counts = [[len(part.both) for part in parts], [len(part.others) for part in parts]]
    weights = [
        [size / count for size, count in zip(sizes, side, strict=True) for _ in range(count)]
        for side in counts
    ]
    return powered(
        [label for _, label, _ in labelled],
        [verdict for *_, verdict in labelled],
        [verdict for _, verdict in others],
        level,
        weights=(weights[0], weights[1]) if len(parts) > 1 else None,
        clusters=([item for item, *_ in labelled], [item for item, _ in others]),
    )
