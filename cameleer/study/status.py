"""What a study will do, and how far it is: told from its stages, without doing any of the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cameleer.core.artifact import Stage
from cameleer.core.errors import UserError
from cameleer.core.files import read_json
from cameleer.data.miniature import make
from cameleer.evals.asking import EvalSpec, limited
from cameleer.evals.benchmark import Ask, benchmark_named
from cameleer.results.stats import smallest_effect
from cameleer.study.grid import Grid, data_stage
from cameleer.study.judging import Case, answered, cases, judging_of
from cameleer.study.study import Study, StudyJudge, label_of

Row = dict[str, Any]


def grid_of(study: Study, folder: Path) -> Grid:
    """The study's grid; the miniature world, which takes a second, is made for it."""
    if study.miniature is not None:
        make(study.miniature, data_stage(study, folder))
    return Grid(study, folder)


def plan(study: Study, folder: Path) -> Row:
    """Models to train and evaluate, items of each benchmark, what differences can be seen, and
    what judges will be asked at most.

    smallest_difference: between a tuned model and its base, in score (0..1), that this many items
    show with 80 % power at the 5 % level, one fifth of the items changing sides; None where answers
    are only written, for a judge.
    """
    grid = grid_of(study, folder)
    benchmarks: list[Row] = []
    for spec in study.benchmarks:
        items = _count_items(spec, grid.data)
        scored = benchmark_named(spec.benchmark).setting.scored
        benchmarks.append(
            {
                "benchmark": label_of(spec),
                "items": items,
                "smallest_difference": round(smallest_effect(items), 4) if scored else None,
            }
        )
    items_of = {one["benchmark"]: one["items"] for one in benchmarks}
    return {
        "name": study.name,
        "folder": str(folder),
        "models": _models(grid),
        "benchmarks": benchmarks,
        "judges": [_asked(grid, judge, items_of) for judge in study.judges],
    }


def _asked(grid: Grid, judge: StudyJudge, items_of: dict[str, int]) -> Row:
    """What a judge will compare, and how often it will be asked at most."""
    models = sum(case.judge is judge for case in cases(grid))
    items = items_of[benchmark_named(judge.benchmark).label]
    pairs = models * min(items, judge.limit or items)
    return {
        "judge": judge.name,
        "against": judge.against,
        "models": models,
        "comparisons": pairs,
        "requests": pairs * (2 if judge.both_orders else 1),
    }


def status(study: Study, folder: Path) -> Row:
    """Each model with the state of its training and of each benchmark."""
    return {
        "name": study.name,
        "folder": str(folder),
        "models": _models(grid_of(study, folder)),
    }


def _models(grid: Grid) -> list[Row]:
    return [
        {
            "model": work.cell.name,
            "train": "–" if work.train is None else _state(work.train),
            "evals": {label: _state(stage) for label, (_, stage) in work.evals.items()}
            | {judge.name: _judged(grid, Case(judge, work)) for judge in grid.study.judges},
        }
        for work in grid.works
    ]


def _judged(grid: Grid, case: Case) -> str:
    """How far a judge is with a model: its win rate, or what is to be done."""
    if case.work.cell.name == case.judge.against:
        return "–"
    if not answered(grid, case):
        return "to do"
    try:
        return _state(judging_of(grid, case)[1])
    except UserError as error:
        return f"cannot be judged: {error.message}"


def _state(stage: Stage) -> str:
    """`done` with its score, `n so far` where a stage was begun, or `to do`."""
    if stage.done():
        outcome = read_json(stage.folder / "manifest.json")["outcome"]
        rate = outcome.get("win_rate")
        value = rate["value"] if isinstance(rate, dict) else outcome.get("value")
        return "done" if value is None else f"{value:.3f}"
    for name, unit in (("metrics.jsonl", "steps"), ("samples.jsonl", "items")):
        log = stage.partial / name
        if log.is_file():
            lines = log.read_bytes().splitlines()
            done = sum(not line.startswith(b'{"step": 0,') for line in lines)  # before training
            return f"{done} {unit} so far"
    return "begun" if stage.partial.exists() else "to do"


def _count_items(spec: EvalSpec, data: Path | None) -> int:
    benchmark = benchmark_named(spec.benchmark)
    ask = Ask(benchmark.folder(data), benchmark.setting_name, spec.rule, grading=True)
    return len(limited(benchmark.module.items(ask), spec.limit))
