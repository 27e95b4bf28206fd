"""Scores of models in 0..1, item by item, by benchmarks, by a judge or by people: one form for all.

A judge's and people's score of a model is the share of an item's judgements that it won: a draw is
half, "slightly" three quarters, and a judge's probability counts as it is.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import median
from typing import Literal

import numpy as np

from cameleer.core.errors import UserError
from cameleer.results.length_control import joint
from cameleer.results.records import Judgement
from cameleer.results.stats import Estimate, Items, Run, suite_mean

BENCHMARKS, PEOPLE = "benchmarks", "people"

FEW = 20  # verdicts on a model, below which nothing is said of what length does to them

Outputs = Mapping[tuple[str, str], str]
"""Answers by item and run."""
Won = dict[str, dict[str, list[float]]]
"""By run and item what share it won, judgement by judgement."""


@dataclass(frozen=True)
class Measure:
    """What the benchmarks, a judge or people say of each model.

    runs: by model what every training run of it scored (a model from elsewhere is one run). hub:
    the model that all others stood against, which has one half by definition; "" where there is no
    such model. judgements, unknown: how many there are, and how many of them are no verdict.
    adjusted: length-controlled win rates, where the answers are known (see results.length_control).
    """

    name: str
    kind: Literal["benchmarks", "judge", "human"]
    runs: dict[str, list[Run]]
    hub: str = ""
    judgements: int = 0
    unknown: int = 0
    adjusted: dict[str, Estimate] = field(default_factory=dict)

    @cached_property
    def estimates(self) -> dict[str, Estimate]:
        """Each model's mean; the hub has none, as there is nothing to estimate."""
        return {name: suite_mean(runs) for name, runs in self.runs.items() if name != self.hub}

    def value(self, model: str) -> float | None:
        if model == self.hub:
            return 0.5
        return self.estimates[model].value if model in self.estimates else None

    @cached_property
    def ranking(self) -> list[str]:
        """The models from the best down; of equals the one declared first."""
        return sorted(self.runs, key=lambda model: -(self.value(model) or 0.0))

    def rank(self, model: str) -> int | None:
        """From 1; equals share the better rank."""
        own = self.value(model)
        if own is None:
            return None
        return 1 + sum((self.value(other) or 0.0) > own for other in self.runs)


def of_benchmarks(given: Mapping[str, Sequence[Run]], warnings: list[str]) -> Measure:
    """The average over the benchmarks that all models have."""
    names = [set(run) for runs in given.values() for run in runs]
    shared = set.intersection(*names) if names else set()
    if extra := sorted(set().union(*names) - shared):
        warnings.append(
            f"Not every model has scores of {', '.join(extra)}: left out of the average."
        )
    runs: dict[str, list[Run]] = {
        model: [{name: run[name] for name in sorted(shared)} for run in own]
        for model, own in given.items()
        if own and shared
    }
    measure = Measure(BENCHMARKS, "benchmarks", runs)
    for model, own in list(runs.items()):
        try:
            suite_mean(own)
        except UserError as error:
            warnings.append(f"{model}: no average over benchmarks: {error}.")
            del runs[model]
    return measure


def of_judgements(
    name: str,
    kind: Literal["judge", "human"],
    judgements: Sequence[Judgement],
    of: Mapping[str, str],
    outputs: Outputs,
    warnings: list[str],
) -> Measure:
    """What one judge, or people, say. of: the model of a run; outputs: what runs answered."""
    told = [one for one in judgements if one.preference is not None]
    won = _won(told)
    hub = _hub([by_model(one, of) for one in told])
    runs: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(won):
        if (model := of.get(run, run)) != hub:
            runs[model].append({name: _items(won[run])})
    for model, own in runs.items():
        shared, everything = items_shared(own)
        runs[model] = within(own, shared)
        if lost := len(everything - shared):
            warnings.append(f"{name}: {lost:,} items of {model} were not judged in every run.")
    if hub:
        judged = {item for by_item in won.values() for item in by_item}
        runs[hub] = [{name: Items(dict.fromkeys(sorted(judged), 0.5))}]
    elif told and not _all_met(told, of):
        warnings.append(
            f"{name}: not every model met the same others. A win rate is over those that it met, "
            "so that two of them may not be of one measure."
        )
    unknown_ones = len(judgements) - len(told)
    kept = {model: own for model, own in runs.items() if own and own[0][name].scores}
    measure = Measure(name, kind, kept, hub, len(judgements), unknown_ones)
    return replace(measure, adjusted=_controlled(measure, won, of, outputs))


