"""Rounding by chance: right on average, exact where nothing is lost; key and place decide alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cameleer.train import rounding
from cameleer.train.rounding import stochastically_rounded


def neighbours(number: float) -> tuple[float, float]:
    """The bf16 numbers around a float32 one, the nearer to 0 first, told from its bits by numpy."""
    bits = int(np.float32(number).view(np.uint32)) & 0xFFFF0000
    made = np.array([bits, bits + 0x10000], dtype=np.uint64).astype(np.uint32).view(np.float32)
    return float(made[0]), float(made[1])


@given(st.floats(-(2.0**99), 2.0**99, width=32), st.integers(0, 2**20))
def test_one_of_the_two_neighbours(number: float, seed: int) -> None:
    low, high = neighbours(number)
    found = stochastically_rounded(torch.full((64,), number), str(seed))
    assert found.dtype == torch.bfloat16
    exact = float(np.float32(number)) == low
    assert set(found.float().tolist()) <= ({low} if exact else {low, high})


@pytest.mark.parametrize("number", [1.001, -1.001, 3e-39, -7.3e-5, 123.456, 1 + 2**-16, 2 - 2**-10])
def test_right_on_average(number: float) -> None:
    """Of 200,000 draws the mean is within five standard errors; to the nearest it is not."""
    count = 200_000
    low, high = neighbours(number)
    numbers = torch.full((count,), number)
    mean = stochastically_rounded(numbers, "").double().mean().item()
    exact = float(np.float32(number))
    up = (exact - low) / (high - low)
    error = abs(high - low) * math.sqrt(up * (1 - up) / count)
    assert abs(mean - exact) < 5 * error
    assert abs(float(numbers[0].bfloat16()) - exact) > 5 * error


def test_small_updates_add_up_and_to_the_nearest_are_lost() -> None:
    """1,000 updates of 2e-5 to weights of 1, whose next bf16 numbers are 1/256 and 1/128 away."""
    chance = nearest = torch.ones(4096, dtype=torch.bfloat16)
    for step in range(1000):
        chance = stochastically_rounded(chance.float() - 2e-5, str(step))
        nearest = (nearest.float() - 2e-5).bfloat16()
    assert torch.equal(nearest, torch.ones_like(nearest))
    assert chance.double().mean().item() == pytest.approx(1 - 0.02, abs=5e-4)


def test_the_key_and_the_place_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is cut, on as many ranks or in as many pieces."""
    numbers = torch.randn(1000, generator=torch.Generator().manual_seed(7))
    all_at_once = stochastically_rounded(numbers, "1", 5)
    assert not torch.equal(all_at_once, stochastically_rounded(numbers, "2", 5))
    assert not torch.equal(all_at_once, stochastically_rounded(numbers, "1", 6))
    for size in (1, 7, 999):
        parts = [stochastically_rounded(numbers[:size], "1", 5)]
        parts += [stochastically_rounded(numbers[size:], "1", 5 + size)]
        assert torch.equal(torch.cat(parts), all_at_once)
    monkeypatch.setitem(rounding.PIECE, "cpu", 64)
    assert torch.equal(stochastically_rounded(numbers.view(8, 125), "1", 5).flatten(), all_at_once)
    far = 2**31 - 500  # of a weight with more numbers than 32 bits tell apart
    assert stochastically_rounded(numbers, "1", far).isfinite().all()


def drawn(key: str, first: int, count: int) -> np.ndarray:
    """What so many numbers draw, each 0 to 65535."""
    return rounding._drawn(count, key, first, torch.device("cpu")).numpy()


def test_draws_are_even_and_tell_nothing_of_each_other() -> None:
    """Neighbours, the same place under the next keys, and every bit of a draw."""
    count = 1 << 18
    found = drawn("1 1 w", 0, count)
    assert found.min() >= 0
    assert found.max() < 1 << 16
    counts = np.bincount(found >> 8, minlength=256)
    chi = float(((counts - count / 256) ** 2 / (count / 256)).sum())
    assert abs(chi - 255) < 5 * math.sqrt(2 * 255)
    others = [drawn("1 1 w", 1, count), drawn("1 1 w", 4096, count), drawn("1 2 w", 0, count)]
    others += [drawn("1 1 v", 0, count), drawn("2 1 w", 0, count)]
    for other in others:
        assert abs(np.corrcoef(found, other)[0, 1]) < 5 / math.sqrt(count)
    bits = (found[:, None] >> np.arange(16)) & 1
    assert abs(bits.mean(0) - 0.5).max() < 5 * 0.5 / math.sqrt(count)
    together = np.corrcoef(np.concatenate([bits[:-1], bits[1:]], 1).T) - np.eye(32)
    assert abs(together).max() < 6 / math.sqrt(count)


def test_infinities_and_zeros_stay() -> None:
    special = torch.tensor([math.inf, -math.inf, 0.0, -0.0])
    assert stochastically_rounded(special, "").float().tolist() == special.tolist()
