"""Which instances are rated how often, and what becomes of tasks that were left behind."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sql
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from cameleer.human import assignment
from cameleer.human.accounts import add_rater, open_session
from cameleer.human.assignment import next_task
from cameleer.human.campaign import Campaign
from cameleer.human.database import open_database, reading, tasks
from cameleer.human.slots import LEASE, fill, settle, slots, wanted
from tests.human.conftest import BOTH, HandClock
from tests.human.people import all_of_it, campaign_of, quick_database, rate


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return campaign_of(tmp_path, 3, pairs=1)


@pytest.fixture
def engine(campaign: Campaign, clock: HandClock) -> Iterator[Engine]:
    engine = quick_database(campaign, clock)
    yield engine
    engine.dispose()


@given(
    prompts=st.integers(1, 40),
    pairs=st.integers(1, 4),
    overlap=st.floats(0, 1),
    seed=st.integers(0, 3),
)
def test_as_many_second_ratings_as_the_overlap_says_spread_over_pairs(
    prompts: int, pairs: int, overlap: float, seed: int
) -> None:
    campaign = campaign_of(Path(), prompts, pairs, overlap=overlap, seed=seed)
    times = wanted(campaign)
    assert times.keys() == set(range(prompts * pairs))
    assert set(times.values()) <= {1, 2}
    assert sum(times.values()) == campaign.expected_ratings
    twice = Counter(campaign.instances[index].b for index, n in times.items() if n == 2)
    share = overlap * prompts
    assert all(math.floor(share - 1e-6) <= twice[f"m{k}"] <= math.ceil(share + 1e-6)
               for k in range(1, pairs + 1))  # fmt: skip


def test_which_are_rated_twice_is_chance_that_the_seed_decides() -> None:
    def twice(seed: int) -> set[int]:
        campaign = campaign_of(Path(), 50, 1, overlap=0.5, seed=seed)
        return {index for index, n in wanted(campaign).items() if n == 2}

    assert twice(1) == twice(1)
    assert twice(1) != twice(2)
    assert twice(1) != set(range(25))


@BOTH
def test_another_overlap_later_gives_other_slots_and_takes_none_that_are_in_use(
    opened: Callable[[], Engine], campaign: Campaign
) -> None:
    engine = opened()
    ada = add_rater(engine, "ada").id
    task = next_task(engine, campaign, ada)
    assert task

    def held() -> Counter[bool]:
        with reading(engine) as connection:
            return Counter(
                one is not None for one in connection.execute(sql.select(slots.c.task)).scalars()
            )

    assert held() == {True: 1, False: 2}
    more = replace(campaign, settings=campaign.settings.model_copy(update={"overlap": 1.0}))
    fill(engine, more)
    assert held() == {True: 1, False: 5}
    fill(engine, campaign)
    assert held() == {True: 1, False: 2}


def test_a_task_left_behind_goes_to_somebody_else(
    engine: Engine, campaign: Campaign, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assignment, "STALE", 0.0)
    monkeypatch.setattr(assignment, "SPARED", 0)
    ada, bob = add_rater(engine, "ada").id, add_rater(engine, "bob").id
    left = next_task(engine, campaign, ada)
    assert left
    given = all_of_it(engine, campaign, [bob])
    assert len(given) == 2
    clock.pass_by(LEASE - 1)
    assert next_task(engine, campaign, bob) is None
    clock.pass_by(2)
    taken = next_task(engine, campaign, bob)
    assert taken
    assert taken.instance == left.instance
    assert next_task(engine, campaign, ada) is None  # everything is in other hands
    rate(engine, left)  # late, but it was work
    rate(engine, taken)
    assert settle(engine) == (0, 0)


def test_who_comes_back_in_time_goes_on_where_they_were(
    engine: Engine, campaign: Campaign, clock: HandClock
) -> None:
    ada = add_rater(engine, "ada").id
    left = next_task(engine, campaign, ada)
    assert left
    clock.pass_by(2 * LEASE)
    assert settle(engine) == (1, 0)
    assert next_task(engine, campaign, ada) == left  # nobody had taken it
    with reading(engine) as connection:
        held = sql.select(tasks.c.token).join(slots, slots.c.task == tasks.c.id)
        assert connection.execute(held).scalars().all() == [left.token]


def test_a_late_rating_fills_its_place_again(
    engine: Engine, campaign: Campaign, clock: HandClock
) -> None:
    ada, bob = add_rater(engine, "ada").id, add_rater(engine, "bob").id
    left = next_task(engine, campaign, ada)
    assert left
    clock.pass_by(2 * LEASE)
    settle(engine)
    rate(engine, left)
    assert settle(engine) == (0, 1)
    assert left.instance not in {one.instance for one in all_of_it(engine, campaign, [bob])}


def test_nobody_loses_a_task_while_they_are_there(
    engine: Engine, campaign: Campaign, clock: HandClock
) -> None:
    ada = add_rater(engine, "ada").id
    next_task(engine, campaign, ada)
    clock.pass_by(LEASE + 1)
    open_session(engine, ada)
    assert settle(engine) == (0, 0)


def test_setting_the_wall_clock_frees_nothing(
    engine: Engine, campaign: Campaign, clock: HandClock
) -> None:
    next_task(engine, campaign, add_rater(engine, "ada").id)
    for jump in (10 * LEASE, -20 * LEASE):
        clock.set_by(jump)
        assert settle(engine) == (0, 0)


def test_slots_are_made_in_a_database_that_had_none(tmp_path: Path) -> None:
    """The tables of accounts and ratings are made before anybody thinks of slots."""
    campaign = campaign_of(tmp_path, 2)
    engine = open_database(campaign)
    fill(engine, campaign)
    fill(engine, campaign)
    with reading(engine) as connection:
        assert connection.execute(sql.select(sql.func.count()).select_from(slots)).scalar() == 4
    engine.dispose()
