"""Length-controlled win rates against restatements by a general optimiser, and against chance."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from cameleer.core.errors import UserError
from cameleer.results.length_control import (
    Gamed,
    joint,
    l1_logistic,
    published,
    read_gamed,
)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def by_general_optimiser(x: Any, y: Any, w: Any, strength: float) -> Any:
    """|b|_1 + C loss, with b as a difference of two parts that are not negative."""
    k = x.shape[1]

    def cost(parts: Any) -> tuple[float, Any]:
        odds = x @ (parts[:k] - parts[k:])
        slope = strength * (x.T @ (w * (sigmoid(odds) - y)))
        loss = strength * float((w * (np.logaddexp(0, odds) - y * odds)).sum())
        return loss + parts.sum(), np.concatenate([1 + slope, 1 - slope])

    found = minimize(
        cost, np.zeros(2 * k), jac=True, method="L-BFGS-B", bounds=[(0, None)] * (2 * k),
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000},
    )  # fmt: skip
    return found.x[:k] - found.x[k:]


def verdicts(n: int, seed: int, model: float = 0.4, slope: float = 1.5) -> tuple[Any, Any, Any]:
    """(wins, characters of the reference's answer less the model's, difficulty)."""
    rng = np.random.default_rng(seed)
    difference = rng.normal(-300, 400, n)
    hard = rng.normal(0, 1, n)
    chance = sigmoid(model + hard - slope * np.tanh(difference / difference.std(ddof=1)))
    wins = (rng.random(n) < chance).astype(float)
    wins[rng.random(n) < 0.03] = 0.5
    return wins, difference, hard


@pytest.mark.parametrize("strength", [0.004, 0.05, 1.0, 1e4])
def test_the_penalised_fit_is_the_minimum(strength: float) -> None:
    wins, difference, hard = verdicts(200, seed=1)
    x = np.stack([np.ones(200), np.tanh(difference / 400), hard], axis=1)
    w = np.linspace(0.1, 1.5, 200)
    fit = l1_logistic(x, wins, w, strength)
    slope = strength * (x.T @ (w * (sigmoid(x @ fit) - wins)))
    for coefficient, pull in zip(fit, slope, strict=True):
        if coefficient == 0:
            assert abs(pull) <= 1 + 1e-9
        else:
            assert pull == pytest.approx(-math.copysign(1, coefficient), abs=1e-6)
    assert fit == pytest.approx(by_general_optimiser(x, wins, w, strength), abs=2e-3)


def test_the_published_fit_restated() -> None:
    wins, difference, hard = verdicts(150, seed=2)
    other, apart, theirs = verdicts(60, seed=3, model=0.0)
    gamed = Gamed(other, apart / 400, theirs, {})
    wins[7] = np.nan  # not annotated: not fitted, but predicted
    found = published(wins, difference, hard, gamed)

    there = ~np.isnan(wins)
    scaled = difference / (((difference - difference.mean()) ** 2).sum() / 149) ** 0.5
    x = [[0.0, math.tanh(d), h] for d, h in zip(apart / 400, theirs, strict=True)]
    x += [[1.0, math.tanh(d), h] for d, h in zip(scaled[there], hard[there], strict=True)]
    y = np.concatenate([other, wins[there]])
    w = np.array([0.1] * 60 + [1.0] * 149)
    rows = np.array(x)
    losses = {}
    for strength in [10 ** (-4 + 8 * step / 9) for step in range(10)]:
        parts = []
        for fold in range(5):
            asked = [place for place in range(len(y)) if (len(y) - 1 - place) % 5 == fold]
            told = [place for place in range(len(y)) if place not in set(asked)]
            fit = by_general_optimiser(rows[told], y[told], w[told], strength)
            p = sigmoid(rows[asked] @ fit)
            log = y[asked] * np.log(p) + (1 - y[asked]) * np.log(1 - p)
            parts.append(-(w[asked] * log).mean())
        losses[strength] = sum(parts) / 5
    best = min(losses, key=lambda strength: losses[strength])
    fit = by_general_optimiser(rows, y, w, best)
    assert found.strength == pytest.approx(best)
    assert [found.model, found.length, found.difficulty] == pytest.approx(list(fit), abs=1e-3)
    assert found.win_rate == pytest.approx(float(sigmoid(fit[0] + fit[2] * hard).mean()), abs=1e-4)


def test_verdicts_on_gamed_models_hold_the_length_coefficient() -> None:
    """All answers are longer: without them nothing says what length is worth."""
    rng = np.random.default_rng(4)
    difference = -rng.normal(900, 20, 400)
    wins = (rng.random(400) < 0.8).astype(float)
    apart = np.linspace(-2, 2, 300)
    even = sigmoid(-3 * np.tanh(apart))
    hard = np.zeros(400)
    gamed = Gamed(even, apart, np.zeros(300), {})
    assert published(wins, difference, hard, gamed).win_rate < published(wins, difference).win_rate


def test_equal_lengths_leave_the_win_rate_as_it_is() -> None:
    wins = np.array([1.0] * 60 + [0.0] * 40)
    fit = joint(wins[None], np.zeros((1, 100)), 300.0)
    assert fit.win_rates[0].value == pytest.approx(0.6, abs=1e-3)
    assert fit.lengths == [pytest.approx(0.0, abs=1e-9)]
    assert published(wins, np.zeros(100)).win_rate == pytest.approx(0.6, abs=0.02)


def many(models: int, n: int, seed: int, spread: float) -> tuple[Any, Any, Any]:
    """(wins, characters longer, true rates at equal length) [models, n] of one judge."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, spread, n)
    levels = np.linspace(-1, 1, models)
    longer = rng.normal(200, 500, (models, n))
    chance = sigmoid(levels[:, None] + 1.5 * np.tanh(longer / 400) + hard)
    wins = (rng.random((models, n)) < chance).astype(float)
    grid = rng.normal(0, spread, 100_000)
    return wins, longer, np.array([sigmoid(level + grid).mean() for level in levels])


