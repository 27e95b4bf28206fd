"""From answers to scores: of each item, of its group, of the whole, with intervals."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from cameleer.engines.engine import TOO_LONG
from cameleer.evals.benchmark import Ask, Benchmark
from cameleer.evals.review import Reviews
from cameleer.evals.written import lengths
from cameleer.results.records import Answer, Item, Score
from cameleer.results.stats import mean_interval

Row = dict[str, Any]


def unanswered(answer: Answer) -> bool:
    """Whether an item was never asked, as the model's context had no room for it."""
    return TOO_LONG in answer.finish


def score_answer(
    benchmark: Benchmark, item: Item, answer: Answer, ask: Ask, reviews: Reviews | None
) -> Score:
    """The benchmark's grade of an answer; what was never answered is no silent empty output.

    By rule `fixed` it has the worst score, by rule `paper` that of an empty output, as the paper's
    code went on with one; its note says so by both.
    """
    if not unanswered(answer):
        return score_of(benchmark, item, answer.outputs, ask, reviews)
    chosen = item.choices or benchmark.setting.choices
    if ask.rule == "paper" and not chosen:
        return replace(score_of(benchmark, item, answer.outputs, ask, reviews), note=TOO_LONG)
    worst = 1.0 if benchmark.setting.lower_is_better else 0.0
    return Score(worst, [None] * len(answer.outputs), note=TOO_LONG)


def score_of(
    benchmark: Benchmark, item: Item, outputs: list[str], ask: Ask, reviews: Reviews | None
) -> Score:
    """The benchmark's grade of outputs, which takes reviews where there are reviewers."""
    more = (reviews,) if benchmark.setting.reviewers else ()
    score: Score = benchmark.module.grade(item, outputs, ask, *more)
    return score


def weights(items: Sequence[Item], macro: bool) -> dict[str, float]:
    """The weight of each item in the benchmark's mean, 1 on average.

    macro: every group counts the same, however many items it has.
    """
    if not macro:
        return {item.key: 1.0 for item in items}
    sizes = Counter(item.group for item in items)
    return {item.key: len(items) / (len(sizes) * sizes[item.group]) for item in items}


def estimates(rows: Sequence[Row], macro: bool) -> dict[str, Any]:
    """The score, the scores of groups and further metrics, each with its interval.

    macro: the groups are a fixed list, and the score is the mean over them. An item that was never
    answered has no further metrics: there, too, it has its score, the worst.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    metrics = {name: None for row in rows for name in row["values"]}
    for row in rows:
        groups[row["group"]].append(row)

    def estimate(of: Sequence[Row], metric: str = "") -> dict[str, Any]:
        found = mean_interval(
            [row["values"].get(metric, row["score"]) for row in of],
            weights=[row.get("weight", 1.0) for row in of],
            clusters=[row.get("cluster", "") for row in of],
            strata=[row["group"] for row in of] if macro else None,
        )
        return asdict(found)

    return {
        **estimate(rows),
        "groups": {group: estimate(of) for group, of in groups.items() if group},
        "metrics": {name: estimate(rows, name) for name in metrics},
    }


def written(rows: Sequence[Row]) -> dict[str, Any]:
    """What is known of answers that are not scored: how many there are, and how long."""
    groups = Counter(row["group"] for row in rows)
    return {"n": len(rows), "groups": {g: {"n": n} for g, n in groups.items()}} | {
        "lengths": lengths(rows)
    }
