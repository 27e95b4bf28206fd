"""Running tasks on a Ray cluster whose nodes share the study's folder: one Ray task for each.

On its node a task is a process of its own, as on one machine: the same log, threads and beats, so
that numbers are the same. What a lost node was at is begun again elsewhere, from its last state.
What asks a server is asked from here, where the keys are.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cameleer.core.cluster import ray_at
from cameleer.core.console import note
from cameleer.core.errors import UserError
from cameleer.study.execute.apart import End, Job, Place, run_apart
from cameleer.study.execute.executor import LOGS
from cameleer.study.execute.local import Local, Machine, Share
from cameleer.study.execute.memory import held_by, warn_too_large
from cameleer.study.execute.nodes import (
    FIELD,
    last_line,
    require_ready,
    require_seen,
    require_word_on_code,
    share_of,
)
from cameleer.study.execute.tasks import Task
from cameleer.study.grid import Grid

ENVIRONMENT = ("CAMELEER_", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE")  # goes along; keys do not
LEASE = 120.0  # seconds; a dead node's lock on a shared folder lasts up to 90 (NFS 4)
SEEN = 60.0  # seconds in which what a node wrote must be seen here


class OnRay:
    """The executor of a Ray cluster."""

    def __init__(
        self, ray: Any, share: Share, place: Place, seen: Sequence[Path], workers: int | None
    ) -> None:
        """share: of one that computes; place: of each, but for its log; seen: what nodes must see;
        workers: tasks at once, at most."""
        self.ray, self.share, self.place, self.seen = ray, share, place, tuple(seen)
        self.workers = workers
        self.seats: int | None = None  # asked anew at every look
        self.running: dict[str, tuple[Task, Any]] = {}
        self.here = Local(Machine(0, (), float("inf")), lambda _: Share())
        self.remote = ray.remote(max_retries=0)(_on_node)

    def room(self, task: Task) -> bool:
        if not task.computes:
            return self.here.room(task)
        if self.seats is None:
            self.seats = self._seats()
        return len(self.running) < self.seats  # more would only queue there

    def _seats(self) -> int:
        """Tasks for which the cluster, as it is now, has room."""
        there, own = self.ray.cluster_resources(), self.share
        found = [int(there.get("CPU", 0) // own.cores)]
        found += [int(there.get("GPU", 0) // own.gpus)] if own.gpus else []
        found += [self.workers] if self.workers else []
        return max(1, min(found))

    def begin(self, task: Task, job: Job, log: Path) -> None:
        if not task.computes:
            self.here.begin(task, job, log)
            return
        wants = {"num_cpus": self.share.cores, "num_gpus": self.share.gpus, "name": task.name}
        wants["memory"] = self._memory(task)
        place = replace(self.place, log=log)
        asked = self.remote.options(**wants).remote(job, place, self.seen)
        self.running[task.name] = (task, asked)

    def _memory(self, task: Task) -> int:
        """Bytes that a node must have free; no more than some node has at all."""
        need = held_by(task, bool(self.share.gpus))
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        most = max((node.get("memory", 0.0) for node in nodes), default=need)
        if need > most:
            warn_too_large(task, need, most)
        return int(min(need, most))

    def ended(self, seconds: float) -> dict[str, End]:
        self.seats = None
        names = {asked: name for name, (_, asked) in self.running.items()}
        if not names:
            return self.here.ended(seconds)
        over, _ = self.ray.wait(list(names), timeout=seconds, num_returns=1)
        over, _ = self.ray.wait(list(names), timeout=0, num_returns=len(names)) if over else ([], 0)
        return self.here.ended(0) | {names[asked]: self._end(names[asked]) for asked in over}

    def _end(self, name: str) -> End:
        task, asked = self.running.pop(name)
        problems = self.ray.exceptions
        try:
            end: End = self.ray.get(asked)
        except problems.RayTaskError as error:  # of what we run there, nothing raises
            return End(f"a node cannot run it: {last_line(error)}")
        except problems.OutOfMemoryError:
            return End("its node ran out of memory, and Ray killed it for that", killed=True)
        except problems.RayError as error:
            how = type(error).__name__
            return End(f"its node or its process there is lost ({how})", killed=True)
        return end if end.why else _seen_here(task)

    def close(self) -> None:
        self.here.close()
        self.ray.shutdown()  # ends what still runs


def _seen_here(task: Task) -> End:
    """A good end, once the folder shows here what the node wrote."""
    until = time.monotonic() + SEEN
    while task.job() is not None:
        if time.monotonic() > until:
            return End("its node says that it is done, but what it wrote is not to be seen here")
        time.sleep(0.5)
    return End()


def _on_node(job: Job, place: Place, seen: Sequence[Path]) -> End:
    """One task, on the node that Ray has chosen."""
    try:
        require_seen(place.folder, seen)
    except UserError as error:
        return End(str(error))
    return run_apart(job, replace(place, gpus=os.environ.get("CUDA_VISIBLE_DEVICES")))


def cluster(grid: Grid) -> OnRay:
    """The executor of the cluster that the study names, all of whose nodes have been asked.

    Raises UserError where there is none, where nobody allowed it to run code, where a node does not
    see what it must or has another Cameleer, or where none has the cores and GPUs of one task.
    """
    study = grid.study
    require_word_on_code(study)
    ray = ray_at(study.executor.address, FIELD, log_to_driver=False)
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        share = share_of(study, nodes)
        mark = grid.folder / LOGS / f".seen-{uuid.uuid4().hex}"
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        try:
            require_ready(ray, nodes, [mark, *_read(grid)])
        finally:
            mark.unlink()
    except UserError:
        ray.shutdown()
        raise
    note(f"Ray: {len(nodes)} nodes, {share.cores} cores and {share.gpus} GPUs for each task")
    goes = {name: value for name, value in os.environ.items() if name.startswith(ENVIRONMENT)}
    place = Place(Path(), share.threads, None, Path.cwd(), goes, LEASE)
    return OnRay(ray, share, place, [grid.folder / LOGS, *_read(grid)], study.executor.workers)


def _read(grid: Grid) -> list[Path]:
    """What every task reads, or some do."""
    return [*([grid.data] if grid.data else []), *grid.bases.values()]
