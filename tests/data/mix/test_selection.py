"""Amounts, weights, repeats and caps: what they promise, for any sizes."""

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.core.errors import UserError
from cameleer.data.mix.config import MixConfig, Part
from cameleer.data.mix.selection import Selection

Sizes = dict[str, list[int]]
"""Supervised tokens of each conversation of each part."""


def select(sizes: Sizes, **fields: Any) -> dict[str, list[int]]:
    """What a mixture of these parts takes of each, as places in the part."""
    tokens = np.array([n for one in sizes.values() for n in one], dtype=np.int64)
    pools, first = {}, 0
    for path, one in sizes.items():
        pools[path] = np.arange(first, first + len(one), dtype=np.int64)
        first += len(one)
    taken = Selection(pools, tokens).mixture(MixConfig(name="m", **fields)).tolist()
    return {
        path: [place - int(pool[0]) for place in taken if pool[0] <= place <= pool[-1]]
        for path, pool in pools.items()
    }


def parts(**amounts: dict[str, Any]) -> list[Part]:
    return [Part(source=name, **amount) for name, amount in amounts.items()]


def even(n: int, tokens: int = 1) -> list[int]:
    return [tokens] * n


def test_all_in_order_without_an_amount() -> None:
    assert select({"a": even(5), "b": even(2)}, parts=parts(a={}, b={})) == {
        "a": [0, 1, 2, 3, 4],
        "b": [0, 1],
    }


def test_a_sample_is_the_seeds_and_the_names_alone() -> None:
    """Restated: `count` of random.sample by the text `<seed>/<name>`, in the part's order."""
    expected = sorted(random.Random("5/a").sample(range(100), 10))
    one = select({"a": even(100)}, seed=5, parts=parts(a={"count": 10}))
    two = select(
        {"b": even(9), "a": even(100)}, seed=5, parts=parts(b={"fraction": 0.3}, a={"count": 10})
    )
    assert one["a"] == two["a"] == expected
    own = select({"a": even(100)}, seed=5, parts=parts(a={"count": 10, "seed": 6}))
    assert own["a"] == sorted(random.Random("6").sample(range(100), 10))


def test_repeats() -> None:
    taken = select({"a": even(4)}, parts=parts(a={"repeat": 3}))["a"]
    assert Counter(taken) == dict.fromkeys(range(4), 3)
    some = select({"a": even(40)}, parts=parts(a={"count": 7, "repeat": 2}))["a"]
    assert sorted(Counter(some).values()) == [2] * 7


weights = st.floats(0.01, 100, allow_nan=False)


@given(
    st.lists(st.tuples(st.integers(1, 30), weights), min_size=1, max_size=4), st.integers(1, 200)
)
def test_weights_by_examples(shape: list[tuple[int, float]], total: int) -> None:
    names = [f"p{index}" for index in range(len(shape))]
    whole = sum(weight for _, weight in shape)
    wanted = {name: total * weight / whole for name, (_, weight) in zip(names, shape, strict=True)}
    sizes = {name: even(n) for name, (n, _) in zip(names, shape, strict=True)}
    given_parts = [Part(source=name, weight=w) for name, (_, w) in zip(names, shape, strict=True)]
    if min(wanted.values()) < 0.49:
        with pytest.raises(UserError, match="gives it no conversation"):
            select(sizes, total=total, parts=given_parts)
        return
    if min(wanted.values()) < 0.51:
        return
    taken = select(sizes, total=total, parts=given_parts)
    for name, own in taken.items():
        assert abs(len(own) - wanted[name]) <= 0.5 + 1e-6
        times = Counter(own)
        # No conversation comes again before all others have come as often.
        assert max(times.values()) - min(times.get(n, 0) for n in range(len(sizes[name]))) <= 1


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=30),
    st.lists(st.integers(1, 50), min_size=1, max_size=30),
    st.integers(400, 3000),
)
def test_weights_by_tokens(a: list[int], b: list[int], total: int) -> None:
    taken = select(
        {"a": a, "b": b},
        weigh="tokens",
        total=total,
        tokenizer="x",
        parts=parts(a={"weight": 1}, b={"weight": 3}),
    )
    for name, sizes, share in (("a", a, 0.25), ("b", b, 0.75)):
        tokens = sum(sizes[place] for place in taken[name])
        assert abs(tokens - share * total) <= max(sizes) / 2  # no nearer in whole conversations


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=30), st.integers(1, 60), st.integers(40, 400)
)
def test_caps_hold(sizes: list[int], most: int, tokens: int) -> None:
    part = {"repeat": 2, "max_count": most, "max_tokens": tokens}
    own = select({"a": sizes, "b": [1]}, tokenizer="x", parts=parts(a=part, b={}))["a"]
    assert len(own) <= most
    assert sum(sizes[place] for place in own) <= tokens
    if 2 in Counter(own).values():
        assert set(own) == set(range(len(sizes)))


