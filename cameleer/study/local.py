"""Running a study on this machine: one model after the other, each in a process of its own.

A process of its own gives all its memory back, and takes only its cell along if it dies. It dies
with us: a study that is killed leaves nothing running.
"""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from cameleer.core.console import note, warn
from cameleer.core.cores import end_with_parent
from cameleer.core.errors import UserError
from cameleer.data.miniature import make
from cameleer.data.mix.build import build
from cameleer.engines.engine import Engine
from cameleer.model.load import load_tokenizer
from cameleer.report.page import write_report
from cameleer.study.grid import Grid, Work, data_stage
from cameleer.study.study import EngineSpec, Study

HEAVY = ["torch", "transformers", "cameleer.train.loop", "cameleer.engines.transformers"]


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
    grid.write_index(failed)
    page = write_report(folder, folder / "report")
    if failed:
        first = next(iter(failed.items()))
        raise UserError(
            f"{len(failed)} of {len(grid.works)} models failed, first {first[0]}: {first[1]}",
            hint=f"mend it and give the same command again; report so far: {page}",
        )
    note(f"study done in {time.monotonic() - began:.0f} s")
    return page


def _run_cells(grid: Grid) -> dict[str, str]:
    """Run the cells that are not done; returns the reason of each that failed, by cell."""
    failed: dict[str, str] = {}
    todo = [work for work in grid.works if not work.done()]
    done = len(grid.works) - len(todo)
    if done:
        note(f"{done} of {len(grid.works)} models done before")
    if not todo:
        return failed
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    for number, work in enumerate(todo, done + 1):
        grid.write_index(failed)
        note(f"model {number} of {len(grid.works)}: {work.cell.name}")
        base = grid.bases[work.cell.base.name]
        with ProcessPoolExecutor(1, context, end_with_parent) as pool:
            try:
                pool.submit(_run_cell, work, base, grid.data, grid.study.engine).result()
            except UserError as error:
                failed[work.cell.name] = str(error)
            except BrokenProcessPool:
                failed[work.cell.name] = "its process was killed; was there enough memory?"
        if work.cell.name in failed:
            warn(f"{work.cell.name}: {failed[work.cell.name]}")
    return failed


def _run_cell(work: Work, base: Path, data: Path | None, spec: EngineSpec) -> None:
    """Train the cell's model, if it is to be trained, then take it through the benchmarks."""
    from cameleer.engines.registry import choose
    from cameleer.evals.runner import evaluate
    from cameleer.model.load import model_fingerprint
    from cameleer.train.loop import train

    model = base
    if work.config is not None and work.train is not None:
        model = train(work.config, work.train.folder)
    made: list[Engine] = []

    def engine() -> Engine:
        if not made:
            options = spec.model_dump(exclude={"engine"})
            identity = spec.identity(model_fingerprint(model))
            made.append(choose(str(model), spec.engine, options).open(identity))
        return made[0]

    for eval_spec, stage in work.evals.values():
        evaluate(eval_spec, engine, data, stage)
