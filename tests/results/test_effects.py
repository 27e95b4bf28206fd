"""Effects of data sets: least squares by hand, hand-worked variances, and what must always hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from cameleer.core.errors import UserError
from cameleer.results.effects import (
    AVERAGE,
    Attribution,
    Tuned,
    attribute,
)
from cameleer.results.stats import Items

LEAVE_ONE_OUT = [(1, 1, 1), (0, 1, 1), (1, 0, 1), (1, 1, 0)]
SINGLE = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]


def items(scores: Any) -> Items:
    return Items({f"i/{n:04}": float(score) for n, score in enumerate(scores)})


def tuned(rows: Any, tables: dict[str, Any]) -> list[Tuned]:
    """Runs with amounts by row; tables: benchmark to scores [runs, items]."""
    return [
        Tuned(
            str(row),
            dict(zip("xyz", map(float, row), strict=True)),
            {name: items(table[number]) for name, table in tables.items()},
        )
        for number, row in enumerate(rows)
    ]


def of(found: Attribution, source: str, benchmark: str = "a") -> Any:
    (one,) = (e for e in found.effects if (e.source, e.benchmark) == (source, benchmark))
    return one


def drawn(rows: int, n: int = 40, seed: int = 0) -> Any:
    return (np.random.default_rng(seed).random((rows, n)) < 0.5).astype(float)


def test_single_sources_are_set_against_the_base() -> None:
    """Each effect is then a paired difference: Student's interval of the items' differences."""
    base, table = drawn(1)[0], drawn(3, seed=1)
    found = attribute(tuned(SINGLE, {"a": table}), {"a": items(base)})
    for number, source in enumerate("xyz"):
        change, one = table[number] - base, of(found, source)
        test = oracle.ttest_1samp(change, 0.0)
        assert (one.value, one.p) == pytest.approx((change.mean(), test.pvalue), abs=1e-9)
        low, high = test.confidence_interval()
        assert (one.low, one.high) == pytest.approx((low, high), abs=1e-9)
        assert not one.luck
    assert "against the untuned base" in found.notes[0]
    assert "hold for these very trainings" in found.notes[1]


def test_left_out_sources_are_set_against_all() -> None:
    base, table = drawn(1)[0], drawn(4, seed=2)
    found = attribute(tuned(LEAVE_ONE_OUT, {"a": table}), {"a": items(base)})
    for number, source in enumerate("xyz", 1):
        test = oracle.ttest_rel(table[0], table[number])
        assert of(found, source).value == pytest.approx((table[0] - table[number]).mean())
        assert of(found, source).p == pytest.approx(test.pvalue)


def test_luck_of_training_is_what_seeds_show_beyond_items() -> None:
    """The sum of both variances and its degrees of freedom, worked out from the definitions."""
    rng = np.random.default_rng(5)
    rows = [row for row in SINGLE for _ in range(2)]
    base = rng.random(50)
    lucky = np.array([0.1, -0.1, 0.05, -0.15, 0.0, 0.2])[:, None]
    table = np.clip(0.5 + rng.normal(0, 0.1, (6, 50)) + lucky, 0, 1)
    found = attribute(tuned(rows, {"a": table}), {"a": items(base)})
    means, first, second = table.mean(axis=1), table[0::2], table[1::2]
    square = ((means[0::2] - means[1::2]) ** 2 / 2).mean()  # over 3 degrees of freedom
    from_items = ((first - second).var(axis=1, ddof=1) / 2 / 50).mean()
    luck = square - from_items
    assert luck > 0
    freedom = 3 * (luck / square) ** 2
    for number, source in enumerate("xyz"):
        own = (first[number] + second[number]) / 2 - base
        by_items, by_luck = own.var(ddof=1) / 50, luck / 2
        error = np.sqrt(by_items + by_luck)
        free = error**4 / (by_items**2 / 49 + by_luck**2 / freedom)
        one = of(found, source)
        assert one.value == pytest.approx(own.mean())
        half = oracle.t.ppf(0.975, max(1, free)) * error
        assert one.high - one.value == pytest.approx(half, rel=1e-6)
        assert one.luck


def test_amounts_are_shares_of_the_most_and_presence_is_all_or_nothing() -> None:
    rows = [(100, 0, 0), (50, 0, 0), (0, 10, 0), (0, 0, 4), (100, 10, 4)]
    table = drawn(5, seed=3)
    shares = np.array([(1, 1, 0, 0), (1, 0.5, 0, 0), (1, 0, 1, 0), (1, 0, 0, 1), (1, 1, 1, 1)])
    for by, design in (("amount", shares), ("presence", (shares > 0).astype(float))):
        found = attribute(tuned(rows, {"a": table}), by=by)  # type: ignore[arg-type]
        fitted = np.linalg.lstsq(design, table.mean(axis=1), rcond=None)[0]
        got = [of(found, source).value for source in "xyz"]
        assert got == pytest.approx(fitted[1:].tolist(), abs=1e-9)


def test_holm_is_over_all_effects_and_averages_are_their_own_family() -> None:
    tables = {"a": drawn(4, seed=6), "b": drawn(4, 30, seed=7)}
    found = attribute(tuned(LEAVE_ONE_OUT, tables))
    single = sorted((e for e in found.effects if e.benchmark != AVERAGE), key=lambda e: e.p)
    reached = 0.0
    for rank, one in enumerate(single):
        reached = max(reached, min(1.0, one.p * (6 - rank)))
        assert one.p_holm == pytest.approx(reached)
    for source in "xyz":
        both = (of(found, source).value + of(found, source, "b").value) / 2
        assert of(found, source, AVERAGE).value == pytest.approx(both)


def additive(effects: tuple[float, ...], rows: Any, seed: int, luck: float = 0.0) -> Any:
    """Scores between 0 and 1 to which effects add up, but for a little noise."""
    rng = np.random.default_rng(seed)
    ease = rng.uniform(0.4, 0.5, 200)
    every = [ease + np.dot(row, effects) + rng.normal(0, luck) for row in rows]
    return np.clip(np.array(every) + rng.normal(0, 0.02, (len(rows), 200)), 0, 1)


def test_the_predicted_best_leaves_out_what_harms_and_says_how_surely() -> None:
    rows = [*SINGLE, *LEAVE_ONE_OUT, (1, 0, 0), (0, 1, 0)]
    (best,) = attribute(tuned(rows, {"a": additive((0.1, -0.1, 0.1), rows, 8)})).best
    assert best.sources == ("x", "z")
    assert best.against == "(1, 0, 1)"
    assert best.gain == 0
    assert "was trained" in best.word
    # x + z is not trained here, and clearly better than each alone.
    rows = [row for row in SINGLE for _ in range(3)]
    base = {"a": items(additive((0.0, 0.0, 0.0), [(0, 0, 0)], 9)[0])}
    table = additive((0.1, -0.1, 0.1), rows, 9, luck=0.002)
    (best,) = attribute(tuned(rows, {"a": table}), base).best
    assert (best.sources, best.sure) == (("x", "z"), True)
    assert "has not been trained" in best.word
    (unsure,) = attribute(tuned(SINGLE, {"a": table[::3]}), base).best
    assert not unsure.sure  # one seed: luck is not known
    assert "not surely better" in unsure.word
    harm = additive((-0.1, -0.05, -0.1), rows, 10, luck=0.002)
    (least,) = attribute(tuned(rows, {"a": harm}), base).best
    assert "No source is seen to help; y harms least" in least.word


@pytest.mark.parametrize("scores", [[0.0] * 30, [1.0] * 10 + [0.0] * 20, [0.1, 0.7] * 15])
def test_where_all_score_alike_nothing_is_called_best(scores: list[float]) -> None:
    """Not even by the rounding of least squares."""
    rows = [*LEAVE_ONE_OUT, *LEAVE_ONE_OUT]
    table = [np.roll(scores, shift) for shift in range(len(rows))]
    (best,) = attribute(tuned(rows, {"a": table})).best
    assert best.word == "All models score alike, so nothing tells which mixture would be best."
    assert not best.sure
    assert best.value == pytest.approx(np.mean(scores))


def test_what_rounding_adds_is_no_effect() -> None:
    """x and y differ item by item and not on average: 11 of 30 items, in another order."""
    right = [1.0] * 11 + [0.0] * 19
    table = [np.roll(right, shift) for shift in (0, 3, 7)]
    found = attribute(tuned(SINGLE, {"a": table}), {"a": items(np.roll(right, 13))})
    assert [one.value for one in found.effects] == [0.0] * 3


def test_sums_that_no_score_can_reach_are_told() -> None:
    """Three sources that each solve all: together they can do no more, but 0.6 of each as much."""
    rows = [*SINGLE, (0.6, 0.6, 0.6)]
    table = np.array([*[[0.9] * 20] * 3, [0.95] * 20])
    found = attribute(tuned(rows, {"a": table}), by="amount")
    (best,) = found.best
    assert best.value == pytest.approx(1.025)  # c + b = 0.9 and c + 1.8 b = 0.95, so c + 3 b
    assert not best.sure
    assert any(
        "On a the fitted effects add up to what no score can be" in note for note in found.notes
    )
    for one in found.effects:
        assert one.low < one.value < one.high


def test_effects_that_do_not_add_up_are_told() -> None:
    rows = [row for row in [*SINGLE, *LEAVE_ONE_OUT] for _ in range(2)]
    table = additive((0.1, 0.05, 0.1), rows, 11, luck=0.005)
    found = attribute(tuned(rows, {"a": table}))
    assert found.misfit["a"] > 0.05
    table[[row == (1, 1, 1) for row in rows]] -= 0.15
    wrong = attribute(tuned(rows, {"a": table}))
    assert wrong.misfit["a"] < 0.01
    assert any("do not add up on a" in note for note in wrong.notes)


@given(st.integers(0, 1000), st.sampled_from([SINGLE, LEAVE_ONE_OUT, [*SINGLE, *LEAVE_ONE_OUT]]))
@settings(max_examples=20, deadline=None)
def test_zero_is_outside_exactly_where_p_is_small(seed: int, rows: Any) -> None:
    table = drawn(len(rows), 12, seed)
    found = attribute(tuned(rows, {"a": table}), {"a": items(drawn(1, 12, seed + 1)[0])})
    for one in found.effects:
        assert one.low <= one.value <= one.high
        assert one.high > one.low
        assert (one.low > 0 or one.high < 0) == (one.p < 0.05)


def test_what_is_not_told_apart_is_left_out_and_said() -> None:
    """x alone is against the base; of y and z there is only their mixture with x, which tells of
    their sum alone: x's effect and interval are as if the mixture had not been trained."""
    base, table = drawn(1)[0], drawn(2, seed=4)
    found = attribute(tuned([(1, 0, 0), (1, 1, 1)], {"a": table}), {"a": items(base)})
    assert found.sources == ("x",)
    test = oracle.ttest_1samp(table[0] - base, 0.0)
    (one,) = found.effects
    assert (one.value, one.p) == pytest.approx(((table[0] - base).mean(), test.pvalue))
    assert "These mixtures do not tell the effects of y, z apart: left out." in found.notes
    (best,) = found.best
    assert best.sources == ("x",)
    assert best.value == pytest.approx(table[0].mean())
    assert best.against == ("(1, 1, 1)" if table[1].mean() > table[0].mean() else "(1, 0, 0)")
    assert best.gain == pytest.approx(min(0, table[0].mean() - table[1].mean()))
    assert ("which was trained, is better" in best.word) == (table[1].mean() > table[0].mean())


def test_what_cannot_be_told_at_all_is_refused() -> None:
    table = drawn(1)
    with pytest.raises(UserError, match="apart: 1 for 3 sources"):
        attribute(tuned([(1, 1, 1)], {"a": table}), {"a": items(table[0])})
    with pytest.raises(UserError, match="apart: 3 for 3 sources"):
        attribute(tuned(SINGLE, {"a": drawn(3)}))
    runs = tuned(LEAVE_ONE_OUT, {"a": drawn(4)})
    other = Tuned("(1, 0, 0)", {"x": 1.0}, {"a": items(drawn(1, 39)[0])})
    with pytest.raises(UserError, match="1 items are in one of the two runs only"):
        attribute([*runs, other])
