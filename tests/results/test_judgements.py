"""Judgements are read back as written, mistakes are named, and tallies are AlpacaEval's."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.core.errors import UserError
from cameleer.results.judgements import (
    acceptance,
    from_row,
    level,
    pairs,
    read_judgements,
    shares,
    swapped,
    tally,
    to_row,
    write_judgements,
)
from cameleer.results.records import Judgement
from cameleer.results.stats import mean_interval

ROW: dict[str, Any] = {
    "item": "human/1", "a": "x", "b": "y", "preference": 1.5, "who": "ann", "kind": "human",
}  # fmt: skip

verdicts = st.none() | st.sampled_from([1.0, 1.25, 1.5, 1.75, 2.0]) | st.floats(1, 2)
answers = st.none() | st.booleans()
judgement = st.builds(
    Judgement,
    item=st.sampled_from(["i/0", "i/1", "i/2"]),
    a=st.just("x"),
    b=st.just("y"),
    preference=verdicts,
    who=st.text(max_size=5),
    kind=st.sampled_from(["judge", "human"]),
    b_first=answers,
    acceptable=st.tuples(answers, answers),
    quality=st.sampled_from(["", "good", "invalid", "too_hard"]),
    comment=st.text(max_size=9),
    seconds=st.none() | st.floats(0, 1e6),
)


def said(preference: float | None, item: str = "i/0", **told: Any) -> Judgement:
    return Judgement(item, "x", "y", preference, told.pop("who", "ann"), "human", **told)


@given(judgement)
def test_a_row_stands_for_the_judgement(one: Judgement) -> None:
    row = json.loads(json.dumps(to_row(one)))
    assert from_row(row) == one
    assert "note" not in row  # what says nothing is left out


def test_a_file_and_its_folder_are_read_alike(tmp_path: Path) -> None:
    given = [said(1.0, comment="“quoted”\nand\u2028broken"), said(None, note="no verdict found")]
    assert write_judgements(tmp_path / "judgements.jsonl", given) == 2
    assert read_judgements(tmp_path) == given
    assert read_judgements(tmp_path / "judgements.jsonl") == given


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"item": None}, "item", "is not text"),
        ({"preference": 2.5}, "preference", "is not in 1"),
        ({"preference": 0}, "preference", "is not in 1"),
        ({"preference": "2"}, "preference", "is not a number"),
        ({"preference": True}, "preference", "is not a number"),
        ({"kind": "robot"}, "kind", "is none of judge, human"),
        ({"kind": ["judge"]}, "kind", "is none of"),
        ({"b_first": 1}, "b_first", "is not true"),
        ({"acceptable": [True]}, "acceptable", "is not two"),
        ({"acceptable": {"a": True}}, "acceptable", "is not two"),
        ({"quality": "bad"}, "quality", "is none of good"),
        ({"seconds": -1}, "seconds", "is below 0"),
        ({"price": float("inf")}, "price", "is not a number"),
        ({"b_frist": True}, None, "did you mean 'b_first'"),
        ({"who": ...}, "who", "is missing"),
        ({"preference": ...}, "preference", "is missing"),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, change: dict[str, Any], field: str | None, said: str
) -> None:
    row = {name: value for name, value in {**ROW, **change}.items() if value is not ...}
    file = tmp_path / "judgements.jsonl"
    file.write_text(f"{json.dumps(ROW)}\n{json.dumps(row)}\n")
    with pytest.raises(UserError) as caught:
        read_judgements(tmp_path)
    assert (caught.value.file, caught.value.line, caught.value.field) == (file, 2, field)
    assert said in str(caught.value)


@given(judgement)
def test_swapping_twice_is_nothing(one: Judgement) -> None:
    other = swapped(one)
    assert (other.a, other.b, other.acceptable) == ("y", "x", one.acceptable[::-1])
    back = swapped(other)
    assert back.preference == pytest.approx(one.preference)
    assert (back.b_first, back.acceptable, back.item) == (one.b_first, one.acceptable, one.item)


def test_both_orders_of_a_pair_are_one() -> None:
    one, other = said(2.0, b_first=False), swapped(said(1.25, "i/1", b_first=False))
    found = pairs([one, other])
    assert list(found) == [("x", "y")]
    assert [(o.item, o.preference, o.b_first) for o in found["x", "y"]] == [
        ("i/0", 2.0, False),
        ("i/1", 1.25, False),
    ]


def test_tally_counts_and_weighs() -> None:
    given = [said(2.0), said(1.75, "i/1"), said(1.5, "i/2"), said(1.0, "i/3"), said(None, "i/4")]
    found = tally(given)
    assert (found.n, found.wins, found.ties, found.losses, found.unknown) == (4, 2, 1, 1, 1)
    assert found.win_rate.value == pytest.approx((1 + 0.75 + 0.5 + 0) / 4)
    assert found.discrete_win_rate.value == pytest.approx(2.5 / 4)
    assert found.standard_error == pytest.approx(np.std([1, 0.75, 0.5, 0], ddof=1) / 2)


def test_judgements_of_one_item_hang_together() -> None:
    once = [said(2.0 if n % 3 else 1.0, f"i/{n}") for n in range(60)]
    thrice = [said(one.preference, one.item, who=str(who)) for one in once for who in range(3)]
    alone, together = tally(once).win_rate, tally(thrice).win_rate
    assert together.value == alone.value
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.05)


def test_even_items_weigh_the_same() -> None:
    given = [said(2.0, who=str(who)) for who in range(3)] + [said(1.0, "i/1")]
    assert tally(given).win_rate.value == 0.75
    assert tally(given, even_items=True).win_rate.value == 0.5
    assert shares(given, even_items=True)["b_clearly"].value == 0.5


def test_nothing_said_is_no_win_rate() -> None:
    with pytest.raises(UserError, match="no verdict in 1 judgements"):
        tally([said(None)])
    with pytest.raises(ValueError, match="more than one pair"):
        tally([said(2.0), swapped(said(2.0))])
    assert shares([said(None)]) == {}
    assert acceptance([said(2.0)]) == {}


def test_one_judgement_has_no_standard_error() -> None:
    assert tally([said(2.0)]).standard_error is None


@pytest.mark.parametrize(
    ("preference", "step"),
    [(1, 0), (1.25, 1), (1.5, 2), (1.75, 3), (2, 4), (1.01, 0), (1.49, 1), (1.51, 3), (1.99, 4)],
)
def test_the_nearest_of_five(preference: float, step: int) -> None:
    assert level(preference) == step


def test_shares_are_of_those_with_a_verdict() -> None:
    given = [said(1.0), said(1.25, "i/1"), said(1.5, "i/2"), said(2.0, "i/3"), said(None, "i/4")]
    found = shares(given)
    assert [found[name].value for name in ("a_clearly", "a_slightly", "tie", "b_slightly")] == [
        0.25, 0.25, 0.25, 0,
    ]  # fmt: skip
    assert (found["a_wins"].value, found["ties"].value, found["b_wins"].value) == (0.5, 0.25, 0.25)
    assert found["b_wins"] == mean_interval([0.0, 0.0, 0.0, 1.0])


def test_acceptance_is_by_model_over_all_pairs() -> None:
    given = [
        said(1.0, acceptable=(True, False)),
        said(1.0, "i/1", acceptable=(None, True)),
        Judgement("i/0", "y", "z", 1.0, "ann", "human", acceptable=(True, True)),
    ]
    found = acceptance(given)
    assert {model: (one.value, one.n) for model, one in found.items()} == {
        "x": (1.0, 1),
        "y": (2 / 3, 3),
        "z": (1.0, 1),
    }
    assert acceptance(given, even_items=True)["y"].value == pytest.approx(2 / 3)


@pytest.mark.real_data
def test_published_annotations_have_the_leaderboards_numbers(real_data: Path) -> None:
    folder = real_data / "eval" / "alpaca_eval"
    board = folder / "leaderboards/data_AlpacaEval/alpaca_eval_gpt4_leaderboard.csv"
    with board.open() as handle:
        rows = {row[""]: row for row in csv.DictReader(handle)}
    seen = 0
    for file in sorted(folder.glob("results/*/alpaca_eval_gpt4/annotations.json")):
        model = file.parts[-3]
        given = [
            said(None if one["preference"] is None else float(one["preference"]) or 1.5, f"i/{n}")
            for n, one in enumerate(json.loads(file.read_text()))
        ]
        found, row = tally(given), rows[model]
        assert [found.n, found.wins, found.ties, found.losses] == [
            int(row[name]) for name in ("n_total", "n_wins", "n_draws", "n_wins_base")
        ]
        assert 100 * found.win_rate.value == pytest.approx(float(row["win_rate"]), abs=1e-9)
        assert found.standard_error is not None
        assert 100 * found.standard_error == pytest.approx(float(row["standard_error"]), abs=1e-8)
        seen += 1
    assert seen == 6
