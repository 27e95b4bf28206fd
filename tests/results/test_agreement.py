"""Measures of agreement: published examples, the definitions written out, what must always hold."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cameleer.results.agreement import (
    GRADED,
    PLAIN,
    Ratings,
    ac1,
    ac2,
    acceptance_ratings,
    alpha,
    exact,
    kappa,
    measures,
    preference_ratings,
    tie_discounted,
    with_others,
)
from cameleer.results.records import Judgement

Table = list[list[float | None]]
"""[items][raters]"""

# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011): 12 units, 4 observers.
KRIPPENDORFF: Table = [
    [1, 1, None, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4],
    [4, 4, 4, 4], [1, 1, 2, 1], [2, 2, 2, 2], [None, 5, 5, 5], [None, None, 1, 1],
    [None, None, 3, None],
]  # fmt: skip
FIVE = (1, 2, 3, 4, 5)
ALL = (*PLAIN, *GRADED, "alpha_interval")


def rated(table: Table, values: tuple[float, ...]) -> Ratings:
    return Ratings.of(
        [
            (str(item), str(rater), value)
            for item, row in enumerate(table)
            for rater, value in enumerate(row)
            if value is not None
        ],
        values,
    )


def crossed(counts: list[list[int]]) -> Ratings:
    """Two raters' ratings of the same items from a table of how often they gave each two values."""
    rows: Table = [
        [float(first), float(second)]
        for first, row in enumerate(counts)
        for second, count in enumerate(row)
        for _ in range(count)
    ]
    return rated(rows, tuple(float(at) for at in range(len(counts))))


def test_krippendorffs_example() -> None:
    ratings = rated(KRIPPENDORFF, FIVE)
    assert alpha(ratings).value == pytest.approx(0.743, abs=5e-4)
    assert alpha(ratings, "ordinal").value == pytest.approx(0.815, abs=5e-4)
    assert alpha(ratings, "interval").value == pytest.approx(0.849, abs=5e-4)
    assert alpha(ratings).n == 11


def test_gwets_examples() -> None:
    # The same ratings in irrCAC's documentation: agreement and AC1.
    ratings = rated(KRIPPENDORFF, FIVE)
    assert exact(ratings).value == pytest.approx(0.8181818, abs=5e-8)
    assert ac1(ratings).value == pytest.approx(0.77544, abs=5e-6)
    # cont3x3abstractors there: Cohen's kappa and AC1 of 100 pregnancies.
    table = crossed([[13, 0, 0], [0, 20, 7], [0, 4, 56]])
    assert kappa(table).value == pytest.approx(0.7964094, abs=5e-8)
    assert ac1(table).value == pytest.approx(0.8493305, abs=5e-8)


def test_where_nearly_all_is_the_same_kappa_fails_and_ac1_does_not() -> None:
    # Gwet (2008), the first table of its introduction: 118, 5, 2 and 0 of 125.
    table = crossed([[118, 5], [2, 0]])
    assert exact(table).value == pytest.approx(118 / 125)
    assert kappa(table).value == pytest.approx(-0.0234, abs=5e-5)
    assert ac1(table).value == pytest.approx(0.9408, abs=5e-5)


def test_kappa_of_a_textbook() -> None:
    # 50 grant proposals, two readers: 20 both yes, 15 both no; 0.7 seen, 0.5 by chance.
    assert kappa(crossed([[20, 5], [10, 15]])).value == pytest.approx(0.4)


def by_coincidences(table: Table, values: tuple[float, ...], metric: str) -> float | None:
    """Krippendorff's alpha by his own steps: the matrix of coincidences, then differences."""
    seen: Counter[tuple[float, float]] = Counter()
    for row in table:
        there = [value for value in row if value is not None]
        for first, second in permutations(range(len(there)), 2):
            seen[there[first], there[second]] += 1 / (len(there) - 1)  # type: ignore[assignment]
    of = {c: sum(seen[c, k] for k in values) for c in values}
    total = sum(of.values())

    def apart(c: float, k: float) -> float:
        if metric == "nominal":
            return float(c != k)
        if metric == "interval":
            return (c - k) ** 2
        low, high = sorted((c, k))
        return (sum(of[g] for g in values if low <= g <= high) - (of[c] + of[k]) / 2) ** 2

    found = sum(seen[c, k] * apart(c, k) for c in values for k in values)
    chance = sum(of[c] * of[k] * apart(c, k) for c in values for k in values) / (total - 1)
    return 1 - found / chance if chance > 1e-9 else None


