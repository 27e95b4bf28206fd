"""The smallest effects that designs show: the power at them counted in drawn studies."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from cameleer.core.errors import UserError
from cameleer.results.detectable import (
    Assumed,
    Contrast,
    difference,
    effects,
    halved,
    independent_items,
)
from cameleer.results.effects import Tuned, attribute
from cameleer.results.stats import Items, smallest_effect, suite_difference

GIVEN = Assumed(discordance=0.2, seeds=0.1, luck=0.015)
SOURCES = "abc"
LEFT_OUT = {"all": dict.fromkeys(SOURCES, 1.0)} | {
    f"all-but-{out}": {one: 1.0 for one in SOURCES if one != out} for out in SOURCES
}


def rate(discordance: float) -> float:
    """Two sides that each turn an answer round with this chance differ on so many: 2 p (1 - p)."""
    return (1 - math.sqrt(1 - 2 * discordance)) / 2


class World:
    """Right and wrong answers: an item's own, turned round by the mixture and by each training.

    A gain is had by turning more to right and fewer to wrong, so that as many differ as without.
    """

    def __init__(self, items: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.own = np.arange(items) % 2 == 0
        self.within = rate(GIVEN.seeds)
        self.alone = (GIVEN.discordance - GIVEN.seeds) / (1 - 2 * GIVEN.seeds)

    def turned(self, answers: Any, chance: float, gain: float) -> Any:
        return answers ^ (self.rng.random(len(answers)) < chance + np.where(answers, -gain, gain))

    def run(self, mixture: Any, lucky: bool = True) -> dict[str, Items]:
        luck = self.rng.normal(0, GIVEN.luck) if lucky else 0.0
        scores = self.turned(mixture, self.within, luck).astype(float).tolist()
        return {"b": Items({str(item): score for item, score in enumerate(scores)})}


@pytest.mark.parametrize(("seeds", "level"), [(1, 0.05), (2, 0.05), (4, 0.05), (4, 0.05 / 20)])
def test_a_difference_of_that_size_is_seen_four_times_in_five(seeds: int, level: float) -> None:
    world, rounds = World(400, seed=5), 300
    told = difference(base=True).smallest(400, seeds, level, GIVEN)
    seen = 0
    for _ in range(rounds):
        untuned = world.run(world.own, lucky=False)
        tuned = world.turned(world.own, world.alone, told / (1 - 2 * world.within))
        # One seed speaks for these very trainings: their luck is a part of what is looked for.
        runs = [world.run(tuned, lucky=seeds > 1) for _ in range(seeds)]
        seen += suite_difference([untuned], runs).p < level
    assert 0.7 < seen / rounds < 0.9


@pytest.mark.parametrize("seeds", [2, 3])
def test_an_effect_of_that_size_is_seen_four_times_in_five(seeds: int) -> None:
    world, rounds = World(1000, seed=6), 100
    told = effects(LEFT_OUT)["a"].smallest(1000, seeds, assumed=GIVEN)
    each = rate(world.alone)
    seen = 0
    for _ in range(rounds):
        tuned = []
        for name, amounts in LEFT_OUT.items():
            gain = told * amounts.get("a", 0.0) / (1 - 2 * world.within)
            mixture = world.turned(world.own, each, gain)
            tuned += [Tuned(name, amounts, world.run(mixture)) for _ in range(seeds)]
        seen += next(one.p for one in attribute(tuned).effects if one.source == "a") < 0.05
    assert 0.7 < seen / rounds < 0.9


def test_one_seed_is_the_paired_test_and_nothing_is_surer_with_less() -> None:
    contrast = difference(base=True)
    assert contrast.smallest(171, 1) == smallest_effect(171)
    sizes = [contrast.smallest(n, 3) for n in (50, 200, 800)]
    assert sizes == sorted(sizes, reverse=True)
    assert contrast.smallest(200, 3, level=0.01) > contrast.smallest(200, 3)
    runs = [contrast.smallest(2000, seeds) for seeds in (2, 3, 5, 9)]
    assert runs == sorted(runs, reverse=True)
    assert contrast.smallest(1, 3) == contrast.smallest(2, 2) == 1.0


def test_effects_follow_the_design() -> None:
    each = {name: {name: 100.0} for name in SOURCES}
    alone = effects(each)["a"]
    assert alone.base == pytest.approx(-1)  # each source by itself is told from the base
    assert alone.trained == pytest.approx((1, 0, 0), abs=1e-12)
    left_out = effects(LEFT_OUT)["b"]
    assert left_out.base == 0
    assert left_out.trained == pytest.approx((1, 0, -1, 0), abs=1e-12)
    both = effects(each | LEFT_OUT)["a"]
    squares = [sum(w**2 for w in one.trained) for one in (left_out, both)]
    assert squares[1] < squares[0]  # more mixtures tell it better
    with pytest.raises(UserError, match="too few mixtures"):
        effects({"one": {"a": 5.0, "b": 5.0, "c": 5.0}})


def test_what_would_halve_it() -> None:
    contrast, given = difference(base=True), Assumed(luck=0.0)
    found = halved(contrast, 300, 300.0, 1000, 2, given)
    goal = contrast.smallest(300, 2, assumed=given) / 2
    assert found.items is not None
    assert contrast.smallest(found.items, 2, assumed=given) <= goal
    assert contrast.smallest(found.items - 1, 2, assumed=given) > goal
    assert found.items == pytest.approx(1200, rel=0.1)  # four times as many
    assert found.both is not None
    items, seeds = found.both  # of the 1000 that there are
    assert 300 < items <= 1000
    assert contrast.smallest(items, seeds, assumed=given) <= goal
    assert contrast.smallest(1000, seeds - 1, assumed=given) > goal
    # Where the luck of two trainings is all there is, items do not help, and seeds do.
    lucky = halved(contrast, 10**6, 1e6, 10**6, 2, Assumed(luck=0.03))
    assert (lucky.items, lucky.seeds) == (None, 3)


def test_items_in_clusters_are_fewer() -> None:
    even: Mapping[str, list[Any]] = {"weights": [1.0] * 6, "clusters": [""] * 6}
    assert independent_items(even["weights"], even["clusters"], None) == pytest.approx(6)
    assert independent_items([1.0] * 6, ["x", "x", "x", "y", "y", "y"], None) == pytest.approx(2)
    assert Contrast((1.0, -1.0)).smallest(6, 1) > Contrast((1.0, -1.0)).smallest(60, 1)
