"""Attribution by simulation, few rounds; and the paper's Table 3, worked out by hand."""

from __future__ import annotations

import pytest

from bench.attribution import HALF, NONE, Situation, simulate, table_3

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
    assert len(effects) == 12
    assert effects["cot"] == pytest.approx([44.2 - 42.3, 40 - 14.5, 41.9 - 39.3, 4.6, -4.9])
    below = [sum(points[column] < 0 for points in effects.values()) for column in (1, 3)]
    assert below == [6, 8]  # of GSM and TyDi QA, as the paper counts them
    human, tulu = mixes["human"], mixes["tulu"]
    # GSM: 14.5 + 25.5 (CoT) + 5.5 (Flan V2) + 3.5 (Dolly) + 0.5 (Open Assistant 1)
    assert (human.added[1], human.printed[1]) == pytest.approx((49.5, 38.5))
    assert (human.best[1], human.mean[1]) == pytest.approx((40, (40 + 20 + 18 + 15) / 4))
    assert (tulu.added > tulu.printed).tolist() == [True, True, False, False, True]
    pairs = zip(human.added, human.printed, strict=True)
    off = sum(abs(added - printed) for added, printed in pairs) / 5
    assert human.missed()["adding up"] == pytest.approx(off)
