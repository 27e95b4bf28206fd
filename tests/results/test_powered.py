"""Prediction-powered win rates: PPI++'s equations, cell counts, and what must always hold."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from cameleer.core.errors import UserError
from cameleer.results.powered import FEW, Powered, correct, powered
from cameleer.results.records import Judgement
from cameleer.results.stats import mean_interval

bits = st.integers(0, 1).map(float)
tenths = st.integers(0, 10).map(lambda ten: ten / 10)


def by_equation(y: list[float], f: list[float], g: list[float]) -> tuple[float, float]:
    """(estimate, lambda) of a mean by arXiv 2311.01453: equation 2 of section 2, and of section 6
    the tuning parameter of a mean, cov(Y, f) / ((1 + n/N) var(f)), kept in 0..1."""
    labels, judged, rest = np.array(y), np.array(f), np.array(g)
    n, more = len(labels), len(rest)
    covariance = ((labels - labels.mean()) * (judged - judged.mean())).mean()
    variance = np.var(np.append(judged, rest), ddof=1)
    tuned = 0.0 if variance == 0 else covariance / ((1 + n / more) * variance)
    tuned = float(np.clip(tuned, 0, 1))
    return float(tuned * rest.mean() + (labels - tuned * judged).mean()), tuned


def by_counts(cells: tuple[int, int, int, int], wins: int, of: int) -> tuple[float, float]:
    """The interval from how often label and verdict were (1,1), (1,0), (0,1), (0,0), and from how
    many of the others the judge holds for wins."""
    n = sum(cells)
    y = [1.0] * (cells[0] + cells[1]) + [0.0] * (cells[2] + cells[3])
    f = [1.0] * cells[0] + [0.0] * cells[1] + [1.0] * cells[2] + [0.0] * cells[3]
    value, tuned = by_equation(y, f, [1.0] * wins + [0.0] * (of - wins))
    kinds = np.array([1 - tuned, 1, -tuned, 0])
    weights = (np.array(cells) + 0.5) / (n + 2)
    residual = weights @ kinds**2 - (weights @ kinds) ** 2
    share = wins / of
    variance = residual / n + tuned**2 * share * (1 - share) / (of - 1)
    value = min(1, max(0, value))
    middle = (n * value + 1) / (n + 2)
    throws, t = middle * (1 - middle) / variance, oracle.t.ppf(0.975, n - 2)
    # Wilson's limits are the shares p whose distance to the value is t of their own errors.
    roots = np.roots([1 + t * t / throws, -2 * value - t * t / throws, value * value])
    return float(min(roots.real)), float(max(roots.real))


def test_a_worked_example() -> None:
    """20 labels, half of them 1, the judge agrees with all; 15 of 20 others. var = 40 * 0.625 *
    0.375 / 39, lambda = 0.25 / (2 var) = 0.52, estimate = 0.5 - 0.52 (0.5 - 0.75) = 0.63."""
    labels = [1.0] * 10 + [0.0] * 10
    found = powered(labels, labels, [1.0] * 15 + [0.0] * 5)
    assert found.power == pytest.approx(0.52)
    assert found.corrected.value == pytest.approx(0.63)
    assert (found.labels, found.verdicts, found.corrected.n) == (20, 40, 40)
    assert found.people == mean_interval(labels)
    assert found.judge.value == 0.625


@given(
    st.lists(st.tuples(tenths, tenths), min_size=FEW, max_size=60),
    st.lists(tenths, min_size=2, max_size=80),
)
def test_estimate_is_that_of_ppi_plus_plus(
    both: list[tuple[float, float]], others: list[float]
) -> None:
    labels, verdicts = [one for one, _ in both], [one for _, one in both]
    found = powered(labels, verdicts, others)
    value, tuned = by_equation(labels, verdicts, others)
    assert found.power == pytest.approx(tuned, abs=1e-9)
    assert found.corrected.value == pytest.approx(min(1, max(0, value)), abs=1e-9)


@given(
    st.tuples(*[st.integers(0, 30)] * 4),
    st.integers(2, 800).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))),
)
def test_interval_restated_from_counts(
    cells: tuple[int, int, int, int], others: tuple[int, int]
) -> None:
    assume(sum(cells) >= FEW)
    y = [1.0] * (cells[0] + cells[1]) + [0.0] * (cells[2] + cells[3])
    f = [1.0] * cells[0] + [0.0] * cells[1] + [1.0] * cells[2] + [0.0] * cells[3]
    wins, of = others
    found = powered(y, f, [1.0] * wins + [0.0] * (of - wins)).corrected
    low, high = by_counts(cells, wins, of)
    assert found.low == pytest.approx(low, abs=1e-7)
    assert found.high == pytest.approx(high, abs=1e-7)


def test_many_labels_give_the_published_interval() -> None:
    """Of many labels halves, t and Wilson's form no longer matter: it is the normal one."""
    rng = np.random.default_rng(5)
    y = (rng.random(20_000) < 0.6).astype(float)
    f = np.where(rng.random(20_000) < 0.8, y, 1 - y)
    n = 5000
    found = powered(y[:n].tolist(), f[:n].tolist(), f[n:].tolist())
    spread = np.var(y[:n] - found.power * f[:n]) / n + found.power**2 * np.var(f[n:]) / 15_000
    half = 1.96 * math.sqrt(spread)
    assert found.corrected.high - found.corrected.value == pytest.approx(half, rel=0.01)
    assert found.corrected.value - found.corrected.low == pytest.approx(half, rel=0.01)
    # As many labels alone would be as sure: n var(Y) / (n v).
    assert found.effective == pytest.approx(np.var(y[:n]) / spread, rel=0.01)
    assert found.saved == pytest.approx(found.effective - n)


