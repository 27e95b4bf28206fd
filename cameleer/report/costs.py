"""What a study cost: time, tokens, arithmetic, memory and dollars, of each model and in total."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cameleer.core.files import read_json
from cameleer.report.facts import Table, duration, number
from cameleer.report.tables import Sheet
from cameleer.report.words import MISSING, counted
from cameleer.results.judged import study_names
from cameleer.results.store import Cell, Evaluation, Study, Train

RESULT = "result.json"  # of a judging: its rates, requests, dollars


@dataclass(frozen=True)
class Cost:
    """Of one model, or of all; None where it is not known, or does not apply.

    Times in seconds, over all resumes; flops: floating-point operations of training; memory: at
    most held in training, GiB, beside what was planned; requests, judge_dollars: of judges;
    dollars: of the devices that trained and answered, at the price that the study's budget says.
    """

    train_seconds: float | None = None
    tokens: int | None = None
    tokens_per_second: float | None = None
    flops: int | None = None
    memory: float | None = None
    planned_memory: float | None = None
    eval_seconds: float | None = None
    prompt_tokens: int | None = None
    new_tokens: int | None = None
    requests: int | None = None
    judge_dollars: float | None = None
    dollars: float | None = None


def scientific(value: float | None) -> str:
    """A large number, as `1.2e15`."""
    mantissa, _, exponent = f"{value or 0:.1e}".partition("e")
    return MISSING if value is None else f"{mantissa}e{int(exponent)}"


def money(value: float | None) -> str:
    """US dollars."""
    return MISSING if value is None else f"${value:,.2f}"


COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "train_seconds": ("training", duration),
    "tokens": ("tokens", number),
    "tokens_per_second": ("tokens/s", number),
    "flops": ("FLOPs", scientific),
    "memory": ("peak GiB", number),
    "planned_memory": ("planned GiB", number),
    "eval_seconds": ("evaluation", duration),
    "prompt_tokens": ("prompt tokens", number),
    "new_tokens": ("new tokens", number),
    "requests": ("judge requests", number),
    "judge_dollars": ("judges", money),
    "dollars": ("devices", money),
}
"""Of the table: field of Cost to heading and form. What nobody has is left out."""


def costs(study: Study) -> dict[str, Cost]:
    """Each model's, by its label, in the study's order."""
    judged = _judged(study)
    found = {cell.label: _cost(cell, judged.get(cell.label, [])) for cell in study.cells}
    price, devices = price_per_hour(study), _setting(study, "executor", "gpus_per_stage", 1)
    return found if price is None else {name: _priced(one, price * devices)
                                        for name, one in found.items()}  # fmt: skip


def price_per_hour(study: Study) -> float | None:
    """Dollars for an hour of a device, if the study's budget says them."""
    price: float | None = _setting(study, "budget", "price_per_gpu_hour")
    return price


def _setting(study: Study, section: str, name: str, default: Any = None) -> Any:
    return (study.declared.get(section) or {}).get(name, default)


def _priced(cost: Cost, price: float) -> Cost:
    seconds = (cost.train_seconds or 0.0) + (cost.eval_seconds or 0.0)
    return replace(cost, dollars=seconds / 3600 * price)


def total(found: Iterable[Cost]) -> Cost:
    """All of them together: sums, and of memory the most."""
    all_of = list(found)

    def together(name: str) -> Any:
        values = [value for one in all_of if (value := getattr(one, name)) is not None]
        if not values:
            return None
        return max(values) if "memory" in name else sum(values)

    names = Cost.__dataclass_fields__.keys() - {"tokens_per_second"}  # these do not add up
    return Cost(**{name: together(name) for name in names})


