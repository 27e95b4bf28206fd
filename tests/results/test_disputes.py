"""Judge and people on the same comparisons: sides, agreement, and the order of disputes."""

from __future__ import annotations

import random
from typing import Any

import pytest

from cameleer.results.disputes import meeting
from cameleer.results.records import Judgement


def judge(item: str, a: str, b: str, preference: float | None, **told: Any) -> Judgement:
    return Judgement(item, a, b, preference, "gpt", "judge", **told)


def person(item: str, a: str, b: str, preference: float | None, who: str = "ann") -> Judgement:
    return Judgement(item, a, b, preference, who, "human")


def test_sides_are_compared_whichever_model_is_called_a() -> None:
    found = meeting(
        "gpt",
        [judge("1", "x", "y", 2.0), judge("2", "x", "y", 2.0), judge("3", "y", "x", 1.0)],
        [person("1", "y", "x", 1.0), person("2", "y", "x", 2.0), person("3", "x", "y", 1.25)],
    )
    assert (found.items, found.same, found.opposite) == (3, 1, 2)
    # On 2 the judge is for y and the person clearly for x; on 3 for y, and slightly for x.
    assert [one.item for one in found.disputes] == ["2", "3"]
    assert [one.distance for one in found.disputes] == [1.0, 0.75]
    first = found.disputes[0]
    assert (first.a, first.b, first.judged, first.rated) == ("x", "y", 2.0, 1.0)


def test_ties_are_half_an_agreement_and_no_dispute() -> None:
    machine = [judge("1", "x", "y", 1.5), judge("2", "x", "y", 1.5), judge("3", "x", "y", 1.97)]
    human = [person("1", "x", "y", 1.5), person("2", "x", "y", 1.0), person("3", "x", "y", 1.75)]
    found = meeting("gpt", machine, human)
    assert (found.same, found.opposite, found.disputes) == (1, 0, [])
    assert found.agreement is not None
    assert found.agreement.value == pytest.approx((1 + 0.5 + 1) / 3)


def test_people_and_both_orders_say_their_mean() -> None:
    machine = [judge("1", "x", "y", 1.0, b_first=True), judge("1", "x", "y", 1.4, b_first=False)]
    human = [person("1", "x", "y", 2.0), person("1", "x", "y", 1.25, "bob")]
    (only,) = meeting("gpt", machine, human).disputes
    assert only.judged == pytest.approx(1.2)
    assert only.rated == pytest.approx(1.625)
    assert len(only.people) == 2


def test_what_has_no_verdict_or_another_pair_meets_nobody() -> None:
    machine = [judge("1", "x", "y", None), judge("2", "x", "y", 2.0), judge("3", "x", "z", 2.0)]
    human = [person("1", "x", "y", 1.0), person("2", "x", "y", None), person("3", "x", "y", 1.0)]
    found = meeting("gpt", machine, human)
    assert (found.items, found.agreement) == (0, None)


def test_agreement_is_that_of_the_sides_counted_by_hand() -> None:
    rng = random.Random(1)
    machine = [judge(str(n), "x", "y", rng.choice([1.0, 1.5, 2.0])) for n in range(200)]
    human = [person(str(n), "x", "y", rng.choice([1.0, 1.25, 1.5, 1.75, 2.0])) for n in range(200)]
    found = meeting("gpt", machine, human)
    total = 0.0
    for one, other in zip(machine, human, strict=True):
        assert one.preference is not None
        assert other.preference is not None
        left = "A" if one.preference < 1.5 else "B" if one.preference > 1.5 else "tie"
        right = "A" if other.preference < 1.5 else "B" if other.preference > 1.5 else "tie"
        total += 1 if left == right else 0.5 if "tie" in (left, right) else 0
    assert found.agreement is not None
    assert found.agreement.value == pytest.approx(total / 200)
    distances = [one.distance for one in found.disputes]
    assert distances == sorted(distances, reverse=True)