def by_model(one: Judgement, of: Mapping[str, str]) -> Judgement:
    """The judgement with models in place of their runs."""
    return replace(one, a=of.get(one.a, one.a), b=of.get(one.b, one.b))


def _won(judgements: Sequence[Judgement]) -> Won:
    """By run and item what share it won, judgement by judgement."""
    won: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in judgements:
        if one.preference is not None:
            won[one.b][one.item].append(one.preference - 1)
            won[one.a][one.item].append(2 - one.preference)
    return won


def _controlled(
    measure: Measure, won: Won, of: Mapping[str, str], outputs: Outputs
) -> dict[str, Estimate]:
    """A judge's win rates if answers were as long as the hub's, of models of a single run.

    Only where every answer that was judged is known, and there are enough to tell.
    """
    hubs = [run for run in won if of.get(run, run) == measure.hub]
    alone = [run for run in sorted(won) if len(measure.runs.get(of.get(run, run), ())) == 1]
    enough = [run for run in alone if len(won[run]) >= FEW]
    known = [run for run in enough if all((item, run) in outputs for item in won[run])]
    if measure.kind != "judge" or len(hubs) != 1 or hubs[0] not in known or len(known) < 2:
        return {}
    hub = known.pop(known.index(hubs[0]))
    items = sorted(won[hub])
    base = [len(outputs[item, hub]) for item in items]
    means = [_items(won[run]).scores for run in known]
    preferences = [[own.get(item, math.nan) for item in items] for own in means]
    lengths = [[len(outputs.get((item, run), "")) for item in items] for run in known]
    longer = np.array(lengths) - np.array(base)
    fitted = joint(preferences, longer, max(1.0, median(base)))
    return {of.get(run, run): one for run, one in zip(known, fitted.win_rates, strict=True)}


def _items(won: Mapping[str, Sequence[float]]) -> Items:
    """An item's mean over its judgements, weighed by their number: the mean is over judgements."""
    means = {item: sum(shares) / len(shares) for item, shares in won.items()}
    return Items(means, {item: float(len(shares)) for item, shares in won.items()})


def _hub(judgements: Sequence[Judgement]) -> str:
    """The model that takes part in all; of one pair A, the reference where there is one."""
    shared = set.intersection(*({one.a, one.b} for one in judgements)) if judgements else set()
    first = Counter(one.a for one in judgements)
    return max(sorted(shared), key=lambda name: first[name], default="")


def _all_met(judgements: Sequence[Judgement], of: Mapping[str, str]) -> bool:
    models = {of.get(name, name) for one in judgements for name in (one.a, one.b)}
    met = {frozenset((of.get(one.a, one.a), of.get(one.b, one.b))) for one in judgements}
    return len(met) == len(models) * (len(models) - 1) // 2


def items_shared(runs: Sequence[Run]) -> tuple[set[str], set[str]]:
    """The items that all runs of one judge share, and all that any has."""
    keys = [set(items.scores) for run in runs for items in run.values()]
    return set.intersection(*keys), set.union(*keys)


def within(runs: Sequence[Run], keys: Collection[str]) -> list[Run]:
    """The runs over some of their items."""

    def some(items: Items) -> Items:
        scores = {key: score for key, score in items.scores.items() if key in keys}
        return Items(scores, {key: items.weights.get(key, 1.0) for key in scores})

    return [{name: some(items) for name, items in run.items()} for run in runs]
