"""From a study's results to what its report says: matrix of scores, differences, the leader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import median, stdev

from cameleer.core.errors import UserError
from cameleer.results.stats import (
    Estimate,
    Paired,
    Run,
    holm,
    smallest_effect,
    suite_difference,
    suite_mean,
)
from cameleer.results.store import UNTUNED, Evaluation, Study

AVERAGE = "average"
LEVEL = 0.05
BETTER, WORSE, NO_DIFFERENCE = "better", "worse", "no detectable difference"


@dataclass(frozen=True)
class Difference:
    """A mixture against its base on a benchmark, or on the average of all.

    p_holm: p adjusted within its family: all mixtures and benchmarks of the study, or all averages.
    lower_is_better: a difference below 0 is a gain.
    """

    base: str
    mixture: str
    benchmark: str
    paired: Paired
    p_holm: float = 1.0
    lower_is_better: bool = False

    @property
    def gain(self) -> float:
        """The difference, above 0 if the mixture did better."""
        return -self.paired.difference if self.lower_is_better else self.paired.difference

    @property
    def verdict(self) -> str:
        if self.p_holm >= LEVEL:
            return NO_DIFFERENCE
        return BETTER if self.gain > 0 else WORSE

    @property
    def items_better(self) -> int:
        return self.paired.worse if self.lower_is_better else self.paired.better

    @property
    def items_worse(self) -> int:
        return self.paired.better if self.lower_is_better else self.paired.worse


@dataclass(frozen=True)
class Score:
    """One cell of the matrix. spread: standard deviation between seeds, where there are several."""

    estimate: Estimate
    runs: list[Evaluation]
    spread: float | None = None
    difference: Difference | None = None
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A model of the matrix: the base (mixture None), a mixture, or a reference, which goes by its
    name in place of a mixture's; missing scores are None."""

    mixture: str | None
    scores: dict[str, Score | None]
    reference: bool = False

    @property
    def label(self) -> str:
        return self.mixture or UNTUNED

    @property
    def average(self) -> Score | None:
        return self.scores[AVERAGE]


@dataclass(frozen=True)
class Matrix:
    """All models of one base. columns: the benchmarks and, if there are several, the average.

    runs: for each mixture what every seed scored, of the seeds that have all benchmarks; 1 less
    the score where lower is better. lower: the benchmarks of which that is so.
    """

    base: str
    columns: list[str]
    rows: list[Row]
    runs: dict[str | None, list[Run]]
    lower: frozenset[str] = frozenset()

    @property
    def benchmarks(self) -> list[str]:
        return [column for column in self.columns if column != AVERAGE]

    @property
    def tuned(self) -> list[Row]:
        return [row for row in self.rows if row.mixture is not None and not row.reference]

    def leader(self, column: str) -> Row | None:
        """The tuned row with the best score in a column; the first one declared of equals."""
        rows = [(row, row.scores[column]) for row in self.tuned]
        sign = -1 if column in self.lower else 1
        there = [(sign * score.estimate.value, row) for row, score in rows if score]
        return max(there, key=lambda pair: pair[0])[1] if there else None


@dataclass(frozen=True)
class Analysis:
    """Everything that is counted; `warnings` says what could not be compared, and why."""

    study: Study
    matrices: list[Matrix]
    differences: list[Difference]
    averages: list[Difference]
    warnings: list[str]


def analyse(study: Study) -> Analysis:
    """All scores and differences of a study."""
    warnings: list[str] = []
    benchmarks = _scored(study, warnings)
    matrices = [_matrix(study, base, benchmarks, warnings) for base in study.bases]
    found = [
        _difference(matrix, row, column, warnings)
        for matrix in matrices
        for row in matrix.tuned
        for column in matrix.columns
        if row.scores[column] and matrix.rows[0].scores[column]
    ]
    there = [difference for difference in found if difference]
    differences = _adjusted([one for one in there if one.benchmark != AVERAGE])
    averages = _adjusted([one for one in there if one.benchmark == AVERAGE])
    known = {(one.base, one.mixture, one.benchmark): one for one in differences + averages}
    matrices = [_joined(matrix, known) for matrix in matrices]
    return Analysis(study, matrices, differences, averages, warnings)


