"""How far a study is: told from its stages, without doing any of the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cameleer.core.artifact import Stage
from cameleer.core.errors import UserError
from cameleer.core.files import read_json
from cameleer.data.miniature import make
from cameleer.study.grid import Find, Grid, data_stage, model_here
from cameleer.study.judging import Case, answered, judging_of
from cameleer.study.study import Study

Row = dict[str, Any]


def grid_of(study: Study, folder: Path, find: Find = model_here) -> Grid:
    """The study's grid; the miniature world, which takes a second, is made for it."""
    if study.miniature is not None:
        make(study.miniature, data_stage(study, folder))
    return Grid(study, folder, find)


def status(study: Study, folder: Path) -> Row:
    """Each model with the state of its training and of each benchmark."""
    return {
        "name": study.name,
        "folder": str(folder),
        "models": states(grid_of(study, folder)),
    }


def states(grid: Grid) -> list[Row]:
    """Each model with the state of its training and of each benchmark and judge."""
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
