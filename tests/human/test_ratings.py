"""Ratings: what is taken and what is not, sent twice, rated anew, taken back, timed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sql
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from cameleer.human.accounts import add_rater
from cameleer.human.campaign import Campaign
from cameleer.human.database import Clock, open_database, ratings, reading, tasks, writing
from cameleer.human.ratings import (
    InvalidRatingError,
    Kind,
    NotYoursError,
    Rating,
    Task,
    add_task,
    current_ratings,
    open_task,
    progress,
    rating_of,
    submit,
    task_of,
    undo,
)
from tests.human.conftest import BOTH, HandClock, small_campaign

GOOD = Rating(True, False, -2, "good", "", 12.0)


def give(engine: Engine, rater: int, instance: int, kind: Kind = "rating") -> Task:
    with writing(engine) as connection:
        return add_task(connection, rater, instance, b_first=bool(instance % 2), kind=kind)


def rows(engine: Engine) -> list[tuple[str, str]]:
    """(submission, state) of every row that there is."""
    with reading(engine) as connection:
        query = sql.select(ratings.c.submission, ratings.c.state).order_by(ratings.c.id)
        return [(row[0], row[1]) for row in connection.execute(query)]


@pytest.fixture
def ada(engine: Engine) -> int:
    return add_rater(engine, "ada").id


@pytest.fixture
def bob(engine: Engine) -> int:
    return add_rater(engine, "bob").id


@BOTH
def test_a_rating_comes_back_as_it_was_given(engine: Engine, ada: int, clock: HandClock) -> None:
    task = give(engine, ada, 3)
    assert task == Task(task.token, ada, 3, True, "rating", 1)
    clock.pass_by(60)
    submit(engine, ada, task.token, GOOD, "a" * 16)
    (found,) = current_ratings(engine)
    assert (found.task, found.name, found.rating) == (task, "ada", GOOD)
    assert found.time == "2027-01-15T08:01:00Z"  # 1,800,000,060 seconds after 1970
    assert rating_of(engine, ada, task.token) == GOOD


def test_tokens_say_nothing_and_are_never_the_same(engine: Engine, ada: int) -> None:
    tokens = {give(engine, ada, instance).token for instance in range(6)}
    assert len(tokens) == 6
    assert all(len(token) >= 22 for token in tokens)  # 128 bits at least


def test_tasks_of_a_rater_are_counted_from_one(engine: Engine, ada: int, bob: int) -> None:
    assert [give(engine, ada, n).number for n in (4, 2, 0)] == [1, 2, 3]
    assert give(engine, bob, 4).number == 1


@BOTH
def test_an_instance_is_given_to_a_rater_once(engine: Engine, ada: int, bob: int) -> None:
    give(engine, ada, 1)
    with pytest.raises(sql.exc.IntegrityError):
        give(engine, ada, 1)
    give(engine, ada, 1, "repeat")
    give(engine, bob, 1)
    with reading(engine) as connection:
        assert connection.execute(sql.select(sql.func.count(tasks.c.id))).scalar_one() == 3


@BOTH
def test_the_same_submission_twice_is_one_rating(engine: Engine, ada: int) -> None:
    task = give(engine, ada, 0)
    submit(engine, ada, task.token, GOOD, "same-one")
    submit(engine, ada, task.token, replace(GOOD, comment="again"), "same-one")
    assert rows(engine) == [("same-one", "current")]
    assert current_ratings(engine)[0].rating.comment == ""


def test_a_submission_counts_for_its_task_only(engine: Engine, ada: int, bob: int) -> None:
    """Nobody keeps another's rating out by using its id first."""
    first, second = give(engine, ada, 0), give(engine, bob, 0)
    submit(engine, bob, second.token, GOOD, "same-one")
    submit(engine, ada, first.token, GOOD, "same-one")
    assert len(current_ratings(engine)) == 2


@BOTH
def test_rating_anew_supersedes_and_undo_brings_the_older_one_back(
    engine: Engine, ada: int
) -> None:
    task = give(engine, ada, 0)
    for name, preference in (("first-one", -1), ("second-one", 0), ("third-one", 2)):
        submit(engine, ada, task.token, replace(GOOD, preference=preference), name)
    assert [state for _, state in rows(engine)] == ["superseded", "superseded", "current"]
    for left in (0, -1):
        assert undo(engine, ada) == task
        assert [one.rating.preference for one in current_ratings(engine)] == [left]
    assert undo(engine, ada) == task
    assert current_ratings(engine) == []
    assert undo(engine, ada) is None
    assert {state for _, state in rows(engine)} == {"undone"}
    with reading(engine) as connection:
        assert open_task(connection, ada) == task