tables = st.lists(
    st.lists(st.none() | st.sampled_from([0.0, 1.0, 2.0]), min_size=4, max_size=4),
    min_size=1,
    max_size=12,
)


@given(tables, st.sampled_from(["nominal", "ordinal", "interval"]))
def test_alpha_is_its_definition(table: Table, metric: str) -> None:
    several = [row for row in table if sum(value is not None for value in row) > 1]
    assume(several)
    wanted = by_coincidences(table, (0.0, 1.0, 2.0), metric)
    found = alpha(rated(table, (0, 1, 2)), metric).value  # type: ignore[arg-type]
    assert found == (None if wanted is None else pytest.approx(wanted, abs=1e-9))


@settings(max_examples=50)
@given(st.lists(st.tuples(*[st.integers(0, 2).map(float)] * 2), min_size=1, max_size=20))
def test_kappa_and_ac1_of_two_are_their_definitions(both: list[tuple[float, float]]) -> None:
    n = len(both)
    agreed = sum(a == b for a, b in both) / n
    shares = [[sum(pair[rater] == k for pair in both) / n for k in range(3)] for rater in (0, 1)]
    by_chance = sum(p * q for p, q in zip(*shares, strict=True))
    middle = [(p + q) / 2 for p, q in zip(*shares, strict=True)]
    by_gwet = sum(p * (1 - p) for p in middle) / 2
    ratings = rated([list(pair) for pair in both], (0, 1, 2))
    found = kappa(ratings).value
    if by_chance > 1 - 1e-9:
        assert found is None
    else:
        assert found == pytest.approx((agreed - by_chance) / (1 - by_chance), abs=1e-9)
    assert ac1(ratings).value == pytest.approx((agreed - by_gwet) / (1 - by_gwet), abs=1e-9)


@given(tables)
def test_shares_are_means_over_the_pairs_of_each_item(table: Table) -> None:
    plain, discounted = [], []
    for row in table:
        there = [value for value in row if value is not None]
        if len(there) > 1:
            met = list(combinations(there, 2))
            plain.append(np.mean([a == b for a, b in met]))
            discounted.append(np.mean([1 if a == b else 0.5 if 1 in (a, b) else 0 for a, b in met]))
    ratings = rated(table, (0, 1, 2))
    if not plain:
        assert exact(ratings).value is tie_discounted(ratings, 1).value is None
        return
    assert exact(ratings).value == pytest.approx(np.mean(plain))
    assert tie_discounted(ratings, 1).value == pytest.approx(np.mean(discounted))
    assert exact(ratings).n == len(plain)


@settings(max_examples=30)
@given(tables)
def test_neither_order_nor_names_matter(table: Table) -> None:
    turned = [row[::-1] for row in reversed(table)]
    first, second = (measures(rated(one, (0, 1, 2)), ALL) for one in (table, turned))
    for name, one in first.items():
        assert one.value == (None if one.value is None else pytest.approx(second[name].value))
        if one.value is not None:
            assert one.low is not None
            assert one.high is not None
            assert -1 <= one.low <= one.value <= one.high <= 1
            assert one.low < one.high  # never surer than sure


def test_ac2_takes_near_values_for_half_agreement() -> None:
    ratings = crossed([[10, 5, 0], [0, 10, 0], [0, 5, 10]])
    score = {0: 1.0, 1: 0.75, 2: 0.0}  # quadratic
    agreed = (30 * score[0] + 10 * score[1]) / 40
    shares = np.array([12.5, 15, 12.5]) / 40
    total = 3 * score[0] + 4 * score[1] + 2 * score[2]
    chance = total / 6 * (shares * (1 - shares)).sum()
    assert ac2(ratings).value == pytest.approx((agreed - chance) / (1 - chance))
    assert ac2(ratings, "identity").value == ac1(ratings).value


def test_full_agreement_is_not_taken_for_certain() -> None:
    few, many = (measures(crossed([[n, 0], [0, n]])) for n in (3, 200))
    for name in ("exact", "kappa", "alpha", "ac1"):
        assert few[name].value == many[name].value == pytest.approx(1)
        assert few[name].high == 1
        assert few[name].low < 0.65 < 0.95 < many[name].low < 1  # type: ignore[operator]


