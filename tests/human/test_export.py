"""Ratings as judgements and tables: the right way round, without names, readable again."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from sqlalchemy import Engine

from cameleer.core.errors import UserError
from cameleer.human.accounts import add_rater
from cameleer.human.campaign import Campaign, new_campaign
from cameleer.human.database import writing
from cameleer.human.export import Format, first_only, judgements, preference_of_b, write_export
from cameleer.human.ratings import Kind, Rating, Task, add_task
from cameleer.human.released import read_ratings
from cameleer.human.slots import wanted
from cameleer.results.judgements import read_judgements, swapped
from tests.human.people import campaign_of, one_more, quick_database, rate


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return campaign_of(tmp_path / "campaign", 4, pairs=1, practice=1)


@pytest.fixture
def engine(campaign: Campaign) -> Iterator[Engine]:
    campaign.folder.mkdir()
    engine = quick_database(campaign)
    yield engine
    engine.dispose()


def given(
    engine: Engine, rater: int, instance: int, b_first: bool, rating: Rating, kind: Kind = "rating"
) -> Task:
    with writing(engine) as connection:
        task = add_task(connection, rater, instance, b_first, kind)
    rate(engine, task, rating)
    return task


@pytest.fixture
def ada(engine: Engine) -> int:
    """Of three instances: B in both orders, a tie; one is invalid; a repeat and practice."""
    ada = add_rater(engine, "ada").id
    given(engine, ada, 4, False, Rating(True, True, 0, "good", "", 2.0), "practice")
    given(engine, ada, 0, False, Rating(False, True, 2, "good", "B, clearly", 11.0))
    given(engine, ada, 1, True, Rating(True, False, -1, "good", '=1+1, "quoted"\nline', 12.0))
    given(engine, ada, 2, True, Rating(True, True, 0, "good", "", 13.0))
    given(engine, ada, 3, True, Rating(None, None, None, "invalid", "no question", 3.0))
    given(engine, ada, 0, True, Rating(True, True, 1, "good", "", 9.0), "repeat")
    return ada


@pytest.mark.parametrize(
    ("said", "b_first", "preference"),
    [(-2, False, 1.0), (-1, False, 1.25), (0, False, 1.5), (1, False, 1.75), (2, False, 2.0),
     (-2, True, 2.0), (1, True, 1.25), (0, True, 1.5), (None, True, None)],
)  # fmt: skip
def test_a_preference_is_turned_to_the_models(
    said: int | None, b_first: bool, preference: float | None
) -> None:
    assert preference_of_b(said, b_first) == preference


def test_ratings_become_judgements(engine: Engine, campaign: Campaign, ada: int) -> None:
    made = judgements(engine, campaign)
    assert [(one.item, one.preference, one.acceptable, one.note) for one in made] == [
        ("p/0", 2.0, (False, True), ""),
        ("p/1", 1.75, (False, True), ""),
        ("p/2", 1.5, (True, True), ""),
        ("p/3", None, (None, None), "the item is invalid"),
        ("p/0", 1.25, (True, True), "repeat"),
    ]
    assert {(one.a, one.b, one.who, one.kind) for one in made} == {
        ("m0", "m1", f"annotator-{ada}", "human")
    }
    assert [one.item for one in first_only(made)] == ["p/0", "p/1", "p/2", "p/3"]


def test_names_are_told_only_where_they_are_asked_for(
    engine: Engine, campaign: Campaign, ada: int, tmp_path: Path
) -> None:
    for form in get_args(Format):
        out = tmp_path / form
        write_export(engine, campaign, out, form)
        assert all("ada" not in file.read_text() for file in out.iterdir())
        write_export(engine, campaign, out, form, names=True)
        assert all("ada" in file.read_text() for file in out.iterdir())


def test_judgements_are_read_back_as_they_were(
    engine: Engine, campaign: Campaign, ada: int, tmp_path: Path
) -> None:
    counts = write_export(engine, campaign, tmp_path / "out")
    assert read_judgements(tmp_path / "out") == judgements(engine, campaign)
    assert counts == {"judgements": 4, "repeats": 1, "unjudged": 1, "practice": 1, "annotators": 1}
    write_export(engine, campaign, tmp_path / "one.jsonl")
    assert read_judgements(tmp_path / "one.jsonl") == judgements(engine, campaign)


@pytest.mark.parametrize("form", ["csv", "tulu1"])
def test_agreement_reads_both_tables(
    engine: Engine, campaign: Campaign, ada: int, tmp_path: Path, form: str
) -> None:
    table = tmp_path / "table.csv"
    write_export(engine, campaign, table, form)  # type: ignore[arg-type]
    told, rows = read_ratings(table)
    made = judgements(engine, campaign)
    assert told == ("own" if form == "csv" else "tulu1")
    kept = made if form == "csv" else first_only(made)
    assert [
        (one.judgement.preference, one.judgement.acceptable, one.judgement.comment) for one in rows
    ] == [(one.preference, one.acceptable, one.comment) for one in kept]
    assert [one.judgement.quality for one in rows] == [one.quality for one in kept]
    assert [one.judgement.b_first for one in rows] == [one.b_first for one in kept]


def test_the_released_columns(engine: Engine, campaign: Campaign, ada: int, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    write_export(engine, campaign, table, "tulu1")
    with table.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == [
        "id", "instance_index", "instance_id", "prompt", "model_a", "model_b", "completion_a",
        "completion_b", "completion_a_is_acceptable", "completion_b_is_acceptable", "preference",
        "instance_quality", "comment", "evaluator", "timestamp",
    ]  # fmt: skip
    assert [row["preference"] for row in rows] == [
        "b-is-better",
        "a-is-slightly-better",  # B stood first, and is model_a here
        "tie",
        "",
    ]
    assert [row["model_a"] for row in rows] == ["m0", "m1", "m1", "m1"]
    assert rows[1]["comment"] == '=1+1, "quoted"\nline'
    assert (rows[0]["completion_a"], rows[0]["completion_b"]) == ("0 of m0", "0 of m1")
    assert (rows[1]["completion_a"], rows[1]["completion_b"]) == ("1 of m1", "1 of m0")
    assert [row["completion_a_is_acceptable"] for row in rows] == ["no", "yes", "yes", ""]


def test_another_kind_of_file_is_not_replaced(
    engine: Engine, campaign: Campaign, ada: int, tmp_path: Path
) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    with pytest.raises(UserError, match=r"not named \*\.jsonl"):
        write_export(engine, campaign, other)
    assert other.read_text() == "mine"


def test_nothing_to_export_is_said(engine: Engine, campaign: Campaign, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to export yet"):
        write_export(engine, campaign, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.real_data
def test_the_papers_instances_go_through(real_data: Path, tmp_path: Path) -> None:
    """Its 996 comparisons: dealt out, rated, exported in its columns, and read again."""
    file = real_data / "eval/human_eval/eval_instances_tulu_1.jsonl"
    campaign = new_campaign(tmp_path / "tulu1", {}, instances=file, overlap=119 / 996, seed=1)
    assert sum(wanted(campaign).values()) == 996 + 119
    assert len(campaign.pairs) == 3
    engine = quick_database(campaign)
    people = [add_rater(engine, name).id for name in ("ada", "bob", "cy")]
    said = [Rating(True, n > 0, n - 2, "good", f"no. {n}", 30.0) for n in range(5)]
    for n in range(90):
        one_more(engine, campaign, people[n % 3], lambda task: said[task.number % 5])
    write_export(engine, campaign, tmp_path / "table.csv", "tulu1")
    _, rows = read_ratings(tmp_path / "table.csv")
    made = [one if one.a < one.b else swapped(one) for one in judgements(engine, campaign)]
    assert len(made) == 90 - 3 * len(campaign.practice)
    columns = ("item", "a", "b", "preference", "acceptable", "b_first", "comment")
    for row, one in zip(rows, made, strict=True):
        for name in columns:
            assert getattr(row.judgement, name) == getattr(one, name), name
    asked = Counter(frozenset((one.a, one.b)) for one in made)
    assert len(asked) == 3
    assert max(asked.values()) - min(asked.values()) <= 6
    engine.dispose()
