"""The dashboard's numbers against counts made by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from cameleer.human import dashboard
from cameleer.human.accounts import add_rater, disable, open_session
from cameleer.human.campaign import Campaign
from cameleer.human.dashboard import RaterState, summarise, summary
from cameleer.human.database import writing
from cameleer.human.ratings import Kind, Rating, add_task
from tests.human.conftest import HandClock
from tests.human.people import campaign_of, quick_database, rate

HOUR = 3600.0


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return campaign_of(tmp_path, 40, pairs=2, overlap=0.25, practice=1)


@pytest.fixture
def engine(campaign: Campaign, clock: HandClock) -> Iterator[Engine]:
    engine = quick_database(campaign, clock)
    yield engine
    engine.dispose()


def given(
    engine: Engine,
    clock: HandClock,
    rater: int,
    instance: int,
    preference: int,
    kind: Kind = "rating",
    b_first: bool = False,
    seconds: float = 20.0,
) -> None:
    with writing(engine) as connection:
        task = add_task(connection, rater, instance, b_first, kind)
    clock.pass_by(seconds)
    rate(engine, task, Rating(True, False, preference, "good", "", seconds))


def state(engine: Engine, campaign: Campaign, name: str) -> RaterState:
    return next(one for one in summarise(engine, campaign).raters if one.name == name)


def test_an_empty_campaign(engine: Engine, campaign: Campaign) -> None:
    found = summarise(engine, campaign)
    assert (found.rated, found.wanted, found.left) == (0, 100, 100)
    assert [(one.tally, one.half_width, one.done) for one in found.pairs] == [
        (None, None, False)
    ] * 2
    assert (found.consistency, found.first, found.hours, found.days) == (None,) * 4
    assert found.raters == []
    assert found.acceptance == {}


def test_pairs_are_counted_apart(engine: Engine, campaign: Campaign, clock: HandClock) -> None:
    ada = add_rater(engine, "ada").id
    for instance, preference in ((0, 2), (2, 1), (4, 0), (6, -2), (1, -1)):
        given(engine, clock, ada, instance, preference)
    first, second = summarise(engine, campaign).pairs
    assert (first.a, first.b, first.wanted, first.rated, first.left) == ("m0", "m1", 50, 4, 46)
    assert first.tally
    assert (first.tally.wins, first.tally.ties, first.tally.losses) == (2, 1, 1)
    assert first.tally.win_rate.value == (1 + 0.75 + 0.5 + 0) / 4
    assert second.tally
    assert second.tally.win_rate.value == 0.25


def test_repeats_and_practice_count_for_raters_alone(
    engine: Engine, campaign: Campaign, clock: HandClock
) -> None:
    ada = add_rater(engine, "ada").id
    given(engine, clock, ada, 80, 0, "practice")
    given(engine, clock, ada, 0, 2)
    given(engine, clock, ada, 2, -1)
    given(engine, clock, ada, 0, -1, "repeat", b_first=True)  # B again, less clearly
    given(engine, clock, ada, 2, -1, "repeat", b_first=True)  # A before, B now
    found = summarise(engine, campaign)
    assert (found.rated, found.repeats) == (2, 2)
    assert found.consistency
    assert found.consistency.value == 0.5
    (one,) = found.raters
    assert (one.practised, one.done, one.repeats, one.same) == (1, 4, 2, 1)


def test_what_is_left_in_hours_and_days(
    engine: Engine, campaign: Campaign, clock: HandClock
) -> None:
    ada = add_rater(engine, "ada").id
    for n in range(20):
        given(engine, clock, ada, 2 * n, 0, seconds=300)
    found = summarise(engine, campaign)
    assert found.left == 80
    assert found.hours == pytest.approx(80 * 300 / HOUR)
    assert found.days == pytest.approx(80 / (20 / (19 * 300 / 86400)), rel=0.01)
    clock.pass_by(48 * HOUR)
    assert summarise(engine, campaign).days is None  # nobody rated since yesterday


def test_with_a_target_what_is_left_follows_the_interval(tmp_path: Path, clock: HandClock) -> None:
    campaign = campaign_of(tmp_path, 400, pairs=1, target=0.06)
    engine = quick_database(campaign, clock)
    ada = add_rater(engine, "ada").id
    for n in range(40):
        given(engine, clock, ada, n, (-2, -1, 1, 2)[n % 4])
    (pair,) = summarise(engine, campaign).pairs
    assert pair.half_width
    assert pair.left == round(40 * ((pair.half_width / 0.06) ** 2 - 1)) > 0
    assert not pair.done
    engine.dispose()


def test_who_was_seen_when_and_who_is_behind(
    engine: Engine, campaign: Campaign, clock: HandClock
) -> None:
    raters = {name: add_rater(engine, name).id for name in ("ada", "bob", "cy", "dan", "eve")}
    for at, name in enumerate(("ada", "bob", "cy")):
        for n in range(6):
            given(engine, clock, raters[name], 6 * at + n, 0)
    given(engine, clock, raters["dan"], 30, 0)
    clock.pass_by(2 * HOUR)
    open_session(engine, raters["ada"])
    clock.pass_by(600)
    disable(engine, raters["cy"])
    assert state(engine, campaign, "ada").idle == 600
    assert state(engine, campaign, "dan").idle == 2 * HOUR + 600
    assert state(engine, campaign, "eve").idle is None
    behind = {one.name for one in summarise(engine, campaign).raters if one.behind}
    assert behind == {"dan", "eve"}


def test_admins_are_no_annotators(engine: Engine, campaign: Campaign) -> None:
    add_rater(engine, "root", "admin")
    assert summarise(engine, campaign).raters == []


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([0] * 20, "nearly always 'tie'"),
        ([-2] * 20, "nearly always 'first clearly better'"),
        ([1, 2] * 10, "prefers what stands second: 20 of 20"),
        ([-2, 2, 0, 1, -1] * 4, None),
        ([0] * 9, None),  # too few to say anything
    ],
)
def test_constant_and_one_sided_answers_are_noticed(
    engine: Engine, campaign: Campaign, clock: HandClock, answers: list[int], said: str | None
) -> None:
    ada = add_rater(engine, "ada").id
    for n, preference in enumerate(answers):
        given(engine, clock, ada, n, preference, b_first=n % 2 == 0)
    concerns = state(engine, campaign, "ada").concerns
    assert [one for one in concerns if said is None or said not in one] == []
    assert bool(concerns) == (said is not None)


def test_speed_beyond_reading_is_noticed(tmp_path: Path, clock: HandClock) -> None:
    made = campaign_of(tmp_path, 20, pairs=1)
    long = [type(one)(**{**one.__dict__, "completion_a": "word " * 300}) for one in made.instances]
    campaign = Campaign(tmp_path, made.settings, long, made.fingerprint)
    engine = quick_database(campaign, clock)
    quick, slow = add_rater(engine, "quick").id, add_rater(engine, "slow").id
    for n in range(12):
        given(engine, clock, quick, n, (n % 5) - 2, seconds=4.0)
        given(engine, clock, slow, n, (n % 5) - 2, seconds=60.0)
    assert "words a second" in state(engine, campaign, "quick").concerns[0]
    assert state(engine, campaign, "slow").concerns == ()
    engine.dispose()


def test_a_summary_is_shown_again_for_some_seconds(
    engine: Engine, campaign: Campaign, clock: HandClock
) -> None:
    first = summary(engine, campaign)
    given(engine, clock, add_rater(engine, "ada").id, 0, 0)
    assert summary(engine, campaign) is first
    dashboard._kept[engine].until = 0.0  # as it is after a while
    assert summary(engine, campaign).rated == 1