@BOTH
def test_undo_takes_back_the_latest_and_never_anothers(engine: Engine, ada: int, bob: int) -> None:
    mine = [give(engine, ada, n) for n in range(3)]
    for number, task in enumerate(mine):
        submit(engine, ada, task.token, GOOD, f"mine-{number:04}")
    theirs = give(engine, bob, 0)
    submit(engine, bob, theirs.token, GOOD, "theirs-0001")
    assert undo(engine, ada) == mine[2]
    assert undo(engine, ada) == mine[1]
    assert {one.task for one in current_ratings(engine)} == {mine[0], theirs}


@BOTH
def test_a_form_sent_again_after_undo_brings_nothing_back(engine: Engine, ada: int) -> None:
    """The browser's back button sends the old form; what was undone stays so until rated anew."""
    task = give(engine, ada, 0)
    submit(engine, ada, task.token, GOOD, "old-form")
    undo(engine, ada)
    submit(engine, ada, task.token, GOOD, "old-form")
    assert rows(engine) == [("old-form", "undone")]
    submit(engine, ada, task.token, GOOD, "new-form")
    assert rows(engine) == [("old-form", "undone"), ("new-form", "current")]


def test_practice_is_not_undone(engine: Engine, ada: int) -> None:
    task = give(engine, ada, 12, "practice")
    submit(engine, ada, task.token, GOOD, "practised")
    assert undo(engine, ada) is None
    assert progress(engine, ada).practised == 1


@BOTH
def test_someone_elses_and_unknown_tasks_look_the_same(engine: Engine, ada: int, bob: int) -> None:
    task = give(engine, ada, 0)
    said = set()
    forged = [
        task.token,
        "x" * 24,
        "",
        "\0",
        "é\ud800",
        task.token + " ",
        "' OR 1=1 --",
        "t" * 9999,
    ]
    for token in forged:
        with pytest.raises(NotYoursError) as error:
            submit(engine, bob, token, GOOD, "some-form")
        said.add(str(error.value))
        with pytest.raises(NotYoursError):
            task_of(engine, bob, token)
        with pytest.raises(NotYoursError):
            rating_of(engine, bob, token)
    assert len(said) == 1
    assert rows(engine) == []


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("first_acceptable", ["yes", 2, None]),
        ("second_acceptable", [None, "true"]),
        ("preference", [None, 3, -3, 1.5, True, "1"]),
        ("quality", ["", "bad", None]),
        ("comment", ["x" * 5001, "x" * 1_000_000]),
    ],
)
def test_what_is_no_rating_is_not_taken(
    engine: Engine, ada: int, field: str, values: list[Any]
) -> None:
    task = give(engine, ada, 0)
    for value in values:
        with pytest.raises(InvalidRatingError) as error:
            submit(engine, ada, task.token, replace(GOOD, **{field: value}), "some-form")
        assert error.value.field == field
    assert rows(engine) == []


@BOTH
def test_the_limit_of_a_comment_is_told(engine: Engine, ada: int) -> None:
    task = give(engine, ada, 0)
    with pytest.raises(InvalidRatingError, match=r"has 1,000,000 characters, 5,000 at most"):
        submit(engine, ada, task.token, replace(GOOD, comment="x" * 1_000_000), "some-form")
    submit(engine, ada, task.token, replace(GOOD, comment="😀" * 5000), "some-form")
    assert current_ratings(engine)[0].rating.comment == "😀" * 5000


@pytest.mark.parametrize("submission", ["", "short", "x" * 65, "with space", "a\0bcdefgh", "é" * 9])
def test_a_submission_has_an_id(engine: Engine, ada: int, submission: str) -> None:
    task = give(engine, ada, 0)
    with pytest.raises(InvalidRatingError):
        submit(engine, ada, task.token, GOOD, submission)
    assert rows(engine) == []


@pytest.mark.parametrize("quality", ["invalid", "too_hard"])
def test_an_item_that_cannot_be_rated_needs_no_answers(
    engine: Engine, ada: int, quality: Any
) -> None:
    task, left_open = give(engine, ada, 0), Rating(None, None, None, quality, "no text", 0.0)
    submit(engine, ada, task.token, left_open, "some-form")
    assert current_ratings(engine)[0].rating == left_open


@BOTH
@pytest.mark.parametrize(
    "comment",
    [
        "'); DROP TABLE ratings; --",
        '" OR ""="',
        ":task %(task)s %s {0} ?1",
        "👩‍👩‍👧 naïve \u202eright to left\u202c مرحبا",
        "<script>alert(1)</script>\n\n\ttabs\r\n",
    ],
)
def test_comments_come_back_letter_by_letter(engine: Engine, ada: int, comment: str) -> None:
    task = give(engine, ada, 0)
    submit(engine, ada, task.token, replace(GOOD, comment=comment), "some-form")
    assert current_ratings(engine)[0].rating.comment == comment


