"""Benchmarks, a judge and people over four models whose truth is known, and their differences."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

from cameleer.results.opinions import ALIKE, CONTRARY, OPEN, Opinions, join
from cameleer.results.records import Judgement
from cameleer.results.stats import Items, Run

STRENGTHS = {
    "benchmarks": {"a": 0.8, "b": 0.6, "c": 0.4, "d": 0.4},
    "gpt": {"a": 0.85, "b": 0.6, "c": 0.35, "d": 0.36},
    "people": {"a": 0.3, "b": 0.7, "c": 0.45, "d": 0.44},
}


def scores(name: str, model: str, n: int = 300) -> dict[str, float]:
    rng = random.Random(f"{name} {model}")
    return {f"{name}/{item}": float(rng.random() < STRENGTHS[name][model]) for item in range(n)}


def judgements(
    name: str, kind: str, models: str = "abcd", reference: str = "ref", seed: str = ""
) -> list[Judgement]:
    return [
        Judgement(
            f"item/{key.rpartition('/')[2]}",
            reference,
            model,
            1 + won,
            f"{name}{seed}",
            kind,  # type: ignore[arg-type]
            acceptable=(None, bool(won)) if kind == "human" else (None, None),
        )
        for model in models
        for key, won in scores(name, model).items()
    ]


def benchmarks() -> dict[str, list[Run]]:
    return {model: [{"gsm": Items(scores("benchmarks", model))}] for model in "abcd"}


@pytest.fixture(scope="module")
def opinions() -> Opinions:
    told = judgements("gpt", "judge") + judgements("people", "human")
    return join(benchmarks(), told)


def test_three_rankings_stand_side_by_side(opinions: Opinions) -> None:
    assert [one.name for one in opinions.measures] == ["benchmarks", "gpt", "people"]
    for name, strengths in STRENGTHS.items():
        found = opinions.measure(name)
        for model in strengths:
            own = list(scores(name, model).values())
            assert found.value(model) == pytest.approx(sum(own) / len(own))
    assert opinions.measure("people").ranking[0] == "b"
    assert opinions.measure("gpt").ranking[0] == "a"
    assert opinions.models == [*opinions.measure("benchmarks").ranking, "ref"]


def test_acceptance_is_the_share_that_people_accept(opinions: Opinions) -> None:
    own = list(scores("people", "b").values())
    assert opinions.accepted["b"].value == pytest.approx(sum(own) / len(own))


def differences(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    return sum(one[key] - other[key] for key in one) / len(one)


def test_differences_are_paired_item_by_item_and_adjusted_over_all(opinions: Opinions) -> None:
    ps = []
    for pair in opinions.pairs:
        for name, found in pair.differences.items():
            ps.append((found.paired.p, found.p_holm))
            if "ref" in (pair.first, pair.second):
                model, sign = (pair.second, -1) if pair.first == "ref" else (pair.first, 1)
                own = list(scores(name, model).values())
                expected = sign * (sum(own) / len(own) - 0.5)
            else:
                expected = differences(scores(name, pair.first), scores(name, pair.second))
            assert found.paired.difference == pytest.approx(expected)
    assert len(ps) == 6 * 3 + 4 * 2  # ref has no benchmarks
    reached = 0.0
    for rank, (p, adjusted) in enumerate(sorted(ps)):
        reached = max(reached, min(1.0, p * (len(ps) - rank)))
        assert adjusted == pytest.approx(reached)


def test_what_measures_say_of_a_pair(opinions: Opinions) -> None:
    verdicts = {frozenset((one.first, one.second)): one for one in opinions.pairs}
    ab, bc, cd = (verdicts[frozenset(pair)] for pair in ("ab", "bc", "cd"))
    assert ab.verdict == CONTRARY
    assert not ab.same_sign
    assert bc.verdict == ALIKE
    assert bc.same_sign
    assert cd.verdict == OPEN


def test_rankings_are_correlated_over_the_models_that_both_know(opinions: Opinions) -> None:
    by_two = {(one.first, one.second): one for one in opinions.alike}
    assert by_two["benchmarks", "gpt"].n == 4
    assert by_two["gpt", "people"].n == 5  # both know the reference
    kendall = by_two["benchmarks", "people"].kendall
    assert kendall is not None
    x = [opinions.measure("benchmarks").value(model) or 0 for model in "abcd"]
    y = [opinions.measure("people").value(model) or 0 for model in "abcd"]
    signs = [
        ((x[i] > x[j]) - (x[i] < x[j])) * ((y[i] > y[j]) - (y[i] < y[j]))
        for i in range(4)
        for j in range(i)
    ]
    assert kendall.value == pytest.approx(sum(signs) / 6, abs=0.1)  # ties make tau-b a little more


def test_the_second_time_that_a_person_judges_is_left_out() -> None:
    once = judgements("people", "human")
    twice = once + judgements("people", "human", "a")[:7]
    found = join({}, twice)
    assert found.measure("people").estimates == join({}, once).measure("people").estimates
    assert found.warnings == ["7 times people judged a comparison again: the first time counts."]
    judge = judgements("gpt", "judge", "a")
    assert join({}, judge + judge[:7]).warnings == []  # a judge may be asked in both orders


def test_a_model_is_not_set_against_itself() -> None:
    found = join({}, judgements("gpt", "judge", "ab", reference="a"))
    assert found.warnings == ["300 judgements set a model against itself, and are left out."]
    assert found.measure("gpt").hub == "a"


def test_judges_of_any_name_are_told_apart_from_people() -> None:
    told = judgements("people", "judge") + judgements("people", "human")
    assert [one.name for one in join({}, told).measures] == ["people (judge)", "people"]


def test_models_that_share_no_item_are_compared_by_their_means() -> None:
    half = [one for one in judgements("gpt", "judge", "a") if int(one.item[5:]) < 150]
    rest = [one for one in judgements("gpt", "judge", "b") if int(one.item[5:]) >= 150]
    found = join({}, half + rest + judgements("people", "human", "ab"))
    pair = next(one for one in found.pairs if {one.first, one.second} == {"a", "b"})
    judge = found.measure("gpt")
    sign = 1 if pair.first == "a" else -1
    a, b = (judge.value(model) for model in "ab")
    assert a is not None
    assert b is not None
    assert pair.differences["gpt"].paired.difference == pytest.approx(sign * (a - b))
    assert pair.differences["gpt"].paired.n == 300
    assert pair.differences["people"].paired.n == 300


def test_nothing_at_all_is_no_error() -> None:
    found = join({}, [])
    assert (found.measures, found.models, found.pairs) == ([], [], [])
