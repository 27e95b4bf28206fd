"""Tasks that raters get, and the ratings they give: added, superseded and undone, never lost."""

from __future__ import annotations

import math
import re
import secrets
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sql
from sqlalchemy import Connection, Engine, Row

from cameleer.core.errors import UserError
from cameleer.core.text import whole
from cameleer.human.database import facts, now, raters, ratings, reading, tasks, wall_time, writing

Kind = Literal["practice", "rating", "repeat"]
Quality = Literal["good", "invalid", "too_hard"]

QUALITIES = ("good", "invalid", "too_hard")
PREFERENCES = range(-2, 3)
MOST_COMMENT = 5_000  # characters
SUBMISSION = re.compile(r"[A-Za-z0-9_-]{8,64}")


class NotYoursError(UserError):
    """There is no such task, or it is someone else's: which of the two is not told."""


class InvalidRatingError(UserError):
    """A rating that cannot be taken; `field` says where."""


@dataclass(frozen=True)
class Task:
    """One thing for one rater to rate.

    token: random, the only name of it that a page may hold; rater: whose; instance: its index in
    the campaign; b_first: whether B's answer is shown first; kind: practice, rating, or a hidden
    repeat of a rating; number: counts the rater's tasks from 1.
    """

    token: str
    rater: int
    instance: int
    b_first: bool
    kind: Kind
    number: int


@dataclass(frozen=True)
class Rating:
    """What a rater said of the answers as they were shown, first and second (paper, section 6).

    first_acceptable, second_acceptable: None where it was not said; preference: from -2 (the first
    is clearly better) over 0 (a tie) to 2 (the second is); quality: of the instance; seconds: spent
    on it. Of an instance that is `good` all three answers are needed.
    """

    first_acceptable: bool | None
    second_acceptable: bool | None
    preference: int | None
    quality: Quality
    comment: str
    seconds: float


@dataclass(frozen=True)
class Rated:
    """A rating that counts, with its task; name: the rater's; time: when, UTC."""

    task: Task
    name: str
    rating: Rating
    time: str


@dataclass(frozen=True)
class Progress:
    """How far a rater and everybody is.

    done: the rater's ratings, repeats with them; practised: practice items done; everyone: all
    raters' ratings, without repeats; total: how many of these the campaign asks for at most.
    """

    done: int
    total: int
    practised: int
    everyone: int


def add_task(connection: Connection, rater: int, instance: int, b_first: bool, kind: Kind) -> Task:
    """Give a task to a rater, in a transaction of `writing`; its number is the next of the rater's.

    A rater has an instance once as each kind; a second time is an IntegrityError.
    """
    count = sql.select(sql.func.count()).select_from(tasks).where(tasks.c.rater == rater)
    number = int(connection.execute(count).scalar_one()) + 1
    token = secrets.token_urlsafe(18)
    task = Task(token, rater, instance, b_first, kind, number)
    values = {**task.__dict__, "given": now(connection)}
    connection.execute(sql.insert(tasks).values(values))
    return task


def task_of(engine: Engine, rater: int, token: str) -> Task:
    """The rater's task of that token; NotYoursError where there is none."""
    with reading(engine) as connection:
        return _task(_own(connection, rater, token))


def open_task(connection: Connection, rater: int) -> Task | None:
    """The first task that the rater was given and has no rating that counts, or None."""
    rated = sql.exists().where(ratings.c.task == tasks.c.id, ratings.c.state == "current")
    found = connection.execute(
        sql.select(tasks).where(tasks.c.rater == rater, ~rated).order_by(tasks.c.id).limit(1)
    ).first()
    return _task(found) if found else None


def rating_of(engine: Engine, rater: int, token: str) -> Rating | None:
    """What the rater said of a task, where it counts; NotYoursError as `task_of`."""
    with reading(engine) as connection:
        task = _own(connection, rater, token)
        counts = (ratings.c.task == task.id, ratings.c.state == "current")
        found = connection.execute(sql.select(ratings).where(*counts)).first()
    return _rating(found) if found else None


def submit(engine: Engine, rater: int, token: str, rating: Rating, submission: str) -> None:
    """Keep a rating; on return it is on the disk.

    submission: a random id that the page made. The same one twice for a task is one rating, the
    first. Another one for a task that is rated already supersedes the older rating, which is kept.
    The page's seconds count up to what has gone by since the task was given; where they are no
    number, that counts. Raises NotYoursError, InvalidRatingError, UnavailableError.
    """
    comment = _checked(rating)
    if not SUBMISSION.fullmatch(submission):
        raise InvalidRatingError("is not an id of a submission", field="submission")
    with writing(engine) as connection:
        task = _own(connection, rater, token)
        of_task = ratings.c.task == task.id
        same = sql.select(ratings.c.id).where(of_task, ratings.c.submission == submission)
        if connection.execute(same).first():
            return
        connection.execute(
            sql.update(ratings)
            .where(of_task, ratings.c.state == "current")
            .values(state="superseded")
        )
        elapsed = max(0.0, now(connection) - task.given)
        row = {
            "task": task.id,
            "submission": submission,
            "state": "current",
            "first_acceptable": rating.first_acceptable,
            "second_acceptable": rating.second_acceptable,
            "preference": rating.preference,
            "quality": rating.quality,
            "comment": comment,
            "seconds": _bounded(rating.seconds, elapsed),
            "elapsed": elapsed,
            "time": wall_time(connection),
        }
        connection.execute(sql.insert(ratings).values(row))


