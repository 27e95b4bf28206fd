"""How far raters agree: exactly, with ties discounted, and beyond chance (kappa, alpha, AC1, AC2).

Any number of raters may have rated any of the items. Two kinds of measure: the mean agreement of
two who rated the same item, with the interval of any mean (`stats.mean_interval`), and coefficients
1 - D / E, where D is the disagreement seen and E the disagreement of chance, with percentile
bootstrap intervals over items (2000 seeded resamples, ratings of an item together, items of one
cluster together, those with one rating apart from those with more, because the design fixed how
many there are of each). Sources: Cohen, Educational and Psychological Measurement 20 (1960);
Krippendorff, Content Analysis, 2004, chapter 11; Gwet, British Journal of Mathematical and
Statistical Psychology 61 (2008), and Handbook of Inter-Rater Reliability, 2014, for AC2 and for
ratings that are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from cameleer.results.judgements import level, pairs
from cameleer.results.records import Judgement
from cameleer.results.stats import Estimate, mean_interval

RESAMPLES, SEED = 2000, 20230607
FLOATS = 1 << 22  # as many numbers are held at once for resamples

Metric = Literal["nominal", "ordinal", "interval"]
Scores = Literal["identity", "linear", "quadratic"]

PLAIN = ("exact", "kappa", "alpha", "ac1")
GRADED = ("alpha_ordinal", "ac2")


@dataclass(frozen=True, slots=True)
class Agreement:
    """A measure of agreement with its 95 % interval, from `n` items with two ratings or more.

    value: None where it is not defined: no item has two ratings, or all ratings are the same and
    chance would agree as well. low, high: None with it.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Ratings:
    """R ratings of items by raters, sorted by item; each a value out of K known ones.

    values: the K that there can be, ascending; raters: their names. item, rater, value: [R]
    numbers from 0. clusters: [items] numbers from 0, of items that do not vary independently.
    """

    values: tuple[float, ...]
    raters: tuple[str, ...]
    item: Any
    rater: Any
    value: Any
    clusters: Any
    counts: Any = field(repr=False)
    """[items, K]: how many gave each value."""

    @classmethod
    def of(
        cls,
        ratings: Iterable[tuple[str, str, float]],
        values: Sequence[float],
        clusters: Mapping[str, str] | None = None,
    ) -> Ratings:
        """From (item, rater, value); clusters: by item, one without a name is alone.

        Raises ValueError for a value that is none of `values`, or two of one rater for one item.
        """
        known = tuple(sorted(values))
        items: dict[str, int] = {}
        raters: dict[str, int] = {}
        found: dict[tuple[int, int], int] = {}
        for item, rater, value in ratings:
            at = (items.setdefault(item, len(items)), raters.setdefault(rater, len(raters)))
            if at in found:
                raise ValueError(f"'{rater}' rated '{item}' twice")
            found[at] = known.index(value)
        rows = np.array([(*at, value) for at, value in found.items()], dtype=int).reshape(-1, 3)
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        counts = np.zeros((len(items), len(known)))
        np.add.at(counts, (rows[:, 0], rows[:, 2]), 1)
        names = [(clusters or {}).get(item) or (number,) for item, number in items.items()]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        told = np.array([numbers[name] for name in names], dtype=int)
        columns = (rows[:, 0], rows[:, 1], rows[:, 2])
        return cls(known, tuple(raters), *columns, told, counts)

    @property
    def sizes(self) -> Any:
        """[items]: ratings of each."""
        return self.counts.sum(axis=1)

    @property
    def several(self) -> Any:
        """[items]: whether it has two ratings or more."""
        return self.sizes > 1


