"""Two lanes work at once, on halves as equal as can be, and only where they may."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cameleer.model.attention import NAME
from cameleer.train.lanes import Lanes, draws, halves


def model(**more: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        attn_implementation=NAME,
        **more,
    )
    return LlamaForCausalLM(config).train()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=9))
def test_halves_are_as_equal_as_can_be(lengths: list[int]) -> None:
    first, second = halves(lengths)
    assert sorted(first + second) == list(range(len(lengths)))
    assert first == sorted(first)
    assert second == sorted(second)
    apart = abs(sum(lengths[p] for p in first) - sum(lengths[p] for p in second))
    signs = itertools.product((1, -1), repeat=len(lengths))
    least = min(abs(sum(s * n for s, n in zip(one, lengths, strict=True))) for one in signs)
    assert apart == least


def test_draws_are_noticed() -> None:
    assert not draws(model())
    assert draws(model(attention_dropout=0.1))
    assert not draws(model(attention_dropout=0.1).eval())


@pytest.fixture
def two_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_two_lanes_only_where_they_pay(two_threads: None) -> None:
    lanes = Lanes(model())
    assert lanes.parts([10, 10, 4]) == [[1, 2], [0]]
    assert lanes.parts([24]) == [[0]]
    assert lanes.parts([90, 10]) == [[0, 1]]
    assert Lanes(model(attention_dropout=0.1)).parts([10, 10]) == [[0, 1]]
    torch.set_num_threads(1)
    assert Lanes(model()).parts([10, 10]) == [[0, 1]]


def test_both_work_at_once_and_threads_are_given_back(two_threads: None) -> None:
    import threading

    meet = threading.Barrier(2, timeout=20)

    def work(part: int) -> tuple[int, int]:
        meet.wait()
        return part, torch.get_num_threads()

    assert Lanes(model()).each(work, [5, 6]) == [(5, 1), (6, 1)]
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("bad", [0, 1])
def test_an_error_of_either_is_raised_once_both_have_ended(two_threads: None, bad: int) -> None:
    ended = []

    def work(part: int) -> None:
        ended.append(part)
        if part == bad:
            raise ValueError(f"part {part}")

    with pytest.raises(ValueError, match=f"part {bad}"):
        Lanes(model()).each(work, [0, 1])
    assert sorted(ended) == [0, 1]
    assert torch.get_num_threads() == 2


def test_gradients_are_those_of_one_lane_and_the_same_bits_every_time(two_threads: None) -> None:
    from cameleer.model.attention import Documents, positions
    from cameleer.train.loss import head_in_chunks, supervised_loss

    one = model()
    assert head_in_chunks(one)
    lengths, draw = [40, 24, 16, 48], torch.Generator().manual_seed(1)
    documents = [torch.randint(64, (length,), generator=draw) for length in lengths]

    def learn(places: list[int]) -> float:
        own = [lengths[place] for place in places]
        ids = torch.cat([documents[place] for place in places])[None]
        learned = torch.cat([torch.arange(length) >= length // 3 for length in own])
        weights = torch.full((int(learned.sum()),), 0.01)
        loss, _ = supervised_loss(one, ids, positions(own), learned, weights, Documents(own))
        torch.autograd.backward(loss)
        return loss.item()

    def gradients(parts: list[list[int]]) -> tuple[float, list[torch.Tensor]]:
        loss = sum(Lanes(one).each(learn, parts))
        found = [weight.grad for weight in one.parameters()]
        one.zero_grad()
        return loss, [gradient for gradient in found if gradient is not None]

    alone, whole = gradients([[0, 1, 2, 3]])
    both = Lanes(one).parts(lengths)
    assert sorted(map(len, both)) == [2, 2]
    first, halved = gradients(both)
    assert first == pytest.approx(alone, rel=1e-6)
    for mine, theirs in zip(halved, whole, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-7)
    for _ in range(20):
        again, repeated = gradients(both)
        assert again == first
        assert all(torch.equal(x, y) for x, y in zip(repeated, halved, strict=True))
