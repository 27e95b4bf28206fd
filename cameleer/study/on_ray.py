"""Running tasks on a Ray cluster whose nodes share the study's folder: one Ray task for each.

On its node a task is a process of its own, as on one machine: the same log, threads and beats, so
that numbers are the same. What a lost node was at is begun again elsewhere, from its last state.
What asks a server is asked from here, where the keys are.
"""

from __future__ import annotations

import os
import platform
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cameleer
from cameleer.core.cluster import ray_at
from cameleer.core.console import note
from cameleer.core.errors import UserError
from cameleer.evals.benchmark import benchmark_named
from cameleer.evals.consent import told
from cameleer.model.devices import threads_and_gpus
from cameleer.study.apart import End, Job, Place, asked_apart, run_apart
from cameleer.study.executor import LOGS
from cameleer.study.grid import Grid
from cameleer.study.local import Local, Machine, Share
from cameleer.study.memory import held_by, warn_too_large
from cameleer.study.study import Study
from cameleer.study.tasks import Task

FIELD = "executor.address"
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
            return End(f"a node cannot run it: {_last_line(error)}")
        except problems.OutOfMemoryError:
            return End("its node ran out of memory, and Ray killed it for that", killed=True)
        except problems.RayError as error:
            return End(f"its node or its process there is lost ({_kind(error)})", killed=True)
        return end if end.why else _seen_here(task)

    def close(self) -> None:
        self.here.close()
        self.ray.shutdown()  # ends what still runs


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]


def _kind(error: Exception) -> str:
    return type(error).__name__


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


def require_seen(folder: Path, seen: Sequence[Path]) -> str:
    """The version of Cameleer on this node; UserError for what the node does not see."""
    for path in (folder, *(folder / path for path in seen)):
        if not path.exists():
            raise UserError(
                f"node {platform.node()} does not see it",
                file=path,
                hint="study, data and base models must stand in folders that all nodes share, "
                "under the same paths",
            )
    return cameleer.__version__


def cluster(grid: Grid) -> OnRay:
    """The executor of the cluster that the study names, all of whose nodes have been asked.

    Raises UserError where there is none, where nobody allowed it to run code, where a node does not
    see what it must or has another Cameleer, or where none has the cores and GPUs of one task.
    """
    study = grid.study
    _require_word_on_code(study)
    ray = ray_at(study.executor.address, FIELD, log_to_driver=False)
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        share = _share(study, nodes)
        mark = grid.folder / LOGS / f".seen-{uuid.uuid4().hex}"
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        try:
            _ask_all(ray, nodes, [mark, *_read(grid)])
        finally:
            mark.unlink()
    except UserError:
        ray.shutdown()
        raise
    note(f"Ray: {len(nodes)} nodes, {share.cores} cores and {share.gpus} GPUs for each task")
    goes = {name: value for name, value in os.environ.items() if name.startswith(ENVIRONMENT)}
    place = Place(Path(), share.threads, None, Path.cwd(), goes, LEASE)
    return OnRay(ray, share, place, [grid.folder / LOGS, *_read(grid)], study.executor.workers)


def _require_word_on_code(study: Study) -> None:
    """UserError if nodes would run what models wrote, and nobody has said that they may: here the
    user was asked about the sandbox of this machine alone."""
    named = [benchmark_named(spec.benchmark) for spec in study.benchmarks]
    coded = sorted({one.name for one in named if getattr(one.module, "RUNS_CODE", False)})
    if coded and not told(None, study.allow_code_execution):
        raise UserError(
            f"{', '.join(coded)} runs code that a model wrote, in sandboxes of nodes that may be "
            "weaker than here",
            field="allow_code_execution",
            hint="set it to true if that is enough, or leave it out",
        )


def _read(grid: Grid) -> list[Path]:
    """What every task reads, or some do."""
    return [*([grid.data] if grid.data else []), *grid.bases.values()]


def _share(study: Study, nodes: Sequence[dict[str, Any]]) -> Share:
    """What one task takes of a node; some node must have as much."""
    held = [(int(one["Resources"].get("CPU", 0)), _gpus(one)) for one in nodes]
    with_gpus = [(cpus, gpus) for cpus, gpus in held if gpus]
    gpus = study.executor.gpus_per_stage if with_gpus else 0
    if study.threads:
        threads = study.threads
    elif with_gpus:
        threads = max(1, min(cpus * gpus // there for cpus, there in with_gpus))
    else:
        threads, _ = asked_apart(threads_and_gpus)
    if not any(cpus >= threads and there >= gpus for cpus, there in held):
        about = f"no node has {threads} cores" + (f" and {gpus} GPUs" if gpus else "")
        most = max(cpus for cpus, _ in held)
        raise UserError(about, field="threads", hint=f"they have {most} at most: set threads")
    return Share(threads, gpus, threads=threads)


def _gpus(node: dict[str, Any]) -> int:
    return int(node["Resources"].get("GPU", 0))


def _ask_all(ray: Any, nodes: Sequence[dict[str, Any]], seen: Sequence[Path]) -> None:
    """UserError for a node that does not see what it must, or has another Cameleer."""
    to = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    asked = {
        node["NodeManagerAddress"]: ray.remote(require_seen)
        .options(num_cpus=0, max_retries=0, scheduling_strategy=to(node["NodeID"], soft=False))
        .remote(Path.cwd(), tuple(seen))
        for node in nodes
    }
    for address, one in asked.items():
        try:
            version = ray.get(one, timeout=SEEN)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise UserError(f"node {address}: {_last_line(error)}", field=FIELD) from None
        except ray.exceptions.RayError as error:
            raise UserError(
                f"node {address} does not answer: {_kind(error)}", field=FIELD
            ) from None
        if version != cameleer.__version__:
            about = f"node {address} has Cameleer {version}, here it is {cameleer.__version__}"
            raise UserError(about, field=FIELD, hint="install the same on all nodes")
