"""Running tasks on this machine: side by side as far as its cores, GPUs and memory allow.

Each is a process of its own. It dies with us: a study that is killed leaves nothing running.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

from cameleer.core.console import warn
from cameleer.core.errors import UserError
from cameleer.study.apart import HEAVY, Apart, End, Job, Place
from cameleer.study.tasks import Task


@dataclass(frozen=True)
class Machine:
    """What tasks share. gpus: their names, as CUDA_VISIBLE_DEVICES has them; memory: bytes."""

    cores: int
    gpus: tuple[str, ...]
    memory: float


@dataclass(frozen=True)
class Share:
    """What one task takes of a machine; threads: None leaves them to torch."""

    cores: int = 0
    gpus: int = 0
    memory: float = 0.0
    threads: int | None = None


class Local:
    """The executor of one machine.

    share: what a task takes. Whatever it takes, a task may run alone; beside others, if all of them
    fit together. Of tasks for which a server works, one runs at a time: its limits are those of one
    command.
    """

    def __init__(
        self,
        machine: Machine,
        share: Callable[[Task], Share],
        workers: int | None = None,
        preload: Sequence[str] = HEAVY,
    ) -> None:
        self.machine, self.share, self.workers, self.preload = machine, share, workers, preload
        self.running: dict[str, tuple[Task, Apart]] = {}
        self.shares: dict[str, Share] = {}
        self.free = list(machine.gpus)
        self.held: dict[str, list[str]] = {}

    def room(self, task: Task) -> bool:
        own = self.share(task)
        if own.gpus > len(self.machine.gpus):
            raise UserError(f"a task wants {own.gpus} GPUs, here are {len(self.machine.gpus)}")
        if not self.running:
            self._warn_of(task, own)
            return True
        if self.workers is not None and len(self.running) >= self.workers:
            return False
        if not task.computes and any(not other.computes for other, _ in self.running.values()):
            return False
        all_of_them = [own, *self.shares.values()]
        return (
            own.gpus <= len(self.free)
            and sum(one.cores for one in all_of_them) <= self.machine.cores
            and sum(one.memory for one in all_of_them) <= self.machine.memory
        )

    def _warn_of(self, task: Task, own: Share) -> None:
        if own.memory > self.machine.memory:
            need, there = own.memory / 2**30, self.machine.memory / 2**30
            warn(f"{task.name}: about {need:.1f} GiB are needed, {there:.1f} are there")

    def begin(self, task: Task, job: Job, log: Path) -> None:
        own = self.share(task)
        mine = [self.free.pop(0) for _ in range(own.gpus)]
        gpus = ",".join(mine) if self.machine.gpus else None
        place = Place(log, own.threads, gpus)
        self.running[task.name] = (task, Apart(job, place, self.preload))
        self.shares[task.name], self.held[task.name] = own, mine

    def ended(self, seconds: float) -> dict[str, End]:
        names = {apart.sentinel: name for name, (_, apart) in self.running.items()}
        over = [names[one] for one in wait(list(names), seconds) if isinstance(one, int)]
        return {name: self._end(name) for name in over}

    def _end(self, name: str) -> End:
        _, apart = self.running.pop(name)
        del self.shares[name]
        self.free += self.held.pop(name)
        return apart.end()

    def close(self) -> None:
        for _, apart in self.running.values():
            apart.stop()