def preference_ratings(judgements: Iterable[Judgement], levels: Literal[3, 5] = 3) -> Ratings:
    """Preferences as ratings: -1 for A, 0 for neither, 1 for B; of five levels, from -2 to 2.

    An item is one item of one pair; items of one key are a cluster. Of several verdicts by one
    rater on one item the last counts.
    """
    last: dict[tuple[str, str], float] = {}
    clusters: dict[str, str] = {}
    for (a, b), given in pairs(judgements).items():
        for one in given:
            if one.preference is not None:
                key = "\0".join((a, b, one.item))
                lean = level(one.preference) - 2
                last[key, one.who] = float(lean if levels == 5 else np.sign(lean))
                clusters[key] = one.item
    values = range(-(levels // 2), levels // 2 + 1)
    return Ratings.of(((*key, value) for key, value in last.items()), list(values), clusters)


def acceptance_ratings(judgements: Iterable[Judgement], *, unanswered: bool = False) -> Ratings:
    """Acceptability as ratings 0 and 1; an item is one model's answer in one item of one pair.

    Clusters and repeats as in `preference_ratings`. unanswered: what was left open is a rating of
    its own, -1, and not none.
    """
    last: dict[tuple[str, str], float] = {}
    clusters: dict[str, str] = {}
    for (a, b), given in pairs(judgements).items():
        for one in given:
            for model, answer in zip((a, b), one.acceptable, strict=True):
                if answer is not None or unanswered:
                    key = "\0".join((a, b, one.item, model))
                    last[key, one.who] = -1.0 if answer is None else float(answer)
                    clusters[key] = one.item
    values = (-1, 0, 1) if -1.0 in last.values() else (0, 1)
    return Ratings.of(((*key, value) for key, value in last.items()), values, clusters)


def exact(ratings: Ratings) -> Agreement:
    """How often two who rated the same item said the same, each item weighing the same."""
    return _mean_of_pairs(ratings, np.eye(len(ratings.values)))


def tie_discounted(ratings: Ratings, tie: float = 0.0) -> Agreement:
    """Agreement where a `tie` against anything else counts half (paper App. G.2)."""
    score = np.eye(len(ratings.values))
    if tie in ratings.values:
        at = ratings.values.index(tie)
        score[at, :] = score[:, at] = 0.5
        score[at, at] = 1.0
    return _mean_of_pairs(ratings, score)


def kappa(ratings: Ratings) -> Agreement:
    """Cohen's kappa for two raters, and its like for more who rated some items each.

    Chance: both throw by the shares of their own ratings; over those pairs of raters that met.
    """
    return _coefficients(ratings, {"kappa": partial(_kappa, ratings)})["kappa"]


def alpha(ratings: Ratings, metric: Metric = "nominal") -> Agreement:
    """Krippendorff's alpha: chance draws two of all the ratings of items that have several.

    metric: of the difference of two values; ordinal takes their mean ranks, interval themselves.
    """
    return _coefficients(ratings, {"alpha": partial(_alpha, ratings, metric)})["alpha"]


def ac1(ratings: Ratings) -> Agreement:
    """Gwet's AC1, which is not fooled where nearly all ratings are the same."""
    return ac2(ratings, "identity")


def ac2(ratings: Ratings, scores: Scores = "quadratic") -> Agreement:
    """Gwet's AC2: near values agree in part, by how far apart they are of all there can be."""
    return _coefficients(ratings, {"ac2": partial(_ac2, ratings, scores)})["ac2"]


def measures(ratings: Ratings, names: Sequence[str] = PLAIN) -> dict[str, Agreement]:
    """Several at once, by name: exact, kappa, alpha, ac1; and for values that are steps of a scale
    alpha_ordinal, alpha_interval and ac2 (quadratic)."""
    known: dict[str, Coefficient] = {
        "kappa": partial(_kappa, ratings),
        "alpha": partial(_alpha, ratings, "nominal"),
        "alpha_ordinal": partial(_alpha, ratings, "ordinal"),
        "alpha_interval": partial(_alpha, ratings, "interval"),
        "ac1": partial(_ac2, ratings, "identity"),
        "ac2": partial(_ac2, ratings, "quadratic"),
    }
    found = _coefficients(ratings, {name: known[name] for name in names if name != "exact"})
    return {name: exact(ratings) if name == "exact" else found[name] for name in names}


def with_others(ratings: Ratings) -> dict[str, Estimate]:
    """How often each rater said what another one said of the same item; by name, if any did."""
    others = ratings.sizes[ratings.item] - 1
    same = ratings.counts[ratings.item, ratings.value] - 1
    met = others > 0
    found = {}
    for number, name in enumerate(ratings.raters):
        own = met & (ratings.rater == number)
        if own.any():
            found[name] = _mean(same[own] / others[own], ratings.clusters[ratings.item[own]])
    return found


def pair_scores(ratings: Ratings, score: Any) -> Any:
    """[items]: mean of score [K, K] over the pairs of ratings of each; nan for a single rating."""
    n, sizes = ratings.counts, ratings.sizes
    both = ((n @ score) * n).sum(axis=1) - n @ np.diag(score)
    met = sizes * (sizes - 1)
    return np.divide(both, met, out=np.full(len(n), np.nan), where=met > 0)


def _mean_of_pairs(ratings: Ratings, score: Any) -> Agreement:
    some = ratings.several
    if not some.any():
        return Agreement(None, None, None, 0)
    found = _mean(pair_scores(ratings, score)[some], ratings.clusters[some])
    return Agreement(found.value, found.low, found.high, found.n)


def _mean(values: Any, clusters: Any) -> Estimate:
    return mean_interval(values.clip(0, 1).tolist(), clusters=clusters.astype(str).tolist())


Coefficient = Callable[[Any], tuple[Any, Any]]
"""Weights of items [B, items] to the disagreement seen and that of chance [B], whose size is that
of two different values in the mean, so that both are shares of such disagreement."""


def _coefficients(ratings: Ratings, wanted: Mapping[str, Coefficient]) -> dict[str, Agreement]:
    n = int(ratings.several.sum())
    if not n:
        return dict.fromkeys(wanted, Agreement(None, None, None, 0))
    once = np.ones((1, len(ratings.counts)))
    drawn: dict[str, list[Any]] = {name: [] for name in wanted}
    for weights in _resamples(ratings):
        for name, one in wanted.items():
            drawn[name].append(_beyond_chance(*one(weights)))
    return {
        name: _limits(ratings, one(once), np.concatenate(drawn[name]), n)
        for name, one in wanted.items()
    }


def _beyond_chance(seen: Any, chance: Any) -> Any:
    return 1 - np.divide(seen, chance, out=np.full(len(seen), np.nan), where=chance > 1e-12)


def _limits(ratings: Ratings, found: tuple[Any, Any], drawn: Any, n: int) -> Agreement:
    value = float(_beyond_chance(*found)[0])
    if np.isnan(value):
        return Agreement(None, None, None, n)
    # A resample in which all ratings are the same has no disagreement either: it counts as 1.
    low, high = np.quantile(np.nan_to_num(drawn, nan=1.0), [0.025, 0.975]).tolist()
    plain = exact(ratings)
    if plain.value in (0, 1) or high - low < 1e-9:
        # All resamples are alike, but not all that might have been drawn: the limits of plain
        # agreement, beyond the same chance.
        low, high = (1 - (1 - end) / float(found[1][0]) for end in (plain.low, plain.high))  # type: ignore[operator]
    return Agreement(value, max(-1.0, min(value, low)), min(1.0, max(value, high)), n)


def _resamples(ratings: Ratings) -> Iterator[Any]:
    """Weights [B, items] of resampled clusters, in parts that fit into memory."""
    clusters = ratings.clusters
    several = np.bincount(clusters, ratings.several) > 0
    groups = [group for group in (np.flatnonzero(several), np.flatnonzero(~several)) if len(group)]
    random = np.random.default_rng(SEED)
    part = max(1, FLOATS // max(1, len(ratings.item) * len(ratings.values)))
    for start in range(0, RESAMPLES, part):
        count = min(part, RESAMPLES - start)
        times = np.zeros((count, len(several)))
        for group in groups:
            drawn = random.integers(len(group), size=(count, len(group)))
            drawn += np.arange(count)[:, None] * len(group)
            times[:, group] = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        yield times[:, clusters]


def _seen(ratings: Ratings, weights: Any, score: Any) -> Any:
    """1 - agreement [B] of two who rated the same item."""
    agreed = np.nan_to_num(pair_scores(ratings, score))
    return 1 - (weights @ agreed) / (weights @ ratings.several)


def _kappa(ratings: Ratings, weights: Any) -> tuple[Any, Any]:
    k = len(ratings.values)
    raters = len(ratings.raters)
    cells = ratings.rater * k + ratings.value
    order = np.argsort(cells, kind="stable")
    there, starts = np.unique(cells[order], return_index=True)
    given = np.zeros((len(weights), raters * k))
    given[:, there] = np.add.reduceat(weights[:, ratings.item[order]], starts, axis=1)
    thrown = given.reshape(len(weights), raters, k)
    shares = thrown / np.maximum(thrown.sum(axis=2, keepdims=True), 1e-12)
    # For one item, the sum over its pairs of raters of p_g . p_h is |sum p_g|^2 - sum |p_g|^2.
    met = ratings.several[ratings.item]
    several, starts = np.unique(ratings.item[met], return_index=True)
    each = shares[:, ratings.rater[met]]
    together = (np.add.reduceat(each, starts, axis=1) ** 2).sum(axis=2)
    alone = np.add.reduceat((each**2).sum(axis=2), starts, axis=1)
    sizes, times = ratings.sizes[several], weights[:, several]
    chance = (times * (together - alone) / (sizes * (sizes - 1))).sum(axis=1) / times.sum(axis=1)
    return _seen(ratings, weights, np.eye(k)), 1 - chance


def _ac2(ratings: Ratings, scores: Scores, weights: Any) -> tuple[Any, Any]:
    k = len(ratings.values)
    score = _scores(ratings.values, scores)
    share = (weights @ (ratings.counts / ratings.sizes[:, None])) / weights.sum(
        axis=1, keepdims=True
    )
    chance = score.sum() / (k * (k - 1)) * (share * (1 - share)).sum(axis=1)
    return _seen(ratings, weights, score), 1 - chance


def _scores(values: Sequence[float], scores: Scores) -> Any:
    """[K, K]: how far two values agree, from 0 for the two farthest to 1 for the same."""
    if scores == "identity":
        return np.eye(len(values))
    apart = np.abs(np.subtract.outer(values, values)) / (max(values) - min(values))
    return 1 - (apart if scores == "linear" else apart**2)


def _alpha(ratings: Ratings, metric: Metric, weights: Any) -> tuple[Any, Any]:
    some = ratings.several
    counts, sizes, times = ratings.counts[some], ratings.sizes[some], weights[:, some]
    given = times @ counts
    total = given.sum(axis=1)
    differ = (total**2 - (given**2).sum(axis=1)) / (total * (total - 1))
    if metric == "nominal":
        return times @ ((sizes**2 - (counts**2).sum(axis=1)) / (sizes - 1)) / total, differ
    # Mean ranks are those among the ratings drawn; their differences are Krippendorff's ordinal.
    place = np.cumsum(given, axis=1) - given / 2
    if metric == "interval":
        place = np.broadcast_to(np.asarray(ratings.values, dtype=float), given.shape)
    sums, squares = place @ counts.T, place**2 @ counts.T
    seen = (times * (sizes * squares - sums**2) / (sizes - 1)).sum(axis=1) / total
    spread = total * (given * place**2).sum(axis=1) - (given * place).sum(axis=1) ** 2
    chance = spread / (total * (total - 1))
    ratio = np.divide(seen, chance, out=np.zeros(len(seen)), where=chance > 0)
    return ratio * differ, differ
