"""Running a study: data, mixtures, then models and judges by an executor, and last the report."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from cameleer.core.artifact import Stage
from cameleer.core.console import note
from cameleer.core.errors import UserError
from cameleer.data.miniature import make
from cameleer.data.mix.build import build
from cameleer.model.load import load_tokenizer
from cameleer.report.page import write_report
from cameleer.study.execute.board import Board
from cameleer.study.execute.executor import Course, Executor
from cameleer.study.execute.guard import Guard
from cameleer.study.execute.local import this_machine
from cameleer.study.execute.tasks import tasks_of
from cameleer.study.grid import Failed, Grid, data_stage
from cameleer.study.judging import cases, judging_of
from cameleer.study.study import Study
from cameleer.study.touching import touch


def run_study(study: Study, folder: Path, file: Path | None = None) -> Path:
    """Do whatever of the study is not done, write the report, return its page.

    Data and mixtures come first and here: they take little, and what is wrong with them is told
    before anything is trained. A cell that fails is recorded and the others go on; then a UserError
    says which failed and why; so it does if the budget is too small, or if what was finished before
    was changed since. file: the study's.
    """
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    if study.miniature is not None:
        make(study.miniature, data_stage(study, folder))
    grid = Grid(study, folder)
    guard = Guard(grid, file)
    for mixture in study.mixtures:
        build(mixture, grid.data, grid.mixes[mixture.name], load_tokenizer)
    touch(grid)
    grid.require_unchanged()
    failed, unjudged = _run_tasks(grid, guard)
    grid.write_index(failed, _judged(grid, {**failed, **unjudged}), unjudged)
    page = write_report(folder, folder / "report")
    _require_all(failed, f"of {len(grid.works)} models failed", page)
    _require_all(unjudged, f"of {len(cases(grid))} judgings failed", page)
    note(f"study done in {time.monotonic() - began:.0f} s")
    return page


def _run_tasks(grid: Grid, guard: Guard) -> tuple[Failed, Failed]:
    """Do what is not done; returns the reason of each cell that failed, and of each judging."""
    done = sum(work.done() for work in grid.works)
    if done:
        note(f"{done} of {len(grid.works)} models done before")
    grid.write_index({})
    board, retries = Board(grid.folder), grid.study.executor.retries
    with board.kept():
        course = Course(
            guard.over(tasks_of(grid)), partial(executor_of, grid), grid.folder, retries, board.show
        )
        failed = course.to_the_end()
    models = {work.cell.name for work in grid.works}
    of_models = {name: why for name, why in failed.items() if name in models}
    return of_models, {name: why for name, why in failed.items() if name not in models}


def executor_of(grid: Grid) -> Executor:
    """Where the study says that its tasks run."""
    if grid.study.executor.kind == "ray":
        from cameleer.study.execute.on_ray import cluster

        return cluster(grid)
    return this_machine(grid.study)


def _judged(grid: Grid, failed: Failed) -> list[Stage]:
    """The judgings that are done."""
    found = []
    for case in cases(grid):
        if not {case.name, case.work.cell.name, case.judge.against} & failed.keys():
            found.append(judging_of(grid, case)[1])
    return found


def _require_all(failed: Failed, what: str, page: Path) -> None:
    """UserError that tells the first of what failed, if anything did."""
    for name, why in failed.items():
        hint = f"mend it and give the same command again; report so far: {page}"
        raise UserError(f"{len(failed)} {what}, first {name}: {why}", hint=hint)