def _scored(study: Study, warnings: list[str]) -> list[str]:
    """The benchmarks that have scores; of those whose answers are only written there is a word."""
    found = []
    for name in study.benchmarks:
        runs = [cell.evals[name] for cell in study.cells if name in cell.evals]
        if all(run.scored for run in runs):
            found.append(name)
        else:
            warnings.append(
                f"{name} has no score: its answers are for a judge or people to compare, and stand "
                "in the folders of the evaluations."
            )
    return found


def _matrix(study: Study, base: str, benchmarks: list[str], warnings: list[str]) -> Matrix:
    columns = [*benchmarks, *([AVERAGE] if len(benchmarks) > 1 else [])]
    lower: set[str] = set()
    runs: dict[str | None, list[Run]] = {}
    rows = []
    for mixture in (None, *study.mixtures, *study.references):
        reference = mixture in study.references
        cells = study.of(mixture or base, None) if reference else study.of(base, mixture)
        evals = [cell.evals for cell in cells]
        scores = {name: _score(evals, name, warnings) for name in benchmarks}
        whole = [one for one in evals if one.keys() >= set(benchmarks)]
        runs[mixture] = [{name: one[name].items_upward for name in benchmarks} for one in whole]
        average = _average(runs[mixture], warnings)
        rows.append(Row(mixture, scores | {AVERAGE: average}, reference))
        found = (score for score in scores.items() if score[1])
        lower |= {name for name, score in found if score and score.runs[0].lower_is_better}
    return Matrix(base, columns, rows, runs, frozenset(lower))


def _score(evals: Sequence[dict[str, Evaluation]], name: str, warnings: list[str]) -> Score | None:
    """A model's score on one benchmark, over the seeds that are there."""
    runs = [one[name] for one in evals if name in one]
    if not runs:
        return None
    for run in runs:
        _check(run, warnings)
    try:
        estimate = suite_mean([{name: run.items} for run in runs])
    except UserError as error:
        warnings.append(f"Seeds of {runs[0].folder} cannot be averaged: {error}.")
        return None
    means = [run.items.mean for run in runs]
    return Score(estimate, runs, stdev(means) if len(means) > 1 else None)


def _check(run: Evaluation, warnings: list[str]) -> None:
    """Warn where scores.json says something else than the samples do."""
    mean, said = run.items.mean, run.scores.get("value")
    if not isinstance(said, int | float) or abs(said - mean) > 1e-6:
        warnings.append(
            f"{run.folder}: scores.json says {said}, the mean of its samples is {mean:.6f}; "
            "this report uses the samples."
        )


def _average(runs: Sequence[Run], warnings: list[str]) -> Score | None:
    if not runs or len(runs[0]) < 2:
        return None
    try:
        estimate = suite_mean(runs)
    except UserError as error:
        warnings.append(f"An average could not be taken: {error}.")
        return None
    means = [sum(items.mean for items in run.values()) / len(run) for run in runs]
    return Score(estimate, [], stdev(means) if len(means) > 1 else None)


def _difference(matrix: Matrix, row: Row, column: str, warnings: list[str]) -> Difference | None:
    assert row.mixture is not None
    try:
        paired = suite_difference(
            column_runs(matrix, matrix.rows[0], column), column_runs(matrix, row, column)
        )
    except UserError as error:
        warnings.append(f"{matrix.base}, {row.label}, {column}: no difference to base: {error}.")
        return None
    lower = column in matrix.lower
    return Difference(matrix.base, row.mixture, column, paired, lower_is_better=lower)


def column_runs(matrix: Matrix, row: Row, column: str) -> list[Run]:
    """What each seed of a row scored in one column, as the statistics take it."""
    if column == AVERAGE:
        return matrix.runs[row.mixture]
    score = row.scores[column]
    return [{column: run.items} for run in score.runs] if score else []


def _adjusted(family: list[Difference]) -> list[Difference]:
    ps = holm([one.paired.p for one in family])
    return [replace(one, p_holm=p) for one, p in zip(family, ps, strict=True)]


