"""Packing: nothing lost, nothing over, little wasted, and quick."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cameleer.chat.render import render
from cameleer.chat.template import template_named
from cameleer.core.errors import UserError
from cameleer.data.pack import fill, pack
from cameleer.data.convert import convert

cases = st.integers(1, 60).flatmap(
    lambda capacity: st.tuples(st.lists(st.integers(0, capacity), max_size=80), st.just(capacity))
)


@settings(deadline=None)
@given(cases)
def test_every_index_once_and_no_pack_over(case: tuple[list[int], int]) -> None:
    lengths, capacity = case
    packs = pack(lengths, capacity)
    assert sorted(index for one in packs for index in one) == list(range(len(lengths)))
    assert all(one and sum(lengths[index] for index in one) <= capacity for one in packs)


@settings(deadline=None)
@given(cases)
def test_best_fit_decreasing_restated(case: tuple[list[int], int]) -> None:
    lengths, capacity = case
    free: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [place for place, left in enumerate(free) if left >= length]
        if fitting:
            best = min(fitting, key=lambda place: free[place])
            free[best] -= length
        else:
            free.append(capacity - length)
    found = [capacity - sum(lengths[index] for index in one) for one in pack(lengths, capacity)]
    assert sorted(found) == sorted(free)


def test_fill() -> None:
    assert fill([[0, 1], [2]], [3, 4, 5], 10) == pytest.approx(0.6)
    assert pack([], 10) == []
    assert fill([], [], 10) == 0.0


@pytest.mark.parametrize("wrong", [11, -1])
def test_a_length_that_cannot_be_packed(wrong: int) -> None:
    with pytest.raises(UserError, match=f"conversation 2 has {wrong} tokens"):
        pack([1, 10, wrong, 12], 10)


def test_a_million_lengths_in_seconds() -> None:
    draw = np.random.default_rng(0)
    lengths = np.minimum(draw.lognormal(5.5, 1.0, 1_000_000).astype(int) + 1, 2048)
    begin = time.perf_counter()
    packs = pack(lengths, 2048)
    assert time.perf_counter() - begin < 20  # about one second on one quiet core
    totals = [int(lengths[one].sum()) for one in packs[:1000]]
    assert max(totals) <= 2048
    assert fill(packs, lengths.tolist(), 2048) > 0.999


@pytest.mark.real_data
@pytest.mark.embedded
@pytest.mark.parametrize("name", ["sharegpt", "stanford_alpaca"])
def test_real_lengths_fill_packs(name: str, real_data: Path, tokenizer: Any) -> None:
    conversations, _ = convert(name, real_data)
    rendered = render(conversations, tokenizer, template_named("tulu"), max_tokens=2048)
    lengths = [len(one.ids) for one in rendered]
    assert len(lengths) > 400
    packs = pack(lengths, 2048)
    assert fill(packs, lengths, 2048) >= 0.98
    assert len(packs) == -(-sum(lengths) // 2048) or fill(packs[:-1], lengths, 2048) >= 0.99
