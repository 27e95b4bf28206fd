"""A whole campaign by twelve raters of known taste, strictness and speed: what is known of them and
of the models comes out again."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import pytest

pytest.importorskip("sqlalchemy")

from scipy.stats import spearmanr
from sqlalchemy import Engine

from cameleer.human.accounts import add_rater
from cameleer.human.assignment import next_task
from cameleer.human.campaign import Campaign
from cameleer.human.dashboard import Summary, summarise
from cameleer.human.export import first_only, judgements
from cameleer.human.ratings import Rating, Task
from cameleer.human.slots import wanted
from cameleer.results.agreement import Agreement
from cameleer.results.stats import Estimate
from cameleer.results.strength import accepted
from tests.human.conftest import HandClock
from tests.human.people import campaign_of, quick_database, rate

QUALITY = {"m0": 0.0, "m1": 0.8, "m2": -0.5}
"""How good each model is on average; an answer's own worth varies around it by 1."""
NOISE, TIE = 0.6, 0.35  # of a rater's look at an answer; difference below which it is a tie


@dataclass
class Persona:
    """strictness: an answer must be worth that much to be accepted; seconds: per item, on average.
    cheat: "" or what somebody does in place of reading."""

    name: str
    strictness: float
    seconds: float
    cheat: str = ""
    draw: random.Random = field(default_factory=lambda: random.Random(0))

    def rate(self, a: float, b: float, b_first: bool) -> Rating:
        """a, b: what the two answers are worth."""
        if self.cheat == "always first":
            return Rating(True, True, -2, "good", "", 1.0)
        seen = [worth + self.draw.gauss(0, NOISE) for worth in ((b, a) if b_first else (a, b))]
        apart = seen[1] - seen[0]
        size = 0 if abs(apart) < TIE else 1 if abs(apart) < 1.2 else 2
        accepted = [one > self.strictness for one in seen]
        seconds = self.seconds * self.draw.uniform(0.7, 1.3)
        said = size if apart > 0 else -size
        return Rating(accepted[0], accepted[1], said, "good", "", seconds)


PEOPLE = [
    Persona(f"rater{n:02}", strictness=-1.2 + 0.2 * n, seconds=20.0 + 10 * n) for n in range(11)
] + [Persona("rater11", 0.0, 1.0, "always first")]
HONEST = PEOPLE[:-1]


@dataclass
class World:
    """A campaign with the worth of each answer, by prompt and model."""

    campaign: Campaign
    worth: dict[tuple[str, str], float]

    @classmethod
    def make(cls, folder: Path, prompts: int) -> World:
        campaign = campaign_of(folder, prompts, pairs=2, overlap=0.5, repeats=4, seed=3)
        draw = random.Random(9)
        models = sorted(QUALITY)
        worth = {
            (f"p/{n}", model): draw.gauss(QUALITY[model], 1)
            for n in range(prompts)
            for model in models
        }
        return cls(campaign, worth)

    def rating(self, task: Task, persona: Persona) -> Rating:
        one = self.campaign.instances[task.instance]
        return persona.rate(self.worth[one.key, one.a], self.worth[one.key, one.b], task.b_first)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Engine]]:
    """Whoever has been busy the shortest comes next: the quick ones rate more, as they do."""
    world = World.make(tmp_path_factory.mktemp("campaign"), 90)
    clock = HandClock()
    engine = quick_database(world.campaign, clock)
    personas = {add_rater(engine, one.name, password=None).id: one for one in PEOPLE}
    for rater, persona in personas.items():
        persona.draw = random.Random(rater)
    busy = dict.fromkeys(personas, 0.0)
    while busy:
        rater = min(busy, key=lambda one: busy[one])
        task = next_task(engine, world.campaign, rater)
        if task is None:
            del busy[rater]
            continue
        rating = world.rating(task, personas[rater])
        clock.pass_by(max(0.0, busy[rater] + rating.seconds - clock.up + 100))
        busy[rater] += rating.seconds if not personas[rater].cheat else 60.0
        clock.pass_by(rating.seconds)
        rate(engine, task, rating)
    yield world, engine
    engine.dispose()


@pytest.fixture(scope="module")
def found(played: tuple[World, Engine]) -> Summary:
    world, engine = played
    return summarise(engine, world.campaign)