def _joined(matrix: Matrix, known: dict[tuple[str, str, str], Difference]) -> Matrix:
    """The matrix with the differences put into its cells, and the best of each column marked, of
    the study's own models; where all are equal, none."""
    own = [row for row in matrix.rows if not row.reference]
    found = {
        column: [s.estimate.value for row in own if (s := row.scores[column])]
        for column in matrix.columns
    }
    best = {
        column: (min if column in matrix.lower else max)(values)
        if len(set(values)) > 1 or len(values) == 1
        else None
        for column, values in found.items()
    }

    def joined(row: Row, column: str) -> Score | None:
        score = row.scores.get(column)
        if score is None:
            return None
        difference = known.get((matrix.base, row.mixture or "", column))
        leads = not row.reference and score.estimate.value == best[column]
        return replace(score, difference=difference, best=leads)

    rows = [
        replace(row, scores={column: joined(row, column) for column in matrix.columns})
        for row in matrix.rows
    ]
    return replace(matrix, rows=rows)


@dataclass(frozen=True)
class Contest:
    """The mixture with the best average against the one with the next best.

    p: for having picked the two after seeing all averages, multiplied by the number of pairs.
    """

    first: Row
    second: Row
    paired: Paired
    p: float


def contest(matrix: Matrix) -> Contest | None:
    """Whether the best average is detectably better than the next; None without two of them."""
    if not matrix.columns:
        return None
    column = matrix.columns[-1]
    sign = 1 if column in matrix.lower else -1
    order = sorted(
        (row for row in matrix.tuned if row.scores[column]),
        key=lambda row: sign * row.scores[column].estimate.value,  # type: ignore[union-attr]
    )
    if len(order) < 2:
        return None
    first, second = order[:2]
    paired = _against(matrix, second, first, column)
    if paired is None:
        return None
    return Contest(first, second, paired, min(1.0, paired.p * _pairs(order)))


def unbeaten(matrix: Matrix) -> list[str]:
    """Mixtures that no other mixture beats detectably on any benchmark.

    Each is tried against the leader of every benchmark. Leaders are picked after seeing the scores,
    so p is multiplied by the number of all pairs on all benchmarks (Bonferroni).
    """
    rows = [row for row in matrix.tuned if all(row.scores.values())]
    family = _pairs(rows) * len(matrix.benchmarks)

    def beaten(row: Row, column: str) -> bool:
        leader = matrix.leader(column)
        if leader is None or leader.mixture == row.mixture:
            return False
        paired = _against(matrix, row, leader, column)
        # Against a leader the difference has the leader's sign, whichever that is.
        return bool(paired and paired.difference and paired.p * family < LEVEL)

    return [
        row.label for row in rows if not any(beaten(row, column) for column in matrix.benchmarks)
    ]


def _against(matrix: Matrix, a: Row, b: Row, column: str) -> Paired | None:
    try:
        return suite_difference(column_runs(matrix, a, column), column_runs(matrix, b, column))
    except UserError:
        return None  # runs over other items; the difference to the base has warned of it


def _pairs(rows: Sequence[Row]) -> int:
    return len(list(combinations(rows, 2)))


@dataclass(frozen=True)
class Power:
    """What could have been seen on a benchmark: the smallest difference found with power 80 %.

    n: median number of independent 0/1 items that would be as sure as its items. discordance:
    median mean size of the items' differences, of 0/1 scores the share that differs.
    """

    base: str
    benchmark: str
    n: int
    discordance: float
    smallest: float
    smallest_adjusted: float


def powers(analysis: Analysis) -> list[Power]:
    """For each base and benchmark, tested alone and at the strictest level that Holm asks for."""
    found = []
    family = max(1, len(analysis.differences))
    for matrix in analysis.matrices:
        for name in matrix.benchmarks:
            there = [
                one.paired
                for one in analysis.differences
                if (one.base, one.benchmark) == (matrix.base, name)
            ]
            if not there:
                continue
            n = max(1, round(median(one.effective for one in there)))
            psi = min(1.0, max(median(one.discordance for one in there), 1 / n))
            alone = smallest_effect(n, discordance=psi)
            adjusted = smallest_effect(n, level=LEVEL / family, discordance=psi)
            found.append(Power(matrix.base, name, n, psi, alone, adjusted))
    return found
