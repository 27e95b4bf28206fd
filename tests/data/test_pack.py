"""Packing: nothing lost, nothing over, little wasted, and quick."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cameleer.chat.render import render
from cameleer.chat.template import template_named
from cameleer.core.errors import UserError
from cameleer.data.convert import convert
from cameleer.data.loader import epoch_rows, epoch_steps, micro_batches
from cameleer.data.pack import fill, pack
from cameleer.model.load import load_tokenizer

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
def test_long_items_clog_nothing(case: tuple[list[int], int]) -> None:
    """No two packs would go into one, whatever the lengths: less than half is ever wasted."""
    lengths, capacity = case
    packs = pack(lengths, capacity)
    used = sorted(sum(lengths[index] for index in one) for one in packs)
    assert len(used) < 2 or used[0] + used[1] > capacity


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


@pytest.fixture(scope="module")
def real_lengths(real_data: Path, embedded_model: Path) -> dict[str, list[int]]:
    """Tokens of each conversation of two real sources, cut at 2,048."""
    found, tokenizer = {}, load_tokenizer(str(embedded_model))
    for name in ("sharegpt", "stanford_alpaca"):
        conversations, _ = convert(name, real_data)
        rendered = render(conversations, tokenizer, template_named("tulu"), max_tokens=2048)
        found[name] = [len(one.ids) for one in rendered]
        assert len(found[name]) > 400
    return found


@pytest.mark.real_data
@pytest.mark.embedded
@pytest.mark.parametrize("mix", ["sharegpt", "stanford_alpaca", "sharegpt stanford_alpaca"])
def test_real_lengths_fill_packs(mix: str, real_lengths: dict[str, list[int]]) -> None:
    lengths = [length for name in mix.split() for length in real_lengths[name]]
    packs = pack(lengths, 2048)
    print(f"{mix}: {len(lengths)} conversations in {len(packs)} rows of 2,048,", end=" ")
    print(f"{fill(packs, lengths, 2048):.2%} full")
    assert fill(packs, lengths, 2048) >= 0.98
    assert len(packs) <= -(-sum(lengths) // 2048) * 1.01 + 1  # the least there can be is without


@pytest.mark.real_data
@pytest.mark.embedded
@pytest.mark.parametrize("ranks", [2, 8])
def test_real_rows_are_shared_equally(ranks: int, real_lengths: dict[str, list[int]]) -> None:
    lengths = [length for own in real_lengths.values() for length in own]
    rows = epoch_rows(lengths, 2048, seed=1, epoch=0)
    apart = {"tokens": 0.0, "attention": 0.0}
    steps = list(epoch_steps(rows, 4 * ranks))[:-1]
    for step in steps:
        for what, power in (("tokens", 1), ("attention", 2)):
            shares = [
                sum(lengths[index] ** power for batch in own for row in batch for index in row)
                for own in micro_batches(step, lengths, 4, ranks)
            ]
            apart[what] += (max(shares) * ranks / sum(shares) - 1) / len(steps)
    print(f"{ranks} ranks, 4 rows each: the busiest has", end=" ")
    print(", ".join(f"{share:.2%} more {what}" for what, share in apart.items()), "than the mean")
    assert apart["tokens"] < 0.005
    assert apart["attention"] < 0.15
