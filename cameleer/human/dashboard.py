"""What admins see of a campaign: how far it is, what it found so far, and who needs a word."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from weakref import WeakKeyDictionary

import sqlalchemy as sql
from sqlalchemy import Engine

from cameleer.human.accounts import Account, accounts
from cameleer.human.campaign import Campaign
from cameleer.human.database import now, reading, sessions, wall_time
from cameleer.human.export import judgement
from cameleer.human.ratings import Rated, current_ratings
from cameleer.human.slots import wanted
from cameleer.human.standing import LEAST, half_width, reached, tally_or_none
from cameleer.results.agreement import (
    Agreement,
    acceptance_ratings,
    measures,
    preference_ratings,
    tie_discounted,
)
from cameleer.results.judgements import Tally, acceptance
from cameleer.results.records import Judgement
from cameleer.results.stats import Estimate, mean_interval

STALE = 5.0  # seconds for which a summary is shown again,
SPARED = 20  # or so many times as long as it took to make
DAY = timedelta(days=1)

WORDS_A_SECOND = 12.0  # a median above it: nobody reads at three times the usual speed
ENOUGH = 10  # ratings before anything is said of a rater
CONSTANT = 0.95  # share of one and the same verdict that is worth a look
UNLIKELY = 0.001  # chance of a preference for one side that is worth a look
SELDOM = 0.02  # chance of so few repeats with the same verdict that is worth a look


@dataclass(frozen=True)
class PairState:
    """A pair of models. wanted: ratings that it has if none is spared by the target; rated: so far;
    tally: of these, seen from B; half_width: of its win rate's interval; left: about how many more
    it takes; done: whether the target is reached."""

    a: str
    b: str
    wanted: int
    rated: int
    tally: Tally | None
    half_width: float | None
    left: int
    done: bool


@dataclass(frozen=True)
class RaterState:
    """An annotator. done: ratings, repeats with them; repeats: of these; same: of the repeats, how
    many gave the same verdict as before; seconds: median per item; idle: seconds since they were
    seen, None for never; behind: less than half as far as the median; concerns: in words."""

    name: str
    state: str
    practised: int
    done: int
    repeats: int
    same: int
    seconds: float | None
    idle: float | None
    behind: bool
    concerns: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """A campaign as it stands.

    wanted, rated, left: ratings over all pairs, repeats aside; unjudged: of the rated, how many say
    that the item is invalid or too hard; acceptance: by model; preferences, acceptability: measures
    of agreement by name, of two raters or more on one item; consistency: how often a hidden repeat
    gave the same of the three verdicts, None without any; first: how often the answer that stood
    first was preferred, of the verdicts that are no tie; hours: of rating that are left, for all
    together; days: until it is done at the last day's pace, None where nobody rated in it; made:
    when, UTC.
    """

    name: str
    target: float | None
    wanted: int
    rated: int
    left: int
    unjudged: int
    pairs: list[PairState]
    acceptance: dict[str, Estimate]
    preferences: dict[str, Agreement]
    acceptability: dict[str, Agreement]
    repeats: int
    consistency: Estimate | None
    first: Estimate | None
    raters: list[RaterState]
    hours: float | None
    days: float | None
    made: str


@dataclass
class _Kept:
    """The summary that was made last, shown until `until`."""

    summary: Summary | None = None
    until: float = 0.0
    making: threading.Lock = field(default_factory=threading.Lock)


_kept: WeakKeyDictionary[Engine, _Kept] = WeakKeyDictionary()
_opening = threading.Lock()


def summary(engine: Engine, campaign: Campaign) -> Summary:
    """The campaign's numbers, some seconds old at most; it reads all ratings to make them."""
    with _opening:
        kept = _kept.setdefault(engine, _Kept())
    if kept.summary is not None and time.monotonic() < kept.until:
        return kept.summary
    with kept.making:
        if kept.summary is None or time.monotonic() >= kept.until:
            start = time.monotonic()
            kept.summary = summarise(engine, campaign)
            end = time.monotonic()
            kept.until = end + max(STALE, SPARED * (end - start))
        return kept.summary


