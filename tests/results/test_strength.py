"""Strengths and rater effects: known answers, another optimiser, recovery of what was simulated."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from cameleer.results.judgements import swapped
from cameleer.results.records import Judgement
from cameleer.results.strength import OF_MODELS, OF_RATERS, accepted, strengths


def verdict(
    a: str,
    b: str,
    preference: float | None,
    item: int = 0,
    who: str = "ann",
    b_first: bool | None = None,
) -> Judgement:
    return Judgement(f"i/{item}", a, b, preference, who, "human", b_first=b_first)


def answer(model: str, good: bool, who: str, item: int) -> Judgement:
    return Judgement(f"i/{item}", model, "other", None, who, "human", acceptable=(good, None))


def test_two_models_are_their_odds_apart() -> None:
    given = [verdict("x", "y", 2.0 if n < 300 else 1.0, n) for n in range(400)]
    found = strengths(given)
    assert list(found.models) == ["y", "x"]
    apart = found.models["y"].value - found.models["x"].value
    assert apart == pytest.approx(math.log(3), abs=0.01)
    # The standard error of log odds is the root of 1/300 + 1/100, of half of them half that.
    width = found.models["y"].high - found.models["y"].low
    assert width == pytest.approx(1.97 * math.sqrt(1 / 300 + 1 / 100), rel=0.02)
    assert found.first is found.ties is None
    assert found.raters == {}
    assert found.notes == []
    assert found.models["y"].n == 400


def simulated(
    seed: int, n: int = 3000
) -> tuple[list[Judgement], dict[str, float], dict[str, float]]:
    """Davidson's model with ties, a lean to the first answer, raters who tie more or less."""
    random = np.random.default_rng(seed)
    strength = {"a": -0.9, "b": -0.1, "c": 0.2, "d": 0.8}
    ties = {"r0": -0.8, "r1": 0.0, "r2": 0.8}
    given = []
    pairs, raters = list(combinations(strength, 2)), list(ties)
    for n_th in range(n):
        a, b = pairs[random.integers(len(pairs))]
        who, b_first = raters[random.integers(3)], bool(random.integers(2))
        lean = (strength[b] - strength[a] + (0.4 if b_first else -0.4)) / 2
        weights = np.exp([-lean, -0.5 + ties[who], lean])
        preference = (1.0, 1.5, 2.0)[random.choice(3, p=weights / weights.sum())]
        given.append(verdict(a, b, preference, n_th, who, b_first))
    return given, strength, ties


def test_what_was_simulated_is_found() -> None:
    given, strength, ties = simulated(1)
    turned = [swapped(one) if n % 2 else one for n, one in enumerate(given)]
    for found in (strengths(given), strengths(turned)):
        assert list(found.models) == ["d", "c", "b", "a"]
        for name, one in found.models.items():
            assert one.low < strength[name] < one.high
            assert one.high - one.low < 0.3
        assert found.first is not None
        assert found.ties is not None
        assert found.first.low < 0.4 < found.first.high
        assert found.ties.low < -0.5 < found.ties.high
        assert all(one.low < ties[name] < one.high for name, one in found.raters.items())


def test_intervals_hold_the_truth() -> None:
    held = total = 0
    for seed in range(25):
        given, strength, _ = simulated(100 + seed, n=250)
        found = strengths(given)
        held += sum(one.low <= strength[name] <= one.high for name, one in found.models.items())
        total += 4
    assert held / total > 0.89


def test_another_optimiser_finds_the_same() -> None:
    given, *_ = simulated(2, n=200)
    models, raters = ["a", "b", "c", "d"], ["r0", "r1", "r2"]

    def loss(values: np.ndarray) -> float:
        strength = dict(zip(models, values[:4], strict=True))
        ready = dict(zip(raters, values[4:7], strict=True))
        first, tie = values[7:]
        total = (values[[0, 1, 2, 3, 7, 8]] ** 2).sum() / OF_MODELS**2 / 2
        total += (values[4:7] ** 2).sum() / OF_RATERS**2 / 2
        for one in given:
            lean = (strength[one.b] - strength[one.a] + (first if one.b_first else -first)) / 2
            weights = {
                1.0: math.exp(-lean),
                2.0: math.exp(lean),
                1.5: math.exp(tie + ready[one.who]),
            }
            total -= math.log(weights[one.preference] / sum(weights.values()))  # type: ignore[index]
        return float(total)

    best = minimize(loss, np.zeros(9), method="BFGS", options={"gtol": 1e-5}).x
    found = strengths(given)
    for at, name in enumerate(models):
        assert found.models[name].value == pytest.approx(best[at] - best[:4].mean(), abs=1e-3)
    assert found.first is not None
    assert found.first.value == pytest.approx(best[7], abs=1e-3)


