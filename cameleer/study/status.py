"""What a study will do, and how far it is: told from its stages, without doing any of the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cameleer.core.artifact import Stage
from cameleer.core.files import read_json
from cameleer.data.miniature import make
from cameleer.evals.asking import EvalSpec, limited
from cameleer.evals.benchmark import Ask, benchmark_named
from cameleer.results.stats import smallest_effect
from cameleer.study.grid import Grid, data_stage
from cameleer.study.study import Study, label_of

Row = dict[str, Any]


def grid_of(study: Study, folder: Path) -> Grid:
    """The study's grid; the miniature world, which takes a second, is made for it."""
    if study.miniature is not None:
        make(study.miniature, data_stage(study, folder))
    return Grid(study, folder)


def plan(study: Study, folder: Path) -> Row:
    """Models to train and evaluate, items of each benchmark, and what differences can be seen.

    smallest_difference: between a tuned model and its base, in score (0..1), that this many items
    show with 80 % power at the 5 % level, one fifth of the items changing sides; None where answers
    are only written, for a judge.
    """
    grid = grid_of(study, folder)
    benchmarks = []
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
    return {
        "name": study.name,
        "folder": str(folder),
        "models": _models(grid),
        "benchmarks": benchmarks,
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
            "evals": {label: _state(stage) for label, (_, stage) in work.evals.items()},
        }
        for work in grid.works
    ]


def _state(stage: Stage) -> str:
    """`done` with its score, `n so far` where a stage was begun, or `to do`."""
    if stage.done():
        outcome = read_json(stage.folder / "manifest.json")["outcome"]
        return f"{outcome['value']:.3f}" if "value" in outcome else "done"
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
