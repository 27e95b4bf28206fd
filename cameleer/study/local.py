"""Running a study on this machine: one model after the other, in processes of their own.

A model is trained in one process and answers in another. Each gives all its memory back, of a GPU
too, which engines may want for themselves, and takes only its cell along if it dies. It dies with
us: a study that is killed leaves nothing running.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, TypeVar

from cameleer.core.artifact import Stage
from cameleer.core.console import note, warn
from cameleer.core.cores import end_with_parent
from cameleer.core.errors import UserError
from cameleer.data.miniature import make
from cameleer.data.mix.build import build
from cameleer.engines.engine import Engine
from cameleer.engines.registry import engine_named
from cameleer.evals.judge.run import judge_pairs
from cameleer.model.load import load_tokenizer
from cameleer.report.page import write_report
from cameleer.study.grid import Failed, Grid, Work, data_stage
from cameleer.study.judging import cases, judging_of
from cameleer.study.study import Study
from cameleer.train.heap import pieces_joined

HEAVY = ["torch", "transformers", "cameleer.train.loop", "cameleer.engines.transformers"]
KILLED = "its process was killed; was there enough memory?"
T = TypeVar("T")


def run_study(study: Study, folder: Path) -> Path:
    """Do whatever of the study is not done, write the report, return its page.

    A cell that fails is recorded and the others go on; then a UserError says which failed and why.
    """
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    if study.miniature is not None:
        make(study.miniature, data_stage(study, folder))
    grid = Grid(study, folder)
    for mixture in study.mixtures:
        build(mixture, grid.data, grid.mixes[mixture.name], load_tokenizer)
    failed = _run_cells(grid)
    judged, unjudged = _judge_cells(grid, failed)
    grid.write_index(failed, judged, unjudged)
    page = write_report(folder, folder / "report")
    _require_all(failed, f"of {len(grid.works)} models failed", page)
    _require_all(unjudged, f"of {len(cases(grid))} judgings failed", page)
    note(f"study done in {time.monotonic() - began:.0f} s")
    return page


def _run_cells(grid: Grid) -> Failed:
    """Run the cells that are not done; returns the reason of each that failed, by cell."""
    failed: Failed = {}
    todo = [work for work in grid.works if not work.done()]
    done = len(grid.works) - len(todo)
    if done:
        note(f"{done} of {len(grid.works)} models done before")
    if not todo:
        return failed
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*HEAVY, engine_named(grid.study.engine.engine).__name__])
    for number, work in enumerate(todo, done + 1):
        grid.write_index(failed)
        note(f"model {number} of {len(grid.works)}: {work.cell.name}")
        try:
            if work.train is not None and not work.train.done():
                _train_apart(context, work)
            _apart(context, _evaluate, work, grid.data)
        except UserError as error:
            failed[work.cell.name] = str(error)
        except BrokenProcessPool:
            failed[work.cell.name] = KILLED
        if work.cell.name in failed:
            warn(f"{work.cell.name}: {failed[work.cell.name]}")
    return failed


def _judge_cells(grid: Grid, failed: Failed) -> tuple[list[Stage], Failed]:
    """Have the judges compare what was answered; returns what is done, and why others failed."""
    done: list[Stage] = []
    unjudged: Failed = {}
    context = multiprocessing.get_context("forkserver")
    for case in cases(grid):
        if case.work.cell.name in failed or case.judge.against in failed:
            continue
        try:
            judging, stage = judging_of(grid, case)
            if not stage.done():
                note(f"judge {case.judge.name}: {case.work.cell.name}")
                _apart(context, judge_pairs, judging, stage)
            done.append(stage)
        except UserError as error:
            unjudged[case.name] = str(error)
        except BrokenProcessPool:
            unjudged[case.name] = KILLED
        if case.name in unjudged:
            warn(f"{case.name}: {unjudged[case.name]}")
    return done, unjudged


def _require_all(failed: Failed, what: str, page: Path) -> None:
    """UserError that tells the first of what failed, if anything did."""
    for name, why in failed.items():
        hint = f"mend it and give the same command again; report so far: {page}"
        raise UserError(f"{len(failed)} {what}, first {name}: {why}", hint=hint)


def _apart(context: BaseContext, task: Callable[..., T], *given: Any) -> T:
    """The task's result, worked out in a process of its own."""
    with ProcessPoolExecutor(1, context, end_with_parent) as pool:
        return pool.submit(task, *given).result()


def _train_apart(context: BaseContext, work: Work) -> None:
    """Train the cell's model; with adapters in a program with a C library of its own setting."""
    if work.config is not None and work.config.lora:
        with pieces_joined():
            _apart(multiprocessing.get_context("spawn"), _train, work)
    else:
        _apart(context, _train, work)


def _train(work: Work) -> None:
    """Train the cell's model."""
    from cameleer.train.loop import train

    assert work.config is not None
    assert work.train is not None
    train(work.config, work.train.folder)


def _evaluate(work: Work, data: Path | None) -> None:
    """Take the cell's model through the benchmarks."""
    from cameleer.evals.runner import evaluate

    made: list[Engine] = []

    def engine() -> Engine:
        if not made:
            made.append(work.engine())
        return made[0]

    try:
        for spec, stage in work.evals.values():
            evaluate(spec, engine, data, stage)
    finally:
        for one in made:
            getattr(one, "close", int)()
