"""What people see while work goes on: progress and notes on stderr, results on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

WIDE = 200  # columns of a table that is written to a file or a pipe


def _console(stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDE
    return Console(stderr=stderr, highlight=False, soft_wrap=True, width=width)


err, out = _console(stderr=True), _console(stderr=False)


def silence(quiet: bool) -> None:
    """Say nothing from here on, or speak again: of many processes at one task, one speaks."""
    err.quiet = out.quiet = quiet


def without_colours() -> None:
    """Speak as to a file from here on, whatever it was when this process began."""
    err.no_color = out.no_color = True


PLAIN_SECONDS = 15.0  # how often a plain log gets a line about work in progress


def note(text: str) -> None:
    """One line about what is going on."""
    err.print(text, markup=False)


def warn(text: str) -> None:
    """One line about something that the user should know of, though work goes on."""
    err.print(f"warning: {text}", style="yellow", markup=False)


def table(title: str, columns: list[str], rows: list[list[Any]], to: Console = out) -> None:
    """Print a table; first column left, the others right if they hold numbers."""
    shown = Table(title=title or None, title_justify="left", box=None, header_style="bold")
    for index, name in enumerate(columns):
        numeric = index > 0 and all(isinstance(row[index], int | float) for row in rows)
        shown.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(escape(str(cell)) for cell in row))
    to.print(shown)


def emit_json(value: Any) -> None:
    """Print one JSON object on stdout."""
    if out.quiet:
        return
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


class Ticker:
    """Counts work done; shows a bar on a terminal and a line now and then elsewhere."""

    def __init__(
        self, what: str, total: int | None, done: int, bar: Progress | None, in_bytes: bool = False
    ) -> None:
        self.what, self.total, self.count, self.bar = what, total, done, bar
        self.shown = decimal if in_bytes else str
        self.first, self.start = done, time.monotonic()
        self.said, self.info = self.start, ""
        if bar is not None:
            self.task = bar.add_task(what, total=total, completed=done, info="")

    def advance(self, amount: int = 1, info: str = "") -> None:
        """Count `amount` more; `info` is a short text such as a loss or a rate."""
        self.count += amount
        self.info = info
        if self.bar is not None:
            pace = "" if self.shown is decimal else f"{self._rate(time.monotonic()):.3g}/s"
            self.bar.update(self.task, completed=self.count, info=f"{pace} {info}".strip())
        elif time.monotonic() - self.said > PLAIN_SECONDS:
            self.said = time.monotonic()
            note(f"{self.what}: {self._so_far()} {info}".rstrip())

    def restate(self, total: int | None, done: int) -> None:
        """The work is another amount than was thought, or begins again at `done`."""
        self.total, self.count, self.first, self.start = total, done, done, time.monotonic()
        if self.bar is not None:
            self.bar.update(self.task, total=total, completed=done)

    def _so_far(self) -> str:
        if self.total is None:
            return self.shown(self.count)
        rate = self._rate(self.said)
        left = (self.total - self.count) / rate if rate else float("inf")
        pace = "" if self.shown is decimal else f", {rate:.3g}/s"
        return f"{self.shown(self.count)}/{self.shown(self.total)}{pace}, {left:.0f} s left"

    def facts(self) -> dict[str, Any]:
        """What is done of how much, units a second, seconds left and the text beside, for others
        to show."""
        rate = self._rate(time.monotonic())
        left = (self.total - self.count) / rate if self.total and rate else None
        told = {"what": self.what, "done": self.count, "total": self.total, "info": self.info}
        return {**told, "rate": round(rate, 4), "seconds_left": left and round(left)}

    def _rate(self, now: float) -> float:
        """Units a second, of what was done since the start."""
        return (self.count - self.first) / max(now - self.start, 1e-9)


under_way: list[Ticker] = []  # of this process, the innermost last


@contextmanager
def progress(
    what: str, total: int | None, done: int = 0, in_bytes: bool = False
) -> Iterator[Ticker]:
    """A progress bar named `what` over `total` units of which `done` were there before.

    total: None while it is not known; in_bytes: the units are bytes, shown as sizes with a rate.
    Meanwhile it stands in `under_way`.
    """
    with _progress(what, total, done, in_bytes) as ticker:
        under_way.append(ticker)
        try:
            yield ticker
        finally:
            under_way.remove(ticker)


@contextmanager
def _progress(what: str, total: int | None, done: int, in_bytes: bool) -> Iterator[Ticker]:
    """The bar of `progress` on a terminal; elsewhere lines now and then."""
    if not err.is_terminal:
        yield Ticker(what, total, done, None, in_bytes)
        return
    count: list[ProgressColumn] = (
        [DownloadColumn(), TransferSpeedColumn()] if in_bytes else [MofNCompleteColumn()]
    )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        *count,
        TimeRemainingColumn(),
        TextColumn("{task.fields[info]}"),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        yield Ticker(what, total, done, bar, in_bytes)


@contextmanager
def kept_told(ticker: Ticker, status: Callable[[], str], seconds: float = 1.0) -> Iterator[None]:
    """Show `status()` now and then while one unit of work takes long; a thread calls it."""
    ended = Event()

    def tell() -> None:
        while not ended.wait(seconds):
            ticker.advance(0, status())

    thread = Thread(target=tell, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
