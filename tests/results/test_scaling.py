"""Curves of growth: which mixtures make one, and what a doubling adds, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats as oracle

from cameleer.results.scaling import curves, families
from cameleer.results.store import read_study
from tests.results.on_disk import study

SIZES = {"x1": {"x": 100}, "x2": {"x": 200}, "x4": {"x": 400}}


def test_only_the_same_sources_in_about_the_same_shares_make_a_curve() -> None:
    mixtures = {
        "all": {"a": 300, "b": 100},
        "all-x0.5": {"a": 150, "b": 50},
        "random": {"a": 79, "b": 21},
        "even": {"a": 100, "b": 100},
        "a": {"a": 300},
        "a-twice": {"a": 600, "b": 0},
        "alone": {"b": 10},
        "empty": {},
    }
    assert families(mixtures) == [
        {"a": 300, "a-twice": 600},
        {"random": 100, "all-x0.5": 200, "all": 400},
    ]
    assert families({"all": {"a": 300}, "again": {"a": 300}}) == []


def test_a_doubling_adds_the_slope_of_a_line_by_the_logarithm(tmp_path: Path) -> None:
    """Means 0.3, 0.5, 0.6 at 1, 2, 4: the slope is half of the last less the first, and of one
    seed its luck is what the middle leaves over the line."""
    n = 60
    scores: dict[str | None, list[list[float]]] = {
        name: [[1.0] * right + [0.0] * (n - right)]
        for name, right in (("x1", 18), ("x2", 30), ("x4", 36))
    }
    folder = study(tmp_path / "s", scores | {None: [[0.0] * n]}, lower=False, sources=SIZES)
    (curve,) = curves(read_study(folder))
    assert (curve.name, dict(curve.sizes)) == ("x4", {"x1": 100, "x2": 200, "x4": 400})
    (one,) = curve.growth
    assert one.value == pytest.approx(0.15)
    table = np.array([rows[0] for rows in scores.values()])
    slope = (table[2] - table[0]) / 2
    by_items = slope.var(ddof=1) / n
    left = (table * np.array([1, -2, 1])[:, None]).sum(axis=0) / 6**0.5
    luck = left.mean() ** 2 - left.var(ddof=1) / n
    assert luck > 0
    error = np.sqrt(by_items + luck / 2)
    free = error**4 / (by_items**2 / (n - 1) + (luck / 2) ** 2 / (luck / left.mean() ** 2) ** 2)
    half = oracle.t.ppf(0.975, max(1, free)) * error
    assert one.high - one.value == pytest.approx(half, rel=1e-6)


def test_each_way_has_its_own_and_what_is_not_finished_has_none(tmp_path: Path) -> None:
    ways = {f"{name} ({way})": parts for way in ("full", "lora") for name, parts in SIZES.items()}
    scores: dict[str | None, list[list[float]]] = {None: [[0.0] * 8]}
    for number, name in enumerate(ways):
        scores[name] = [[float(item <= number % 3) for item in range(8)]]
    scores |= {"x1 (lora)": [[]], "x2 (lora)": [[]]}
    folder = study(tmp_path / "s", scores, ("full", "lora"), lower=False, sources=ways)
    (curve,) = curves(read_study(folder))
    assert (curve.way, curve.name) == ("full", "x4")
    assert curve.growth[0].value == pytest.approx(1 / 8)
