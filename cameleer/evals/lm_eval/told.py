"""What lm-eval tells of an evaluation: its numbers, with intervals of ours."""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from cameleer.core.errors import UserError
from cameleer.results.stats import mean_interval

RESAMPLES, SEED = 200, 42  # bootstrap of metrics that are no means of numbers in 0..1

Row = dict[str, Any]


class Told:
    """What lm-eval tells of the tasks that were asked; name: of the task or group asked for."""

    def __init__(self, name: str, tasks: dict[str, Any], results: dict[str, Any]) -> None:
        self.name, self.tasks, self.results = name, tasks, results

    def metric(self, task: str) -> str:
        """What a task's score is: the group's first metric where it has it, else its own first."""
        own = _metrics(self.results["results"][task])
        group = _metrics(self.results["results"].get(self.name, {}))
        return next((key for key in group if key in own), own[0])

    def estimates(self, task: str) -> dict[str, dict[str, Any]]:
        """Every metric of a task: lm-eval's value, and an interval over its documents."""
        found: dict[str, dict[str, Any]] = {}
        raw: dict[str, list[Any]] = {}
        for one in self.results["samples"][task]:
            for metric in one["metrics"]:
                raw.setdefault(f"{metric},{one['filter']}", []).append(one[metric])
        for key, values in raw.items():
            value = self.results["results"][task][key]
            if isinstance(value, int | float):
                aggregate = self.tasks[task].aggregation().get(key.partition(",")[0])
                found[key] = {"value": value, **_interval(values, value, aggregate)}
        return found

    def whole(
        self, tasks: dict[str, dict[str, Any]], metric: str, rows: Sequence[Row]
    ) -> dict[str, Any]:
        """The score of what was asked for: the task's, the group's, else the mean over tasks."""
        if len(tasks) == 1:
            only: dict[str, Any] = next(iter(tasks.values()))[metric]
            return only
        parts = [one[metric]["value"] for one in tasks.values() if metric in one]
        value = self.results["results"].get(self.name, {}).get(metric, statistics.fmean(parts))
        if any(row["score"] is None for row in rows):
            hint = f"name its tasks one by one: {', '.join(list(tasks)[:3])}, …"
            raise UserError(f"{self.name} has no common score in 0..1 to take a mean of", hint=hint)
        sizes = Counter(row["group"] for row in rows)
        by_size = math.isclose(value, statistics.fmean(row["score"] for row in rows))
        found = mean_interval(
            [row["score"] for row in rows],
            weights=None if by_size else [1 / sizes[row["group"]] for row in rows],
            strata=[row["group"] for row in rows],
        )
        return asdict(found) | {"value": value}

    def by_document(self, task: str) -> list[list[Row]]:
        """What lm-eval logged of a task, put together by document, in the documents' order."""
        found: dict[int, list[Row]] = {}
        for one in self.results["samples"][task]:
            found.setdefault(one["doc_id"], []).append(one)
        return [found[document] for document in sorted(found)]

    def numbers(self) -> dict[str, Row]:
        """All its numbers, by task and group."""
        return {
            name: {key: value for key, value in facts.items() if isinstance(value, int | float)}
            for name, facts in self.results["results"].items()
        }


def _interval(values: list[Any], value: float, aggregate: Any) -> dict[str, Any]:
    """95 % interval over documents: of a mean in 0..1 as all ours, else by bootstrap."""
    n = len(values)
    numbers = [number_of(one) for one in values]
    scores = [one for one in numbers if one is not None and 0 <= one <= 1]
    if len(scores) == n and math.isclose(statistics.fmean(scores), value, abs_tol=1e-12):
        found = mean_interval(scores)
        return {"low": found.low, "high": found.high, "n": n}
    aggregate = aggregate or statistics.fmean  # as lm-eval, where a task names none
    draw = random.Random(SEED)
    again = sorted(float(aggregate(draw.choices(values, k=n))) for _ in range(RESAMPLES))
    cut = round(0.025 * RESAMPLES)
    return {"low": again[cut], "high": again[-1 - cut], "n": n}


def number_of(value: Any) -> float | None:
    """A metric's value for one document as a number, if it is one."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _metrics(facts: Row) -> list[str]:
    """The metrics (name,filter) among what lm-eval tells of a task or group."""
    return [key for key in facts if "," in key and "_stderr," not in key]