def test_a_model_that_always_wins_is_told() -> None:
    given = [verdict("x", "y", 1.0, n) for n in range(30)]
    given += [verdict("y", "z", 1.0 if n % 2 else 2.0, n) for n in range(30)]
    found = strengths(given)
    assert all(math.isfinite(one.low) and math.isfinite(one.high) for one in found.models.values())
    assert found.models["x"].high - found.models["x"].low > 1.5
    (note,) = found.notes
    assert note.startswith("x > y, z: none ever won or drew against those before it")


def test_models_that_never_met_are_told() -> None:
    met = [("a", "b"), ("c", "d")]
    given = [verdict(a, b, 1.0 if n % 2 else 2.0, n) for n in range(9) for a, b in met]
    (note,) = strengths(given).notes
    assert note == "never compared with each other, so not on one scale: a, b; c, d"


def test_only_ties_tell_no_difference() -> None:
    found = strengths([verdict("x", "y", 1.5, n) for n in range(20)])
    assert found.models["x"].value == pytest.approx(0, abs=1e-9)
    assert found.ties is not None
    assert found.ties.low > 0


def test_judgements_of_one_item_are_not_many() -> None:
    once = [verdict("x", "y", 2.0 if n % 3 else 1.0, n) for n in range(60)]
    often = [
        verdict("x", "y", one.preference, n, who=f"r{who}")
        for n, one in enumerate(once)
        for who in range(4)
    ]
    narrow, wide = (strengths(given).models["y"] for given in (once, often))
    assert wide.value == pytest.approx(narrow.value, rel=0.05)
    assert wide.high - wide.low > 0.95 * (narrow.high - narrow.low)


@pytest.mark.real_data
def test_gpt_4s_verdicts_put_models_in_the_leaderboards_order(real_data: Path) -> None:
    given = []
    for file in sorted((real_data / "eval/alpaca_eval/results").glob("*/*_gpt4/annotations.json")):
        for n, row in enumerate(json.loads(file.read_text())):
            if row["preference"] is not None:  # 0 was a draw once
                preference = float(row["preference"]) or 1.5
                given.append(verdict("text_davinci_003", file.parts[-3], preference, n, "gpt4"))
    found = strengths(given)
    assert list(found.models) == [
        "gpt4", "tulu-2-dpo-7b", "vicuna-13b", "phi-2-sft", "text_davinci_003", "alpaca-7b",
        "text_davinci_001",
    ]  # fmt: skip
    # 761 wins and 32 losses of GPT-4: the plain log odds, a little less for the penalty.
    apart = found.models["gpt4"].value - found.models["text_davinci_003"].value
    assert apart == pytest.approx(math.log(761 / 32), abs=0.15)
    assert found.notes == []


def test_nothing_to_compare() -> None:
    with pytest.raises(ValueError, match="no judgement with a verdict"):
        strengths([verdict("x", "y", None)])
    assert accepted([verdict("x", "y", 2.0)]) is None


def test_acceptance_of_one_rater_is_the_share() -> None:
    found = accepted([answer("x", n % 4 > 0, "ann", n) for n in range(400)])
    assert found is not None
    assert found.strictness == {}
    assert found.models["x"].value == pytest.approx(0.75, abs=1e-3)
    half = (found.models["x"].high - found.models["x"].low) / 2
    assert half == pytest.approx(1.966 * math.sqrt(0.75 * 0.25 / 400), rel=0.02)


def test_a_strict_rater_is_taken_out() -> None:
    """Both models are as good; the strict rater happened to rate one of them more often."""
    random = np.random.default_rng(3)
    chance = {"strict": 0.4, "mild": 0.8}
    given = []
    for n in range(4000):
        who = "strict" if n % 2 else "mild"
        model = "x" if (random.random() < 0.8) == (who == "strict") else "y"
        given.append(answer(model, bool(random.random() < chance[who]), who, n))
    found = accepted(given)
    assert found is not None
    raw = {model: np.mean([one.acceptable[0] for one in given if one.a == model]) for model in "xy"}
    assert raw["y"] - raw["x"] > 0.15
    for one in found.models.values():
        assert one.low < 0.6 < one.high
    apart = found.strictness["strict"].value - found.strictness["mild"].value
    assert apart == pytest.approx(math.log(0.8 / 0.2 / (0.4 / 0.6)), abs=0.15)


def test_what_is_always_accepted_has_an_interval() -> None:
    given = [answer("x", True, f"r{n % 3}", n) for n in range(30)]
    found = accepted(given)
    assert found is not None
    one = found.models["x"]
    assert 0.9 < one.value < 1
    assert one.low < 0.98
    assert one.high <= 1
