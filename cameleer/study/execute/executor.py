"""What runs a study's tasks, and the one loop that says when each may begin and what its end means.

An executor has room for a task or not, begins it, and tells which have ended; where they run is
its own matter (cameleer.study.execute.local, cameleer.study.execute.on_ray).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from cameleer.core.console import note, warn
from cameleer.core.errors import UserError
from cameleer.study.execute.apart import End, Job, last_lines
from cameleer.study.execute.tasks import Task
from cameleer.study.grid import Failed

LOGS = "logs"
SECONDS = 1.0  # between two looks at what is under way
NAMED = 3  # models that a warning about many names


class Executor(Protocol):
    """Where tasks run."""

    def room(self, task: Task) -> bool:
        """Whether the task may begin now, beside what has begun."""

    def begin(self, task: Task, job: Job, log: Path) -> None:
        """Begin a task; its process writes to `log` and a beat beside it."""

    def ended(self, seconds: float) -> dict[str, End]:
        """Tasks that have ended since the last call, by name; waits so long for the first."""

    def close(self) -> None:
        """End what still runs."""


@dataclass
class State:
    """How far a task is: waiting, running, done, failed, or skipped as what it needs has failed."""

    task: Task
    log: Path
    state: str = "waiting"
    looked_at: bool = False
    tries: int = 0


class Course:
    """The course of a study's tasks from first to last."""

    def __init__(
        self,
        tasks: Sequence[Task],
        make: Callable[[], Executor],
        folder: Path,
        retries: int = 0,
        show: Callable[[Sequence[State]], None] = lambda _: None,
    ) -> None:
        """make: the executor, which is made when there is something to do; retries: further tries
        of a task whose process was killed; show: is given all states every second."""
        self.make, self.retries, self.show = make, retries, show
        logs = folder.absolute() / LOGS
        self.states = {
            task.name: State(task, logs / f"{task.name.replace(' ', '--')}.log") for task in tasks
        }
        self.failed: Failed = {}
        self.warned: Counter[Path] = Counter()
        self.warned_of: dict[str, list[str]] = {}

    @cached_property
    def executor(self) -> Executor:
        return self.make()

    def to_the_end(self) -> Failed:
        """Run every task, and return why those that failed did, by cell or judging."""
        states = self.states.values()
        try:
            while any(one.state in ("waiting", "running") for one in states):
                self._begin_what_may()
                self.show(list(states))
                running = [one for one in states if one.state == "running"]
                ends = self.executor.ended(SECONDS) if running else {}
                for one in running:
                    self._relay_warnings(one)
                for name, end in ends.items():
                    self._take(self.states[name], end)
        finally:
            if "executor" in vars(self):
                self.executor.close()
            for text, (_, *more) in self.warned_of.items():
                if more:
                    warn(f"the same was said of {_listed(more)}: {text}")
        self.show(list(states))
        return self.failed

    def _begin_what_may(self) -> None:
        for one in self.states.values():
            if one.state != "waiting":
                continue
            before = {self.states[name].state for name in one.task.needs}
            if before & {"failed", "skipped"}:
                one.state = "skipped"
            elif before <= {"done"}:
                self._begin(one)

    def _begin(self, one: State) -> None:
        """Begin a task if there is room for it; what was done before needs none."""
        if not one.looked_at:
            one.looked_at = True
            if self._job(one) is None:
                return
        if self.executor.room(one.task) and (job := self._job(one)):
            one.log.with_suffix(".json").unlink(missing_ok=True)
            one.state, one.tries = "running", one.tries + 1
            self.warned[one.log] = one.log.stat().st_size if one.log.is_file() else 0
            self.executor.begin(one.task, job, one.log)

    def _job(self, one: State) -> Job | None:
        """What is to be done now; None, and the state says why, if nothing is."""
        try:
            job = one.task.job()
        except UserError as error:
            self._fail(one, str(error))
            return None
        if job is None:
            one.state = "done"
        return job

    def _take(self, one: State, end: End) -> None:
        """What a task's end means."""
        if end.why is None:
            one.state = "done"
        elif end.killed and one.tries <= self.retries:
            warn(f"{one.task.name} is tried again: {end.why}")
            one.state = "waiting"
        else:
            for line in last_lines(one.log):
                note(f"  {line}")
            self._fail(one, end.why)
            note(f"  all of it: {one.log}")

    def _fail(self, one: State, why: str) -> None:
        one.state = "failed"
        self.failed[one.task.of] = why
        warn(f"{one.task.of}: {why}")

    def _relay_warnings(self, one: State) -> None:
        """Say what a process has warned of since the last look, which else only its log holds.

        What one has said of another model before is counted, and said again at the end.
        """
        if not one.log.is_file():
            return
        with one.log.open("rb") as handle:
            handle.seek(self.warned[one.log])
            new = handle.read()
        whole = new[: new.rfind(b"\n") + 1]
        self.warned[one.log] += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            if line.startswith("warning: "):
                text = line.removeprefix("warning: ")
                said_of = self.warned_of.setdefault(text, [])
                if not said_of or one.task.of in said_of:
                    warn(f"{one.task.of}: {text}")
                if one.task.of not in said_of:
                    said_of.append(one.task.of)


def _listed(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