def truth(model: str, people: list[Persona], rounds: int = 4000) -> dict[str, float]:
    """What m0 against `model` comes to for these people over all prompts there could be: win rate
    of `model`, its acceptance, how often two agree and how often one agrees with oneself."""
    draw = random.Random(11)
    wins: list[float] = []
    taken: list[float] = []
    agreed: list[float] = []
    same: list[float] = []
    people = [Persona(one.name, one.strictness, 1.0, one.cheat, draw) for one in people]
    while len(wins) < rounds:
        one, other = draw.sample(people, 2)
        if one.name == other.name:
            continue
        a, b = draw.gauss(QUALITY["m0"], 1), draw.gauss(QUALITY[model], 1)
        order = draw.random() < 0.5
        first, second = one.rate(a, b, order), other.rate(a, b, not order)
        again = one.rate(a, b, not order)
        sides = [side(first, order), side(second, not order), side(again, not order)]
        wins.append(0.5 + (-0.25 if order else 0.25) * (first.preference or 0))
        taken.append(float(bool(first.first_acceptable if order else first.second_acceptable)))
        agreed.append(float(sides[0] == sides[1]))
        same.append(float(sides[0] == sides[2]))
    names = ("wins", "accepted", "agreed", "same")
    return dict(zip(names, map(mean, (wins, taken, agreed, same)), strict=True))


def side(rating: Rating, b_first: bool) -> int:
    """-1, 0 or 1: for A, neither or B."""
    said = rating.preference or 0
    first = (said > 0) - (said < 0)
    return -first if b_first else first


def test_everything_is_rated_as_often_as_wanted(played: tuple[World, Engine]) -> None:
    world, engine = played
    given = first_only(judgements(engine, world.campaign))
    place = {(one.key, one.b): one.index for one in world.campaign.rated}
    counted = Counter(place[one.item, one.b] for one in given)
    assert counted == Counter(wanted(world.campaign))


def test_orders_are_counter_balanced(played: tuple[World, Engine]) -> None:
    world, engine = played
    given = first_only(judgements(engine, world.campaign))
    for model in ("m1", "m2"):
        own = [one for one in given if one.b == model]
        assert 0.45 < mean(float(bool(one.b_first)) for one in own) < 0.55
        for who in {one.who for one in own}:
            orders = Counter(one.b_first for one in own if one.who == who)
            assert abs(orders[True] - orders[False]) <= 2


def test_win_rates_and_acceptance_come_out(found: Summary) -> None:
    for state in found.pairs:
        true = truth(state.b, shares(found))
        assert state.tally
        rate = state.tally.win_rate
        assert near(rate, true["wins"])
        assert 0.02 < rate.high - rate.low < 0.16
        taken = found.acceptance[state.b]
        assert near(taken, true["accepted"])


def near(found: Estimate | Agreement, truth: float) -> bool:
    """Whether it is within an interval half as wide again: an honest 95 % would fail too often."""
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    slack = (found.high - found.low) / 4
    return found.low - slack < truth < found.high + slack


def shares(found: Summary) -> list[Persona]:
    """The people, each as often as they rated: the quick ones count for more."""
    by_name = {one.name: one for one in PEOPLE}
    return [by_name[one.name] for one in found.raters for _ in range(one.done)]


def test_agreement_and_self_consistency_come_out(found: Summary) -> None:
    people = shares(found)
    both = [truth(model, people) for model in ("m1", "m2")]
    agreed, same = (mean(one[what] for one in both) for what in ("agreed", "same"))
    strict, alpha = found.preferences["exact"], found.preferences["alpha"]
    assert near(strict, agreed)
    assert alpha.low is not None
    assert alpha.low > 0.05  # beyond chance, though not by far: these people are noisy
    assert found.consistency
    assert near(found.consistency, same)
    assert found.repeats == sum(one.repeats for one in found.raters) >= 40


def test_strictness_comes_out(played: tuple[World, Engine]) -> None:
    world, engine = played
    fitted = accepted(first_only(judgements(engine, world.campaign, names=True)))
    assert fitted
    found = {name: effect.value for name, effect in fitted.strictness.items()}
    known = {one.name: one.strictness for one in HONEST}
    assert spearmanr([found[name] for name in known], list(known.values())).statistic > 0.8
    assert min(found, key=lambda name: found[name]) == "rater11"  # who accepts everything


def test_speeds_come_out(found: Summary) -> None:
    for one in found.raters:
        persona = next(person for person in PEOPLE if person.name == one.name)
        if not persona.cheat:
            assert one.seconds == pytest.approx(persona.seconds, rel=0.25)


def test_the_one_who_does_not_read_is_noticed_and_nobody_else(found: Summary) -> None:
    concerned = [one for one in found.raters if one.concerns]
    assert [one.name for one in concerned] == ["rater11"]
    assert any("first clearly better" in words for words in concerned[0].concerns)


def test_the_slow_ones_are_behind(found: Summary) -> None:
    done = {one.name: one.done for one in found.raters}
    assert done["rater00"] > 2 * done["rater10"]
    assert not any(one.behind for one in found.raters)  # nothing is left to do
    assert found.left == 0
    assert found.days == 0
