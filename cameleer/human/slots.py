"""Slots: the ratings that a campaign wants, each of which is given to one rater at a time.

Each instance has one slot, a share `overlap` of them, drawn by the seed and spread over the pairs,
has two. A slot is taken in the same transaction that makes the task, before its page is shown: so
however many ask at once, an instance is given out no more often than it is wanted.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import sqlalchemy as sql
from sqlalchemy import Column, Connection, Engine, ForeignKey, Index, Table

from cameleer.human.campaign import Campaign
from cameleer.human.database import metadata, now, ratings, reading, sessions, tasks, writing

LEASE = 2 * 3600.0  # seconds without a sign of its rater after which an open task is free again

slots = Table(
    "slots",
    metadata,
    Column("instance", sql.Integer, primary_key=True, autoincrement=False),
    Column("copy", sql.Integer, primary_key=True, autoincrement=False),
    Column("pair", sql.Integer, nullable=False),
    Column("place", sql.Integer, nullable=False),
    Column("task", ForeignKey("tasks.id")),
    # Two indices: from one over all of `task` SQLite would read every free slot, and sort them.
    Index(
        "slots_taken",
        "task",
        unique=True,
        sqlite_where=sql.text("task IS NOT NULL"),
        postgresql_where=sql.text("task IS NOT NULL"),
    ),
    Index(
        "slots_free",
        "pair",
        "place",
        "copy",
        sqlite_where=sql.text("task IS NULL"),
        postgresql_where=sql.text("task IS NULL"),
    ),
)
"""pair: its place in Campaign.pairs; place: the order in which those of a pair are given out; task:
to which it was given, or None while it is free."""


def wanted(campaign: Campaign) -> dict[int, int]:
    """How many people are to rate each instance that counts, by its index: 1 or 2."""
    groups = _by_pair(campaign)
    shares = [campaign.settings.overlap * len(group) for group in groups]
    extra = campaign.expected_ratings - sum(map(len, groups))
    # Largest remainders, so that the pairs' shares add up to the campaign's.
    counts = [math.floor(share + 1e-9) for share in shares]
    by_rest = sorted(range(len(shares)), key=lambda pair: (counts[pair] - shares[pair], pair))
    for pair in by_rest[: extra - sum(counts)]:
        counts[pair] += 1
    times = {index: 1 for group in groups for index in group}
    for pair, (group, count) in enumerate(zip(groups, counts, strict=True)):
        draw = random.Random(f"{campaign.settings.seed} overlap {pair}")
        for index in draw.sample(group, count):
            times[index] = 2
    return times


def _by_pair(campaign: Campaign) -> list[list[int]]:
    """The indices of the instances of each pair, in the order of Campaign.pairs."""
    groups: dict[tuple[str, str], list[int]] = {pair: [] for pair in campaign.pairs}
    for one in campaign.rated:
        groups[one.a, one.b].append(one.index)
    return list(groups.values())


def fill(engine: Engine, campaign: Campaign) -> None:
    """Make the slots that the campaign wants and that are not there; free ones too many go.

    So a campaign whose overlap was changed goes on with the new one.
    """
    rows = {(row["instance"], row["copy"]): row for row in _rows(campaign)}
    with writing(engine) as connection:
        slots.create(connection, checkfirst=True)
        there = {
            (row.instance, row.copy): row.task
            for row in connection.execute(sql.select(slots.c.instance, slots.c.copy, slots.c.task))
        }
        for instance, copy in there.keys() - rows.keys():
            one = (slots.c.instance == instance, slots.c.copy == copy, slots.c.task.is_(None))
            connection.execute(sql.delete(slots).where(*one))
        if fresh := [row for key, row in rows.items() if key not in there]:
            connection.execute(sql.insert(slots), fresh)


def _rows(campaign: Campaign) -> list[dict[str, int]]:
    """All slots; those of a pair in an order that chance made, two of one instance together, so
    that agreement is known early and of all kinds of instances."""
    times = wanted(campaign)
    rows = []
    for pair, group in enumerate(_by_pair(campaign)):
        random.Random(f"{campaign.settings.seed} order {pair}").shuffle(group)
        for place, index in enumerate(group):
            for copy in range(times[index]):
                rows.append({"instance": index, "copy": copy, "pair": pair, "place": place})
    return rows


def first_free(
    connection: Connection, rater: int, pair: int, avoided: Sequence[int] = ()
) -> int | None:
    """The first instance of a pair that is free, new to a rater, and not to be avoided."""
    seen = sql.exists().where(tasks.c.rater == rater, tasks.c.instance == slots.c.instance)
    query = (
        sql.select(slots.c.instance)
        .where(slots.c.pair == pair, slots.c.task.is_(None), ~seen)
        .order_by(slots.c.place, slots.c.copy)
        .limit(2 * len(avoided) + 1)  # an instance has two slots at most
    )
    near = set(avoided)
    found = connection.execute(query).scalars()
    return next((instance for instance in found if instance not in near), None)


def take(connection: Connection, instance: int, task: int) -> bool:
    """Take a slot of an instance for a task; False where none is free."""
    free = sql.select(sql.func.min(slots.c.copy)).where(
        slots.c.instance == instance, slots.c.task.is_(None)
    )
    copy = connection.execute(free).scalar_one()
    if copy is None:
        return False
    one = (slots.c.instance == instance, slots.c.copy == copy, slots.c.task.is_(None))
    return connection.execute(sql.update(slots).where(*one).values(task=task)).rowcount == 1


def held(connection: Connection, task: int) -> bool:
    """Whether a task has a slot."""
    found = sql.select(slots.c.copy).where(slots.c.task == task)
    return connection.execute(found).first() is not None


def settle(engine: Engine) -> tuple[int, int]:
    """Free the slots of tasks that were left behind, and give slots to those that came back rated.

    A task is left behind when it is open and its rater was not seen for LEASE. If it is rated after
    all, the rating counts; unless somebody else has the slot by then, it is theirs again. Returns
    (freed, given back). Where there is nothing to do, as mostly, nothing is written.
    """
    with reading(engine) as connection:
        if not _left(connection) and not _late(connection):
            return 0, 0
    with writing(engine) as connection:
        left = _left(connection)
        for task in left:
            connection.execute(sql.update(slots).where(slots.c.task == task).values(task=None))
        late = sum(take(connection, instance, task) for task, instance in _late(connection))
    return len(left), late


_RATED = sql.exists().where(ratings.c.task == tasks.c.id, ratings.c.state == "current")


def _left(connection: Connection) -> list[int]:
    """The open tasks with slots whose raters have gone."""
    since = now(connection) - LEASE
    here = sql.exists().where(sessions.c.rater == tasks.c.rater, sessions.c.seen > since)
    query = (
        sql.select(tasks.c.id)
        .join(slots, slots.c.task == tasks.c.id)
        .where(tasks.c.given < since, ~_RATED, ~here)
    )
    return list(connection.execute(query).scalars())


def _late(connection: Connection) -> list[tuple[int, int]]:
    """(task, instance) of ratings without a slot whose instance has a free one."""
    free = sql.select(slots.c.instance).where(slots.c.task.is_(None))
    mine = sql.exists().where(slots.c.task == tasks.c.id)
    query = sql.select(tasks.c.id, tasks.c.instance).where(
        tasks.c.kind == "rating", ~mine, _RATED, tasks.c.instance.in_(free)
    )
    return [(row.id, row.instance) for row in connection.execute(query)]
