"""How strong models are over many pairs, and what raters bring to it: order, ties, strictness.

Preferences follow Bradley and Terry's model (Biometrika 39, 1952) with Davidson's ties (Journal of
the American Statistical Association 65, 1970), acceptability a logistic model; raters are effects
in both. All are fitted by penalised maximum likelihood: models' strengths as if drawn from a normal
distribution of standard deviation 3, raters' effects from one of 1, in log odds. That hardly moves
what is well measured, and keeps finite what the data leave open: a model that always wins, a rater
of three items. Intervals are the wider of two, the likelihood's and the one that lets judgements of
one item hang together (Liang and Zeger, Biometrika 73, 1986).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cameleer.results.judgements import TIE
from cameleer.results.records import Judgement
from cameleer.results.stats import Estimate

OF_MODELS, OF_RATERS = 3.0, 1.0  # standard deviations, log odds
STEPS = 100  # of Newton's method; it needs about ten


@dataclass(frozen=True, slots=True)
class Effect:
    """An effect in log odds with its 95 % interval, from `n` judgements."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Strengths:
    """Models on one scale.

    models: log odds to be preferred to the average of these models, were there no ties; strongest
    first. first: log odds that standing first adds to an answer; None where the order is not known.
    ties: log odds of a tie against a win between equals, for the average rater; None where there
    are none. raters: how much readier each one is to call a tie; empty for a single one. notes:
    what the data leave open, in words.
    """

    models: dict[str, Effect]
    first: Effect | None
    ties: Effect | None
    raters: dict[str, Effect]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Accepted:
    """Acceptance with raters' strictness taken out.

    models: the share of each one's answers that the raters at hand would accept, had all of them
    rated it, each weighing as much as the ratings it gave. strictness: of each rater, in log odds
    of refusal against the average rater; empty for a single one.
    """

    models: dict[str, Estimate]
    strictness: dict[str, Effect]


def strengths(judgements: Iterable[Judgement]) -> Strengths:
    """Bradley and Terry's strengths of all models in the judgements that have a verdict.

    What is above 1.5 is won by B, below by A, however clear. Raises ValueError for none.
    """
    given = [one for one in judgements if one.preference is not None]
    if not given:
        raise ValueError("no judgement with a verdict")
    models = sorted({name for one in given for name in (one.a, one.b)})
    raters = sorted({one.who for one in given})
    ties = any(one.preference == TIE for one in given)
    ordered = any(one.b_first is not None for one in given)
    layout = _Columns(models, raters if ties and len(raters) > 1 else [], ["first", "tie"])
    lean = layout.zeros(given)  # half the log odds of A against B
    tie = layout.zeros(given)
    for row, one in enumerate(given):
        lean[row, layout.model[one.a]] += 0.5
        lean[row, layout.model[one.b]] -= 0.5
        if one.b_first is not None:
            lean[row, layout.other["first"]] = -0.5 if one.b_first else 0.5
        tie[row, layout.other["tie"]] = 1.0
        if layout.rater:
            tie[row, layout.rater[one.who]] = 1.0
    won = np.sign([(one.preference or TIE) - TIE for one in given])
    designs, said = [lean, -lean], [won < 0, won > 0]
    if ties:
        designs, said = [*designs, tie], [*said, won == 0]
    fit = _fit(np.stack(designs), np.stack(said), layout.penalty, [one.item for one in given])
    counts = _counted(name for one in given for name in (one.a, one.b))
    told = _counted(one.who for one in given)
    n, of_model, of_rater = len(given), layout.mean(layout.model), layout.mean(layout.rater)
    found = {
        name: fit.effect(layout.unit(at) - of_model, counts[name])
        for name, at in layout.model.items()
    }
    return Strengths(
        dict(sorted(found.items(), key=lambda pair: -pair[1].value)),
        fit.effect(layout.unit(layout.other["first"]), n) if ordered else None,
        fit.effect(layout.unit(layout.other["tie"]) + of_rater, n) if ties else None,
        {
            name: fit.effect(layout.unit(at) - of_rater, told[name])
            for name, at in layout.rater.items()
        },
        _left_open(models, given),
    )


