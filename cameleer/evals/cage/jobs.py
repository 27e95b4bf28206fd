"""One job after the other: processes are forked, caged, watched, and leave nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Any

from . import exchange
from .kernel import DEATH_SIGNAL, libc
from .layers import cage
from .namespaces import leave
from .watch import end_all, follow

SUBREAPER = 36  # prctl(2)

Limits = tuple[int, int, list[str], list[str], list[str], list[str]]
"""What `cage` is given: memory, seconds, namespaces granted, readable, hidden, without."""


def main() -> None:
    """A process for each job that comes, one after the other, until no more can come."""
    arguments = [json.loads(argument) for argument in sys.argv[1:]]
    jobs = select.poll()
    jobs.register(0, select.POLLIN)
    while jobs.poll()[0][1] & select.POLLIN:
        child = os.fork()
        if child == 0:
            stood = False
            try:
                stood = run_one(*arguments)
            finally:
                os._exit(0 if stood else 1)
        if os.waitpid(child, 0)[1]:
            break
    with contextlib.suppress(OSError):
        os.rmdir(arguments[0])  # noqa: PTH106


def run_one(
    folder: str,
    memory: int,
    seconds: float,
    readable: list[str],
    hidden: list[str],
    without: list[str],
) -> bool:
    """Put up the layers, run program and tests, say how it went, and leave nothing running.

    Returns whether the cage stood. Arguments as on the command line.
    """
    parent = os.getppid()
    proc = os.open("/proc", os.O_PATH)
    null = os.open("/dev/null", os.O_RDWR)
    granted = leave(folder, readable, hidden, without)
    libc.prctl(SUBREAPER, 1, 0, 0, 0)
    libc.prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)  # a change of user would undo it
    if os.getppid() != parent:
        return False
    (heard, report), (to_checker, by_program), (to_program, by_checker) = (
        os.pipe() for _ in range(3)
    )
    limits = (memory, int(seconds) + 2, granted, readable, hidden, without)
    # The first of its namespace are the tests: with them, all there end.
    checker = forked(null, tests_process, limits, report, to_checker, by_checker)
    children = (checker, forked(null, program_process, limits, to_program, by_program))
    for ours in (report, to_checker, by_program, to_program, by_checker):
        os.close(ours)
    verdict = follow(heard, proc, *children, seconds)
    end_all(children, proc)
    os.write(1, json.dumps(verdict).encode() + b"\n")
    return verdict["level"] is not None


def forked(null: int, work: Callable[..., None], *given: Any) -> int:
    """A process that does the work and says nothing on our streams; returns its number."""
    child = os.fork()
    if child:
        return child
    try:
        os.dup2(null, 1)
        os.dup2(null, 2)
        work(*given)
    finally:
        os._exit(0)


def tests_process(limits: Limits, report: int, inward: int, outward: int) -> None:
    """Take the job from standard input, hear the program's level, and report how it is judged."""
    says, *to_program = keep_only(report, inward, outward)
    line = exchange.Line(*to_program)
    job = exchange.Line(0, says).hear()
    os.dup2(1, 0)
    cage(*limits)
    level = line.hear()
    os.write(says, f"{level}\n".encode())
    os.write(says, json.dumps(exchange.judge(line, job)).encode())


def program_process(limits: Limits, inward: int, outward: int) -> None:
    """Tell the tests which layers stand, then run what they send."""
    os.dup2(1, 0)
    line = exchange.Line(*keep_only(inward, outward))
    line.say("+".join(cage(*limits)))
    with contextlib.suppress(exchange.Gone):
        exchange.serve(line)


def keep_only(*kept: int) -> list[int]:
    """Close all descriptors but these and the standard ones; the new numbers, from 3 on."""
    high = [os.dup2(one, 100 + index) for index, one in enumerate(kept)]
    low = [os.dup2(one, 3 + index) for index, one in enumerate(high)]
    os.closerange(3 + len(kept), 1 << 16)
    return low
