"""Writers that are killed as they write: `python killed_writers.py FOLDER URL ROUNDS`.

In every second round a writer kills itself as a certain statement of its transaction is about to be
sent, in the others its parent kills it at any moment. What was confirmed to a writer's caller
before is printed as a JSON list of [rater, submission].
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from cameleer.human.accounts import add_rater
from cameleer.human.database import open_database, writing
from cameleer.human.ratings import Rating, add_task, submit, undo
from tests.human.conftest import small_campaign

ITEMS = 60


def write(folder: Path, url: str | None, number: int, fatal: int | None, told: int) -> None:
    """Rate until killed: at the `fatal`-th statement, or from outside."""
    engine = open_database(small_campaign(folder, ITEMS), url)
    rater = add_rater(engine, f"rater{number}").id
    if fatal is not None:
        count = iter(range(10_000))

        def die(*_: Any) -> None:
            if next(count) == fatal:
                os.kill(os.getpid(), signal.SIGKILL)

        sql.event.listen(engine, "before_cursor_execute", die)
        sql.event.listen(engine, "commit", die)
    for instance in range(2 * ITEMS):
        with writing(engine) as connection:
            task = add_task(connection, rater, instance, False, "rating")
        for turn in range(2):  # the second supersedes the first
            name = f"form-{number}-{instance}-{turn}"
            submit(engine, rater, task.token, Rating(True, True, turn, "good", name, 1.0), name)
            os.write(told, f"{json.dumps([rater, name])}\n".encode())
        if instance % 5 == 4:
            undo(engine, rater)


def main(folder: Path, url: str | None, rounds: int) -> None:
    """Start and kill one writer after the other."""
    draw, confirmed, killed = random.Random(7), list[Any](), 0
    for number in range(rounds):
        read, told = os.pipe()
        fatal = draw.randrange(8, 60) if number % 2 else None
        child = os.fork()
        if child == 0:
            os.close(read)
            try:
                write(folder, url, number, fatal, told)
            finally:
                os._exit(3)
        os.close(told)
        with os.fdopen(read) as lines:
            first = [lines.readline()] if fatal is None else []
            if fatal is None:
                time.sleep(draw.random() * 0.05)
                os.kill(child, signal.SIGKILL)
            confirmed += [json.loads(line) for line in [*first, *lines] if line.endswith("\n")]
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
    print(json.dumps({"confirmed": confirmed, "killed": killed}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] or None, int(sys.argv[3]))