def undo(engine: Engine, rater: int) -> Task | None:
    """Take back the rater's latest rating that counts, practice aside; returns its task, or None.

    What the rater had said of that task before, if anything, counts again.
    """
    with writing(engine) as connection:
        own = (tasks.c.rater == rater, tasks.c.kind != "practice", ratings.c.state == "current")
        found = connection.execute(
            sql.select(tasks, ratings.c.id.label("rating"))
            .join(ratings, ratings.c.task == tasks.c.id)
            .where(*own)
            .order_by(ratings.c.id.desc())
            .limit(1)
        ).first()
        if found is None:
            return None
        _set_state(connection, found.rating, "undone")
        before = sql.select(sql.func.max(ratings.c.id)).where(
            ratings.c.task == found.id, ratings.c.state == "superseded"
        )
        if (older := connection.execute(before).scalar_one()) is not None:
            _set_state(connection, older, "current")
    return _task(found)


def progress(engine: Engine, rater: int) -> Progress:
    """How far a rater and everybody is."""
    own = sql.func.sum(sql.case((tasks.c.rater == rater, 1), else_=0))
    query = (
        sql.select(tasks.c.kind, own, sql.func.count())
        .join(ratings, ratings.c.task == tasks.c.id)
        .where(ratings.c.state == "current")
        .group_by(tasks.c.kind)
    )
    wanted = sql.select(facts.c.value).where(facts.c.name == "wanted")
    with reading(engine) as connection:
        rows = connection.execute(query).all()
        total = int(connection.execute(wanted).scalar_one())
    mine = {kind: int(count) for kind, count, _ in rows}
    everyone = sum(int(count) for kind, _, count in rows if kind == "rating")
    done = mine.get("rating", 0) + mine.get("repeat", 0)
    return Progress(done, total, mine.get("practice", 0), everyone)


def current_ratings(engine: Engine) -> list[Rated]:
    """All ratings that count, practice and repeats too, in the order in which they were given."""
    query = (
        sql.select(tasks, ratings, raters.c.name)
        .set_label_style(sql.LABEL_STYLE_TABLENAME_PLUS_COL)
        .join(ratings, ratings.c.task == tasks.c.id)
        .join(raters, raters.c.id == tasks.c.rater)
        .where(ratings.c.state == "current")
        .order_by(ratings.c.id)
    )
    with reading(engine) as connection:
        rows = connection.execute(query).all()
    return [
        Rated(_task(row, "tasks_"), row.raters_name, _rating(row, "ratings_"), row.ratings_time)
        for row in rows
    ]


def _own(connection: Connection, rater: int, token: str) -> Row[Any]:
    mine = sql.select(tasks).where(tasks.c.token == whole(token), tasks.c.rater == rater)
    found = connection.execute(mine).first() if "\0" not in token else None
    if found is None:
        raise NotYoursError("there is no such task of yours")
    return found


def _set_state(connection: Connection, rating: int, state: str) -> None:
    connection.execute(sql.update(ratings).where(ratings.c.id == rating).values(state=state))


def _task(row: Row[Any], prefix: str = "") -> Task:
    names = ("token", "rater", "instance", "b_first", "kind", "number")
    return Task(*(getattr(row, prefix + name) for name in names))


def _rating(row: Row[Any], prefix: str = "") -> Rating:
    names = ("first_acceptable", "second_acceptable", "preference", "quality", "comment", "seconds")
    return Rating(*(getattr(row, prefix + name) for name in names))


def _checked(rating: Rating) -> str:
    """Raise InvalidRatingError where something is amiss; returns the comment as it is kept."""
    for field in ("first_acceptable", "second_acceptable"):
        if getattr(rating, field) not in (None, True, False):
            raise InvalidRatingError("is neither yes nor no", field=field)
    preference = rating.preference
    if preference is not None and (type(preference) is not int or preference not in PREFERENCES):
        raise InvalidRatingError("is not one of -2, -1, 0, 1, 2", field="preference")
    if rating.quality not in QUALITIES:
        raise InvalidRatingError(f"is not one of {', '.join(QUALITIES)}", field="quality")
    answers = ("first_acceptable", "second_acceptable", "preference")
    missing = next((name for name in answers if getattr(rating, name) is None), None)
    if rating.quality == "good" and missing:
        hint = "answer it, or say that the item is invalid or too hard"
        raise InvalidRatingError("is missing", field=missing, hint=hint)
    if len(rating.comment) > MOST_COMMENT:
        long = f"has {len(rating.comment):,} characters, {MOST_COMMENT:,} at most are taken"
        raise InvalidRatingError(long, field="comment")
    # PostgreSQL holds neither; U+FFFD stands where they were, on either database.
    return whole(rating.comment).replace("\0", "\ufffd")


def _bounded(seconds: float, elapsed: float) -> float:
    """The page's seconds where they can be true."""
    if not isinstance(seconds, int | float) or not math.isfinite(seconds) or seconds < 0:
        return elapsed
    return min(float(seconds), elapsed)
