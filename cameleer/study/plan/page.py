"""A study's plan as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from cameleer.core.console import note, out, table, warn
from cameleer.study.budget import shown
from cameleer.study.plan.answering import ESTIMATED
from cameleer.study.plan.asked import LIKELY
from cameleer.study.plan.material import COUNTED

Row = dict[str, Any]
COSTS = ("hours", "gpu_hours", "dollars", "requests")
NONE = "–"


def show_plan(facts: Row) -> None:
    """The whole plan: cells, benchmarks, judges, comparisons, totals, and what to mind."""
    machine = facts["machine"]
    price = machine["price_per_gpu_hour"]
    cost = f"${price:g} an hour" if price else "no price given"
    ranks = f", {machine['ranks']} for each training" if machine["ranks"] > 1 else ""
    title = f"{facts['name']} on {machine['name']} ({machine['memory_gib']} GiB, {cost}{ranks})"
    _table(title, [_cell(facts, one["model"]) for one in facts["models"]])
    _table("Benchmarks, for each model", [_benchmark(facts, one) for one in facts["benchmarks"]])
    _table("Judges", [_judge(one) for one in facts["judges"]])
    _table(
        "The smallest difference that the study can show, in score: 80 % power at the 5 % level",
        list(_compared(facts["comparisons"])),
    )
    _table("In all", [_costs(name, facts[name]) for name in ("spent", "left", "total")])
    _remarks(facts)


def _table(title: str, rows: Sequence[Row]) -> None:
    if rows:
        cells = [[NONE if value is None else value for value in row.values()] for row in rows]
        table(title, list(rows[0]), cells)


def _cell(facts: Row, name: str) -> Row:
    """A model: its training, all its evaluations, and the hours that are left of both."""
    train = next((one for one in facts["trainings"] if one["model"] == name), None)
    answers = [one for one in facts["answers"] if one["model"] == name]
    left = [one["left"] for one in [*answers, *([train] if train else [])]]
    return {
        "model": name,
        "training tokens": train and f"{train['tokens']:,}",
        "GiB": train and f"{train['memory_gib']:.2f}",
        "": train and ("fits" if train["fits"] else "will not fit"),
        "tokens/s": train and f"{train['tokens_per_second']:,.0f}",
        "training": train and hours(train["hours"]),
        "evaluation": "not known"
        if any(one["unknown"] for one in answers)
        else hours(sum(one["hours"] for one in answers)),
        "GPU-hours left": f"{sum(one['gpu_hours'] for one in left):.3g}",
        "left": hours(sum(one["hours"] for one in left)),
        "dollars left": shown("dollars", sum(one["dollars"] for one in left)),
    }


def _benchmark(facts: Row, one: Row) -> Row:
    rows = [row for row in facts["answers"] if row.get("benchmark") == one["benchmark"]]
    tuned = {one["model"] for one in facts["trainings"]}  # bases are asked in another format
    first = next(row for row in rows if row["model"] in tuned)
    most = first.get("new_tokens_at_most")
    return {
        "benchmark": one["benchmark"],
        "items": one["items"] and f"{one['items']:,} of {one['there']:,}",
        "prompt tokens": one["items"] and f"{first['prompt_tokens']:,}",
        "new tokens": one["items"] and f"{first['new_tokens']:,} (at most {most:,})",
        "time": hours(max(row["hours"] for row in rows)),
        "by": ", ".join(dict.fromkeys(row["rate_by"] for row in rows if row["rate_by"])) or NONE,
    }


def _judge(one: Row) -> Row:
    return {
        "judge": one["judge"],
        "against": one["against"],
        "models": one["models"],
        "comparisons": one["comparisons"],
        "requests left": one["requests"],
        "dollars at most": shown("dollars", one["dollars"]),
    }


def _compared(rows: Iterable[Row]) -> Iterable[Row]:
    """Rows of the comparisons; sources whose effects are told alike share one."""
    alike: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        kind = row["comparison"].startswith("the effect of ")
        name = ("effect", row["smallest"], row["corrected"]) if kind else (row["comparison"],)
        alike.setdefault((*name, row["benchmark"]), []).append(row)
    for same in alike.values():
        row = same[0]
        several = len(same) > 1
        yield {
            "comparison": f"the effect of each of {len(same)} sources"
            if several
            else row["comparison"],
            "benchmark": row["benchmark"],
            "items": row["items"],
            "seeds": row["seeds"],
            "alone": f"{row['smallest']:.3f}",
            "among all": f"{row['corrected']:.3f} of {row['family']}",
            "half as much with": row["halve"],
        }


def _costs(name: str, cost: Row) -> Row:
    return {"": name} | {
        field.replace("gpu_", "GPU-"): _amount(field, cost[field]) for field in COSTS
    }


def _amount(field: str, value: float) -> str:
    return hours(value) if field == "hours" else shown(field, value).removesuffix(f" {field}")


def _remarks(facts: Row) -> None:
    """What the plan takes for granted, does not know, and what is too much."""
    given = facts["assumed"]
    note(
        f"taken for granted: two models differ on {given['discordance']:.0%} of the items, two "
        f"seeds on {given['seeds']:.0%}, and the luck of a training moves its score by "
        f"{given['luck']:g}"
    )
    if any(one["rate_by"] == ESTIMATED for one in facts["answers"]):
        note(f"answers are estimated without loading models, and as of {LIKELY} tokens at most")
    for text in [*facts["notes"], *(f"not known: {one}" for one in facts["unknown"])]:
        note(text)
    for how in dict.fromkeys(one["by"] for one in facts["mixtures"] if one["by"] != COUNTED):
        names = [one["mixture"] for one in facts["mixtures"] if one["by"] == how]
        note(f"tokens of {_and_others(names)} are {how}")
    large = [one for one in facts["answers"] if one["fits"] is False]
    for memory in dict.fromkeys(one["memory_gib"] for one in large):
        names = [one["task"] for one in large if one["memory_gib"] == memory]
        warn(f"{_and_others(names)}: weights of {memory:.1f} GiB will not fit")
    for advice, whom in _advice(facts["trainings"]).items():
        warn(f"{whom} will not fit; do this: {advice}")
    for one in facts["budget"]["exceeded"] if facts["budget"] else ():
        field, limit, more = one["field"], one["limit"], one["by"]
        said = f"{shown(field, limit + more)} are planned, {shown(field, limit)} allowed"
        out.print(f"budget.{field} is exceeded by {shown(field, more)}: {said}", markup=False)


def _advice(trainings: Iterable[Row]) -> dict[str, str]:
    """What to do about trainings that will not fit, and which these are."""
    found: dict[str, list[str]] = {}
    for one in trainings:
        if not one["fits"]:
            found.setdefault(one["advice"], []).append(one["model"])
    return {advice: _and_others(names) for advice, names in found.items()}


def _and_others(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} others"


def hours(value: float) -> str:
    """A time as people read it: `40 s`, `12 min`, `3.2 h`."""
    if value < 2 / 60:
        return f"{value * 3600:.0f} s"
    return f"{value * 60:.0f} min" if value < 2 else f"{value:,.1f} h"
