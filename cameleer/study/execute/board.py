"""Where each model of a study is: a board on a terminal, lines elsewhere, and a file of it.

STUDY/logs/board.json is written anew every second, so that `study status` shows the same from
another terminal. `logs/.lock` is held as long as the study runs.
"""

from __future__ import annotations

import fcntl
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cameleer.core.artifact import only_worker
from cameleer.core.console import err, note
from cameleer.core.errors import UserError
from cameleer.core.files import read_json, write_passing
from cameleer.study.execute.executor import LOGS, State

Row = dict[str, Any]
BOARD = "board.json"
PLAIN_SECONDS = 30.0  # between two lines of a log about one task
BAR = 16  # columns
FIRST = ("running", "failed", "skipped", "waiting", "done")  # what is shown where not all has room
STYLES = {"failed": "red", "skipped": "red", "done": "green", "running": "bold", "waiting": "dim"}


class Board:
    """Shows states of tasks; one row for each cell and judging."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / LOGS / BOARD
        self.live = Live(console=err, auto_refresh=False) if err.is_terminal else None
        self.since: dict[str, float] = {}
        self.said: dict[str, float] = {}
        self.before: dict[str, str] = {}

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Hold the study's lock meanwhile, and the board's place on the terminal."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with only_worker(self.file.parent), self.live or nullcontext():
            yield

    def show(self, states: Sequence[State]) -> None:
        """The states as they are now."""
        now = time.monotonic()
        for one in states:
            if self.before.get(one.task.name, "waiting") != one.state and one.state == "running":
                self.since[one.task.name] = self.said[one.task.name] = now
        rows = rows_of(states, {name: now - begun for name, begun in self.since.items()})
        write_passing(self.file, {"at": time.time(), "rows": rows})
        if self.live is not None:
            self.live.update(drawn(rows, err.size.height - 4), refresh=True)
        else:
            self._say(states, now)
        self.before = {one.task.name: one.state for one in states}

    def _say(self, states: Sequence[State], now: float) -> None:
        """A line for each that begins or ends, and now and then for each under way."""
        count = len(states)
        for number, one in enumerate(states, 1):
            name = one.task.name
            changed = self.before.get(name, "waiting") != one.state
            if changed and one.state == "running":
                note(f"{name} ({number} of {count})")
            elif changed and one.state == "done" and name in self.since:
                note(f"{name}: done in {now - self.since[name]:.0f} s")
            elif one.state == "running" and now - self.said[name] > PLAIN_SECONDS:
                self.said[name] = now
                note(f"{name}: {progress_of(beat_of(one))}")


def rows_of(states: Sequence[State], seconds: dict[str, float]) -> list[Row]:
    """One row for each cell and judging: its name, state, stage and what its process beats; seconds
    since a stage began."""
    by_name: dict[str, list[State]] = {}
    for one in states:
        by_name.setdefault(one.task.of, []).append(one)
    return [_row(name, own, seconds) for name, own in by_name.items()]


def _row(name: str, own: list[State], seconds: dict[str, float]) -> Row:
    order = ("failed", "skipped", "running", "waiting", "done")
    at = min(own, key=lambda one: order.index(one.state))
    row: Row = {"model": name, "state": at.state, "stage": at.task.kind, "tries": at.tries}
    if at.state == "running":
        row |= {"seconds": round(seconds.get(at.task.name, 0.0))} | beat_of(at)
    if at.state in ("running", "failed"):
        row |= {"log": str(at.log)}
    return row


def beat_of(one: State) -> Row:
    """What a task's process said last; nothing if it has not begun yet."""
    with suppress(OSError, UserError):
        found: Row = read_json(one.log.with_suffix(".json"))
        return found
    return {}


def progress_of(beat: Row) -> str:
    """A beat in words: what, how far, how fast, how long, and what it holds."""
    if not beat:
        return "not begun yet"
    parts = [str(beat["what"])] if beat.get("what") else ["begun"]
    if beat.get("total"):
        parts.append(f"{beat['done']}/{beat['total']}")
    if beat.get("rate"):
        parts.append(f"{beat['rate']:.3g}/s")
    if beat.get("seconds_left") is not None:
        parts.append(f"{_time(beat['seconds_left'])} left")
    return ", ".join([*parts, f"{beat['memory_gib']:.1f} GiB"])


def drawn(rows: Sequence[Row], most: int) -> Group:
    """The board; where it has no room for all rows, those under way and failed come first."""
    kept = sorted(range(len(rows)), key=lambda number: FIRST.index(rows[number]["state"]))
    shown = [rows[number] for number in sorted(kept[: max(1, most)])]
    columns = ("model", "stage", "", "", "rate", "left", "memory", "")
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in shown:
        table.add_row(*_cells(row), style=STYLES[row["state"]])
    counts = Counter(str(row["state"]) for row in rows)
    said = ", ".join(f"{counts[state]} {state}" for state in reversed(FIRST) if counts[state])
    return Group(table, Text(said, style="dim"))


def _cells(row: Row) -> list[Any]:
    name, state = Text(row["model"], overflow="fold"), row["state"]
    if state != "running":
        return [name, Text(state if state != "waiting" else f"waiting ({row['stage']})")]
    what = row.get("what") or row["stage"]
    stage = row["stage"] if what == row["stage"] else f"{row['stage']} {what}"
    if not row.get("pid"):
        return [name, Text(f"{stage}: not begun yet")]
    total, done = row.get("total"), row.get("done") or 0
    return [
        name,
        Text(stage),
        ProgressBar(total, done, width=BAR) if total else "",
        f"{done}/{total}" if total else f"{_time(row['seconds'])}",
        f"{row['rate']:.3g}/s" if row.get("rate") else "",
        _time(row["seconds_left"]) if row.get("seconds_left") is not None else "",
        f"{row['memory_gib']:.1f} GiB",
        Text(row.get("info") or "", style="dim", overflow="ellipsis", no_wrap=True),
    ]


def _time(seconds: float) -> str:
    """A time as people say it."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 6000 else f"{whole / 3600:.1f} h"


def board_now(folder: Path) -> list[Row] | None:
    """The rows of the study's board, or None if nobody runs it now."""
    lock, file = folder / LOGS / ".lock", folder / LOGS / BOARD
    if not (lock.is_file() and file.is_file()):
        return None
    with lock.open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            rows: list[Row] = read_json(file)["rows"]
            return rows
    return None


def watch(folder: Path) -> None:
    """Show the board of a run in another process, until that ends."""
    with Live(console=err, auto_refresh=False) as live:
        while (rows := board_now(folder)) is not None:
            live.update(drawn(rows, err.size.height - 4), refresh=True)
            time.sleep(1.0)
