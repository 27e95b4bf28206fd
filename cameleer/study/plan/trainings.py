"""A study's trainings planned as by `cameleer train plan`: memory once for each base and way.

Of one way of training, every mixture has the memory of the one whose rows need most.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from cameleer.model.embedded import PREFIX
from cameleer.model.load import load_tokenizer, model_fingerprint, model_folder
from cameleer.study.grid import Grid, Work
from cameleer.study.plan.material import Material
from cameleer.study.plan.piece import Machine, Piece
from cameleer.study.plan.spent import took
from cameleer.train.config import TrainConfig
from cameleer.train.hardware import GIB
from cameleer.train.plan import Option, Planner, in_bf16, model_config

FEW_STEPS = 5  # of a training; fewer tell nothing of its speed


def found_model(model: str) -> tuple[Path, str]:
    """(folder, fingerprint) of MODEL; its name stands for both where its weights are not here."""
    if model.startswith(PREFIX):
        folder: Path | None = model_folder(model)
    else:
        folder = model_config(model)[1]
    return (folder, model_fingerprint(folder)) if folder else (Path(model), model)


def tokenizer_of(folder: Path) -> Any | None:
    """The tokenizer in a model's folder, if it is here."""
    return load_tokenizer(str(folder)) if any(folder.glob("tokenizer*")) else None


class Way:
    """All trainings of one base in one way."""

    def __init__(
        self,
        works: list[Work],
        folder: Path,
        material: Mapping[str, Material],
        machine: Machine,
    ) -> None:
        """works: of the way, one for each mixture and seed; folder: of the base."""
        self.works, self.machine = works, machine
        assert works[0].config is not None
        self.config: TrainConfig = works[0].config
        self.model, tokenizer = model_config(str(folder))[0], tokenizer_of(folder)
        names = dict.fromkeys(mixture_of(work) for work in works)
        self.workloads = {name: material[name].work(self.config, tokenizer) for name in names}
        """An epoch's work on each mixture."""

    @cached_property
    def planner(self) -> Planner:
        """Of the mixture whose rows need most memory."""
        hardest = max(self.workloads.values(), key=lambda one: sum(n * n for n in one.row))
        hardware = self.machine.hardware
        bf16 = in_bf16(self.config.precision, hardware)
        return Planner(self.config, self.model, hardware, hardest, bf16)

    @cached_property
    def measured(self) -> tuple[float, int]:
        """Tokens a second of the trainings that are done, and how many; (0, 0) of none."""
        tokens = seconds = 0.0
        count = 0
        for work in self.works if self.machine.here else ():
            assert work.train is not None
            done = took(work.train)
            if work.train.done() and done.seconds and done.rows >= FEW_STEPS:
                tokens += self.tokens(mixture_of(work))
                seconds, count = seconds + done.seconds, count + 1
        return (tokens / seconds, count) if count else (0.0, 0)

    def tokens(self, mixture: str) -> float:
        """Of a whole training on a mixture."""
        work = self.workloads[mixture]
        share = self.config.num_train_epochs * 1.0
        if self.config.max_steps:
            share = min(share, self.config.max_steps / self.steps_of_an_epoch(mixture))
        return work.tokens * share

    def steps_of_an_epoch(self, mixture: str) -> int:
        rows = self.config.rows_of_a_step(self.machine.ranks)
        return -(-self.workloads[mixture].rows // rows)

    def steps(self, mixture: str) -> int:
        """Optimizer steps of a whole training on a mixture."""
        whole = self.config.num_train_epochs * self.steps_of_an_epoch(mixture)
        return min(whole, self.config.max_steps or whole)

    @cached_property
    def advice(self) -> str:
        """What to change so that it fits, if it does not."""
        words, option = self.planner.advice(self.machine.ranks)
        return f"{words}: {option.memory.total / GIB:.1f} GiB" if option else words

    def option(self, mixture: str) -> Option:
        """A training on a mixture, just as it is declared, by the planned rate."""
        return self.planner.over(self.workloads[mixture]).as_configured(self.machine.ranks)

    def piece(self, work: Work) -> Piece:
        """The plan of one training. What steps of it are done counts as done."""
        stage, mixture = work.train, mixture_of(work)
        assert stage is not None
        option, data = self.option(mixture), self.workloads[mixture]
        measured, trainings = self.measured
        rate = measured or option.tokens_per_second
        hours, steps = self.tokens(mixture) / rate / 3600, self.steps(mixture)
        done = 1.0 if stage.done() else min(1.0, took(stage).rows / steps)
        ranks = self.machine.ranks
        facts = {
            "model": work.cell.name,
            "state": "done" if stage.done() else f"{done:.0%}" if done else "to do",
            "epoch_tokens": round(data.tokens),
            "tokens": round(self.tokens(mixture)),
            "supervised": round(data.supervised, 4),
            "tokens_by": data.how,
            "steps": steps,
            "memory_gib": round(option.memory.total / GIB, 3),
            "checkpointed_layers": option.checkpointed,
            "fits": option.fits,
            "advice": None if option.fits else self.advice,
            "tokens_per_second": round(rate, 1),
            "planned_tokens_per_second": round(option.tokens_per_second, 1),
            "rate_by": f"measured in {trainings} trainings" if measured else "planned",
            **self.machine.cost(hours, ranks).facts(),
        }
        left = self.machine.cost(hours * (1 - done), ranks)
        task = f"train {work.cell.name}"
        return Piece(task, lambda: stage, self.machine, ranks, None, left, facts)


def mixture_of(work: Work) -> str:
    """The name of the mixture that a cell is tuned on."""
    assert work.cell.mixture is not None
    return work.cell.mixture.name


def ways_of(
    grid: Grid, material: Mapping[str, Material], machine: Machine
) -> dict[tuple[str, str], Way]:
    """Each base's trainings in each way, by (base, method)."""
    works: dict[tuple[str, str], list[Work]] = {}
    for work in grid.works:
        if work.train is not None:
            works.setdefault(way_name(work), []).append(work)
    return {
        name: Way(found, grid.bases[name[0]], material, machine) for name, found in works.items()
    }


def way_name(work: Work) -> tuple[str, str]:
    """(base, method); the method is "" where the study compares none."""
    return work.cell.base.name, work.cell.method.name if work.cell.method else ""
