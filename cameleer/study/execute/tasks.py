"""What a study does once its mixtures are built, as tasks that wait for one another.

    train CELL -> evaluate CELL -> judge CASE -> (the report)

Each is a process of its own on one machine. Nothing here says where or when it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cameleer.core.artifact import require_unchanged
from cameleer.engines.engine import Engine
from cameleer.evals.benchmark import benchmark_named
from cameleer.evals.judge.run import judge_pairs
from cameleer.study.execute.apart import Job
from cameleer.study.grid import Grid, Work
from cameleer.study.judging import Case, cases, judging_of
from cameleer.train.config import TrainConfig


@dataclass(frozen=True)
class Task:
    """One piece of a study's work.

    of: the cell or judging that fails with it; kind: `train`, `evaluate` or `judge`; needs: names
    of the tasks that come before. job: what is to be done, asked when those are done; None if it is
    done already. computes: whether it wants cores or GPUs; else a server works for it. weights:
    bytes of its model's weights; config: of a training.
    """

    of: str
    kind: str
    job: Callable[[], Job | None]
    needs: tuple[str, ...] = ()
    computes: bool = True
    weights: int = 0
    config: TrainConfig | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        return f"{self.kind} {self.of}"


def tasks_of(grid: Grid) -> list[Task]:
    """Cell by cell, and last what judges do."""
    found = []
    for work in grid.works:
        found += _of_cell(work, grid)
    names = {work.cell.name for work in grid.works}
    for case in cases(grid):
        sides = [side for side in (case.judge.against, case.work.cell.name) if side in names]
        needs = tuple(f"evaluate {side}" for side in sides)
        asked = partial(_judging, grid, case)
        found.append(Task(case.name, "judge", asked, needs, not _answers_by_name(case)))
    return found


def _answers_by_name(asked: Case | Work) -> bool:
    """Whether a server, or a file, answers, and no model of this machine."""
    chosen = asked.chosen if isinstance(asked, Work) else asked.judge.chosen()
    return bool(getattr(chosen.module, "BY_NAME", False))


def _of_cell(work: Work, grid: Grid) -> list[Task]:
    name, weights = work.cell.name, 0
    if work.cell.base.name in grid.bases:
        files = grid.bases[work.cell.base.name].glob("*.safetensors")
        weights = sum(file.stat().st_size for file in files)
    found = []
    if work.train is not None:
        found.append(
            Task(name, "train", partial(_training, work), weights=weights, config=work.config)
        )
    needs = tuple(task.name for task in found)
    reviewed = any(benchmark_named(label).setting.reviewers for label in work.evals)
    computes = reviewed or not _answers_by_name(work)
    asked = partial(_evaluation, work, grid.data)
    return [*found, Task(name, "evaluate", asked, needs, computes, weights)]


def _training(work: Work) -> Job | None:
    assert work.train is not None
    assert work.config is not None
    if work.train.done():
        return None
    given = (work.config, work.train.folder)
    return Job(train_model, given, joined=work.config.lora is not None)


def _evaluation(work: Work, data: Path | None) -> Job | None:
    done = all(stage.done() for _, stage in work.evals.values())
    return None if done else Job(evaluate_model, (work, data))


def _judging(grid: Grid, case: Case) -> Job | None:
    judging, stage = judging_of(grid, case)
    if stage.done():
        require_unchanged(stage.folder)
        return None
    return Job(judge_pairs, (judging, stage))


def train_model(config: TrainConfig, folder: Path) -> None:
    """Train a cell's model."""
    from cameleer.train.loop import train

    train(config, folder)


def evaluate_model(work: Work, data: Path | None) -> None:
    """Take a cell's model through the benchmarks; it is loaded once."""
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
