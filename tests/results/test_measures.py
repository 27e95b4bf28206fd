"""Judges and people as scores by item: win rates, the reference, repeats, lengths."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.results.judgements import tally
from cameleer.results.measures import Measure, of_benchmarks, of_judgements
from cameleer.results.records import Judgement
from cameleer.results.stats import Items

PREFERENCES = (1.0, 1.25, 1.5, 1.75, 2.0)


def said(item: int, a: str, b: str, preference: float | None, who: str = "gpt") -> Judgement:
    return Judgement(f"x/{item}", a, b, preference, who, "judge")


def measured(judgements: Sequence[Judgement], warnings: list[str] | None = None) -> Measure:
    found = [] if warnings is None else warnings
    return of_judgements("gpt", "judge", judgements, {}, {}, found)


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([*PREFERENCES, None])), min_size=1))
def test_a_win_rate_is_the_tally_of_the_judgements(rows: list[tuple[int, float | None]]) -> None:
    judgements = [said(item, "ref", "new", preference) for item, preference in rows]
    measure = measured(judgements)
    if all(preference is None for _, preference in rows):
        assert measure.runs == {}
        return
    expected = tally(judgements)
    found = measure.estimates["new"]
    assert (found.value, found.low, found.high) == pytest.approx(
        (expected.win_rate.value, expected.win_rate.low, expected.win_rate.high)
    )
    assert measure.unknown == expected.unknown
    assert measure.judgements == len(rows)


def test_the_model_that_all_stood_against_has_one_half() -> None:
    rows = [said(n, "ref", "good", 2.0 if n < 8 else 1.0) for n in range(10)]
    rows += [said(n, "poor", "ref", 2.0 if n < 7 else 1.5) for n in range(10)]
    measure = measured(rows)
    assert measure.hub == "ref"
    assert [measure.value(model) for model in ("good", "ref", "poor")] == [
        pytest.approx(0.8),
        0.5,
        pytest.approx(0.15),
    ]
    assert measure.ranking == ["good", "ref", "poor"]
    assert [measure.rank(model) for model in measure.ranking] == [1, 2, 3]
    assert "ref" not in measure.estimates


def test_of_one_pair_the_first_is_the_reference() -> None:
    assert measured([said(1, "z", "a", 2.0), said(2, "z", "a", 1.0)]).hub == "z"


def test_models_that_met_others_are_warned_of() -> None:
    warnings: list[str] = []
    chain = [said(1, "a", "b", 2.0), said(1, "b", "c", 2.0), said(1, "c", "d", 2.0)]
    measure = measured(chain, warnings)
    assert measure.hub == ""
    assert measure.value("b") == pytest.approx(0.5)  # won one of two
    assert "not every model met the same others" in warnings[0]
    everyone: list[str] = []
    measured([said(1, "a", "b", 2.0), said(1, "b", "c", 2.0), said(1, "c", "a", 2.0)], everyone)
    assert everyone == []


def test_several_runs_of_a_model_are_one_model() -> None:
    rows = [said(n, "ref", "m/1", 2.0 if n < 6 else 1.0) for n in range(10)]
    rows += [said(n, "ref", "m/2", 2.0 if n < 2 else 1.0) for n in range(9)]
    warnings: list[str] = []
    of = {"m/1": "m", "m/2": "m"}
    measure = of_judgements("gpt", "judge", rows, of, {}, warnings)
    assert set(measure.runs) == {"ref", "m"}
    assert measure.value("m") == pytest.approx((6 / 9 + 2 / 9) / 2)  # over the nine of both
    assert warnings == ["gpt: 1 items of m were not judged in every run."]


def test_longer_answers_are_told_apart_from_better_ones() -> None:
    """A judge that takes the longer one: at equal lengths the model wins half of the time."""
    rng = random.Random(3)
    rows, outputs = [], {}
    for n in range(400):
        longer = rng.random() < 0.8
        outputs[f"x/{n}", "ref"] = "w" * 100
        outputs[f"x/{n}", "new"] = "w" * (rng.randrange(110, 300) if longer else rng.randrange(90))
        rows.append(said(n, "ref", "new", 2.0 if longer == (rng.random() < 0.95) else 1.0))
    measure = of_judgements("gpt", "judge", rows, {}, outputs, [])
    assert measure.estimates["new"].value > 0.7
    found = measure.adjusted["new"]
    assert found.low < 0.5 < found.high
    del outputs["x/7", "new"]
    assert of_judgements("gpt", "judge", rows, {}, outputs, []).adjusted == {}
    people = of_judgements("people", "human", rows, {}, outputs, [])
    assert people.adjusted == {}


def test_benchmarks_are_those_that_all_models_have() -> None:
    warnings: list[str] = []
    full = {"a": Items({"a/1": 1.0, "a/2": 0.0}), "b": Items({"b/1": 1.0})}
    measure = of_benchmarks({"x": [full], "y": [{"a": Items({"a/1": 0.0, "a/2": 0.0})}]}, warnings)
    assert warnings == ["Not every model has scores of b: left out of the average."]
    assert measure.value("x") == pytest.approx(0.5)
    assert measure.value("y") == 0
    assert measure.value("z") is None
    assert measure.rank("z") is None