def summarise(engine: Engine, campaign: Campaign) -> Summary:
    """The campaign's numbers as they are now."""
    rated = current_ratings(engine)
    first = [one for one in rated if one.task.kind == "rating"]
    given = [judgement(campaign.instances[one.task.instance], one) for one in first]
    pairs = _pairs(campaign, given)
    seen, moment = _seen(engine)
    people = [one for one in accounts(engine) if one.rater.role == "annotator"]
    left = sum(pair.left for pair in pairs)
    repeats = _repeats(rated)
    seconds = [one.rating.seconds for one in rated if one.task.kind != "practice"]
    preferences = preference_ratings(given)
    return Summary(
        name=campaign.settings.name,
        target=campaign.settings.target,
        wanted=sum(pair.wanted for pair in pairs),
        rated=len(given),
        left=left,
        unjudged=sum(one.preference is None for one in given),
        pairs=pairs,
        acceptance=acceptance(given),
        preferences=measures(preferences) | {"tie_discounted": tie_discounted(preferences)},
        acceptability=measures(acceptance_ratings(given)),
        repeats=len(repeats),
        consistency=_consistency(repeats),
        first=_first(first),
        raters=_raters(campaign, rated, repeats, people, seen, moment, left),
        hours=left * sum(seconds) / len(seconds) / 3600 if seconds else None,
        days=_days(first, moment, left),
        made=moment.strftime("%Y-%m-%d %H:%M:%S"),
    )


def _pairs(campaign: Campaign, given: Iterable[Judgement]) -> list[PairState]:
    times: Counter[tuple[str, str]] = Counter()
    for index, count in wanted(campaign).items():
        one = campaign.instances[index]
        times[one.a, one.b] += count
    of_pair: dict[tuple[str, str], list[Judgement]] = {pair: [] for pair in times}
    for said in given:
        of_pair[said.a, said.b].append(said)
    return [_pair(pair, times[pair], said, campaign.settings.target)
            for pair, said in of_pair.items()]  # fmt: skip


def _pair(
    pair: tuple[str, str], times: int, given: Sequence[Judgement], target: float | None
) -> PairState:
    counted = tally_or_none(given)
    half = half_width(counted) if counted else None
    left = max(0, times - len(given))
    if target is not None and counted is not None and half is not None and counted.n >= LEAST:
        # An interval is as wide as 1 over the root of the number.
        more = counted.n * ((half / target) ** 2 - 1)
        left = max(0, min(left, round(more)))
    done = reached(counted, target)
    return PairState(*pair, times, len(given), counted, half, 0 if done else left, done)


Repeat = tuple[Rated, Rated]
"""A rating and the hidden repeat of it, by the same rater."""


def _repeats(rated: Iterable[Rated]) -> list[Repeat]:
    """All repeats whose verdict, and the first one's, was given."""
    before = {
        (one.task.rater, one.task.instance): one for one in rated if one.task.kind == "rating"
    }
    both = [
        (before[one.task.rater, one.task.instance], one)
        for one in rated
        if one.task.kind == "repeat" and (one.task.rater, one.task.instance) in before
    ]
    return [pair for pair in both if all(_verdict(one) is not None for one in pair)]


def _same(repeats: Iterable[Repeat]) -> int:
    """How many gave the same verdict again."""
    return sum(_verdict(before) == _verdict(after) for before, after in repeats)


def _verdict(one: Rated) -> int | None:
    """-1, 0 or 1: A, neither or B is better; None where nothing was said."""
    said = one.rating.preference
    if said is None or one.rating.quality != "good":
        return None
    side = (said > 0) - (said < 0)
    return -side if one.task.b_first else side


def _consistency(repeats: Sequence[Repeat]) -> Estimate | None:
    if not repeats:
        return None
    same = [float(_verdict(before) == _verdict(after)) for before, after in repeats]
    return mean_interval(same, clusters=[str(after.task.rater) for _, after in repeats])


def _first(rated: Iterable[Rated]) -> Estimate | None:
    """How often the answer that stood first was preferred; of one instance's ratings together."""
    told = [one for one in rated if _verdict(one)]
    if not told:
        return None
    values = [float((one.rating.preference or 0) < 0) for one in told]
    return mean_interval(values, clusters=[str(one.task.instance) for one in told])


def _seen(engine: Engine) -> tuple[dict[int, float], datetime]:
    """(seconds since each rater's session was used, now), by rater and UTC."""
    query = sql.select(sessions.c.rater, sql.func.max(sessions.c.seen)).group_by(sessions.c.rater)
    with reading(engine) as connection:
        moment, clock = now(connection), wall_time(connection)
        found = {rater: max(0.0, moment - seen) for rater, seen in connection.execute(query)}
    return found, _time(clock)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _days(rated: Sequence[Rated], moment: datetime, left: int) -> float | None:
    """Days until what is left is done, at the pace of the last day."""
    times = [_time(one.time) for one in rated]
    recent = [one for one in times if moment - one < DAY]
    if not left:
        return 0.0
    if len(recent) < ENOUGH:
        return None
    span = max(min(DAY, moment - min(times)) / DAY, 1 / 24)
    return left / (len(recent) / span)


