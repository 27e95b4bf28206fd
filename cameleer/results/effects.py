"""Effects of data sets on each benchmark, and the mixture that they say would be best: statistics.

The score of item i by a model tuned on a mixture is taken to be a_i + sum_k x_k b_ik + u, where x_k
is how much of data set k the mixture holds and u the luck of one training, which moves all items.
An effect b_k is the mean of b_ik over all items there could be. As every model answers the same
items, least squares give b_k as one weighted sum of the models' scores, the same for every item,
and its variance is the sum of two: that of the items' own effects over the items (with clusters and
strata, see stats), and that of u. The luck of training is seen between seeds of one mixture, from
whose differences what single items add is taken away, so that nothing is counted twice.
Where effects do not add up, b_k is of the plane nearest to the design's mixtures; `misfit` tells.
How often all this holds is checked by simulation (bench/attribution).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from cameleer.core.errors import UserError
from cameleer.results.stats import (
    NOTHING,
    Layout,
    Run,
    half_width,
    holm,
    score_table,
    t_p,
    t_quantile,
    variance_part,
)

By = Literal["amount", "presence"]
AVERAGE = "average"
ALIKE = 1e-12  # a difference of scores that is none
ALL_ALIKE = "All models score alike, so nothing tells which mixture would be best."
BEYOND = (
    "On {} the fitted effects add up to what no score can be: what is predicted there is a guess."
)


@dataclass(frozen=True)
class Tuned:
    """One training run: its mixture's name, conversations by source (0 where not said), and what it
    scored, by benchmark, 1 being best. Runs of one mixture are its seeds."""

    mixture: str
    amounts: Mapping[str, float]
    run: Run


@dataclass(frozen=True, slots=True)
class Effect:
    """What all of a source (its largest amount in the design) adds to a benchmark's score.

    value, low, high: in score; more than 1 where a line is laid through scores near their ceiling,
    which `notes` tells. p: two-sided; p_holm: adjusted over all effects told beside
    it. With `luck` False the interval holds for these very trainings, not for the data.
    """

    source: str
    benchmark: str
    value: float
    low: float
    high: float
    p: float
    p_holm: float
    luck: bool


@dataclass(frozen=True, slots=True)
class Best:
    """The mixture that the fitted effects predict to be best on a benchmark, or on the average.

    value, low, high: its predicted score, as it adds up: where that is no score, `notes` tells.
    against: the best of the mixtures that were trained, by their fitted scores. gain, gain_low,
    gain_high: over that, held at once for every two mixtures (Scheffe 1953), so that having looked
    for the best is paid for. sure: whether the gain is above 0; word: the same, plainly.
    """

    benchmark: str
    sources: tuple[str, ...]
    value: float
    low: float
    high: float
    against: str
    gain: float
    gain_low: float
    gain_high: float
    sure: bool
    word: str


@dataclass(frozen=True, slots=True)
class Attribution:
    """All effects, the predicted best mixtures (the average's last), and what a reader must know.

    misfit: by benchmark the p of effects adding up, where seeds let it be told; notes: in words,
    what the intervals hold and what they don't.
    """

    sources: tuple[str, ...]
    effects: tuple[Effect, ...]
    best: tuple[Best, ...]
    misfit: Mapping[str, float]
    notes: tuple[str, ...]


def attribute(
    tuned: Sequence[Tuned], untuned: Run | None = None, *, by: By = "amount", level: float = 0.95
) -> Attribution:
    """Effects of the sources that the mixtures hold, on every benchmark and on their average.

    by: whether a source counts by its conversations, as shares of the most that any mixture has, or
    as there or not. untuned: the base, all of whose amounts are 0: used only where the tuned models
    alone cannot tell the effects apart (each source by itself); they then include what tuning on
    anything does, and `notes` says so. It also says which effects even so are not told apart from
    others, and left out. Raises UserError where none is told, or the runs are not over the same
    items.
    """
    layout = DesignMatrix.of(tuned, untuned, by)
    runs = [*([untuned] if layout.with_base and untuned else []), *(one.run for one in tuned)]
    names = list(tuned[0].run)
    every = [[name] for name in names] + ([names] if len(names) > 1 else [])
    fits = {_title(one): _Fit.of(layout, runs, one, level) for one in every}
    found = [
        fits[title].effect(index, source, title)
        for title in fits
        for index, source in enumerate(layout.sources)
        if layout.told[index]
    ]
    single = [one for one in found if one.benchmark != AVERAGE]
    adjusted = [*_holm(single), *_holm([one for one in found if one.benchmark == AVERAGE])]
    misfit = {title: p for title, fit in fits.items() if (p := fit.misfit()) is not None}
    best = tuple(fit.best(title) for title, fit in fits.items())
    beyond = [one.benchmark for one in best if not _is_score(one.value)]
    notes = (*layout.notes(misfit), *([BEYOND.format(", ".join(beyond))] if beyond else []))
    told = tuple(dict.fromkeys(one.source for one in found))
    return Attribution(told, tuple(adjusted), best, misfit, notes)


def least_squares(amounts: Any) -> tuple[Any, Any]:
    """(H [1 + sources, models], with which H @ scores are the intercept and the effects; [sources]
    whether the mixtures tell each effect apart from the others and from the intercept).

    amounts: [models, sources]. Of an effect that is not told H gives nothing to go by; sums of
    effects that some model has are right whichever.
    """
    rows = np.column_stack([np.ones(len(amounts)), amounts])
    solve = np.linalg.pinv(rows)
    apart = np.isclose(solve @ rows, np.eye(rows.shape[1]), atol=1e-6).all(axis=1)
    return solve, apart[1:]


@dataclass(frozen=True)
class DesignMatrix:
    """amounts: [runs, sources] in 0..1, the base first if `with_base`; groups: [runs] the number of
    each run's mixture, -1 for the base; mixtures: their names; solve, told: of `least_squares`."""

    sources: tuple[str, ...]
    amounts: Any
    groups: Any
    mixtures: tuple[str, ...]
    solve: Any
    told: Any
    with_base: bool

    @classmethod
    def of(cls, tuned: Sequence[Tuned], untuned: Run | None, by: By) -> DesignMatrix:
        sources = tuple(dict.fromkeys(name for one in tuned for name in one.amounts))
        table = np.array([[one.amounts.get(name, 0.0) for name in sources] for one in tuned])
        if not sources or not (table.max(axis=0) > 0).all():
            raise UserError("a source without a conversation has no effect to tell")
        table = table / table.max(axis=0) if by == "amount" else (table > 0).astype(float)
        mixtures = tuple(dict.fromkeys(one.mixture for one in tuned))
        groups = np.array([mixtures.index(one.mixture) for one in tuned])
        solve, told = least_squares(table)
        if told.all():
            return cls(sources, table, groups, mixtures, solve, told, False)
        if untuned is not None:
            table = np.vstack([np.zeros(len(sources)), table])
            solve, told = least_squares(table)
            if told.any():
                return cls(sources, table, np.array([-1, *groups]), mixtures, solve, told, True)
        raise UserError(
            f"too few mixtures to tell the effects of sources apart: {len(mixtures)} for "
            f"{len(sources)} sources",
            hint="train each source alone, or all sources but each",
        )

    @property
    def rank(self) -> int:
        """How many of the intercept and the effects the runs' means are fitted with."""
        return round(float(np.trace(self.fitted)))

    @property
    def fitted(self) -> Any:
        """[runs, runs] What makes the fitted means of the runs' means."""
        return np.column_stack([np.ones(len(self.amounts)), self.amounts]) @ self.solve

    @property
    def seeds(self) -> Any:
        """[mixtures] How many runs each has."""
        return np.bincount(self.groups[self.groups >= 0], minlength=len(self.mixtures))

    def notes(self, misfit: Mapping[str, float]) -> tuple[str, ...]:
        said = []
        if self.with_base:
            said.append(
                "Effects are against the untuned base, and include what tuning on anything does."
            )
        if lost := [name for name, one in zip(self.sources, self.told, strict=True) if not one]:
            said.append(
                f"These mixtures do not tell the effects of {', '.join(lost)} apart: left out."
            )
        more = int((self.seeds - 1).sum())
        spare = len(self.amounts) - self.rank
        if more:
            said.append(
                f"Intervals include the luck of training, seen in {more} repeated trainings"
                + (": few, so the intervals are wide." if more < 6 else ".")
            )
        elif spare:
            said.append(
                f"One seed: the luck of training is judged by what the {spare} mixtures more than "
                "effects leave over, and cannot be told from effects that do not add up."
            )
        else:
            said.append(
                "One seed: the intervals hold for these very trainings, not for another seed; an "
                "effect may be the luck of one training. Give the study two seeds or more."
            )
        if wrong := [name for name, p in misfit.items() if p < 0.05]:
            said.append(
                f"Effects do not add up on {', '.join(wrong)} (p < 0.05): a predicted mixture is "
                "then no more than a guess to be trained."
            )
        return tuple(said)


@dataclass(frozen=True)
class _Fit:
    """One benchmark, or the mean of several. tables: of each benchmark, scores [runs, items] and
    their layout; means: [runs]; luck: (variance of u, its degrees of freedom), or None where
    nothing tells it; seeds: (mean square between runs of one mixture, degrees of freedom)."""

    design: DesignMatrix
    tables: Sequence[tuple[Any, Any]]
    means: Any
    seeds: tuple[float, int]
    luck: tuple[float, float] | None
    level: float

    @classmethod
    def of(
        cls, design: DesignMatrix, runs: Sequence[Run], names: Sequence[str], level: float
    ) -> _Fit:
        tables = [_table(runs, name) for name in names]
        means = np.mean([[layout.mean(row) for row in table] for table, layout in tables], axis=0)
        fit = cls(design, tables, means, _between(means, design.groups), None, level)
        return replace(fit, luck=fit._luck())

    def _luck(self) -> tuple[float, float] | None:
        """The variance that training's luck gives a run's mean, less what items give it anyway."""
        square, freedom = self.seeds
        groups = self.design.groups
        if freedom:
            centre = _centre(groups)
        else:
            centre = np.eye(len(groups)) - self.design.fitted
            freedom = len(groups) - self.design.rank
            if not freedom:
                return None
            square = float((centre @ self.means) @ self.means) / freedom
        from_items = sum(self._of_items(row) for row in centre) / freedom
        variance = square - from_items
        if variance <= NOTHING:
            return 0.0, math.inf
        return variance, max(freedom * (variance / square) ** 2, 1e-3)

    def _of_items(self, weights: Any) -> float:
        """The variance that the items give the weighted sum over runs."""
        return (
            sum(float(layout.variance(weights @ table)[0]) for table, layout in self.tables)
            / len(self.tables) ** 2
        )

    def contrast(self, weights: Any) -> tuple[float, float, float]:
        """(value, standard error, degrees of freedom) of a weighted sum over runs."""
        of = len(self.tables)
        parts = [
            variance_part(weights @ table, layout, -1.0, of, self.level)
            for table, layout in self.tables
        ]
        trained = weights[self.design.groups >= 0]
        if self.luck is not None and self.luck[0] > 0:
            parts.append((self.luck[0] * float(trained @ trained), self.luck[1]))
        _, freedom, error = half_width(parts, self.level)
        return float(_unrounded(weights @ self.means)), error, max(1.0, freedom)

    def effect(self, index: int, source: str, benchmark: str) -> Effect:
        value, error, freedom = self.contrast(self.design.solve[1 + index])
        half = t_quantile(freedom, self.level) * error
        p, luck = t_p(value / error, freedom), self.luck is not None
        return Effect(source, benchmark, value, value - half, value + half, p, p, luck)

    def misfit(self) -> float | None:
        """p that mixtures differ from the fitted by no more than their seeds (an F test of lack of
        fit); None without repeated seeds or mixtures to spare."""
        from scipy.special import fdtrc

        square, freedom = self.seeds
        design = self.design
        spare = len(self.means) - design.rank - freedom
        if not freedom or spare < 1 or design.with_base or square <= NOTHING:
            return None
        left = self.means - design.fitted @ self.means
        lack = (float(left @ left) - square * freedom) / spare
        return float(fdtrc(spare, freedom, max(0.0, lack) / square))

    def best(self, benchmark: str) -> Best:
        design, sources = self.design, self.design.sources
        alike = float(np.ptp(self.means)) < ALIKE
        effects = _unrounded((design.solve @ self.means)[1:])  # else rounding would choose
        there = design.told & (effects > 0)
        if not there.any():
            there = np.arange(len(sources)) == np.where(design.told, effects, -np.inf).argmax()
        value, error, freedom = self.contrast(np.array([1.0, *there]) @ design.solve)
        half = t_quantile(freedom, self.level) * error
        tuned = np.flatnonzero(design.groups >= 0)
        trained = tuned[(design.amounts[tuned] @ effects).argmax()]
        apart = there - design.amounts[trained]
        gain, spread, free = self.contrast(np.array([0.0, *apart]) @ design.solve)
        wide = _scheffe(design.rank - 1, free, self.level) * spread if apart.any() else 0.0
        against = design.mixtures[design.groups[trained]]
        sure = self.luck is not None and gain - wide > 0 and _is_score(value)
        chosen = tuple(name for name, one in zip(sources, there, strict=True) if one)
        gained = (gain if apart.any() else 0.0, gain - wide, gain + wide)
        helps, other = bool(effects[there].max() > 0), bool(apart.any())
        behind = gain < 0 and not design.told.all()
        word = ALL_ALIKE if alike else _word(chosen, against, sure, other, helps, behind)
        limits = (value - half, value + half)
        return Best(benchmark, chosen, value, *limits, against, *gained, sure, word)


def _word(
    chosen: Sequence[str], against: str, sure: bool, other: bool, helps: bool, behind: bool
) -> str:
    """behind: of a mixture with sources whose effects are not told."""
    said = " + ".join(chosen)
    if behind:
        return f"{said} is the best of what is told apart; {against}, which was trained, is better."
    if not helps:
        return f"No source is seen to help; {said} harms least."
    if not other:
        return f"{said} is predicted best, and was trained, as {against}."
    if sure:
        return f"{said} is predicted to be better than {against}; it has not been trained."
    return f"{said} is predicted best, but not surely better than {against}, which was trained."


def _scheffe(sources: int, freedom: float, level: float) -> float:
    """Standard errors that hold all contrasts of so many effects at once (Scheffe 1953)."""
    from scipy.special import chdtri, fdtri

    if freedom > 1e6:
        return math.sqrt(float(chdtri(sources, 1 - level)))
    return math.sqrt(sources * float(fdtri(sources, freedom, level)))


def _between(means: Any, groups: Any) -> tuple[float, int]:
    """(mean square of runs around their mixture's mean, degrees of freedom)."""
    freedom = int((np.bincount(groups[groups >= 0]) - 1).clip(0).sum())
    if not freedom:
        return 0.0, 0
    left = _centre(groups) @ means
    return float(left @ left) / freedom, freedom


def _centre(groups: Any) -> Any:
    """[runs, runs] What takes the mean of its mixture from each run; nothing is left of the base
    and of a mixture of one run."""
    same = groups[:, None] == groups[None, :]
    return np.eye(len(groups)) - same / same.sum(axis=1, keepdims=True)


def _table(runs: Sequence[Run], name: str) -> tuple[Any, Layout]:
    """Scores [runs, items] of one benchmark and the layout of its items."""
    if absent := [run for run in runs if name not in run]:
        raise UserError(f"{len(absent)} runs have no scores of {name}")
    return score_table([run[name] for run in runs])


def _title(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else AVERAGE


def _holm(found: Sequence[Effect]) -> list[Effect]:
    adjusted = holm([one.p for one in found])
    return [replace(one, p_holm=p) for one, p in zip(found, adjusted, strict=True)]


def _unrounded(values: Any) -> Any:
    """0 where rounding alone has made it more."""
    return np.where(np.abs(values) < ALIKE, 0.0, values)


def _is_score(value: float) -> bool:
    return -1e-9 <= value <= 1 + 1e-9
