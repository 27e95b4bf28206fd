"""People who rate, played by a program: what tests of assignment, dashboard and export share."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy import Engine

from cameleer.human.assignment import next_task
from cameleer.human.campaign import Campaign, Instance, Practice, Settings
from cameleer.human.database import Clock, open_database
from cameleer.human.ratings import Rating, Task, submit

GOOD = Rating(True, False, -1, "good", "", 20.0)
SUBMISSIONS = itertools.count()
Answer = Callable[[Task], Rating]


def campaign_of(
    folder: Path, prompts: int, pairs: int = 2, practice: int = 0, **settings: Any
) -> Campaign:
    """Model m0 against m1, m2, … on each prompt, and practice items at the end."""
    made = [
        Instance(0, f"p/{n}", f"Prompt {n}?", "m0", f"m{k}", f"{n} of m0", f"{n} of m{k}")
        for n in range(prompts)
        for k in range(1, pairs + 1)
    ]
    right = Practice(True, False, (-2,), "So it is.")
    made += [Instance(0, f"practice/{n}", "?", "", "", "x", "y", right) for n in range(practice)]
    numbered = [replace(one, index=index) for index, one in enumerate(made)]
    given = {"name": "test", "guidelines": "Be fair.", "overlap": 0.0, "repeats": 0, **settings}
    return Campaign(folder, Settings(**given), numbered, "cd" * 32)


def quick_database(campaign: Campaign, clock: Clock | None = None) -> Engine:
    """SQLite that waits for no disk: what is tested with it needs no power cut to be right."""
    engine = open_database(campaign, clock=clock)

    @sql.event.listens_for(engine, "connect")
    def connected(raw: Any, _: Any) -> None:
        raw.execute("PRAGMA synchronous=OFF")

    engine.dispose()
    return engine


def rate(engine: Engine, task: Task, rating: Rating = GOOD) -> None:
    submit(engine, task.rater, task.token, rating, f"submission-{next(SUBMISSIONS)}")


def one_more(engine: Engine, campaign: Campaign, rater: int, answer: Answer | None = None) -> Any:
    """The next task, rated; None where there is none."""
    task = next_task(engine, campaign, rater)
    if task is not None:
        rate(engine, task, answer(task) if answer else GOOD)
    return task


def all_of_it(
    engine: Engine, campaign: Campaign, raters: list[int], answer: Answer | None = None
) -> list[Task]:
    """Everybody in turn, until nobody gets anything any more."""
    given: list[Task] = []
    working = list(raters)
    while working:
        for rater in list(working):
            task = one_more(engine, campaign, rater, answer)
            if task is None:
                working.remove(rater)
            else:
                given.append(task)
    return given