def test_a_cap_under_every_conversation() -> None:
    with pytest.raises(UserError, match="cap of part 'a' is under") as caught:
        select({"a": even(3, 9)}, tokenizer="x", parts=parts(a={"max_tokens": 8}))
    assert caught.value.field == "parts.0.max_tokens"


def test_without_a_total_nothing_is_repeated() -> None:
    sizes = {"a": even(10), "b": even(100)}
    taken = select(sizes, parts=parts(a={"weight": 1}, b={"weight": 4}))
    assert {name: len(own) for name, own in taken.items()} == {"a": 10, "b": 40}
    capped = select(sizes, parts=parts(a={"weight": 1, "max_count": 5}, b={"weight": 4}))
    assert {name: len(own) for name, own in capped.items()} == {"a": 5, "b": 20}


def nest(name: str, **fields: Any) -> MixConfig:
    return MixConfig(name=name, **fields)


def test_weights_multiply_down_the_tree() -> None:
    inner = nest("i", parts=parts(b={"weight": 1}, c={"weight": 3}))
    tree = [Part(source="a", weight=1), Part(mix=inner, weight=1)]
    sizes = {"a": even(100), "i/b": even(10), "i/c": even(100)}
    taken = select(sizes, total=160, parts=tree)
    assert {name: len(own) for name, own in taken.items()} == {"a": 80, "i/b": 20, "i/c": 60}
    alone = select(sizes, parts=tree)  # as much as there is without repeating b: 10, 30, 40
    assert {name: len(own) for name, own in alone.items()} == {"a": 40, "i/b": 10, "i/c": 30}


def test_a_mixture_with_a_total_or_without_weights_is_a_pool() -> None:
    plain = nest("i", parts=parts(b={}, c={}))
    sizes = {"a": even(100), "i/b": even(10), "i/c": even(30)}
    taken = select(sizes, total=40, parts=[Part(source="a", weight=1), Part(mix=plain, weight=1)])
    assert len(taken["a"]) == len(taken["i/b"]) + len(taken["i/c"]) == 20
    sized = nest("i", total=8, parts=parts(b={"weight": 1}, c={"weight": 1}))
    taken = select(sizes, total=40, parts=[Part(source="a", weight=1), Part(mix=sized, weight=1)])
    assert (len(taken["i/b"]) + len(taken["i/c"]), len(set(taken["i/b"]))) == (20, 4)
    counted = select(sizes, parts=[Part(mix=plain, count=15)])
    assert len(counted["i/b"]) + len(counted["i/c"]) == 15


def test_seeds_come_down_unless_stated() -> None:
    def own(outer: int, inner: int | None) -> list[int]:
        below = nest("i", seed=inner, parts=parts(a={"count": 10}))
        return select({"i/a": even(200)}, seed=outer, parts=[Part(mix=below)])["i/a"]

    assert own(1, None) == sorted(random.Random("1/i/a").sample(range(200), 10))
    assert own(1, 9) == own(2, 9) == sorted(random.Random("9/a").sample(range(200), 10))


def test_units_must_agree() -> None:
    inner = nest("i", weigh="tokens", parts=parts(b={"weight": 1}))
    with pytest.raises(UserError, match="'i' weighs by tokens inside one that weighs by examples"):
        select({"i/b": even(3)}, tokenizer="x", parts=[Part(mix=inner, weight=1)])


def test_a_part_without_supervised_tokens() -> None:
    with pytest.raises(UserError, match="part 'a' has no supervised token"):
        select(
            {"a": even(3, 0)}, weigh="tokens", total=5, tokenizer="x", parts=parts(a={"weight": 1})
        )


def test_mistakes_name_the_part_and_its_field() -> None:
    inner = nest("i", parts=parts(b={}, c={"count": 9}))
    with pytest.raises(UserError, match=r"9 of 'i/c' are asked for, it gives 3") as caught:
        select({"i/b": even(1), "i/c": even(3)}, parts=[Part(mix=inner)])
    assert caught.value.field == "parts.0.mix.parts.1.count"