def _cost(cell: Cell, judgings: Sequence[Mapping[str, Any]]) -> Cost:
    train = cell.train
    outcome = train.outcome if train else {}
    runs = list(cell.evals.values())
    flops = [row["flops"] for row in train.metrics if "flops" in row] if train else []
    return Cost(
        train_seconds=_train_seconds(train) if train else None,
        tokens=outcome.get("tokens"),
        tokens_per_second=outcome.get("tokens_per_second"),
        flops=sum(flops) or None,
        memory=outcome.get("peak_memory_gib"),
        planned_memory=(outcome.get("planned") or {}).get("memory_gib"),
        eval_seconds=_sum(map(_eval_seconds, runs)),
        prompt_tokens=_sum(run.scores.get("prompt_tokens") for run in runs),
        new_tokens=_sum(run.scores.get("new_tokens") for run in runs),
        requests=_sum(one.get("requests") for one in judgings),
        judge_dollars=_sum(one.get("dollars") for one in judgings),
    )


def _train_seconds(train: Train) -> float:
    """A manifest tells the last call alone: the steps count where they took more."""
    steps = sum(float(row.get("seconds") or 0) for row in train.metrics)
    return max(steps, float(train.manifest.get("seconds") or 0))


def _eval_seconds(run: Evaluation) -> float:
    return max(float(of.get("seconds") or 0) for of in (run.scores, run.manifest))


def _sum(values: Iterable[Any]) -> Any:
    """Of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _judged(study: Study) -> dict[str, list[dict[str, Any]]]:
    """What came of the study's judgings, by the label of the model that was judged."""
    called, _ = study_names(study)
    found: dict[str, list[dict[str, Any]]] = {}
    for folder in study.judgings:
        result = read_json(folder / RESULT)
        found.setdefault(called.get(str(result.get("b")), ""), []).append(result)
    return found


def cost_table(study: Study) -> Table:
    """Every model's costs and their sum, as far as manifests tell."""
    head, rows = cost_rows(study)
    forms = [COLUMNS[name] for name in head[1:]]
    shown = [
        [row[0], *(form(value) for (_, form), value in zip(forms, row[1:], strict=True))]
        for row in rows
    ]
    last = frozenset((len(shown) - 1, column) for column in range(len(head)))
    caption = "What each model cost; in total, sums, and of memory the most"
    return Table(caption, ["model", *(name for name, _ in forms)], shown, strong=last)


def cost_sheet(study: Study) -> Sheet:
    """The same as files."""
    return Sheet("costs", [cost_table(study)], *cost_rows(study))


def cost_rows(study: Study) -> tuple[list[str], list[list[Any]]]:
    """(names of the columns, rows): the numbers of `cost_table`, seconds and tokens as they are."""
    by_model = costs(study)
    of_all = {**by_model, "total": total(by_model.values())}
    names = [
        name for name in COLUMNS if any(getattr(cost, name) is not None for cost in of_all.values())
    ]
    rows = [[model, *(getattr(cost, name) for name in names)] for model, cost in of_all.items()]
    return ["model", *names], rows


def cost_words(study: Study) -> list[str]:
    """What the whole study took, in sentences."""
    of_all = total(costs(study).values())
    told = []
    trained = sum(cell.train is not None for cell in study.cells)
    if trained:
        arithmetic = f" ({scientific(of_all.flops)} FLOPs)" if of_all.flops else ""
        told.append(
            f"{counted(trained, 'training run')} took {duration(of_all.train_seconds)} for "
            f"{counted(of_all.tokens or 0, 'token')}{arithmetic}."
        )
    runs = sum(len(cell.evals) for cell in study.cells)
    told.append(
        f"{counted(runs, 'evaluation')} took {duration(of_all.eval_seconds or 0)}, in which models "
        f"read {counted(of_all.prompt_tokens or 0, 'token')} and wrote "
        f"{counted(of_all.new_tokens or 0, 'token')}."
    )
    if of_all.requests is not None:
        free = of_all.judge_dollars is None
        price = "at no price that is known" if free else f"for {money(of_all.judge_dollars)}"
        told.append(f"Judges were asked {counted(of_all.requests, 'time')}, {price}.")
    if of_all.dollars is not None:
        told.append(f"At {money(price_per_hour(study))} an hour and device, as the study's budget "
                    f"says, training and evaluation come to {money(of_all.dollars)}.")  # fmt: skip
    return told
