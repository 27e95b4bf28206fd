"""Running tasks on this machine: side by side as far as its cores, GPUs and memory allow.

Each is a process of its own. It dies with us: a study that is killed leaves nothing running.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

from cameleer.core.cores import cores
from cameleer.core.errors import UserError
from cameleer.engines.registry import engine_named
from cameleer.model.devices import threads_and_gpus
from cameleer.study.execute.apart import HEAVY, Apart, End, Job, Place, asked_apart
from cameleer.study.execute.memory import available, held_by, warn_too_large
from cameleer.study.execute.tasks import Task
from cameleer.study.study import Study

GPUS = ("nvidia[0-9]*", "kfd")  # in /dev; where none is, torch need not be asked


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


def this_machine(study: Study) -> Local:
    """The executor of this machine for a study: each task gets the GPUs that the study says, where
    there are any, with their share of the cores; else its threads, or all cores."""
    spec, all_cores = study.executor, cores()
    gpus = visible_gpus()
    own = all_cores
    if gpus:
        if spec.gpus_per_stage > len(gpus):
            field = "executor.gpus_per_stage"
            raise UserError(
                f"{spec.gpus_per_stage} are wanted, this machine has {len(gpus)}", field=field
            )
        own = max(1, all_cores * spec.gpus_per_stage // len(gpus))
    shared = study.threads or own
    alone = not gpus and 2 * shared > all_cores

    def share(task: Task) -> Share:
        memory = 0.0 if alone else held_by(task, bool(gpus))
        if not task.computes:
            return Share(memory=memory)
        threads = own if gpus and study.threads is None else study.threads
        return Share(shared, spec.gpus_per_stage if gpus else 0, memory, threads)

    memory = spec.memory * 2**30 if spec.memory else available()
    preload = (*HEAVY, engine_named(study.engine.engine).__name__)
    return Local(Machine(all_cores, gpus, memory), share, spec.workers, preload)


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that torch sees, by the names that CUDA_VISIBLE_DEVICES has for them."""
    if not any(next(Path("/dev").glob(one), None) for one in GPUS):
        return ()
    _, count = asked_apart(threads_and_gpus)
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(named.split(",") if named else map(str, range(count)))[:count]


class Local:
    """The executor of one machine.

    share: what a task takes. Whatever it takes, a task may run alone; beside others, if all of them
    fit together. One that was killed is tried again alone: memory may have been short. Of those for
    which a server works, one runs at a time: its limits are those of one command.
    """

    def __init__(
        self,
        machine: Machine,
        share: Callable[[Task], Share],
        workers: int | None = None,
        preload: tuple[str, ...] = HEAVY,
    ) -> None:
        self.machine, self.share, self.workers, self.preload = machine, share, workers, preload
        self.running: dict[str, tuple[Task, Apart]] = {}
        self.shares: dict[str, Share] = {}
        self.tries: Counter[str] = Counter()
        self.free = list(machine.gpus)
        self.held: dict[str, list[str]] = {}

    def room(self, task: Task) -> bool:
        own = self.share(task)
        if not self.running:
            if own.memory > self.machine.memory:
                warn_too_large(task, own.memory, self.machine.memory)
            return True
        if self.tries[task.name] or any(self.tries[name] > 1 for name in self.running):
            return False
        served = not task.computes and any(not other.computes for other, _ in self.running.values())
        return not served and self._fits(own)

    def _fits(self, own: Share) -> bool:
        """Whether so much is free."""
        together = [own, *self.shares.values()]
        return (
            len(together) <= (self.workers or len(together))
            and own.gpus <= len(self.free)
            and sum(one.cores for one in together) <= self.machine.cores
            and sum(one.memory for one in together) <= self.machine.memory
        )

    def begin(self, task: Task, job: Job, log: Path) -> None:
        own = self.share(task)
        self.tries[task.name] += 1
        mine = [self.free.pop(0) for _ in range(own.gpus)]
        gpus = ",".join(mine) if self.machine.gpus else None
        place = Place(log, own.threads, gpus, preload=self.preload)
        self.running[task.name] = (task, Apart(job, place))
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
