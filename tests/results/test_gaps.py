"""Differences of means over items that only partly meet: against formulas, and by simulation."""

from __future__ import annotations

import math
import random
from statistics import fmean, variance

import pytest

from cameleer.results.gaps import gap
from cameleer.results.stats import Items, paired


def test_over_the_same_items_it_is_the_paired_difference() -> None:
    rng = random.Random(1)
    a, b = (Items({str(n): float(rng.random() < p) for n in range(50)}) for p in (0.4, 0.7))
    assert gap(a, b) == paired(a, b)
    twice = (
        Items(a.scores, dict.fromkeys(a.scores, 2.0)),
        Items(b.scores, dict.fromkeys(b.scores, 2.0)),
    )
    assert gap(*twice).difference == pytest.approx(paired(a, b).difference)


def test_over_items_apart_it_is_that_of_two_samples() -> None:
    rng = random.Random(2)
    a = Items({f"a{n}": rng.random() for n in range(200)})
    b = Items({f"b{n}": rng.random() for n in range(300)})
    found = gap(a, b)
    one, other = list(a.scores.values()), list(b.scores.values())
    assert found.difference == pytest.approx(fmean(other) - fmean(one))
    error = math.sqrt(variance(one) / 200 + variance(other) / 300)
    assert (found.high - found.low) / 2 == pytest.approx(1.965 * error, rel=0.01)
    assert (found.better, found.worse, found.same, found.n) == (0, 0, 0, 500)


def test_turned_round_it_is_the_same_with_the_other_sign() -> None:
    a = Items({"1": 0.0, "2": 1.0, "3": 1.0}, {"1": 2.0, "2": 1.0, "3": 1.0})
    b = Items({"2": 0.5, "3": 0.0, "4": 0.0})
    there, back = gap(a, b), gap(b, a)
    assert there.difference == pytest.approx(0.5 / 3 - 0.5)
    assert (there.low, there.high, there.p) == pytest.approx((-back.high, -back.low, back.p))
    assert (there.better, there.worse, there.same) == (0, 2, 0)


def test_where_nothing_varies_the_interval_has_a_width() -> None:
    won, lost = Items({"1": 1.0, "2": 1.0}), Items({"2": 0.0, "3": 0.0})
    found = gap(lost, won)
    assert found.difference == 1
    assert 0 < found.low < 1
    assert 0 < found.p < 0.05
    level = gap(Items({"1": 1.0}), Items({"2": 1.0}))
    assert (level.difference, level.p) == (0, 1)
    assert level.low < 0 < level.high


def test_intervals_hold_the_truth_where_half_of_the_items_meet() -> None:
    rng, held = random.Random(3), 0
    for _ in range(400):
        hard = {n: rng.gauss(0, 0.15) for n in range(90)}
        a = Items({str(n): float(rng.random() < 0.45 + hard[n]) for n in range(60)})
        b = Items({str(n): float(rng.random() < 0.6 + hard[n]) for n in range(30, 90)})
        found = gap(a, b)
        held += found.low <= 0.15 <= found.high
        assert (found.p < 0.05) == (not found.low <= 0 <= found.high)
    assert 0.93 * 400 <= held <= 0.98 * 400