@given(
    st.lists(st.tuples(bits, tenths), min_size=FEW, max_size=40),
    st.lists(tenths, min_size=2, max_size=60),
    st.floats(0.5, 0.999),
)
def test_intervals_hold_the_estimate_and_have_width(
    both: list[tuple[float, float]], others: list[float], level: float
) -> None:
    labels, verdicts = [one for one, _ in both], [one for _, one in both]
    found = powered(labels, verdicts, others, level).corrected
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 0
    turned = powered([1 - v for v in labels], [1 - v for v in verdicts], [1 - v for v in others],
                     level).corrected  # fmt: skip
    assert turned.value == pytest.approx(1 - found.value, abs=1e-9)
    assert turned.low == pytest.approx(1 - found.high, abs=1e-9)


def test_a_judge_that_agreed_with_all_labels_is_not_taken_to_be_always_right() -> None:
    labels = [1.0] * 24 + [0.0] * 6
    found = powered(labels, labels, [1.0] * 600 + [0.0] * 150)
    judge = found.judge.high - found.judge.low
    assert found.corrected.high - found.corrected.low > 2 * judge


def test_a_judge_that_knows_nothing_is_hardly_used() -> None:
    rng = np.random.default_rng(2)
    labels = (rng.random(200) < 0.7).astype(float).tolist()
    found = powered(labels, rng.integers(0, 2, 200).tolist(), rng.integers(0, 2, 600).tolist())
    assert found.power < 0.1
    assert found.corrected.value == pytest.approx(found.people.value, abs=0.01)
    assert abs(found.saved) < 10


@pytest.mark.parametrize(
    ("labels", "others", "said"),
    [(FEW - 1, 100, "too few"), (FEW, 0, "nothing can be gained")],
)
def test_falls_back_to_the_labels_and_says_so(labels: int, others: int, said: str) -> None:
    values = [float(one % 3 == 0) for one in range(labels)]
    found = powered(values, values, [1.0] * others)
    assert said in found.note
    assert found.corrected == found.people == mean_interval(values)
    assert (found.power, found.saved) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("labels", "verdicts", "others", "why"),
    [
        ([], [], [1.0], "needs labels"),
        ([1.0], [1.0, 0.0], [1.0], "for each item"),
        ([2.0], [1.0], [1.0], "in 0..1"),
        ([1.0], [1.0], [-0.1], "in 0..1"),
    ],
)
def test_what_is_no_table_is_refused(
    labels: list[float], verdicts: list[float], others: list[float], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        powered(labels, verdicts, others)


def test_clusters_that_say_all_the_same_are_one_item() -> None:
    """Three copies of each item, named as one cluster, make nothing surer."""
    rng = np.random.default_rng(3)
    y = (rng.random(60) < 0.6).astype(float)
    f = np.where(rng.random(60) < 0.8, y, 1 - y)
    g = (rng.random(300) < 0.55).astype(float)
    once = powered(y.tolist(), f.tolist(), g.tolist())
    names = [f"a{n}" for n in range(60)] * 3, [f"b{n}" for n in range(300)] * 3
    thrice = powered(y.tolist() * 3, f.tolist() * 3, g.tolist() * 3, clusters=names)
    assert thrice.corrected.value == pytest.approx(once.corrected.value, abs=1e-3)
    assert thrice.corrected.low == pytest.approx(once.corrected.low, abs=2e-3)
    assert thrice.corrected.high == pytest.approx(once.corrected.high, abs=2e-3)
    assert thrice.effective == pytest.approx(3 * once.effective, rel=0.02)
    loose = powered(y.tolist() * 3, f.tolist() * 3, g.tolist() * 3)
    assert loose.corrected.high - loose.corrected.low < 0.7 * (
        thrice.corrected.high - thrice.corrected.low
    )


def test_weights_count_items_several_times() -> None:
    """An item of weight 2 moves the means as two do."""
    y, f, g = [1.0, 0.0] * 15, [1.0, 0.0] * 12 + [0.0, 1.0] * 3, [1.0, 0.0, 1.0, 1.0] * 20
    weights = [2.0] * 10 + [1.0] * 20, [1.0] * 80
    heavy = powered(y, f, g, weights=weights)
    names = [*(f"a{n}" for n in range(30)), *(f"a{n}" for n in range(10))]
    copied = powered(y + y[:10], f + f[:10], g, clusters=(names, [""] * 80))
    assert heavy.people.value == pytest.approx(copied.people.value)
    assert heavy.corrected.value == pytest.approx(copied.corrected.value, abs=0.01)


def test_labels_that_are_no_random_part_show() -> None:
    """The judge holds nearly all labelled items for wins, and half of the others."""
    labels = [1.0] * 35 + [0.0] * 5
    assert powered(labels, labels, [1.0, 0.0] * 100).odd < 0.001
    assert powered(labels, labels, ([1.0] * 7 + [0.0]) * 25).odd == pytest.approx(1.0)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(0.5, 0.75), (0.9, 0.9), (0.95, 0.7)]))
