"""Rank correlations against scipy's, and how often their intervals hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, norm, spearmanr

from cameleer.results.rankings import Kind, chance_of_equal, rank_correlation

SCORES = st.lists(st.integers(0, 6), min_size=3, max_size=9)


@settings(max_examples=40)
@given(SCORES, st.randoms(use_true_random=False))
def test_values_are_scipys_ties_or_not(x: list[int], rng: object) -> None:
    y = [value + rng.choice([-3, 0, 0, 3]) for value in x]  # type: ignore[attr-defined]
    kendall, spearman = (rank_correlation(kind, x, y) for kind in ("kendall", "spearman"))
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert kendall is spearman is None
        return
    assert kendall is not None
    assert spearman is not None
    assert kendall.value == pytest.approx(kendalltau(x, y).statistic)
    assert spearman.value == pytest.approx(spearmanr(x, y).statistic)
    for one in (kendall, spearman):
        assert -1 <= one.low <= one.value <= one.high <= 1
        assert one.high - one.low > 0.01  # never without width, however few models or equal ranks


def test_two_models_and_level_scores_have_no_correlation() -> None:
    assert rank_correlation("kendall", [1, 2], [2, 1]) is None
    assert rank_correlation("spearman", [1, 2, 3], [5, 5, 5]) is None


def test_equal_rankings_of_few_models_leave_chance_open_and_of_many_do_not() -> None:
    lows = []
    for n in (3, 4, 6, 10):
        found = rank_correlation("kendall", range(n), range(n))
        assert found is not None
        assert found.high == found.value == 1
        lows.append(found.low)
    assert lows[0] < lows[1] < lows[2] < lows[3]
    # Where rankings have nothing to do with each other, three models are in the same order once in
    # 6 times, four once in 24: more than once in 40. Six are once in 720.
    assert lows[0] < 0
    assert lows[1] < 0 < lows[2]
    assert [round(1 / chance_of_equal(n)) for n in (3, 4, 6)] == [6, 24, 720]


def test_opposite_rankings_are_equal_ones_turned_round() -> None:
    up = rank_correlation("spearman", range(7), [0, 2, 1, 3, 4, 6, 5])
    down = rank_correlation("spearman", range(7), [-0, -2, -1, -3, -4, -6, -5])
    assert up is not None
    assert down is not None
    assert (down.value, down.low, down.high) == pytest.approx(
        (-up.value, -up.high, -up.low), abs=0.03
    )


def test_many_models_have_the_interval_of_bonett_and_wright() -> None:
    """Psychometrika 65, 2000, 23-28: Fisher's z with the variance of each kind."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal(60)
    y = 0.6 * x + 0.8 * rng.standard_normal(60)
    for kind, value, error in (
        ("kendall", kendalltau(x, y).statistic, math.sqrt(0.437 / (60 - 4))),
        ("spearman", spearmanr(x, y).statistic, None),
    ):
        spread = error or math.sqrt((1 + value**2 / 2) / (60 - 3))
        expected = [math.tanh(math.atanh(value) + side * 1.96 * spread) for side in (-1, 1)]
        found = rank_correlation(kind, x.tolist(), y.tolist())  # type: ignore[arg-type]
        assert found is not None
        assert [found.low, found.high] == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("kind", ["kendall", "spearman"])
def test_intervals_hold_the_truth_nineteen_times_in_twenty(kind: Kind) -> None:
    rng, normal = np.random.default_rng(5), math.sin(math.pi * 0.4 / 2)
    truth = 0.4 if kind == "kendall" else 6 / math.pi * math.asin(normal / 2)
    held = 0
    for _ in range(400):
        x = rng.standard_normal(5)
        y = norm.cdf(normal * x + math.sqrt(1 - normal**2) * rng.standard_normal(5))  # any scale
        found = rank_correlation(kind, x.tolist(), y.tolist())
        assert found is not None
        held += found.low <= truth <= found.high
    assert held >= 0.93 * 400
