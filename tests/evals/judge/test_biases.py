"""What sways a judge, counted by hand, fitted by scipy, and as AlpacaEval counts it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as oracle

from cameleer.evals.judge.biases import (
    Texts,
    both_orders,
    by_length,
    doubling,
    first_shown,
    lists,
    lists_as_published,
    longer,
    prefers,
    repeats,
    verdicts,
)
from cameleer.results.records import Judgement


def said(
    item: str, preference: float | None, b_first: bool | None = None, a: str = "a", b: str = "b"
) -> Judgement:
    return Judgement(item, a, b, preference, "j", "judge", b_first=b_first)


def test_the_first_shown_wins() -> None:
    """Shown first: a, a, b, b; won: a, b, b, neither; that is 1, 0, 1 and a half."""
    given = [said("1", 1, False), said("2", 2, False), said("3", 2, True), said("4", 1.5, True)]
    found = first_shown(verdicts([*given, said("5", 2), said("6", None, True)]))
    assert found is not None
    assert (found.value, found.n) == (0.625, 4)
    assert first_shown(verdicts([said("1", 2)])) is None


def test_names_in_another_order_are_the_same_verdict() -> None:
    straight = verdicts([said("1", 1.25, True)])
    turned = verdicts([said("1", 1.75, False, a="b", b="a")])
    assert straight == turned
    assert straight[0].share == 0.25
    assert straight[0].second_first is True


def test_turning_the_order() -> None:
    """Of five pairs one keeps its winner, one is for the first shown, two for the second, and one
    is a draw in one order only."""
    rounds = {"keeps": (1, 1), "first": (1, 2), "second": (2, 1), "again": (2, 1), "draw": (1.5, 2)}
    given = [
        said(item, preference, b_first)
        for item, both in rounds.items()
        for preference, b_first in zip(both, (False, True), strict=True)
    ]
    found = both_orders(verdicts(given))
    assert found is not None
    shares = [one.value for one in (found.flips, found.to_first, found.to_second, found.same)]
    assert shares == pytest.approx([0.6, 0.2, 0.4, 0.2])
    assert found.flips.n == 5
    assert both_orders(verdicts(given[::2])) is None


def test_saying_the_same_twice() -> None:
    """Three verdicts on one agree in one of three pairs, two on another in their only one; other
    orders and other models are no repeats."""
    given = [
        said("1", 1, True),
        said("1", 1, True),
        said("1", 2, True),
        said("2", 1.9),
        said("2", 2),
    ]
    found = repeats(
        verdicts([*given, said("3", 1, True), said("3", 1, False), said("3", 1, b="c")])
    )
    assert found is not None
    assert found.value == pytest.approx((1 / 3 + 1) / 2)
    assert found.n == 2
    assert repeats(verdicts(given[3:4])) is None
    assert repeats(verdicts([given[3], replace(given[4], who="another")])) is None


def texts_of(*pairs: tuple[str, str]) -> Texts:
    return {(str(number), "a", "b"): pair for number, pair in enumerate(pairs)}


def test_longer_is_by_more_than_thirty_characters() -> None:
    found = longer(texts_of(("", "x" * 31), ("", "x" * 30), ("x" * 50, "x"), ("x", "x")))
    assert list(found.values()) == [1, 0, -1, 0]


@pytest.mark.parametrize(
    ("text", "markdown", "published"),
    [
        ("Two things:\n- one\n- two", True, True),
        ("1. one\n2) two", True, True),
        ("  * one\n  • two", True, True),
        ("- only one", False, True),
        ("A sentence. And another.", False, True),  # a letter and a full stop before a word
        ("well-known", False, True),
        ("No list here", False, False),
        ("3.5 is no item\n4.5 neither", False, True),
        ("**bold**\n**again**", False, True),
        ("", False, False),
    ],
)
def test_what_a_list_is(text: str, markdown: bool, published: bool) -> None:
    assert list(lists(texts_of(("none", text))).values()) == [int(markdown)]
    assert list(lists_as_published(texts_of(("none", text))).values()) == [int(published)]


def test_preferring_longer_counts_as_alpaca_eval_does() -> None:
    """Draws, near lengths and unknown texts are left out: two of three."""
    long = "x" * 99
    texts = texts_of(("", long), (long, ""), ("", long), ("", "x"), ("", long))
    given = [said("0", 2), said("1", 1), said("2", 1), said("3", 2), said("4", 1.5), said("5", 2)]
    found = prefers(verdicts(given), longer(texts))
    assert found is not None
    assert found.value == pytest.approx(2 / 3)
    assert found.n == 3
    assert prefers(verdicts(given), {}) is None


def drawn(seed: int, slope: float, n: int = 400) -> tuple[list[Judgement], Texts]:
    """Verdicts on two pairs of models, the second of which is the better, and two per item."""
    rng = np.random.default_rng(seed)
    given, texts = [], {}
    for number in range(n):
        for b, lift in (("b", 0.0), ("c", 1.0)):
            size = rng.integers(10, 2000, 2)
            odds = lift + slope * math.log2(size[1] / size[0])
            won = rng.random() < 1 / (1 + math.exp(-odds))
            given.append(said(str(number), 1.0 + won, b=b))
            texts[str(number), "a", b] = ("x" * int(size[0]), "x" * int(size[1]))
    return given, texts


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_odds_of_twice_as_long_are_the_likeliest(slope: float) -> None:
    """The likelihood's maximum by scipy, and the sandwich from numerical derivatives of it."""
    given, texts = drawn(1, slope)
    found = doubling(verdicts(given), texts)
    assert found is not None
    assert found.n == 800
    sizes = np.array([[len(text) for text in texts[one.item, one.a, one.b]] for one in given])
    ratio = np.log2(sizes[:, 1] / sizes[:, 0])
    is_c = np.array([one.b == "c" for one in given])
    wins = np.array([one.preference == 2 for one in given])
    item = np.array([int(one.item) for one in given])

    def losses(at: Any) -> Any:
        odds = at[0] * ratio + np.where(is_c, at[2], at[1])
        return np.logaddexp(0, np.where(wins, -odds, odds))

    best = optimize.minimize(lambda at: losses(at).sum(), np.zeros(3), tol=1e-12).x
    assert math.log(found.odds) == pytest.approx(best[0], abs=1e-4)
    step = 1e-4 * np.eye(3)
    slopes = np.array([(losses(best + one) - losses(best - one)) / 2e-4 for one in step])
    bend = np.array(
        [
            [
                (losses(best + u + v) - losses(best + u - v) - losses(best - u + v)
                 + losses(best - u - v)).sum() / 4e-8
                for v in step
            ]
            for u in step
        ]
    )  # fmt: skip
    sums = np.array([np.bincount(item, one) for one in slopes])
    sandwich = np.linalg.inv(bend) @ (sums @ sums.T) @ np.linalg.inv(bend) * 400 / 399
    half = math.log(found.high / found.odds)
    assert half == pytest.approx(oracle.t.ppf(0.975, 399) * math.sqrt(sandwich[0, 0]), rel=1e-3)
    assert found.low < math.exp(slope) < found.high