def test_the_truth_is_mostly_inside(seed: int, kind: tuple[float, float]) -> None:
    """A smoke test of coverage at 30 labels; bench/powered counts it properly."""
    win, right = kind
    rng = np.random.default_rng(seed)
    held = 0
    for _ in range(60):
        y = (rng.random(330) < win).astype(float)
        f = np.where(rng.random(330) < right, y, 1 - y)
        found = powered(y[:30].tolist(), f[:30].tolist(), f[30:].tolist()).corrected
        held += found.low <= win <= found.high
    assert held >= 48  # of 60 at 95 %, fewer come less than once in 100,000 times


def judgement(item: str, a: str, b: str, preference: float | None, who: str = "j") -> Judgement:
    return Judgement(item, a, b, preference, who, "judge" if who == "j" else "human")


def campaign(items: int = 60, labelled: int = 30) -> tuple[list[Judgement], list[Judgement]]:
    """A judge of one pair; two people label every second item, the one of them turned round."""
    judged = [judgement(f"i{n}", "ref", "new", 1.0 + (n % 3 > 0)) for n in range(items)]
    people = []
    for n in range(0, 2 * labelled, 2):
        people.append(judgement(f"i{n}", "ref", "new", 1.0 + (n % 4 > 0), "ann"))
        people.append(judgement(f"i{n}", "new", "ref", 2.0 - (n % 4 > 0), "bob"))
    return judged, people


def test_correct_joins_items_whatever_their_order_and_averages_people() -> None:
    judged, people = campaign()
    (row,) = correct(judged, people)
    assert (row.judge, row.a, row.b) == ("j", "ref", "new")
    labels = [float(n % 4 > 0) for n in range(0, 60, 2)]
    verdicts = [float(n % 3 > 0) for n in range(0, 60, 2)]
    others = [float(n % 3 > 0) for n in range(1, 60, 2)]
    assert row.found == powered(labels, verdicts, others)
    # The judge alone is all its verdicts, each of the same weight.
    (few,) = correct(judged, people[:50])
    assert few.found is not None
    assert few.found.judge == mean_interval([float(n % 3 > 0) for n in range(60)])
    split = [replace(one, preference=1.5) if one.who == "bob" else one for one in people]
    (half,) = correct(judged, split)
    assert half.found is not None
    assert half.found.people.value == pytest.approx((0.5 + sum(labels) / 30) / 2)


def test_correct_counts_what_it_leaves_out() -> None:
    judged, people = campaign()
    judged[1] = replace(judged[1], preference=None)
    people[0] = replace(people[0], preference=None)
    people.append(judgement("nowhere", "new", "ref", 1.0, "ann"))
    (row,) = correct(judged, people)
    assert (row.unknown, row.unlabelled, row.unjudged) == (1, 1, 1)
    assert row.found is not None
    assert (row.found.labels, row.found.verdicts) == (30, 59)


def test_a_model_with_several_opponents_gets_a_row_over_all() -> None:
    judged, people = campaign()
    more = [replace(one, a="old", preference=2.0) for one in judged]
    rows = correct([*judged, *more], people)
    assert [(row.a, row.b, row.found is None) for row in rows] == [
        ("ref", "new", False),
        ("old", "new", True),  # nobody labelled that pair, and so there is no row over both
    ]
    theirs = [replace(one, a="old", preference=2.0) for one in people if one.who == "ann"][:12]
    rows = correct([*judged, *more], [*people, *theirs])
    assert [(row.a, row.b) for row in rows] == [("ref", "new"), ("old", "new"), ("", "new")]
    over: Powered | None = rows[2].found
    assert over is not None
    assert rows[0].found is not None
    assert (over.labels, over.verdicts) == (42, 120)
    assert over.judge.value == pytest.approx((sum(n % 3 > 0 for n in range(60)) + 60) / 120)
    # Each pair weighs by what is judged, though fewer items of the second are labelled.
    assert over.people.value == pytest.approx((rows[0].found.people.value + 1.0) / 2)


def test_correct_without_anything_in_common_is_the_users_mistake() -> None:
    judged, people = campaign()
    with pytest.raises(UserError, match="nothing that was judged"):
        correct(judged, [replace(one, item="x" + one.item) for one in people])
