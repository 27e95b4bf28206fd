"""Judges beside dummies on labels: who is right how often, and who beats all dummies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as oracle

from cameleer.evals.judge.biases import Texts
from cameleer.evals.judge.leaderboard import (
    FIRST,
    LONGER,
    UNIQUE,
    Standing,
    dummies,
    leaderboard,
)
from cameleer.results.powered import opinion
from cameleer.results.records import Judgement
from cameleer.results.stats import holm


def said(
    item: str, preference: float | None, who: str = "j", b_first: bool | None = None
) -> Judgement:
    kind = "human" if who == "ann" else "judge"
    return Judgement(item, "a", "b", preference, who, kind, b_first=b_first)  # type: ignore[arg-type]


def by_name(rows: list[Standing]) -> dict[str, Standing]:
    return {row.judge: row for row in rows}


def test_dummies_look_at_one_number() -> None:
    texts: Texts = {
        ("1", "a", "b"): ("one two three", "wordwordwordword"),
        ("2", "a", "b"): ("no no no no", "no yes"),
        ("3", "a", "b"): ("same", "same"),
    }
    found = dummies(texts)
    assert list(found[LONGER].values()) == [1.0, 0.0, 0.5]
    assert list(found[UNIQUE].values()) == [0.0, 1.0, 0.5]


def test_accuracy_counts_draws_and_silence_half_and_leaves_out_drawn_labels() -> None:
    labels = opinion(
        said(str(n), preference, "ann") for n, preference in enumerate([2, 2, 1, 1, 1.5])
    )
    judge = [said("0", 1.9), said("1", 1.5), said("2", None), said("3", 2.0), said("4", 2.0)]
    (row,) = leaderboard({"j": [*judge, said("elsewhere", 2.0)]}, labels, {})
    assert row.accuracy is not None
    assert (row.accuracy.value, row.accuracy.n) == (0.5, 4)
    assert (row.n, row.silent) == (5, 1)
    assert (row.against, row.p, row.beats) == ((), None, False)


def test_both_orders_of_a_judge_are_averaged() -> None:
    labels = opinion([said("0", 2.0, "ann"), said("1", 2.0, "ann")])
    judge = [
        said("0", 2.0, b_first=True),
        said("0", 1.0, b_first=False),
        said("1", 2.0, b_first=True),
    ]
    (row,) = leaderboard({"j": judge}, labels, {})
    assert row.accuracy is not None
    assert row.accuracy.value == 0.75
    (first,) = row.against  # it was shown b first in the second only, and both ways in the first
    assert (first.dummy, first.accuracy.value) == (FIRST, 0.75)


def judged(seed: int, right: dict[str, float], n: int = 200) -> list[Standing]:
    """Labels of which the longer answer wins 60 of 100, and judges that are right so often."""
    rng = np.random.default_rng(seed)
    wins = rng.random(n) < 0.5
    longer = np.where(rng.random(n) < 0.6, wins, ~wins)
    texts = {
        (str(item), "a", "b"): ("x" * 100, "x" * (200 if more else 50))
        for item, more in enumerate(longer)
    }
    labels = opinion(said(str(item), 1.0 + won, "ann") for item, won in enumerate(wins))
    judges = {
        name: [
            said(str(item), 1.0 + (won if rng.random() < share else not won), name)
            for item, won in enumerate(wins)
        ]
        for name, share in right.items()
    }
    return leaderboard(judges, labels, texts)


def test_a_good_judge_beats_the_dummies_and_a_poor_one_does_not() -> None:
    rows = judged(1, {"good": 0.85, "poor": 0.55, "worse": 0.2})
    board = by_name(rows)
    assert board["good"].beats
    assert not board["poor"].beats
    assert not board["worse"].beats
    assert board[LONGER].is_dummy
    assert board[LONGER].p is None
    assert board["worse"].p == 1.0
    shares = [row.accuracy.value for row in rows if row.accuracy]
    assert shares == sorted(shares, reverse=True)


def test_p_is_the_largest_over_dummies_then_holms_over_judges() -> None:
    """All texts are of one letter, so that the dummy of unique tokens never decides."""
    board = by_name(judged(2, {"one": 0.8, "two": 0.72, "three": 0.66}))
    worst = []
    for name in ("one", "two", "three"):
        found = {one.dummy: one.found for one in board[name].against}
        assert found.keys() == {LONGER, UNIQUE}
        plain = found[LONGER]
        moved = plain.better + plain.worse
        mcnemar = (plain.better - plain.worse) ** 2 / moved
        assert plain.p == pytest.approx(oracle.chi2.sf(mcnemar, 1))
        worst.append(max(one.p if one.difference > 0 else 1.0 for one in found.values()))
        hardest = board[name].hardest
        assert hardest is not None
        assert hardest.dummy == LONGER
    assert [board[name].p for name in ("one", "two", "three")] == pytest.approx(holm(worst))


def test_a_judge_of_nothing_labelled_is_left_out() -> None:
    labels = opinion([said("0", 2.0, "ann")])
    assert leaderboard({"j": [said("elsewhere", 2.0)]}, labels, {}) == []


def test_measures_beyond_chance_take_draws_as_a_third_verdict() -> None:
    """Of ten items both are for b on 4, a on 3, neither on 1. Labels are for b, a and
    neither on 5, 3 and 2, the judge on 4, 4 and 2."""
    label = [2, 2, 2, 2, 1, 1, 1, 1.5, 2, 1.5]
    judge = [2, 2, 2, 2, 1, 1, 1, 1.5, 1.5, 1]
    labels = opinion(said(str(n), value, "ann") for n, value in enumerate(label))
    (row,) = leaderboard({"j": [said(str(n), v) for n, v in enumerate(judge)]}, labels, {})
    assert row.exact.value == pytest.approx(0.8)
    chance = 0.5 * 0.4 + 0.3 * 0.4 + 0.2 * 0.2
    assert row.kappa.value == pytest.approx((0.8 - chance) / (1 - chance))
    assert row.kappa.low is not None
    assert row.kappa.value is not None
    assert row.kappa.low < row.kappa.value