@BOTH
def test_what_no_database_holds_is_kept_as_a_sign(engine: Engine, ada: int) -> None:
    task = give(engine, ada, 0)
    submit(engine, ada, task.token, replace(GOOD, comment="a\0b\ud800c"), "some-form")
    assert current_ratings(engine)[0].rating.comment == "a\ufffdb\ufffdc"


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        (10.0, 10.0),
        (30.0, 30.0),
        (31.0, 30.0),
        (1e12, 30.0),
        (0.0, 0.0),
        (-1.0, 30.0),
        (math.nan, 30.0),
        (math.inf, 30.0),
    ],
)
def test_the_pages_time_counts_up_to_the_servers(
    engine: Engine, ada: int, clock: HandClock, told: float, kept: float
) -> None:
    task = give(engine, ada, 0)
    clock.pass_by(30)
    submit(engine, ada, task.token, replace(GOOD, seconds=told), "some-form")
    assert current_ratings(engine)[0].rating.seconds == pytest.approx(kept)


@pytest.mark.parametrize("jump", [-3e8, -3600, 3600, 3e8])
def test_a_clock_that_is_set_changes_no_time_per_item(
    engine: Engine, ada: int, clock: HandClock, jump: float
) -> None:
    task = give(engine, ada, 0)
    clock.pass_by(20)
    clock.set_by(jump)
    clock.pass_by(20)
    submit(engine, ada, task.token, replace(GOOD, seconds=math.nan), "some-form")
    assert current_ratings(engine)[0].rating.seconds == pytest.approx(40)


@BOTH
def test_progress_counts_what_counts(engine: Engine, ada: int, bob: int) -> None:
    todo: list[tuple[int, Kind]]
    todo = [(12, "practice"), (0, "rating"), (1, "rating"), (0, "repeat")]
    for instance, kind in todo:
        task = give(engine, ada, instance, kind)
        submit(engine, ada, task.token, GOOD, f"{kind}-{instance}-form")
    submit(engine, bob, give(engine, bob, 0).token, GOOD, "bobs-form")
    give(engine, bob, 1)
    mine, theirs = progress(engine, ada), progress(engine, bob)
    assert (mine.done, mine.practised, mine.everyone, mine.total) == (3, 1, 3, 18)  # 12 + half
    assert (theirs.done, theirs.practised, theirs.everyone) == (1, 0, 3)
    undo(engine, ada)
    undo(engine, ada)
    assert progress(engine, bob).everyone == 2


steps = st.lists(
    st.one_of(
        st.tuples(st.just("rate"), st.integers(0, 2), st.integers(0, 9)),
        st.tuples(st.just("undo"), st.just(0), st.just(0)),
    ),
    max_size=14,
)


class Model:
    """What should be there, told in another way: a stack of what was done for each rater."""

    def __init__(self) -> None:
        self.stacks: dict[int, list[int]] = {}
        self.sent: dict[tuple[int, int], int] = {}
        self.order: list[int] = []

    def rate(self, task: int, form: int) -> None:
        if (task, form) not in self.sent:
            self.sent[task, form] = len(self.sent)
            self.stacks.setdefault(task, []).append(form)

    def undo(self) -> None:
        full = [task for task, stack in self.stacks.items() if stack]
        if full:
            latest = max(full, key=lambda task: self.sent[task, self.stacks[task][-1]])
            self.stacks[latest].pop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], tuple[Engine, int]]:
    """One database, and a new rater each time."""
    engine = open_database(small_campaign(tmp_path_factory.mktemp("shared")), clock=Clock())
    count = iter(range(10_000))
    return lambda: (engine, add_rater(engine, f"rater{next(count)}").id)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_any_order_of_rating_and_undoing(
    steps: list[tuple[str, int, int]], shared: Callable[[], tuple[Engine, int]]
) -> None:
    (engine, rater), model = shared(), Model()
    mine = [give(engine, rater, instance) for instance in range(3)]
    for what, task, form in steps:
        if what == "undo":
            undo(engine, rater)
            model.undo()
        else:
            rating = replace(GOOD, comment=str(form))
            submit(engine, rater, mine[task].token, rating, f"form-{form:04}")
            model.rate(task, form)
    found = [rating_of(engine, rater, task.token) for task in mine]
    wanted = [str(stack[-1]) if (stack := model.stacks.get(n)) else None for n in range(3)]
    assert [one.comment if one else None for one in found] == wanted


@BOTH
def test_the_total_follows_the_settings(campaign: Campaign, opened: Callable[[], Engine]) -> None:
    """A campaign whose overlap was changed asks for another number."""
    engine = opened()
    rater = add_rater(engine, "ada").id
    assert progress(engine, rater).total == 18
    object.__setattr__(campaign, "settings", campaign.settings.model_copy(update={"overlap": 0.0}))
    assert progress(opened(), rater).total == 12