def accepted(judgements: Iterable[Judgement]) -> Accepted | None:
    """Acceptance by model with rater effects; None where acceptability was never asked."""
    asked = [
        (model, one.who, one.item, answer)
        for one in judgements
        for model, answer in zip((one.a, one.b), one.acceptable, strict=True)
        if answer is not None
    ]
    if not asked:
        return None
    models, raters = sorted({row[0] for row in asked}), sorted({row[1] for row in asked})
    layout = _Columns(models, raters if len(raters) > 1 else [], [])
    design = layout.zeros(asked)
    for row, (model, who, _, _) in enumerate(asked):
        design[row, layout.model[model]] = 1.0
        if layout.rater:
            design[row, layout.rater[who]] = -1.0
    yes = np.array([answer for *_, answer in asked])
    designs = np.stack([design, np.zeros_like(design)])
    fit = _fit(designs, np.stack([yes, ~yes]), layout.penalty, [row[2] for row in asked])
    of_model, of_rater = _counted(row[0] for row in asked), _counted(row[1] for row in asked)
    weights = np.zeros(len(layout))
    for name, at in layout.rater.items():
        weights[at] = of_rater[name] / len(asked)
    return Accepted(
        {name: _standard(fit, layout, name, weights, of_model[name]) for name in models},
        {
            name: fit.effect(layout.unit(at) - weights, of_rater[name])
            for name, at in layout.rater.items()
        },
    )


def _standard(fit: _Fit, layout: _Columns, model: str, weights: Any, n: int) -> Estimate:
    """The share of a model's answers that the average rater accepts; by the delta method."""
    own = fit.values[layout.model[model]]
    at = list(layout.rater.values())
    chances = 1 / (1 + np.exp(fit.values[at] - own)) if at else np.array([1 / (1 + np.exp(-own))])
    shares = weights[at] if at else np.ones(1)
    value = float(shares @ chances)
    slopes = shares * chances * (1 - chances)
    slope = layout.unit(layout.model[model]) * slopes.sum()
    if at:
        slope[at] = -slopes
    middle, half = np.log(value / (1 - value)), fit.half(slope) / (value * (1 - value))
    low, high = (1 / (1 + np.exp(-(middle + side * half))) for side in (-1, 1))
    return Estimate(value, float(low), float(high), n)


class _Columns:
    """Which column of a design holds which effect."""

    def __init__(self, models: Sequence[str], raters: Sequence[str], others: Sequence[str]) -> None:
        names = [*models, *raters, *others]
        m, r = len(models), len(models) + len(raters)
        self.model = {name: at for at, name in enumerate(names[:m])}
        self.rater = {name: at for at, name in enumerate(names[m:r], m)}
        self.other = {name: at for at, name in enumerate(names[r:], r)}
        spread = [OF_RATERS if m <= at < r else OF_MODELS for at in range(len(names))]
        self.penalty = 1 / np.square(spread)

    def __len__(self) -> int:
        return len(self.penalty)

    def zeros(self, rows: Sequence[Any]) -> Any:
        return np.zeros((len(rows), len(self)))

    def unit(self, at: int) -> Any:
        return np.eye(len(self))[at]

    def mean(self, of: dict[str, int]) -> Any:
        """The mean effect of models or of raters."""
        found = np.zeros(len(self))
        found[list(of.values())] = 1 / max(1, len(of))
        return found


@dataclass(frozen=True, slots=True)
class _Fit:
    """Effects [P], covariances [P, P] by the likelihood and by clusters, and Student's quantile."""

    values: Any
    plain: Any
    clustered: Any
    quantile: float

    def half(self, of: Any) -> float:
        """Half the width of the interval of a weighted sum of effects."""
        widest = max(of @ self.plain @ of, of @ self.clustered @ of)
        return self.quantile * float(np.sqrt(widest))

    def effect(self, of: Any, n: int) -> Effect:
        value, half = float(of @ self.values), self.half(of)
        return Effect(value, value - half, value + half, n)


