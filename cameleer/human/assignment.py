"""Who rates what next: practice first, then the pair that is least sure, and hidden repeats."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import sqlalchemy as sql
from sqlalchemy import Connection, Engine

from cameleer.human.campaign import Campaign
from cameleer.human.database import raters, ratings, tasks, writing
from cameleer.human.ratings import Kind, Task, add_task
from cameleer.human.slots import fill, first_free, held, settle, take
from cameleer.human.standing import Standing, look

APART = 20  # tasks of a rater between two of one prompt, where there is a choice
REPEAT_AFTER = 10  # ratings between one and its hidden repeat, at least
MOST_LEAD = 2  # so many more tasks of a rater and pair show one model first, at most
STALE = 5.0  # seconds after which the pairs' intervals are computed anew,
SPARED = 30  # but no sooner than so many times as long as that takes


def next_task(engine: Engine, campaign: Campaign, rater: int) -> Task | None:
    """What a rater is to rate now; None where there is nothing for them.

    In this order: what they were given and have not rated; practice; a hidden repeat where one is
    due; an instance that is new to them, of the pair whose interval is the widest; repeats that
    are left. A pair whose interval has reached the target is given to nobody any more. Raises
    UnavailableError.
    """
    desk = _desk(engine, campaign)
    with writing(engine) as connection:
        history = _history(connection, rater)
        return (
            _unfinished(connection, history)
            or _practice(connection, desk, rater, history)
            or _repeat(connection, desk, rater, history)
            or _claim(connection, desk, rater, history)
            or _repeat(connection, desk, rater, history, last=True)
        )


@dataclass(frozen=True)
class Given:
    """A task that a rater has. id: in the database; quality: what they said of the instance in the
    rating that counts, "" while there is none."""

    id: int
    task: Task
    quality: str

    @property
    def rated(self) -> bool:
        return bool(self.quality)


class Desk:
    """What one process keeps at hand of a campaign, so that no request goes through all of it.

    practice: indices of the practice items; pair: by instance, its place in Campaign.pairs;
    of_key: the instances of each prompt; standing: the pairs as last seen, anew after `until`.
    """

    def __init__(self, engine: Engine, campaign: Campaign) -> None:
        self.campaign, self.seed = campaign, campaign.settings.seed
        self.practice = [one.index for one in campaign.practice]
        places = {pair: place for place, pair in enumerate(campaign.pairs)}
        self.pair = {one.index: places[one.a, one.b] for one in campaign.rated}
        self.wanted = campaign.expected_ratings
        self.of_key: dict[str, list[int]] = defaultdict(list)
        for one in campaign.rated:
            self.of_key[one.key].append(one.index)
        fill(engine, campaign)
        self.looking = threading.Lock()
        self.standing, self.until = self._look(engine)

    def _look(self, engine: Engine) -> tuple[Standing, float]:
        start = time.monotonic()
        settle(engine)
        standing = look(engine, self.campaign)
        end = time.monotonic()
        return standing, end + max(STALE, SPARED * (end - start))

    def look_again(self, engine: Engine) -> None:
        """Bring the standing up to date if it is old; while one does so, others use the old one."""
        if time.monotonic() > self.until and self.looking.acquire(blocking=False):
            try:
                self.standing, self.until = self._look(engine)
            finally:
                self.looking.release()

    def same_prompt(self, instances: Sequence[int]) -> list[int]:
        """All instances that share a prompt with one of these."""
        keys = {self.campaign.instances[index].key for index in instances}
        return [index for key in keys for index in self.of_key.get(key, ())]

    def chance(self, *parts: object) -> int:
        """A whole number that chance gave to these parts; always the same under one seed."""
        said = " ".join(map(str, (self.seed, *parts)))
        return int.from_bytes(hashlib.sha256(said.encode()).digest()[:8])

    def coin(self, *parts: object) -> bool:
        return self.chance(*parts) % 2 == 1


_desks: WeakKeyDictionary[Engine, Desk] = WeakKeyDictionary()  # a desk holds no engine: it may go
_opening = threading.Lock()


def _desk(engine: Engine, campaign: Campaign) -> Desk:
    with _opening:
        desk = _desks.get(engine)
        if desk is None:
            desk = _desks[engine] = Desk(engine, campaign)
    desk.look_again(engine)
    return desk


def _history(connection: Connection, rater: int) -> list[Given]:
    """All that a rater was given, the oldest first."""
    counts = sql.and_(ratings.c.task == tasks.c.id, ratings.c.state == "current")
    query = (
        sql.select(tasks, ratings.c.quality)
        .outerjoin(ratings, counts)
        .where(tasks.c.rater == rater)
        .order_by(tasks.c.id)
    )
    return [
        Given(
            row.id,
            Task(row.token, row.rater, row.instance, row.b_first, row.kind, row.number),
            row.quality or "",
        )
        for row in connection.execute(query)
    ]


def _unfinished(connection: Connection, history: Sequence[Given]) -> Task | None:
    """The oldest open task; one that was left so long that somebody else has it is passed by."""
    for given in history:
        if given.rated:
            continue
        task = given.task
        if task.kind != "rating" or held(connection, given.id):
            return task
        if take(connection, task.instance, given.id):
            return task
    return None


def _practice(
    connection: Connection, desk: Desk, rater: int, history: Sequence[Given]
) -> Task | None:
    seen = _instances(history, "practice")
    for instance in desk.practice:
        if instance not in seen:
            b_first = desk.coin("practice", rater, instance)
            return add_task(connection, rater, instance, b_first, "practice")
    return None


def _repeat(
    connection: Connection, desk: Desk, rater: int, history: Sequence[Given], last: bool = False
) -> Task | None:
    """The next hidden repeat, in the other order, if one is due; last: if one is left.

    They are spread over what falls to each annotator, at places that cannot be counted out.
    """
    repeated, wanted = _instances(history, "repeat"), desk.campaign.settings.repeats
    if len(repeated) >= wanted:
        return None
    done = [given for given in history if given.task.kind == "rating" and given.rated]
    if not last:
        every = max(REPEAT_AFTER + 2.0, _share(connection, desk) / (wanted + 1))
        if len(done) < every * (len(repeated) + 1) + desk.chance("due", rater, len(repeated)) % 4:
            return None
    old = [
        given.task
        for given in done[: max(0, len(done) - REPEAT_AFTER)]
        if given.quality == "good" and given.task.instance not in repeated
    ]
    if not old:
        return None
    chosen = old[desk.chance("repeat", rater, len(repeated)) % len(old)]
    return add_task(connection, rater, chosen.instance, not chosen.b_first, "repeat")


def _share(connection: Connection, desk: Desk) -> float:
    """The ratings that fall to each annotator, if all rate as many."""
    query = sql.select(sql.func.count()).where(raters.c.role == "annotator", ~raters.c.disabled)
    return desk.wanted / max(1, int(connection.execute(query).scalar_one()))


def _claim(connection: Connection, desk: Desk, rater: int, history: Sequence[Given]) -> Task | None:
    """Take a free slot of an instance that is new to the rater, and give it as a task.

    A prompt that they had a short while ago with other answers is avoided where that is possible:
    who sees three pairs of one prompt in a row can tell which model is in all of them.
    """
    pairs = desk.standing.open(desk.campaign.settings.target)
    near = desk.same_prompt([given.task.instance for given in history[-APART:]])
    for avoided in (near, []) if near else ([],):
        for pair in pairs:
            instance = first_free(connection, rater, pair, avoided)
            if instance is not None:
                return _give(connection, desk, rater, instance, history)
    return None


def _give(
    connection: Connection, desk: Desk, rater: int, instance: int, history: Sequence[Given]
) -> Task:
    b_first, pair = _b_first(connection, desk, rater, instance, history), desk.pair[instance]
    task = add_task(connection, rater, instance, b_first, "rating")
    made = sql.select(tasks.c.id).where(tasks.c.token == task.token)
    if not take(connection, instance, connection.execute(made).scalar_one()):
        raise RuntimeError("a free slot was taken within our own transaction")  # it rolls back
    desk.standing.pending[pair] += 1
    desk.standing.lead[pair] += 1 if b_first else -1
    return task


def _b_first(
    connection: Connection, desk: Desk, rater: int, instance: int, history: Sequence[Given]
) -> bool:
    """Whether B's answer stands first: by chance, but never far from half of the time.

    Where a rater has seen one model of this pair first MOST_LEAD times more often than the other,
    it is the other's turn (the "big stick" of Soares and Wu, 1983: unlike strict alternation it
    leaves little to be guessed). Else the second rater of an instance gets the order that the first
    did not have; else it is what evens out the campaign; else chance.
    """
    pair = desk.pair[instance]
    own = Counter(
        given.task.b_first
        for given in history
        if given.task.kind == "rating" and desk.pair[given.task.instance] == pair
    )
    if abs(own[True] - own[False]) >= MOST_LEAD:
        return own[True] < own[False]
    given = (tasks.c.instance == instance, tasks.c.kind == "rating")
    others = Counter(connection.execute(sql.select(tasks.c.b_first).where(*given)).scalars())
    if others[True] != others[False]:
        return others[True] < others[False]
    if abs(desk.standing.lead[pair]) >= MOST_LEAD:
        return desk.standing.lead[pair] < 0
    return desk.coin("order", rater, instance)


def _instances(history: Sequence[Given], kind: Kind) -> set[int]:
    return {given.task.instance for given in history if given.task.kind == kind}
