"""Who rates what next: no more than wanted, in balanced orders, where it is least sure."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from cameleer.human import assignment
from cameleer.human.accounts import add_rater
from cameleer.human.assignment import APART, MOST_LEAD, REPEAT_AFTER, next_task
from cameleer.human.campaign import Campaign
from cameleer.human.ratings import Rating, Task, current_ratings, undo
from cameleer.human.slots import wanted
from cameleer.human.standing import Standing, half_width, look
from tests.human.conftest import BOTH
from tests.human.people import all_of_it, campaign_of, one_more, quick_database, rate


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return campaign_of(tmp_path, 12, pairs=2, overlap=0.5)


@pytest.fixture
def engine(campaign: Campaign) -> Iterator[Engine]:
    engine = quick_database(campaign)
    yield engine
    engine.dispose()


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are computed anew for every request."""
    monkeypatch.setattr(assignment, "STALE", 0.0)
    monkeypatch.setattr(assignment, "SPARED", 0)


def people(engine: Engine, count: int) -> list[int]:
    return [add_rater(engine, f"rater{n}").id for n in range(count)]


def test_each_instance_is_rated_as_often_as_wanted_and_by_different_people(
    engine: Engine, campaign: Campaign
) -> None:
    given = all_of_it(engine, campaign, people(engine, 4))
    assert Counter(task.instance for task in given) == Counter(wanted(campaign))
    assert len({(task.rater, task.instance) for task in given}) == len(given)
    assert {task.kind for task in given} == {"rating"}


def test_alone_nobody_rates_anything_twice(engine: Engine, campaign: Campaign) -> None:
    given = all_of_it(engine, campaign, people(engine, 1))
    assert sorted(task.instance for task in given) == list(range(24))


def test_practice_comes_first_and_once(engine: Engine, tmp_path: Path) -> None:
    campaign = campaign_of(tmp_path, 3, pairs=1, practice=2)
    for rater in people(engine, 2):
        kinds = [one_more(engine, campaign, rater).kind for _ in range(3)]
        assert kinds == ["practice", "practice", "rating"]


def test_what_is_open_is_given_again(engine: Engine, campaign: Campaign) -> None:
    (ada,) = people(engine, 1)
    task = next_task(engine, campaign, ada)
    assert task
    assert [next_task(engine, campaign, ada) for _ in range(3)] == [task] * 3
    rate(engine, task)
    second = next_task(engine, campaign, ada)
    assert second != task
    undo(engine, ada)
    assert next_task(engine, campaign, ada) == task


def test_the_order_of_answers_is_balanced_for_everybody_and_over_all(
    engine: Engine, tmp_path: Path
) -> None:
    campaign = campaign_of(tmp_path, 30, pairs=2, overlap=0.5)
    given = all_of_it(engine, campaign, people(engine, 5))
    lead: Counter[tuple[int, str]] = Counter()
    most = 0
    for task in given:
        place = (task.rater, campaign.instances[task.instance].b)
        lead[place] += 1 if task.b_first else -1
        most = max(most, abs(lead[place]))
    assert most <= MOST_LEAD
    for pair in ("m1", "m2"):
        whole = sum(n for (_, b), n in lead.items() if b == pair)
        assert abs(whole) <= 6  # of 45; five coins of up to 2 each could be 10
    orders = defaultdict(list)
    for task in given:
        orders[task.instance].append(task.b_first)
    both = [one for one in orders.values() if len(one) == 2]
    assert len(both) == 30
    assert sum(len(set(one)) == 2 for one in both) > 20  # the second sees it the other way round


def test_the_order_cannot_be_guessed_from_the_one_before(engine: Engine, tmp_path: Path) -> None:
    campaign = campaign_of(tmp_path, 60, pairs=1)
    given = all_of_it(engine, campaign, people(engine, 1))
    turned = sum(one.b_first != two.b_first for one, two in pairwise(given))
    assert 20 < turned < 55  # strict alternation would be 59


def test_one_prompt_comes_not_soon_again_with_other_answers(engine: Engine, tmp_path: Path) -> None:
    campaign = campaign_of(tmp_path, 40, pairs=3)
    given = [one_more(engine, campaign, rater) for rater in people(engine, 1) for _ in range(60)]
    keys = [campaign.instances[task.instance].key for task in given]
    for at, key in enumerate(keys):
        assert key not in keys[max(0, at - APART) : at]


def test_hidden_repeats_are_the_same_instance_in_the_other_order_after_a_while(
    engine: Engine, tmp_path: Path
) -> None:
    campaign = campaign_of(tmp_path, 100, pairs=1, repeats=3)
    for rater in people(engine, 2):
        own = []
        while task := one_more(engine, campaign, rater):
            own.append(task)
            if len(own) == 48:
                break  # the rest is for the other one
        repeats = [task for task in own if task.kind == "repeat"]
        assert len({task.instance for task in repeats}) == len(repeats) == 3
        for repeat in repeats:
            before = next(one for one in own if one.instance == repeat.instance)
            assert before.kind == "rating"
            assert before.b_first != repeat.b_first
            assert repeat.number - before.number > REPEAT_AFTER
        assert repeats[-1].number < 48  # they are spread over a rater's share