def test_no_odds_where_length_decides_all_or_nothing_varies() -> None:
    texts = {(str(n), "a", "b"): ("x" * 10, "x" * (n + 1)) for n in range(40)}
    decided = [said(str(n), 2.0 if n + 1 > 10 else 1.0) for n in range(40)]
    assert doubling(verdicts(decided), texts) is None
    assert doubling(verdicts([said(str(n), 2.0) for n in range(40)]), texts) is None
    assert doubling(verdicts([said("a", 2.0), said("b", 1.0)]), {}) is None


def test_by_how_much_longer() -> None:
    """Twice as long, won; 1.3 times on the other side, lost; the same length is left out."""
    texts = texts_of(("x" * 10, "x" * 20), ("x" * 13, "x" * 10), ("x", "x"))
    found = by_length(verdicts([said("0", 2), said("1", 2), said("2", 2)]), texts)
    assert [(one.low, one.high, one.share.value) for one in found] == [(1.25, 1.5, 0), (2, 3, 1)]


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([1, 1.5, 2]), st.booleans())))
def test_turning_all_names_changes_nothing(rows: list[tuple[int, float, bool]]) -> None:
    given = [said(str(item), preference, first) for item, preference, first in rows]
    turned = [
        said(str(item), 3 - preference, not first, a="b", b="a") for item, preference, first in rows
    ]
    for count in (first_shown, both_orders, repeats):
        assert count(verdicts(given)) == count(verdicts(turned))