def test_the_joint_fit_is_the_likeliest_given_its_spread() -> None:
    wins, longer, _ = many(3, 80, seed=5, spread=1.0)
    wins[1, 4] = np.nan
    fit = joint(wins, longer, 400.0)
    spread = fit.spread or 1e-6
    t = np.tanh(longer / 400)
    there = ~np.isnan(wins)

    def cost(free: Any) -> tuple[float, Any]:
        level, slope, hard = free[:3], free[3:6], free[6:]
        odds = level[:, None] + slope[:, None] * t + hard
        gap = np.where(there, sigmoid(odds) - np.nan_to_num(wins), 0.0)
        loss = np.where(there, np.logaddexp(0, odds) - np.nan_to_num(wins) * odds, 0.0).sum()
        loss += (hard @ hard) / (2 * spread**2) + 0.005 * (level @ level + slope @ slope)
        slopes = (gap * t).sum(1) + 0.01 * slope
        pulls = gap.sum(0) + hard / spread**2
        return loss, np.concatenate([gap.sum(1) + 0.01 * level, slopes, pulls])

    options = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 5000}
    free = minimize(cost, np.zeros(86), jac=True, method="L-BFGS-B", options=options).x
    assert fit.spread > 0
    assert fit.lengths == pytest.approx(list(free[3:6]), abs=1e-4)
    for model, estimate in enumerate(fit.win_rates):
        rate = sigmoid(free[model] + free[6:]).mean()
        assert estimate.value == pytest.approx(float(rate), abs=1e-5)
    assert [estimate.n for estimate in fit.win_rates] == [80, 79, 80]


def test_the_interval_is_as_wide_as_resampling_instructions_says() -> None:
    wins, longer, _ = many(3, 250, seed=6, spread=1.0)
    fit = joint(wins, longer, 400.0)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(60):
        picked = rng.integers(0, 250, 250)
        again = joint(wins[:, picked], longer[:, picked], 400.0)
        drawn.append([estimate.value for estimate in again.win_rates])
    for estimate, error in zip(fit.win_rates, np.std(drawn, axis=0, ddof=1), strict=True):
        assert (estimate.high - estimate.low) / 3.92 == pytest.approx(error, rel=0.3)