def tasks_of(engine: Engine) -> list[Task]:
    return [one.task for one in current_ratings(engine)]


def test_what_cannot_be_judged_is_not_repeated(engine: Engine, tmp_path: Path) -> None:
    campaign = campaign_of(tmp_path, 30, pairs=1, repeats=3)
    invalid = Rating(None, None, None, "invalid", "", 5.0)
    given = all_of_it(engine, campaign, people(engine, 1), lambda task: invalid)
    assert {task.kind for task in given} == {"rating"}


def test_the_pair_that_is_least_sure_is_asked_about_most(
    engine: Engine, tmp_path: Path, fresh: None
) -> None:
    """Verdicts of m1 are all the same; those of m2 go either way as often."""
    campaign = campaign_of(tmp_path, 80, pairs=2)

    def answer(task: Task) -> Rating:
        if campaign.instances[task.instance].b == "m1":
            return Rating(True, True, -2 if task.b_first else 2, "good", "", 9.0)
        return Rating(True, True, (-2, 2)[task.instance // 2 % 2], "good", "", 9.0)

    (ada,) = people(engine, 1)
    given = [one_more(engine, campaign, ada, answer) for _ in range(60)]
    asked = Counter(campaign.instances[task.instance].b for task in given)
    assert asked["m2"] > 2 * asked["m1"]
    standing = look(engine, campaign)
    widths = [half_width(tally) for tally in standing.tallies if tally]
    assert abs(widths[0] - widths[1]) < 0.03  # so that both are as sure


def test_pairs_that_are_alike_are_asked_about_alike(
    engine: Engine, campaign: Campaign, fresh: None
) -> None:
    raters = people(engine, 3)
    given = [one_more(engine, campaign, raters[n % 3]) for n in range(20)]
    assert Counter(campaign.instances[task.instance].b for task in given) == {"m1": 10, "m2": 10}


def test_open_tasks_count_as_if_they_were_there(engine: Engine, tmp_path: Path) -> None:
    """Many who come at once are spread over the pairs, though no interval is known yet."""
    campaign = campaign_of(tmp_path, 20, pairs=4)
    given = [next_task(engine, campaign, rater) for rater in people(engine, 12)]
    asked = Counter(campaign.instances[task.instance].b for task in given if task)
    assert asked == {"m1": 3, "m2": 3, "m3": 3, "m4": 3}


def test_a_pair_is_done_when_its_interval_is_as_narrow_as_wished(
    engine: Engine, tmp_path: Path, fresh: None
) -> None:
    campaign = campaign_of(tmp_path, 60, pairs=1, target=0.1)

    def answer(task: Task) -> Rating:  # always for B
        return Rating(True, True, -2 if task.b_first else 2, "good", "", 9.0)

    given = all_of_it(engine, campaign, people(engine, 2), answer)
    assert 30 <= len(given) < 40  # not before 30 verdicts, however sure
    assert look(engine, campaign).open(0.1) == []
    assert look(engine, campaign).open(None) == [0]


def test_how_pairs_stand() -> None:
    nothing = Standing([None, None, None], [0, 3, 1], [0, 0, 0])
    assert nothing.open(0.05) == [0, 2, 1]


def at_once(work: Sequence[Callable[[], Any]]) -> None:
    """Run all at the same moment; the first error of any is raised."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(work))

    def run(one: Callable[[], Any]) -> None:
        try:
            start.wait(20)
            one()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]


@BOTH
def test_many_at_once_never_get_more_of_an_instance_than_wanted(
    opened: Callable[[], Engine], campaign: Campaign
) -> None:
    """Twelve annotators on two servers: each engine is what another process would have."""
    engines = [opened(), opened()]
    raters = people(engines[0], 12)

    def work(rater: int) -> None:
        while one_more(engines[rater % 2], campaign, rater):
            pass

    at_once([lambda rater=rater: work(rater) for rater in raters])  # type: ignore[misc]
    given = tasks_of(engines[0])
    assert Counter(task.instance for task in given) == Counter(wanted(campaign))
    assert len({(task.rater, task.instance) for task in given}) == len(given)


@BOTH
def test_two_tabs_of_one_annotator_show_the_same_task(
    opened: Callable[[], Engine], campaign: Campaign
) -> None:
    engines = [opened(), opened()]
    (ada,) = people(engines[0], 1)
    found: list[Task | None] = []
    at_once([
        lambda engine=engine: found.append(next_task(engine, campaign, ada))  # type: ignore[misc]
        for engine in engines * 4
    ])  # fmt: skip
    assert len(found) == 8
    assert len(set(found)) == 1


def test_ratings_survive_a_new_process(opened: Callable[[], Engine], campaign: Campaign) -> None:
    engine = opened()
    ada, bob = people(engine, 2)
    before = [one_more(engine, campaign, ada) for _ in range(5)]
    task = next_task(engine, campaign, ada)
    again = opened()
    assert next_task(again, campaign, ada) == task
    rest = all_of_it(again, campaign, [ada, bob])
    both = Counter(one.instance for one in [*before, *rest])
    assert both == Counter(wanted(campaign))
