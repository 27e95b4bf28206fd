"""The cores of this machine, and work spread over them by processes that never outlive us."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any, TypeVar

A = TypeVar("A")
B = TypeVar("B")


def cores() -> int:
    """The cores that this process may run on; all of the machine's where that cannot be told."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def over_cores(
    work: Callable[[A], B],
    batches: Iterable[A],
    workers: int,
    begin: Callable[..., None] | None = None,
    given: tuple[Any, ...] = (),
) -> Iterator[B]:
    """`work` of each batch, in order, by so many processes; few batches wait in memory.

    begin: called with `given` in each process before its first batch. Both functions, batches and
    results go from process to process.
    """
    if workers <= 1:
        if begin is not None:
            begin(*given)
        yield from map(work, batches)
        return
    # Started anew, not forked: threads (numpy's, a tokenizer's, the bar's) outlive no fork.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _ready, (begin, given))
    waiting: deque[Future[B]] = deque()
    try:
        for batch in batches:
            waiting.append(pool.submit(work, batch))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _ready(begin: Callable[..., None] | None, given: tuple[Any, ...]) -> None:
    """Make a process of the pool ready."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and ends us
    end_with_parent()
    if begin is not None:
        begin(*given)


def end_with_parent() -> None:
    """End this process of multiprocessing as soon as its parent ends, however that ends.

    Whatever it started ends first: libraries' processes may not notice, and would keep a GPU.
    """

    def watch() -> None:
        if parent := parent_process():
            connection.wait([parent.sentinel])
            _end_all_below(os.getpid())
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _end_all_below(process: int) -> None:
    """End the processes that a process started, and theirs."""
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):  # a thread or a process that has just ended by itself
            for child in map(int, children.read_text().split()):
                _end_all_below(child)
                os.kill(child, signal.SIGKILL)