def _raters(
    campaign: Campaign,
    rated: Sequence[Rated],
    repeats: Sequence[Repeat],
    people: Sequence[Account],
    seen: dict[int, float],
    moment: datetime,
    left: int,
) -> list[RaterState]:
    """All annotators, those first of whom there is something to be said."""
    own: dict[int, list[Rated]] = defaultdict(list)
    for one in rated:
        own[one.task.rater].append(one)
    own_repeats: dict[int, list[Repeat]] = defaultdict(list)
    for repeat in repeats:
        own_repeats[repeat[1].task.rater].append(repeat)
    counts = [
        sum(one.task.kind != "practice" for one in own[account.rater.id])
        for account in people
        if account.state != "disabled"
    ]
    half = median(counts) / 2 if counts else 0.0
    usual = _Usual(
        moment,
        half if left else None,
        _same(repeats) / len(repeats) if repeats else 0.0,
        _Words(campaign),
    )
    found = [
        _rater(one, own[one.rater.id], own_repeats[one.rater.id], seen.get(one.rater.id), usual)
        for one in people
    ]
    return sorted(found, key=lambda one: (not one.concerns, not one.behind, one.name))


@dataclass(frozen=True)
class _Usual:
    """What each is held against. half: half of the median of everybody's ratings, None where
    nothing is left to do; same: share of everybody's repeats with the same verdict."""

    moment: datetime
    half: float | None
    same: float
    words: _Words


def _rater(
    account: Account,
    given: Sequence[Rated],
    repeats: Sequence[Repeat],
    idle: float | None,
    usual: _Usual,
) -> RaterState:
    counted = [one for one in given if one.task.kind != "practice"]
    if given:
        last = max(0.0, (usual.moment - _time(given[-1].time)).total_seconds())
        idle = last if idle is None else min(idle, last)
    awaited = usual.half is not None and account.state != "disabled"
    return RaterState(
        name=account.rater.name,
        state=account.state,
        practised=len(given) - len(counted),
        done=len(counted),
        repeats=len(repeats),
        same=_same(repeats),
        seconds=median(one.rating.seconds for one in counted) if counted else None,
        idle=idle,
        behind=awaited and len(counted) < (usual.half or 0),
        concerns=tuple(_concerns(counted, repeats, usual)),
    )


def _concerns(given: Sequence[Rated], repeats: Sequence[Repeat], usual: _Usual) -> Iterable[str]:
    """What is unusual about somebody's ratings: reasons to ask, not proof of anything."""
    from scipy.special import bdtr

    same = _same(repeats)
    if len(given) < ENOUGH:
        return
    pace = median(usual.words(one.task.instance) / max(one.rating.seconds, 0.1) for one in given)
    if pace > WORDS_A_SECOND:
        yield f"faster than anybody reads: {pace:.0f} words a second"
    told = [said for one in given if (said := one.rating.preference) is not None]
    said, times = Counter(told).most_common(1)[0] if told else (0, 0)
    if times >= ENOUGH and times / len(told) >= CONSTANT:
        yield f"nearly always '{SHOWN[said]}': {times} of {len(told)}"
    else:
        yield from _one_sided(told)
    if repeats and float(bdtr(same, len(repeats), usual.same)) < SELDOM:
        yield f"another verdict on {len(repeats) - same} of {len(repeats)} repeats"


SHOWN = {
    -2: "first clearly better",
    -1: "first slightly better",
    0: "tie",
    1: "second slightly better",
    2: "second clearly better",
}


def _one_sided(told: Sequence[int]) -> Iterable[str]:
    """Orders are balanced: whatever is compared, each side is better about half of the time."""
    from scipy.special import bdtr

    first, second = sum(said < 0 for said in told), sum(said > 0 for said in told)
    fewer, decided = min(first, second), first + second
    if decided >= ENOUGH and 2 * float(bdtr(fewer, decided, 0.5)) < UNLIKELY:
        side = "first" if first > second else "second"
        yield f"prefers what stands {side}: {decided - fewer} of {decided}"


class _Words:
    """How many words there are to be read in an instance."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign
        self.known: dict[int, int] = {}

    def __call__(self, index: int) -> int:
        if index not in self.known:
            one = self.campaign.instances[index]
            texts = (one.prompt, one.completion_a, one.completion_b)
            self.known[index] = sum(len(text.split()) for text in texts)
        return self.known[index]
