"""What benchmarks, judges and people say of the same models: rankings, and where they differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from cameleer.core.errors import UserError
from cameleer.results.disputes import Meeting, meeting
from cameleer.results.gaps import gap
from cameleer.results.judgements import acceptance, is_repeat
from cameleer.results.measures import (
    BENCHMARKS,
    PEOPLE,
    Measure,
    Outputs,
    by_model,
    items_shared,
    of_benchmarks,
    of_judgements,
    within,
)
from cameleer.results.rankings import Correlation, rank_correlation
from cameleer.results.records import Judgement
from cameleer.results.stats import Estimate, Items, Paired, Run, holm, suite_difference

LEVEL = 0.05
ALIKE, CONTRARY, OPEN = "alike", "contrary", "open"


@dataclass(frozen=True)
class Difference:
    """How far one measure puts a model above another; p_holm: adjusted over a page's pairs."""

    paired: Paired
    p_holm: float = 1.0

    @property
    def detectable(self) -> bool:
        return self.p_holm < LEVEL


@dataclass(frozen=True)
class Pair:
    """Two models, and the difference `first` - `second` by every measure that knows both."""

    first: str
    second: str
    differences: dict[str, Difference]

    @property
    def same_sign(self) -> bool:
        """Whether all measures put the same one of the two first, detectably or not."""
        signs = {_sign(one.paired.difference) for one in self.differences.values()}
        return len(signs) == 1 and 0 not in signs

    @property
    def verdict(self) -> str:
        """CONTRARY: two measures detectably put another one first; ALIKE: all the same one."""
        seen = [one for one in self.differences.values() if one.detectable]
        signs = {_sign(one.paired.difference) for one in seen}
        if len(signs) > 1:
            return CONTRARY
        return ALIKE if len(seen) == len(self.differences) else OPEN


@dataclass(frozen=True)
class Alike:
    """How alike two measures rank the `n` models that both know; None: too few models, or ties."""

    first: str
    second: str
    n: int
    kendall: Correlation | None
    spearman: Correlation | None


@dataclass(frozen=True)
class Opinions:
    """All measures side by side.

    models: in the order of the first measure, then of the next. accepted: by people. meetings:
    for each judge what people said of the same items. models_of: by run, where that is not the
    model's own name. warnings: what a reader must know.
    """

    measures: list[Measure]
    models: list[str]
    accepted: dict[str, Estimate]
    alike: list[Alike]
    pairs: list[Pair]
    meetings: list[Meeting]
    models_of: dict[str, str]
    warnings: list[str]

    def measure(self, name: str) -> Measure:
        return next(one for one in self.measures if one.name == name)


def join(
    benchmarks: Mapping[str, Sequence[Run]],
    judgements: Sequence[Judgement],
    models_of: Mapping[str, str] | None = None,
    outputs: Outputs | None = None,
) -> Opinions:
    """Everything that is counted.

    benchmarks: by model what each of its training runs scored, upward. models_of: the model of a
    run that judgements speak of. outputs: what the runs answered, as far as that is known.
    """
    warnings: list[str] = []
    of = dict(models_of or {})
    told = _once(_of_two(judgements, of, warnings), warnings)
    by_judge: dict[str, list[Judgement]] = defaultdict(list)
    people = [one for one in told if one.kind == "human"]
    for one in told:
        if one.kind == "judge":
            by_judge[_free(one.who)].append(one)
    found = [of_benchmarks(benchmarks, warnings)] if benchmarks else []
    for name, own in sorted(by_judge.items()):
        found.append(of_judgements(name, "judge", own, of, outputs or {}, warnings))
    if people:
        found.append(of_judgements(PEOPLE, "human", people, of, {}, warnings))
    measures = [one for one in found if one.runs]
    models = list(dict.fromkeys(model for one in measures for model in one.ranking))
    meetings = [meeting(name, own, people) for name, own in sorted(by_judge.items())]
    return Opinions(
        measures=measures,
        models=models,
        accepted=acceptance([by_model(one, of) for one in people]),
        alike=[_alike(first, second) for first, second in combinations(measures, 2)],
        pairs=_pairs(models, measures, warnings),
        meetings=[one for one in meetings if one.items],
        models_of=of,
        warnings=warnings,
    )


def _free(who: str) -> str:
    """A judge's name, told apart from what is no judge."""
    return f"{who} (judge)" if who in (BENCHMARKS, PEOPLE, "") else who


def _of_two(
    judgements: Sequence[Judgement], of: Mapping[str, str], warnings: list[str]
) -> list[Judgement]:
    """Those that set two models against each other."""
    kept = [one for one in judgements if of.get(one.a, one.a) != of.get(one.b, one.b)]
    if lost := len(judgements) - len(kept):
        warnings.append(f"{lost:,} judgements set a model against itself, and are left out.")
    return kept


def _once(judgements: Sequence[Judgement], warnings: list[str]) -> list[Judgement]:
    """Without what people say of a comparison again: a repeat tells of them, not of the models."""
    seen: set[tuple[str, str, frozenset[str]]] = set()
    kept = []
    for one in judgements:
        place = (one.who, one.item, frozenset((one.a, one.b)))
        if one.kind == "human":
            if is_repeat(one) or place in seen:
                continue
            seen.add(place)
        kept.append(one)
    if lost := len(judgements) - len(kept):
        warnings.append(f"{lost:,} times people judged a comparison again: the first time counts.")
    return kept


def _pairs(models: Sequence[str], measures: Sequence[Measure], warnings: list[str]) -> list[Pair]:
    """Every two models of which two measures or more know both; p adjusted over all of them."""
    found: list[tuple[str, str, dict[str, Paired]]] = []
    for first, second in combinations(models, 2):
        differences = {}
        for measure in measures:
            if paired := _difference(measure, first, second, warnings):
                differences[measure.name] = paired
        if len(differences) > 1:
            found.append((first, second, differences))
    adjusted = iter(holm([one.p for _, _, own in found for one in own.values()]))
    return [
        Pair(first, second, {name: Difference(one, next(adjusted)) for name, one in own.items()})
        for first, second, own in found
    ]


def _difference(measure: Measure, first: str, second: str, warnings: list[str]) -> Paired | None:
    """`first` - `second`; of models of several runs, over the items that all of these share."""
    if first not in measure.runs or second not in measure.runs:
        return None
    above, below = measure.runs[first], measure.runs[second]
    if measure.kind != "benchmarks":
        if len(above) == len(below) == 1:
            a, b = _beside_hub(measure, second, first)
            return gap(a, b)
        shared = items_shared([*above, *below])[0]
        above, below = (within(side, shared) for side in (above, below))
    try:
        return suite_difference(below, above)
    except (UserError, ValueError) as error:
        warnings.append(f"{measure.name}: {first} and {second} cannot be compared: {error}.")
        return None


def _beside_hub(measure: Measure, a: str, b: str) -> tuple[Items, Items]:
    """The items of two models; the hub's one half stands on the items of the other."""
    first, second = (measure.runs[model][0][measure.name] for model in (a, b))
    if a == measure.hub:
        first = Items(dict.fromkeys(second.scores, 0.5), second.weights)
    if b == measure.hub:
        second = Items(dict.fromkeys(first.scores, 0.5), first.weights)
    return first, second


def _alike(first: Measure, second: Measure) -> Alike:
    shared = [model for model in first.runs if model in second.runs]
    x, y = ([measure.value(model) or 0.0 for model in shared] for measure in (first, second))
    kendall, spearman = (rank_correlation(kind, x, y) for kind in ("kendall", "spearman"))
    return Alike(first.name, second.name, len(shared), kendall, spearman)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
