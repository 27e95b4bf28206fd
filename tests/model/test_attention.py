"""Packed rows and shared prefixes give what each document gives alone, gradients included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from cameleer.model import blocks, kernels, stacks
from cameleer.model.attention import NAME, Documents, Prefix, Segments, positions
from cameleer.model.cache import Cache, Capturing, Decoding, Filling
from cameleer.model.load import load_model
from tests.conftest import FAMILIES

LENGTHS = [
    [1],
    [40],
    [1, 1, 1],
    [12, 12, 12, 12],
    [3, 60, 1, 17, 18, 59, 2],
    [90, 5],
]

Pair = tuple[Any, Any]


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest, tiny_model: Callable[[str], Path]) -> Pair:
    """The same float32 model twice: with our attention, and with transformers' eager one."""
    folder = tiny_model(request.param)
    ours, theirs = (load_model(folder, torch.float32, name) for name in (NAME, "eager"))
    return ours, theirs


def some_ids(count: int) -> Tensor:
    return torch.randint(3, 320, (1, count), generator=torch.Generator().manual_seed(count))


def packed(model: Any, ids: Tensor, lengths: list[int]) -> Tensor:
    at, layout = positions(lengths), Documents(lengths)
    logits: Tensor = model(input_ids=ids, position_ids=at, use_cache=False, layout=layout).logits
    return logits[0]


def alone(model: Any, ids: Tensor, lengths: list[int]) -> Tensor:
    parts = torch.split(ids, lengths, 1)
    return torch.cat([model(input_ids=part, use_cache=False).logits[0] for part in parts])


def gradients(model: Any, logits: Tensor) -> dict[str, Tensor]:
    """Gradients of a sum in which every logit has a weight of its own."""
    model.zero_grad()
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(7))
    torch.autograd.backward((logits * weights).sum())
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


def assert_close(found: Tensor, wanted: Tensor, tolerance: float = 1e-4) -> None:
    """`tolerance` is a share of the largest value there is."""
    assert found.shape == wanted.shape
    furthest, largest = (float(x.detach().abs().max()) for x in (found - wanted, wanted))
    assert furthest <= tolerance * max(largest, 1e-3)


@pytest.mark.parametrize("keep_up_to", [1024, 8])  # 8: weights of the long ones are made twice
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_packed_is_unpacked(
    pair: Pair, lengths: list[int], keep_up_to: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 16)
    monkeypatch.setattr(blocks, "KEEP_UP_TO", keep_up_to)
    ours, theirs = pair
    ids = some_ids(sum(lengths))
    found, wanted = packed(ours, ids, lengths), alone(theirs, ids, lengths)
    assert_close(found, wanted)
    found_gradients, wanted_gradients = gradients(ours, found), gradients(theirs, wanted)
    assert wanted_gradients
    for name, gradient in wanted_gradients.items():
        # A key's bias moves all of a token's scores alike: its gradient is rounding and no more.
        if not name.endswith(("k_proj.bias", "c_attn.bias", "query_key_value.bias")):
            assert_close(found_gradients[name], gradient)


