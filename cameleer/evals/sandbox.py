"""Running code that a model wrote, in a cage whose level is recorded.

A program and the tests that judge it run in two processes (`python -I -S`: the standard library
alone, no environment, no standard streams), each with limits on processor time, memory, file size
and open files. The tests call the program's function over a pipe, and values come back as plain
types built anew (see `cage`): a program can neither see its tests nor answer for them. Time is
what the two had or slept; what they waited for a processor on a busy machine is not counted. At
the end every process that was started is killed. Where the kernel grants them there are further
layers; a verdict says which ones it had, `cameleer eval sandbox` shows and tries them.

What remains possible: a program may do anything that a function can, so it may guess inputs'
meaning, and where a test compares two results of the function (HumanEval/33, its first three
lines) any steady answer passes. A hole in the kernel is a hole in the cage. Up to 1 GiB of memory
for each process, 32 MiB of them on its disk, and the time limit on one core can be used up.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cameleer.core.cores import cores
from cameleer.core.errors import UserError
from cameleer.evals.cage.exchange import MOST
from cameleer.evals.cage.watch import PATIENCE, STARTUP

MEMORY = 1 << 30  # bytes of address space
TIMEOUT = 3.0  # seconds, as in the paper (its Codex-Eval)

LAYERS = {
    "process": "two processes of their own, for program and tests; killed with all they started",
    "rlimits": "bounds on processor time, memory, file size and open files",
    "userns": "a user who has no rights outside; at most 64 processes",
    "netns": "a network without any interface, not even loopback",
    "ipcns": "no shared memory, queues or semaphores of others",
    "utsns": "a host name of its own",
    "pidns": "no process of others in sight; all within end with the tests",
    "mountns": "a file system of the standard library, two devices and 32 MiB to write in",
    "nobody": "not root, where root cannot be given up by namespaces",
    "landlock": "reads the standard library, writes in its own folder, sees no other file",
    "seccomp": "no new process, signal, socket, trace, mount, or raising of limits",
}


@dataclass(frozen=True, slots=True)
class Program:
    """Code that a model wrote, and the tests that judge it.

    The tests run with the names that `setup` (the benchmark's own code) defines, and with
    `entry_point` as the program's function. Without tests a program passes that runs to its end,
    if it is honest about it.
    """

    code: str
    test: str = ""
    entry_point: str = ""
    setup: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a program ended. reason: `passed`, `timed out` or `failed: why`; level: of the cage."""

    passed: bool
    reason: str
    level: str


def run_programs(
    programs: Sequence[Program],
    timeout: float = TIMEOUT,
    without: Sequence[str] = (),
) -> list[Verdict]:
    """Judge each program, as many at a time as there are cores; verdicts in order.

    A program passes if its tests run to their last line, within `timeout` seconds from when its
    cage stands; one that leaves early fails. without: layers to leave out, so that a machine that
    has them all can try what the others keep in. Raises UserError if a cage does not stand: that is
    no fault of the program.
    """
    todo = deque(enumerate(programs))
    verdicts: dict[int, Verdict] = {}

    def work() -> None:
        with _warden(timeout, tuple(without)) as warden, contextlib.suppress(IndexError):
            while True:
                number, program = todo.popleft()
                verdicts[number] = warden.judge(program)

    workers = min(cores(), len(programs))
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        try:
            for done in [pool.submit(work) for _ in range(workers)]:
                done.result()
        finally:
            todo.clear()
    return [verdicts[number] for number in range(len(programs))]


def run_program(program: Program, timeout: float = TIMEOUT, without: Sequence[str] = ()) -> Verdict:
    """Judge one program, as `run_programs` does."""
    return run_programs([program], timeout, without=without)[0]


class _Warden:
    """A process that makes a cage for each program it is given, one after the other."""

    def __init__(self, timeout: float, without: Sequence[str]) -> None:
        self.folder = tempfile.mkdtemp(prefix="cameleer-cage-")
        self.patience = 2 * STARTUP + PATIENCE * timeout
        home = str(Path(__file__).parent)
        load = f"import sys; sys.path.insert(0, {home!r}); from cage import jobs"
        script = f"{load}; del sys.path[0]; jobs.main()"
        given = (self.folder, MEMORY, timeout, *_files(), list(without))
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", script, *map(json.dumps, given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            env={"HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8"},
            start_new_session=True,
        )

    def close(self) -> None:
        """End it; if a cage stands, whatever it holds ends with it."""
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def judge(self, program: Program) -> Verdict:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        job = json.dumps(asdict(program)).encode() + b"\n"
        if len(job) > MOST:
            return Verdict(False, f"failed: a program of over {MOST >> 20} MiB", level())
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(job)
            self.process.stdin.flush()
        ready = select.select([self.process.stdout], [], [], self.patience)[0]
        said = self.process.stdout.readline() if ready else b""
        told: dict[str, Any] = json.loads(said) if said else {}
        if not told.get("level"):
            why = told.get("reason") or (_ending(self.process.wait()) if ready else "no answer")
            raise UserError(
                f"the sandbox did not start: {why}",
                hint=f"see whether `{sys.executable} -I -S -c 1` works here",
            )
        return Verdict(told["passed"], told["reason"], told["level"])


_idle: dict[tuple[object, ...], list[_Warden]] = {}


@contextmanager
def _warden(timeout: float, without: tuple[str, ...]) -> Iterator[_Warden]:
    """A warden that waits for work from an earlier call, or a new one; it then waits again.

    One that did not do its duty is ended. A process that was forked from ours uses none of ours.
    """
    key = (os.getpid(), sys.executable, tempfile.gettempdir(), timeout, without)
    waiting = _idle.setdefault(key, [])
    try:
        warden = waiting.pop()
    except IndexError:
        warden = _Warden(timeout, without)
    try:
        yield warden
    except BaseException:
        warden.close()
        raise
    waiting.append(warden)


@atexit.register
def dismiss() -> None:
    """End the processes that wait for further programs."""
    for key in [key for key in _idle if key[0] == os.getpid()]:
        for warden in _idle.pop(key):
            warden.close()


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    return f"killed by {signal.Signals(-status).name}"


@cache
def level() -> str:
    """The layers that this machine grants, as `process+rlimits+…`."""
    return run_program(Program("")).level


def weakness(level: str) -> str:
    """What a cage of this level does not keep out, in words; empty if it keeps out all."""
    has = set(level.split("+"))
    open_doors = {
        "files": has & {"mountns", "landlock"},
        "the network": has & {"netns", "seccomp"},
        "other processes": has & {"pidns", "seccomp"},
    }
    return " and ".join(name for name, closed in open_doors.items() if not closed)


@cache
def _files() -> tuple[list[str], list[str]]:
    """What a program must read to import the standard library, and what of that is not its own.

    Installed packages are hidden: a benchmark's package brings its solutions.
    """
    library = [sysconfig.get_path("stdlib"), f"{sys.base_prefix}/lib"]
    system = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache"]
    given = [Path(path) for path in library + system if Path(path).exists()]
    readable = sorted({*given, *(path.resolve() for path in given)})
    patterns = ("*-packages", "python3*/*-packages")
    hidden = {found for path in readable for one in patterns for found in path.glob(one)}
    folders = [str(path) for path in sorted(hidden) if path.is_dir() and not path.is_symlink()]
    return [str(path) for path in readable], folders