def _fit(designs: Any, said: Any, penalty: Any, clusters: Sequence[str]) -> _Fit:
    """Multinomial logistic regression with a ridge, by Newton's method.

    designs: [outcomes, rows, P], what each effect adds to the log weight of an outcome; said:
    [outcomes, rows], which one came; penalty: [P]; clusters: [rows] names.
    """
    from scipy.special import logsumexp, stdtrit

    def loss(values: Any) -> float:
        logits = designs @ values
        likelihood = logits[said].sum() - logsumexp(logits, axis=0).sum()
        return float(0.5 * penalty @ values**2 - likelihood)

    values = np.zeros(len(penalty))
    for _ in range(STEPS):
        scores, bend = _slopes(designs, said, values)
        step = np.linalg.solve(bend + np.diag(penalty), scores.sum(axis=0) - penalty * values)
        size, before = 1.0, loss(values)
        while loss(values + size * step) > before and size > 1e-6:
            size /= 2
        values = values + size * step
        if np.abs(size * step).max() < 1e-9:
            break
    scores, bend = _slopes(designs, said, values)
    plain = np.linalg.inv(bend + np.diag(penalty))
    numbers = {name: at for at, name in enumerate(dict.fromkeys(clusters))}
    sums = np.zeros((len(numbers), len(penalty)))
    np.add.at(sums, [numbers[name] for name in clusters], scores)
    free = max(1, len(numbers) - 1)
    clustered = plain @ (sums.T @ sums) @ plain * len(numbers) / free
    return _Fit(values, plain, clustered, float(stdtrit(free, 0.975)))


def _slopes(designs: Any, said: Any, values: Any) -> tuple[Any, Any]:
    """(slope of each row's log likelihood [rows, P], how the sum of all bends [P, P])."""
    from scipy.special import softmax

    chances = softmax(designs @ values, axis=0)
    mean = np.einsum("on,onp->np", chances, designs)
    bend = -(mean.T @ mean)
    for chance, design in zip(chances, designs, strict=True):
        bend += design.T @ (chance[:, None] * design)
    return np.einsum("on,onp->np", said - chances, designs), bend


def _counted(names: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return found


def _left_open(models: Sequence[str], given: Sequence[Judgement]) -> list[str]:
    """What no number of such judgements can tell, by the graph of who ever won or drew."""
    at = {name: number for number, name in enumerate(models)}
    beats = np.eye(len(models), dtype=bool)
    for one in given:
        lean = (one.preference or TIE) - TIE
        if lean <= 0:
            beats[at[one.a], at[one.b]] = True
        if lean >= 0:
            beats[at[one.b], at[one.a]] = True
    reach, met = _closed(beats), _closed(beats | beats.T)
    notes = []
    islands = sorted({tuple(np.flatnonzero(row).tolist()) for row in met})
    if len(islands) > 1:
        groups = "; ".join(", ".join(models[one] for one in island) for island in islands)
        notes.append(f"never compared with each other, so not on one scale: {groups}")
    for island in islands:
        parts = {tuple(np.flatnonzero(reach[one] & reach[:, one]).tolist()) for one in island}
        if len(parts) > 1:
            downward = sorted(parts, key=lambda part: -int(reach[part[0]].sum()))
            ranks = " > ".join(", ".join(models[one] for one in part) for part in downward)
            notes.append(
                f"{ranks}: none ever won or drew against those before it, so how far apart they are"
                " is held by the penalty, not told by the data"
            )
    return notes


def _closed(edges: Any) -> Any:
    """Who reaches whom along edges [n, n], however far."""
    reach = edges
    while True:
        further = (reach.astype(int) @ reach.astype(int)) > 0
        if (further == reach).all():
            return reach
        reach = further
