"""Attribution by simulation, few rounds; and the paper's Table 3, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bench.attribution import HALF, NONE, TABLE_3, Situation, simulate, table_3

ROUNDS = 60


def test_intervals_hold_the_truth_and_nothing_is_found_where_nothing_is() -> None:
    """60 studies of 18 effects: the share is uncertain by a point and a half; all are drawn alike
    by one seed, so that the bands hold each time."""
    both = "single & leave-one-out"
    found = simulate(Situation("effects", both, 2, 120, HALF), ROUNDS, 2)
    assert 0.91 <= found.covered <= 0.99
    assert found.false_found <= 0.05
    assert found.wrongly_sure <= 0.05
    none = simulate(Situation("none", both, 2, 120, NONE), ROUNDS, 3)
    assert none.any_found <= 0.12


def test_the_papers_single_data_sets_and_what_adding_up_makes_of_its_mixtures() -> None:
    effects, mixes = table_3()
    vanilla = np.array(TABLE_3["vanilla"])
    assert len(effects) == 12
    for name, points in effects.items():
        assert points == pytest.approx(np.array(TABLE_3[name]) - vanilla)
    below = [sum(points[column] < 0 for points in effects.values()) for column in (1, 3)]
    assert below == [6, 8]  # of GSM and TyDi QA, as the paper counts them
    added, printed = mixes["Human mix"]
    # GSM: 14.5 + 25.5 (CoT) + 5.5 (Flan V2) + 3.5 (Dolly) + 0.5 (Open Assistant 1)
    assert (added[1], printed[1]) == pytest.approx((49.5, 38.5))
    assert (mixes["Tülu"][0] > mixes["Tülu"][1]).tolist() == [True, True, False, False, True]
