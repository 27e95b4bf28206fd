"""Keeping time over two processes, hearing how it went, and ending whatever they started."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from typing import Any

STARTUP = 30.0  # seconds that the cage itself may take on a busy machine
PATIENCE = 20  # times the limit, by the wall clock, however busy the machine
TICK = 0.05  # seconds between looks at the clock


class Clock:
    """The time that two processes had, that which they waited for a processor not counted.

    So a program's limit is the same on a busy machine as on an idle one. proc: the folder /proc of
    the world outside, open.
    """

    def __init__(self, proc: int, processes: tuple[int, ...]) -> None:
        self.proc, self.processes = proc, processes
        self.began, self.waited = time.monotonic(), self._waiting()

    def over(self, seconds: float) -> bool:
        passed = time.monotonic() - self.began
        waited = self._waiting() - self.waited if passed > seconds else 0.0
        return passed - waited > seconds or passed > seconds * PATIENCE

    def _waiting(self) -> float:
        waited = 0
        for process in self.processes:
            with contextlib.suppress(OSError):
                handle = os.open(f"{process}/schedstat", os.O_RDONLY, dir_fd=self.proc)
                waited += int(os.read(handle, 100).split()[1])
                os.close(handle)
        return waited / 1e9


def follow(report: int, proc: int, checker: int, program: int, seconds: float) -> dict[str, Any]:
    """Read the tests' process's report until it ends or time is up, and end both processes."""
    poll = select.poll()
    poll.register(report, select.POLLIN)
    poll.register(0, 0)  # tells when nobody is there any more who could want to know
    said, clock, until = b"", None, time.monotonic() + STARTUP
    timed_out = False
    while not timed_out:
        ready = dict(poll.poll(TICK * 1000))
        if 0 in ready:
            break
        if report in ready:
            piece = os.read(report, 1 << 16)
            said += piece
            if not piece:
                break
        if clock is None and b"\n" in said:
            clock = Clock(proc, (checker, program))
        timed_out = clock.over(seconds) if clock else time.monotonic() > until
    if clock is None:
        return {"level": None, "reason": "it did not stand in time" if timed_out else "it fell"}
    level, _, result = said.partition(b"\n")
    passed, reason = (False, "timed out") if timed_out else _result(result, program)
    return {"level": level.decode(), "passed": passed, "reason": reason}


def _result(said: bytes, program: int) -> tuple[bool, str]:
    """What the tests' process says of the program, as (passed, reason)."""
    result = json.loads(said) if said else {"reason": "its tests ended early"}
    if result.get("passed"):
        return True, "passed"
    return False, f"failed: {_ending(program) if result.get('gone') else result['reason']}"


def _ending(program: int) -> str:
    """How the program's process ended, which closes its line a moment before; not yet reaped."""
    until = time.monotonic() + 1
    while time.monotonic() < until:
        ended = os.waitid(os.P_PID, program, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended:
            killed = ended.si_code != os.CLD_EXITED
            how = signal.Signals(ended.si_status).name if killed else ended.si_status
            return f"ended before its last line, {'killed by' if killed else 'exit status'} {how}"
        time.sleep(0.001)
    return "broke the line to its tests"


def end_all(children: tuple[int, ...], proc: int) -> None:
    """Kill the children, and whatever they started: as its parents die it becomes our child."""
    for child in children:
        os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.001)
                for child in _adopted(proc):
                    os.kill(child, signal.SIGKILL)


def _adopted(proc: int) -> list[int]:
    """Every child that we have, dead or alive, where the kernel lists them."""
    try:
        handle = os.open(f"self/task/{os.getpid()}/children", os.O_RDONLY, dir_fd=proc)
    except OSError:
        return []
    try:
        return [int(child) for child in os.read(handle, 1 << 16).split()]
    finally:
        os.close(handle)
