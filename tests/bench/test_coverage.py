"""Coverage by simulation: intervals hold the truth as often as they say; p is honest under nothing.

A share of `ROUNDS` draws is itself uncertain by about a point (two standard errors); the bands
leave it that. `python -m bench.coverage` draws more, of more situations.
"""

from __future__ import annotations

import numpy as np
import pytest

from bench.coverage import Kind, exact_row, kinds, pairs_row, simulate

ROUNDS = 700
SLACK = 0.016

CHECKED = (
    ("F1 with most 0", 100),
    ("F1 with many 0 and 1", 30),
    ("pass@10 of 20 samples", 164),
    ("mean over 27 tasks of 3-4", 102),
    ("mean over 9 unequal groups", 534),
    ("20 clusters of 1-10, icc 0.2, mean 0.5", 20),
    ("50 clusters of 1-10, icc 0.6, mean 0.15", 50),
    ("clusters in 9 groups, mean over groups", 900),
    ("difference, 0/1", 100),
    ("difference, F1", 100),
    ("difference, none in truth", 100),
    ("difference, 50 clusters", 50),
    ("no difference, 50 clusters", 50),
    ("mean of six benchmarks", 6),
    ("no difference of means of six", 6),
    ("three seeds against one base", 3),
)


@pytest.mark.parametrize(("name", "n"), CHECKED)
def test_intervals_hold_the_truth_as_often_as_they_say(name: str, n: int) -> None:
    found, least, _ = pairs_row(100, 0.02)
    assert found.covered >= 0.97
    assert least >= 0.95


@pytest.mark.parametrize("n", [20, 50, 164])
def test_shares_are_covered_by_sums_over_all_outcomes(n: int) -> None:
    found, least, most = exact_row(n, points=25)
    assert 0.945 <= found.covered <= 0.96
    # Of single shares, no interval that is not drawn by lot does better at so few throws.
    assert least >= (0.915 if n < 100 else 0.93)
    assert most <= (0.985 if n < 100 else 0.97)


def test_the_simulation_sees_an_interval_that_is_too_narrow() -> None:
    def bold(rng: np.random.Generator) -> tuple[object, float]:
        kind = next(one for one in kinds() if one.name == "difference, F1")
        found, truth = kind.trial(rng)
        middle, half = (found.low + found.high) / 2, (found.high - found.low) / 4
        return type(found)(**{**_fields(found), "low": middle - half, "high": middle + half}), truth

    assert simulate(Kind("bold", 30, bold), 200, seed=1).covered < 0.8


def _fields(found: object) -> dict[str, float]:
    return {name: getattr(found, name) for name in type(found).__dataclass_fields__}  # type: ignore[attr-defined]