@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=7),
    block=st.sampled_from([128, 16]),
    keep_up_to=st.sampled_from([512, 16]),
    stack_scores=st.sampled_from([1 << 25, 2000]),
)
def test_packed_is_unpacked_for_any_lengths(
    llama: Pair, lengths: list[int], block: int, keep_up_to: int, stack_scores: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK", block)
        patch.setattr(blocks, "KEEP_UP_TO", keep_up_to)
        patch.setattr(stacks, "STACK_SCORES", stack_scores)
        ours, theirs = llama
        ids = some_ids(sum(lengths))
        found, wanted = packed(ours, ids, lengths), alone(theirs, ids, lengths)
        assert_close(found, wanted)
        found_gradients, wanted_gradients = gradients(ours, found), gradients(theirs, wanted)
        for name, gradient in wanted_gradients.items():
            assert_close(found_gradients[name], gradient)


@pytest.fixture(scope="module")
def llama(tiny_model: Callable[[str], Path]) -> Pair:
    folder = tiny_model("llama")
    ours, theirs = (load_model(folder, torch.float32, name) for name in (NAME, "eager"))
    return ours, theirs


def test_a_change_in_one_document_is_not_seen_in_another(pair: Pair) -> None:
    ours, _ = pair
    lengths, ids = [9, 30, 11], some_ids(50)
    before = packed(ours, ids, lengths)
    ids[0, 12] = (ids[0, 12] + 1) % 320
    after = packed(ours, ids, lengths)
    changed = (before != after).any(1).nonzero()[:, 0].tolist()
    assert changed == list(range(12, 39))


@pytest.mark.parametrize("stack_up_to", [512, 4])
@torch.no_grad()
def test_documents_after_a_prefix_are_whole_sequences(
    pair: Pair, stack_up_to: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "STACK_UP_TO", stack_up_to)
    ours, theirs = pair
    lengths, ids = [7, 1, 30, 8], some_ids(20 + 46)
    before = ids[:, :20]
    prefix = captured(ours, before, None)
    assert prefix.tokens == 20
    layout = Documents(lengths, prefix)
    found = ours(
        input_ids=ids[:, 20:], position_ids=positions(lengths, 20), use_cache=False, layout=layout
    ).logits[0]
    wanted = [
        theirs(input_ids=torch.cat([before, own], 1)).logits[0, 20:]
        for own in torch.split(ids[:, 20:], lengths, 1)
    ]
    assert_close(found, torch.cat(wanted))


def captured(model: Any, ids: torch.Tensor, before: Prefix | None) -> Prefix:
    """Keys and values of tokens [1, tokens], after those of `before`."""
    layout = Capturing([([ids.shape[1]], before)])
    at = layout.positions()
    model(input_ids=ids, position_ids=at, use_cache=False, layout=layout)
    [prefix] = layout.captured
    return prefix


@torch.no_grad()
def test_segments_have_prefixes_of_their_own_that_may_be_chains(pair: Pair) -> None:
    ours, theirs = pair
    trunk, left, right = some_ids(20), some_ids(9), some_ids(14).flip(1)
    root = captured(ours, trunk, None)
    layout = Capturing([([9, 14], root)])
    both = torch.cat([left, right], 1)
    ours(input_ids=both, position_ids=layout.positions(), use_cache=False, layout=layout)
    one, two = layout.captured
    assert (one.own, one.tokens, two.tokens) == (9, 29, 34)
    lengths, ids = [6, 3, 11, 2, 8], some_ids(30)
    befores = [None, one, one, two, root]
    segments = Segments([([6], None), ([3, 11], one.joined()), ([2], two), ([8], root)])
    found = ours(
        input_ids=ids, position_ids=segments.positions(), use_cache=False, layout=segments
    ).logits[0]
    texts = {None: [], root: [trunk], one: [trunk, left], two: [trunk, right]}
    wanted = [
        theirs(input_ids=torch.cat([*texts[before], own], 1)).logits[0, -own.shape[1] :]
        for before, own in zip(befores, torch.split(ids, lengths, 1), strict=True)
    ]
    assert_close(found, torch.cat(wanted))


@torch.no_grad()
def test_decoding_token_by_token_is_one_pass(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sequences with shared prefixes of their own, with copied ones and with none."""
    monkeypatch.setattr("cameleer.model.cache.PAGE", 4)  # so that the cache grows on the way
    monkeypatch.setattr("cameleer.model.cache.STEP", 2)
    ours, theirs = pair
    trunk, branch = some_ids(20), some_ids(7).flip(1)
    root = captured(ours, trunk, None)
    leaf = captured(ours, branch, root)
    whole = leaf.joined()
    texts = {None: [], root: [trunk], leaf: [trunk, branch]}
    # Of each: what it comes after, how much of that it shares with others, and its own tokens.
    rows = [(None, None, 6), (root, root, 1), (leaf, root, 9), (leaf, whole, 15), (root, None, 3)]
    own = [some_ids(length) for _, _, length in rows]
    past = [before.tokens if before else 0 for before, _, _ in rows]
    kept = [past[n] - (shared.tokens if shared else 0) for n, (_, shared, _) in enumerate(rows)]
    cache = Cache(2)
    order = [0, 1, 3, 2, 2, 4]  # as who comes later than others will stand in the end
    for part in ([0, 1, 2, 3], [4]):  # prompts come in two passes
        cache.add([kept[n] + rows[n][2] for n in part], [rows[n][1] for n in part])
        layout = Filling([([rows[n][2]], rows[n][0]) for n in part], cache, part[0])
        ids = torch.cat([own[n] for n in part], 1)
        ours(input_ids=ids, position_ids=layout.positions(), use_cache=False, layout=layout)
    cache.select(order)
    steps = 12
    new = some_ids(steps * len(order)).view(len(order), steps)
    found = []
    for step in range(steps):
        decoding = Decoding(cache, torch.device("cpu"))
        row, at = new[:, step][None], decoding.positions()
        logits = ours(input_ids=row, position_ids=at, use_cache=False, layout=decoding).logits[0]
        found.append(logits)
        cache.lengths += 1
    for place, which in enumerate(order):
        parts = [*texts[rows[which][0]], own[which], new[place][None]]
        wanted = theirs(input_ids=torch.cat(parts, 1)).logits[0, -steps:]
        assert_close(torch.stack(found)[:, place], wanted)