def test_all_alike_tells_nothing_of_kappa_and_alpha() -> None:
    found = measures(crossed([[20, 0], [0, 0]]))
    assert found["kappa"].value is found["alpha"].value is None
    assert found["exact"].value == found["ac1"].value == 1


def test_nobody_rated_what_another_did() -> None:
    ratings = rated([[1, None], [None, 2]], FIVE)
    for found in measures(ratings, ALL).values():
        assert (found.value, found.low, found.high, found.n) == (None, None, None, 0)
    assert measures(Ratings.of([], (0, 1)))["alpha"].n == 0


def test_resamples_are_the_same_each_time_and_hold_the_truth() -> None:
    """Two raters who each see the truth with chance 0.8: intervals hold the value of many items."""
    random = np.random.default_rng(5)

    def drawn(n: int) -> Ratings:
        truth = random.integers(0, 3, n)
        seen = np.where(random.random((2, n)) < 0.8, truth, random.integers(0, 3, (2, n)))
        return rated(seen.T.astype(float).tolist(), (0, 1, 2))

    true = alpha(drawn(20_000)).value
    assert true is not None
    held = 0
    for _ in range(30):
        found = alpha(drawn(80))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= true <= found.high
    assert held >= 25  # of 28 that are due
    again = drawn(80)
    assert alpha(again) == alpha(again)


def test_clusters_are_resampled_together() -> None:
    table: Table = [[float(n % 2), float(n % 2 if n % 5 else 1 - n % 2)] for n in range(40)]
    triples = [
        (f"{n}/{copy}", str(rater), value)
        for n, row in enumerate(table)
        for copy in range(4)
        for rater, value in enumerate(row)
        if value is not None
    ]
    names = {item: item.split("/")[0] for item, _, _ in triples}
    alone, together = (Ratings.of(triples, (0, 1), held) for held in (None, names))
    once = rated(table, (0, 1))
    for measure in (exact, kappa, ac1):
        narrow, wide, plain = (measure(ratings) for ratings in (alone, together, once))
        widths = [one.high - one.low for one in (narrow, wide, plain)]  # type: ignore[operator]
        assert narrow.value == pytest.approx(wide.value)
        assert widths[0] < 0.65 * widths[1]
        assert widths[1] == pytest.approx(widths[2], rel=0.15)


def test_one_rater_rates_an_item_once() -> None:
    with pytest.raises(ValueError, match="'r' rated 'i' twice"):
        Ratings.of([("i", "r", 1), ("i", "r", 1)], (0, 1))


def person(who: str, preference: float | None, item: str = "i/0", **told: object) -> Judgement:
    return Judgement(item, "x", "y", preference, who, "human", **told)  # type: ignore[arg-type]


def test_judgements_are_ratings() -> None:
    given = [
        person("ann", 1.0, acceptable=(True, False)),
        person("bob", 1.25, acceptable=(True, None)),
        person("cyd", None, acceptable=(None, None)),
        person("ann", 1.5, "i/1"),
        Judgement("i/1", "y", "x", 1.0, "bob", "human"),  # the other way round: for y
        person("ann", 2.0, "i/1"),  # said again: the last counts
    ]
    three = preference_ratings(given)
    assert exact(three).value == 1
    assert exact(three).n == 2
    assert exact(preference_ratings(given, 5)).value == 0.5
    answers = acceptance_ratings(given)
    assert answers.counts.sum() == 3
    assert exact(answers).n == 1
    silent = acceptance_ratings(given[:3], unanswered=True)
    assert silent.values == (-1, 0, 1)
    assert exact(silent).value == pytest.approx((1 / 3 + 1 / 3) / 2)


def test_each_rater_with_the_others() -> None:
    ratings = Ratings.of(
        [("1", "a", 1), ("1", "b", 1), ("1", "c", 0), ("2", "a", 1), ("2", "b", 0), ("3", "d", 1)],
        (0, 1),
    )
    found = {name: one.value for name, one in with_others(ratings).items()}
    assert found == {"a": pytest.approx(0.25), "b": pytest.approx(0.25), "c": 0}