def test_intervals_hold_the_truth() -> None:
    held = 0
    for seed in range(40):
        wins, longer, truth = many(3, 300, seed=100 + seed, spread=1.0)
        rates = joint(wins, longer, 400.0).win_rates
        held += sum(e.low <= t <= e.high for e, t in zip(rates, truth, strict=True))
    assert held >= 106  # of 120; 114 are expected, and fewer than 106 in 1 of 500


def test_a_model_that_always_wins_keeps_its_rate() -> None:
    wins, longer, _ = many(2, 100, seed=7, spread=0.5)
    wins[1] = 1.0
    always = joint(wins, longer, 400.0).win_rates[1]
    assert always.value == 1.0
    assert 0.9 < always.low < 1.0
    alone = joint(wins[1:], longer[1:], 400.0)
    assert alone.win_rates == [always]


def test_gamed_verdicts_are_read(tmp_path: Path) -> None:
    path = tmp_path / "df_gamed.csv"
    path.write_text(
        "model,index,instruction_difficulty,preference,std_delta_len,not_gamed_baseline\n"
        "verbose,0,0.5,0.9,-1.5,False\nverbose,1,-0.25,0.1,0.5,False\nbrief,0,0.5,0.2,1.0,False\n"
    )
    found = read_gamed(path)
    assert found.of_row == {0: 0.5, 1: -0.25}
    assert found.preference.tolist() == [0.9, 0.1, 0.2]
    assert found.difference.tolist() == [-1.5, 0.5, 1.0]
    path.write_text("index,preference\n0,1\n")
    with pytest.raises(UserError, match=r"df_gamed.csv:1: field 'instruction_difficulty'"):
        read_gamed(path)
    path.write_text("index,instruction_difficulty,preference,std_delta_len\n0,1,x,2\n")
    with pytest.raises(UserError, match=r"df_gamed.csv:2: holds something that is no number"):
        read_gamed(path)


LEADERBOARD = {
    "text_davinci_001": 20.57118821914347,
    "alpaca-7b": 26.29495433067113,
    "vicuna-13b": 50.00294675412896,
    "tulu-2-dpo-7b": 77.85355333126851,
    "gpt4": 86.51018625518144,
    "phi-2-sft": 44.73886185749778,
}


@pytest.mark.real_data
def test_the_published_fit_on_stand_ins_for_its_inputs(real_data: Path) -> None:
    """Difficulty from our joint fit, and made-up verdicts on gamed models whose length coefficient
    is the published one of theirs (-1.6, difficulty 0.8): within 3 points of the leaderboard."""
    wins, sizes = [], []
    for model in LEADERBOARD:
        folder = real_data / "eval" / "alpaca_eval" / "results" / model / "alpaca_eval_gpt4"
        rows = json.loads((folder / "annotations.json").read_text())
        said = [row["preference"] for row in rows]
        wins.append([math.nan if p is None else 0.5 if p == 0 else p - 1 for p in said])
        sizes.append([len(row["output_1"]) - len(row["output_2"]) for row in rows])
    hard = joint(np.array(wins), -np.array(sizes), 380.0).difficulty
    rng = np.random.default_rng(0)
    apart = np.concatenate([rng.normal(-0.3, 1, 805), rng.normal(1, 1, 805)])
    twice = np.concatenate([hard, hard])
    gamed = Gamed(sigmoid(-1.6 * np.tanh(apart) + 0.8 * twice), apart, twice, {})
    for own, size, printed in zip(wins, sizes, LEADERBOARD.values(), strict=True):
        found = published(own, size, hard, gamed)
        assert 100 * found.win_rate == pytest.approx(printed, abs=3)
        assert -3 < found.length < -1.5
