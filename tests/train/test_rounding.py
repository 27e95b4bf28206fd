"""Rounding by chance: right on average, exact where nothing is lost, told by the seed alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cameleer.train.rounding import stochastically_rounded


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def neighbours(number: float) -> tuple[float, float]:
    """The bf16 numbers around a float32 one, the nearer to 0 first, told from its bits by numpy."""
    bits = int(np.float32(number).view(np.uint32)) & 0xFFFF0000
    made = np.array([bits, bits + 0x10000], dtype=np.uint64).astype(np.uint32).view(np.float32)
    return float(made[0]), float(made[1])


@given(st.floats(-(2.0**99), 2.0**99, width=32), st.integers(0, 2**20))
def test_one_of_the_two_neighbours(number: float, seed: int) -> None:
    low, high = neighbours(number)
    found = stochastically_rounded(torch.full((64,), number), draw(seed))
    assert found.dtype == torch.bfloat16
    exact = float(np.float32(number)) == low
    assert set(found.float().tolist()) <= ({low} if exact else {low, high})


@pytest.mark.parametrize("number", [1.001, -1.001, 3e-39, -7.3e-5, 123.456, 1 + 2**-16, 2 - 2**-10])
def test_right_on_average(number: float) -> None:
    """Of 200,000 draws the mean is within five standard errors; to the nearest it is not."""
    count = 200_000
    low, high = neighbours(number)
    numbers = torch.full((count,), number)
    mean = stochastically_rounded(numbers, draw()).double().mean().item()
    exact = float(np.float32(number))
    up = (exact - low) / (high - low)
    error = abs(high - low) * math.sqrt(up * (1 - up) / count)
    assert abs(mean - exact) < 5 * error
    assert abs(float(numbers[0].bfloat16()) - exact) > 5 * error


def test_small_updates_add_up_and_to_the_nearest_are_lost() -> None:
    """1,000 updates of 2e-5 to weights of 1, whose next bf16 numbers are 1/256 and 1/128 away."""
    chance = nearest = torch.ones(4096, dtype=torch.bfloat16)
    generator = draw()
    for _ in range(1000):
        chance = stochastically_rounded(chance.float() - 2e-5, generator)
        nearest = (nearest.float() - 2e-5).bfloat16()
    assert torch.equal(nearest, torch.ones_like(nearest))
    assert chance.double().mean().item() == pytest.approx(1 - 0.02, abs=5e-4)


def test_the_same_seed_gives_the_same_bits() -> None:
    numbers = torch.randn(1000, generator=draw(7))
    assert torch.equal(
        stochastically_rounded(numbers, draw(1)), stochastically_rounded(numbers, draw(1))
    )
    assert not torch.equal(
        stochastically_rounded(numbers, draw(1)), stochastically_rounded(numbers, draw(2))
    )


def test_infinities_and_zeros_stay() -> None:
    special = torch.tensor([math.inf, -math.inf, 0.0, -0.0])
    assert stochastically_rounded(special, draw()).float().tolist() == special.tolist()
