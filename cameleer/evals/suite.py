"""Suites: benchmarks that are asked together, and the averages over them.

A suite is a YAML file: those in `suites/` are found by their presence and go by their names, any
other goes by its path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from cameleer.core.config import Config, load_config, read_options
from cameleer.core.errors import UserError, unknown
from cameleer.evals.asking import EvalSpec
from cameleer.evals.benchmark import benchmark_named
from cameleer.results.stats import Estimate, Items, suite_mean
from cameleer.results.store import Evaluation

NAMED = Path(__file__).parent / "suites"


class Suite(Config):
    """benchmarks: what is asked, and how, in the order of the table. averages: by name, the tasks
    whose plain mean it is; a task of several benchmarks is first averaged over these."""

    about: str = ""
    benchmarks: list[EvalSpec] = Field(min_length=1)
    averages: dict[str, list[list[str]]] = Field(default_factory=dict)

    @field_validator("benchmarks", mode="before")
    @classmethod
    def _labels_alone(cls, value: Any) -> Any:
        """A benchmark may be given by its label alone."""
        given = value if isinstance(value, list) else [value]
        return [{"benchmark": one} if isinstance(one, str) else one for one in given]

    @field_validator("averages", mode="before")
    @classmethod
    def _tasks_alone(cls, value: Any) -> Any:
        """A task of one benchmark may be given by its label alone."""
        if not isinstance(value, dict):
            return value
        return {
            name: [[one] if isinstance(one, str) else one for one in tasks]
            for name, tasks in value.items()
        }

    @model_validator(mode="after")
    def _names_what_it_averages(self) -> Suite:
        try:
            labels = [_label(spec.benchmark) for spec in self.benchmarks]
            averaged = {_label(one) for tasks in self.averages.values() for t in tasks for one in t}
        except UserError as error:
            raise ValueError(str(error)) from None
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice:
            raise ValueError(f"'{twice}' stands twice in 'benchmarks'")
        if more := averaged - set(labels):
            raise ValueError(f"'{min(more)}' is averaged, but not among the benchmarks")
        return self

    def without(self, names: Sequence[str]) -> list[EvalSpec]:
        """What is asked if some benchmarks are left out, by name or by `name:setting`."""
        known = [_label(spec.benchmark) for spec in self.benchmarks]
        for name in names:
            if not any(_is(label, name) for label in known):
                raise unknown("benchmark of the suite", name, known, "cameleer eval ls")
        return [
            spec
            for spec, label in zip(self.benchmarks, known, strict=True)
            if not any(_is(label, name) for name in names)
        ]


def suite_of(benchmarks: Sequence[str], name: str | None) -> Suite:
    """The suite of that name or file, or one of the benchmarks given, without averages."""
    if (name is None) == (not benchmarks):
        raise UserError("give either benchmarks or a suite", hint="`cameleer eval ls` lists both")
    if name is not None:
        return suite_named(name)
    for one in benchmarks:
        benchmark_named(one)
    return read_options(Suite, {"benchmarks": list(benchmarks)})


def changed(spec: EvalSpec, **changes: Any) -> EvalSpec:
    """The spec with what was given; None leaves what the suite says."""
    given = {name: value for name, value in changes.items() if value is not None}
    return EvalSpec.model_validate(spec.model_dump() | given)


@dataclass(frozen=True)
class Average:
    """A mean over tasks. missing: benchmarks without a score; their tasks are not in it."""

    name: str
    estimate: Estimate | None
    missing: tuple[str, ...]

    @property
    def title(self) -> str:
        """The name; where it is not the whole average, what it is without."""
        return f"{self.name} without {', '.join(self.missing)}" if self.missing else self.name


def named_suites() -> dict[str, Path]:
    """The files of the suites that come with us, by name."""
    return {path.stem: path for path in sorted(NAMED.glob("*.yaml"))}


def suite_named(given: str) -> Suite:
    """The suite that a name or a YAML file stands for."""
    named = named_suites()
    if given not in named and Path(given).suffix not in (".yaml", ".yml"):
        raise unknown("suite", given, named, "cameleer eval ls")
    return load_config(named.get(given) or Path(given), Suite)


def averages(suite: Suite, runs: Mapping[str, Evaluation]) -> Iterator[Average]:
    """The suite's averages of one model, with intervals; `runs` by label.

    Scores of which lower is better are turned round. The settings of a task ask the same items, so
    that each item's scores are averaged first; tasks vary independently. Raises UserError where
    settings of a task were asked other items.
    """
    there = {label for label, run in runs.items() if run.scored}
    for name, tasks in suite.averages.items():
        labels = [[_label(one) for one in task] for task in tasks]
        whole = [task for task in labels if there.issuperset(task)]
        missing = tuple(one for task in labels for one in task if one not in there)
        items = {task[0]: _together([runs[one].items_upward for one in task]) for task in whole}
        yield Average(name, suite_mean([items]) if items else None, missing)


def _together(settings: Sequence[Items]) -> Items:
    """The items of a task, each with the mean of its scores in all settings."""
    first = settings[0]
    for other in settings[1:]:
        if unshared := first.scores.keys() ^ other.scores.keys():
            raise UserError(
                f"{len(unshared)} items were asked in one setting only, so no average is taken",
                hint="ask all settings with the same rule and --limit",
            )
    scores = {key: sum(one.scores[key] for one in settings) / len(settings) for key in first.scores}
    return replace(first, scores=scores)


def _label(given: str) -> str:
    return benchmark_named(given).label


def _is(label: str, name: str) -> bool:
    return name in (label, label.partition(":")[0])
