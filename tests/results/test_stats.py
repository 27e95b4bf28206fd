"""Statistics against published examples, scipy, brute force, and what must always hold."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as oracle

from cameleer.core.errors import UserError
from cameleer.results.stats import (
    Items,
    Layout,
    holm,
    mean_interval,
    paired,
    smallest_effect,
    suite_difference,
    suite_mean,
)

shares = st.floats(0, 1, allow_nan=False, width=32)
bits = st.integers(0, 1).map(float)
tenths = st.integers(0, 10).map(lambda ten: ten / 10)


def keyed(values: list[float]) -> Items:
    return Items({f"item/{index}": value for index, value in enumerate(values)})


def from_table(both: int, first: int, second: int, neither: int) -> tuple[Items, Items]:
    a = [1.0] * (both + first) + [0.0] * (second + neither)
    b = [1.0] * both + [0.0] * first + [1.0] * second + [0.0] * neither
    return keyed(a), keyed(b)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998) 857-872, Table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_meets_the_published_intervals(right: int, n: int, low: float, high: float) -> None:
    found = mean_interval([1.0] * right + [0.0] * (n - right))
    assert (found.value, found.n) == (right / n, n)
    assert [found.low, found.high] == pytest.approx([low, high], abs=5e-5)


@given(st.lists(bits, min_size=1, max_size=60))
def test_wilson_is_scipys(values: list[float]) -> None:
    theirs = oracle.binomtest(int(sum(values)), len(values)).proportion_ci(method="wilson")
    found = mean_interval(values)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_graded_scores_are_as_many_throws_as_vary_like_them() -> None:
    values = [0.2, 0.9, 0.4, 0.55, 0.7]
    mean, t = np.mean(values), oracle.t.ppf(0.975, 4)
    per_spread = np.var(values, ddof=1) / 5 / (mean * (1 - mean))

    def off(truth: float) -> float:
        return float((mean - truth) ** 2 - t**2 * per_spread * truth * (1 - truth))

    found = mean_interval(values)
    assert found.low == pytest.approx(optimize.brentq(off, 0, mean))
    assert found.high == pytest.approx(optimize.brentq(off, mean, 1))


def by_hand(values: list[float], clusters: list[str], strata: list[str]) -> tuple[float, float]:
    """Mean over strata and its variance by leaving out one cluster after the other."""
    names = sorted(set(strata))
    mean = variance = 0.0
    for stratum in names:
        rows = [i for i, name in enumerate(strata) if name == stratum]
        middle = sum(values[i] for i in rows) / len(rows)
        mean += middle / len(names)
        within = sorted({clusters[i] for i in rows})
        for left_out in within:
            rest = [values[i] for i in rows if clusters[i] != left_out]
            moved = (sum(rest) / len(rest) - middle) / len(names)
            variance += (len(within) - 1) / len(within) * moved**2
    return mean, variance


def test_clusters_strata_and_weights_are_those_said_by_hand() -> None:
    rng = np.random.default_rng(5)
    strata = ["a"] * 12 + ["b"] * 30
    clusters = [f"{s}{i // 3 - i // 9}" for i, s in enumerate(strata)]  # of 3 and 6 items
    values = [float(one) for one in rng.random(42).round(2)]
    weights = [42 / (2 * strata.count(one)) for one in strata]
    mean, variance = by_hand(values, clusters, strata)
    layout = Layout.of(42, weights, clusters, strata)
    scores = np.array(values)
    assert layout.mean(scores) == pytest.approx(mean)
    assert layout.variance(scores)[0] == pytest.approx(variance)
    found = mean_interval(values, weights=weights, clusters=clusters, strata=strata)
    middle = (found.low + found.high) / 2
    assert found.value == pytest.approx(mean)
    # Most of the variance is of the three clusters of "a": Student's quantile for 2 is 4.3.
    assert 1.96 < (found.high - found.low) / 2 / math.sqrt(variance) < 4.3
    assert abs(middle - mean) < 0.05


def test_copies_of_an_item_in_its_cluster_say_nothing_new() -> None:
    values = [float(i % 3 == 0) for i in range(40)]
    once = mean_interval([*values, 0.5])
    thrice = mean_interval(
        [one for one in [*values, 0.5] for _ in range(3)],
        clusters=[f"c{i}" for i in range(41) for _ in range(3)],
    )
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))
    apart = mean_interval([one for one in [*values, 0.5] for _ in range(3)])
    assert apart.high - apart.low < 0.65 * (once.high - once.low)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_clusters_all_alike_and_strata_of_one_item_are_no_certainty(value: float) -> None:
    one = mean_interval([value] * 30, clusters=[f"c{i // 10}" for i in range(30)])
    assert one.high - one.low > 0.5  # three clusters
    few = mean_interval([value, value, 1.0 - value], strata=["a", "b", "c"])
    assert few.high - few.low > 0.5
    two = mean_interval([0.0, 0.0, 1.0, 1.0], strata=["a", "a", "b", "b"])
    assert two.high - two.low > 0.4


@given(st.lists(shares, min_size=1, max_size=30))
def test_an_interval_holds_its_mean_stays_in_range_and_is_never_a_point(
    values: list[float],
) -> None:
    found = mean_interval(values)
    assert 0 <= found.low <= found.value + 1e-9
    assert found.value - 1e-9 <= found.high <= 1
    if len(set(values)) == 1:
        assert found.high - found.low > 0.01


def test_one_graded_item_says_next_to_nothing() -> None:
    found = mean_interval([0.5])
    assert found.n == 1
    assert found.high - found.low > 0.85


@pytest.mark.parametrize("values", [[], [1.5], [-0.1], [math.nan]])
def test_no_scores_and_no_shares_are_errors(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"no values|0\.\.1"):
        mean_interval(values)


def test_unequal_clusters_have_fewer_degrees_of_freedom() -> None:
    even = Layout.of(40, clusters=[f"c{i // 4}" for i in range(40)])
    uneven = Layout.of(40, clusters=[f"c{max(0, i - 30)}" for i in range(40)])
    values = np.array([0.0, 1.0] * 20)
    values[::4] = 1.0
    assert even.variance(values + np.arange(40))[1] == pytest.approx(9)
    # One of ten has 31 of 40 items: as even as 1 / (31^2 + 9) * 40^2 = 1.65 clusters.
    assert uneven.variance(values)[1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("table", "difference", "low", "high"),
    [
        # Fagerland, Lydersen, Laake (Statistical Analysis of Contingency Tables, ch. 8; their
        # Tango interval): airway hyper-responsiveness.
        ((1, 1, 7, 12), 6 / 21, 0.026, 0.517),
    ],
)
def test_tango_meets_the_published_interval(
    table: tuple[int, int, int, int], difference: float, low: float, high: float
) -> None:
    found = paired(*from_table(*table))
    assert found.difference == pytest.approx(difference)
    assert [found.low, found.high] == pytest.approx([low, high], abs=5e-4)
    assert (found.worse, found.better, found.same) == (table[1], table[2], table[0] + table[3])
    assert found.discordance == pytest.approx((table[1] + table[2]) / 21)


def likeliest(better: int, worse: int, n: int, truth: float) -> float:
    """The share of falls at which this table is likeliest if the difference is `truth`."""

    def unlikely(falls: float) -> float:
        rises, same = falls + truth, 1 - truth - 2 * falls
        cells = ((better, rises), (worse, falls), (n - better - worse, same))
        return -sum(count * math.log(max(share, 1e-300)) for count, share in cells if count)

    bounds = (max(0.0, -truth), (1 - truth) / 2)
    found = optimize.minimize_scalar(
        unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-12}
    )
    return float(found.x)


@pytest.mark.parametrize(("better", "worse", "n"), [(7, 1, 21), (0, 3, 40), (12, 9, 60), (1, 0, 8)])
def test_tango_turns_round_the_test_at_the_likeliest_shares(
    better: int, worse: int, n: int
) -> None:
    found = paired(*from_table(0, worse, better, n - better - worse))
    for limit in (found.low, found.high):
        falls = likeliest(better, worse, n, limit)
        spread = math.sqrt((2 * falls + limit - limit**2) / n)
        assert abs(found.difference - limit) / spread == pytest.approx(1.96, abs=2e-3)


@given(st.integers(0, 15), st.integers(0, 15))
def test_p_is_mcnemars(better: int, worse: int) -> None:
    found = paired(*from_table(3, worse, better, 2))
    moved = better + worse
    theirs = oracle.chi2.sf((better - worse) ** 2 / moved, 1) if moved else 1.0
    assert found.p == pytest.approx(theirs, abs=1e-9)


@given(st.lists(st.tuples(bits, bits) | st.tuples(tenths, tenths), min_size=2, max_size=25))
@settings(max_examples=60)
def test_no_difference_is_outside_the_interval_exactly_where_p_is_small(
    pairs: list[tuple[float, float]],
) -> None:
    a, b = keyed([a for a, _ in pairs]), keyed([b for _, b in pairs])
    grouped = {f"item/{index}": f"c{index % 7}" for index in range(len(pairs))}
    for one in (a, replace(a, clusters=grouped)):
        p = paired(one, b).p
        if 1e-4 < p < 0.9:
            for level, outside in ((1 - p * 0.99, False), (1 - p * 1.001, True)):
                found = paired(one, b, level)
                assert (found.low > 0 or found.high < 0) == outside


def test_graded_pairs_are_as_many_pairs_as_vary_like_them() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.beta(2, 2, 80), rng.beta(2, 3, 80)
    found = paired(keyed(list(a)), keyed(list(b)))
    theirs = oracle.ttest_rel(b, a)
    # A score test has the variance of no difference: a little more than that of the data.
    assert theirs.pvalue < found.p < 1.5 * theirs.pvalue
    assert found.low < theirs.confidence_interval().low < found.difference
    assert found.high == pytest.approx(theirs.confidence_interval().high, abs=0.01)
    assert found.effective > 80  # scores between 0 and 1 vary less than 0/1 scores


@given(st.lists(st.tuples(bits, bits) | st.tuples(shares, shares), min_size=2, max_size=25))
@settings(max_examples=60)
def test_swapping_the_sides_turns_the_sign(pairs: list[tuple[float, float]]) -> None:
    a, b = keyed([a for a, _ in pairs]), keyed([b for _, b in pairs])
    there, back = paired(a, b), paired(b, a)
    assert there.difference == pytest.approx(-back.difference, abs=1e-9)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-9)
    assert there.p == pytest.approx(back.p, abs=1e-9)
    assert (there.better, there.worse, there.same) == (back.worse, back.better, back.same)
    assert there.low - 1e-9 <= there.difference <= there.high + 1e-9
    assert there.high > there.low


def test_equal_scores_are_no_difference_and_no_certainty() -> None:
    same = keyed([0.25, 0.5, 0.75] * 20)
    found = paired(same, same)
    assert (found.difference, found.p, found.same) == (0, 1, 60)
    assert found.low < -0.01 < 0.01 < found.high


def test_other_items_are_the_users_error_with_the_count() -> None:
    with pytest.raises(UserError, match="2 items are in one of the two runs only"):
        paired(Items({"a": 1, "b": 0}), Items({"a": 1, "c": 0}))


def test_holm_by_hand() -> None:
    # Sorted .005 .01 .03 .04 times 4 3 2 1, then never falling.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.6, 0.9]) == [1.0, 1.0]


@given(st.lists(shares, min_size=1, max_size=20))
def test_holm_is_between_the_p_and_bonferroni(ps: list[float]) -> None:
    adjusted = holm(ps)
    for p, one in zip(ps, adjusted, strict=True):
        assert p - 1e-9 <= one <= min(1.0, p * len(ps)) + 1e-9 or one == max(adjusted)
        assert p - 1e-9 <= one <= 1
    assert sorted(adjusted) == [one for _, one in sorted(zip(ps, adjusted, strict=True))]


@pytest.mark.parametrize(
    ("n", "psi", "level"), [(20, 0.4, 0.05), (60, 0.1, 0.05), (300, 0.25, 0.05), (300, 0.25, 0.002)]
)
def test_the_smallest_effect_is_what_simulation_detects_four_times_in_five(
    n: int, psi: float, level: float
) -> None:
    effect = smallest_effect(n, level=level, discordance=psi)
    psi = max(psi, effect)
    rng = np.random.default_rng(0)
    shares = np.clip([(psi + effect) / 2, (psi - effect) / 2, 1 - psi], 0, 1)
    better, worse, _ = rng.multinomial(n, shares, 20_000).T
    p = oracle.chi2.sf((better - worse) ** 2 / np.maximum(better + worse, 1), 1)
    assert (p < level).mean() == pytest.approx(0.8, abs=0.01)
    # And that is the test that `paired` makes.
    for up, down in zip(better[:5], worse[:5], strict=True):
        found = paired(*from_table(0, int(down), int(up), n - int(up) - int(down)))
        assert found.p == pytest.approx(oracle.chi2.sf((up - down) ** 2 / (up + down), 1))


def test_nothing_can_be_seen_on_three_items_and_little_on_many() -> None:
    assert smallest_effect(3) == pytest.approx(1.0)
    assert smallest_effect(4) == pytest.approx(0.8**0.25)  # all four, and the same way
    # Connor, Biometrics 43 (1987): n d^2 = (z_a sqrt(psi) + z_b sqrt(psi - d^2))^2.
    n, psi = 14_042, 0.2
    effect = smallest_effect(n, discordance=psi)
    root = 1.959964 * math.sqrt(psi) + 0.841621 * math.sqrt(psi - effect**2)
    assert math.sqrt(n) * effect == pytest.approx(root, rel=2e-3)


@given(st.integers(5, 5000), st.floats(0.01, 1))
@settings(max_examples=25)
def test_twice_the_items_see_smaller_effects(n: int, psi: float) -> None:
    assert smallest_effect(2 * n, discordance=psi) < smallest_effect(n, discordance=psi)
    assert 0 < smallest_effect(n, discordance=psi) <= 1


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng, rounds, n = np.random.default_rng(3), 400, 60
    of_mean = of_difference = 0
    for _ in range(rounds):
        ease = rng.random(n)
        a, b = (rng.random(n) < ease).astype(float), (rng.random(n) < ease * 0.8).astype(float)
        mean = mean_interval(list(a))
        of_mean += mean.low <= 0.5 <= mean.high
        pair = paired(keyed(list(a)), keyed(list(b)))
        of_difference += pair.low <= -0.1 <= pair.high
    assert 0.92 <= of_mean / rounds <= 0.99
    assert 0.92 <= of_difference / rounds <= 0.99


def test_an_average_over_benchmarks_weighs_them_equally() -> None:
    run = {"long": keyed([1.0, 0.0] * 50), "short": keyed([1.0, 1.0, 1.0, 0.0])}
    found = suite_mean([run])
    assert (found.value, found.n) == ((0.5 + 0.75) / 2, 104)
    wide = math.sqrt(np.var([1, 0] * 50, ddof=1) / 100 + np.var([1, 1, 1, 0], ddof=1) / 4) / 2
    assert found.high - found.low > 2 * 1.96 * wide


def test_one_run_of_one_benchmark_is_the_plain_comparison() -> None:
    a, b = from_table(20, 12, 2, 16)
    assert suite_difference([{"x": a}], [{"x": b}]) == paired(a, b)
    assert suite_mean([{"x": a}]) == mean_interval(list(a.scores.values()))


def test_seeds_that_disagree_widen_the_interval() -> None:
    def run(right: int) -> dict[str, Items]:
        return {"x": keyed([1.0] * right + [0.0] * (400 - right))}

    base, calm, wild = [run(200)], [run(240), run(241), run(239)], [run(300), run(240), run(180)]
    assert suite_difference(base, calm).p < 0.01
    assert suite_difference(base, wild).p > 0.05
    # Only the seeds vary much: nearly the t interval of three means.
    theirs = oracle.ttest_1samp([300 / 400, 240 / 400, 180 / 400], 0).confidence_interval()
    assert suite_mean(wild).high - suite_mean(wild).low == pytest.approx(
        theirs.high - theirs.low, rel=0.25
    )


def test_seeds_that_change_nothing_are_no_certainty_and_worth_their_items() -> None:
    run = {"x": keyed([1.0, 0.0] * 50)}
    found = suite_difference([run] * 2, [run] * 3)
    assert (found.difference, found.p, found.discordance, found.effective) == (0, 1, 0, 100)
    assert found.low < -0.01 < 0.01 < found.high


def test_runs_over_other_benchmarks_are_an_error() -> None:
    one = {"x": keyed([1.0, 0.0])}
    with pytest.raises(UserError, match="other benchmarks: y"):
        suite_mean([one, one | {"y": keyed([1.0])}])
