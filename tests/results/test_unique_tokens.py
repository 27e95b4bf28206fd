"""Unique tokens, the dummy judge that counts them, and the correlation over models."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import pearsonr

from cameleer.results.unique_tokens import (
    Point,
    counts,
    dummy_win_rate,
    pearson,
    picture,
    said_of,
    words,
)


def test_words_are_runs_and_single_marks() -> None:
    assert words("Don't stop,  don't\n2 €!") == [
        "Don", "'", "t", "stop", ",", "don", "'", "t", "2", "€", "!"
    ]  # fmt: skip


def test_means_over_answers() -> None:
    found = counts(["a b a", ""])
    assert (found.tokens, found.unique) == (1.5, 1.0)
    assert counts(["aab"], split=list).unique == 2.0


def test_the_dummy_prefers_more_unique_tokens() -> None:
    pairs = [("a", "a b"), ("a b", "a"), ("a b", "b a a"), ("", "x")]
    assert dummy_win_rate(pairs) == (1 + 0 + 0.5 + 1) / 4


def test_correlation_of_many_points() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=30)
    y = 0.5 * x + rng.normal(size=30)
    found = pearson(x.tolist(), y.tolist())
    assert found is not None
    theirs = pearsonr(x, y)
    assert (found.r, found.p) == pytest.approx((theirs.statistic, theirs.pvalue))
    low, high = theirs.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert not found.exact


def test_p_of_few_points_counts_all_orders() -> None:
    x, y = [1.0, 2.0, 3.0, 4.5, 6.0], [2.0, 1.0, 4.0, 3.5, 7.0]
    found = pearson(x, y)
    assert found is not None
    own = np.corrcoef(x, y)[0, 1]
    as_far = [
        abs(np.corrcoef(x, order)[0, 1]) >= abs(own) - 1e-12 for order in itertools.permutations(y)
    ]
    assert found.exact
    assert found.p == pytest.approx(sum(as_far) / math.factorial(5))


def test_too_few_points_or_no_variation() -> None:
    assert pearson([1, 2, 3], [1, 2, 3]) is None
    assert pearson([1, 1, 1, 1], [1, 2, 3, 4]) is None
    assert said_of(None) == "Too few models for a correlation."
    whole = pearson([1, 2, 3, 4], [2, 4, 6, 8])
    assert whole is not None
    assert whole.r == pytest.approx(1)
    assert "rough for so few" in said_of(whole)


def test_the_picture_names_every_model() -> None:
    points = [
        Point("one", 30, 20, 18, 22),
        Point("two <b>", 60, 40, 37, 43),
        Point("three", 90, 80, 77, 83, printed=True),
        Point("four", 91, 81, 78, 84),
    ]
    found = pearson([p.unique for p in points], [p.win_rate for p in points])
    drawn = picture(points, found, "words")
    for name in ("one", "two &lt;b&gt;", "three", "four"):
        assert f">{name}</text>" in drawn.svg
    assert "two <b> 60 and 40.0 %" in drawn.alternative
    assert "Tokens are words." in drawn.caption
