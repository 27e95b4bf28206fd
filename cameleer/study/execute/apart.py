"""A task's job in a process of its own, which gives all its memory back and fails alone.

logs/TASK.log    what the process says, of every try
logs/TASK.json   where it is, written anew every second: see `Beat`
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from cameleer.core.artifact import be_patient
from cameleer.core.console import under_way, without_colours
from cameleer.core.cores import end_with_parent
from cameleer.core.errors import UserError, out_of_memory
from cameleer.core.files import write_passing
from cameleer.model.devices import compute_with
from cameleer.train.heap import pieces_joined

HEAVY = ("torch", "transformers", "cameleer.train.loop", "cameleer.engines.transformers")
VMSTAT, STATM = Path("/proc/vmstat"), Path("/proc/self/statm")
SECONDS = 1.0  # between two beats
T = TypeVar("T")
SHOWN = 10  # lines of a log that a failure shows


@dataclass(frozen=True)
class Job:
    """A call that another process makes; both go there pickled.

    joined: by a program with a C library of its own setting, see `pieces_joined`.
    """

    function: Callable[..., Any]
    given: tuple[Any, ...] = ()
    joined: bool = False


@dataclass(frozen=True)
class Place:
    """How the process is set up, wherever it runs.

    log: its log; threads: that it computes with, None leaves that to torch; gpus: what it sees of
    them, as CUDA_VISIBLE_DEVICES has it, None leaves that as it is; folder: where the command was
    given, as paths are relative to that; environment: variables to set. patience: seconds to wait
    for a lock that a process of a run that was just killed may hold yet. preload: modules that
    processes of this one find loaded already.
    """

    log: Path
    threads: int | None = None
    gpus: str | None = None
    folder: Path = field(default_factory=Path.cwd)
    environment: dict[str, str] = field(default_factory=dict)
    patience: float = 30.0
    preload: tuple[str, ...] = HEAVY

    @property
    def beat(self) -> Path:
        return self.log.with_suffix(".json")


@dataclass(frozen=True)
class End:
    """How a job ended. why: None if well; killed: by another process, so that it is worth another
    try."""

    why: str | None = None
    killed: bool = False


class Apart:
    """A job under way in a process of its own."""

    def __init__(self, job: Job, place: Place) -> None:
        spawn: Any = multiprocessing.get_context("spawn")
        context = spawn if job.joined else _forkserver(place.preload)
        self.receiver, sender = context.Pipe(duplex=False)
        self.process = context.Process(target=_do, args=(job, place, sender))
        self.killings = _killings()
        place.log.parent.mkdir(parents=True, exist_ok=True)
        with pieces_joined() if job.joined else nullcontext():
            begin(self.process)
        sender.close()

    @property
    def sentinel(self) -> int:
        """What is ready to be waited for when the process has ended."""
        return int(self.process.sentinel)

    def end(self) -> End:
        """How it ended; waits for that."""
        wait([self.sentinel])
        told: End | None = None
        with suppress(EOFError, OSError):
            told = self.receiver.recv() if self.receiver.poll() else None
        self.process.join()
        self.receiver.close()
        return told or self._killed()

    def _killed(self) -> End:
        """The end of a process that said nothing."""
        self.stop()  # what it started may live on; so does it if its server alone was killed
        code = self.process.exitcode
        if code is None or code >= 0:
            return End(f"its process ended at once (exit code {code})", killed=True)
        by = signal.Signals(-code).name
        if code == -signal.SIGKILL and _killings() > self.killings:
            why = "the machine ran out of memory, and its process was killed for it"
            return End(f"{why} (SIGKILL, by the kernel)", killed=True)
        return End(f"its process was killed ({by}); was there enough memory?", killed=True)

    def stop(self) -> None:
        """Kill the process and all that it started."""
        pid: int = self.process.pid
        for kill in (os.killpg, os.kill):  # just begun, it has no group yet
            with suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)


def begin(process: BaseProcess, patience: float = 30.0) -> None:
    """Start a process, also when the server that forks it has just been killed: another begins.

    multiprocessing sees that a server is gone when the kernel has ended it, which is a moment
    after its sockets are closed; until then each try meets a closed socket. patience: seconds.
    """
    until = time.monotonic() + patience
    while True:
        try:
            return process.start()
        except (EOFError, ConnectionError):
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def run_apart(job: Job, place: Place) -> End:
    """Do a job in a process of its own, to its end."""
    return Apart(job, place).end()


def asked_apart(function: Callable[..., T], *given: Any) -> T:
    """What a function says in a process of its own; what it loads is gone with that."""
    with ProcessPoolExecutor(1, _forkserver(HEAVY), end_with_parent) as pool:
        return pool.submit(function, *given).result()


def _forkserver(preload: Sequence[str]) -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context


def last_lines(log: Path) -> list[str]:
    """The end of a log."""
    if not log.is_file():
        return []
    with log.open("rb") as handle:
        handle.seek(max(0, log.stat().st_size - 20_000))
        return handle.read().decode(errors="replace").splitlines()[-SHOWN:]


def _do(job: Job, place: Place, tell: Connection) -> None:
    """The process: set up, do the job, tell the end."""
    os.setsid()  # Ctrl-C is told to the parent alone, which ends us and what we start
    end_with_parent()
    _speak_to(place.log)
    try:
        os.chdir(place.folder)
        os.environ.update(place.environment)
        if place.gpus is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = place.gpus
        if place.threads is not None:
            compute_with(place.threads)
        be_patient(place.patience)
        Beat(place.beat).start()
        job.function(*job.given)
        end = End()
    except UserError as error:
        end = End(str(error))
    except Exception as error:  # whatever it is, the other cells go on
        traceback.print_exc()
        said = (str(error).strip() or "no more is said").splitlines()[0]
        memory = "out of memory: " if out_of_memory(error) else ""
        end = End(f"{memory}{type(error).__name__}: {said}")
    print(f"end: {end.why or 'done'}", file=sys.stderr)
    tell.send(end)


def _speak_to(log: Path) -> None:
    """Write to `log` what this process says, and all that it starts."""
    with log.open("a") as handle:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(handle.fileno(), 1)
        os.dup2(handle.fileno(), 2)
    without_colours()
    at = time.strftime("%Y-%m-%d %H:%M:%S")
    print(f"begin: {at}, process {os.getpid()} on {platform.node()}", file=sys.stderr)


class Beat:
    """Writes every second what this process is at, for a board to show.

    pid, host; memory_gib: held by this process; and of the progress that it shows: what, done,
    total, rate (a second), seconds_left, info.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def start(self) -> None:
        threading.Thread(target=self._beat, name="beat", daemon=True).start()

    def _beat(self) -> None:
        while True:
            with suppress(OSError):  # a full disk is the work's to tell
                write_passing(self.file, self.facts())
            time.sleep(SECONDS)

    def facts(self) -> dict[str, Any]:
        """What a beat says."""
        held = int(STATM.read_text().split()[1]) * resource.getpagesize() if STATM.exists() else 0
        at = {"pid": os.getpid(), "host": platform.node(), "memory_gib": round(held / 2**30, 2)}
        return at | (under_way[-1].facts() if under_way else {})


def _killings() -> int:
    """Processes that this kernel has killed so far because memory ran out."""
    if not VMSTAT.exists():
        return 0
    found = [line.split()[1] for line in VMSTAT.read_text().splitlines() if "oom_kill " in line]
    return int(found[0]) if found else 0
