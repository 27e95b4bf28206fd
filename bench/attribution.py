"""How often what we say of each data set is so: studies are drawn whose truth is known.

    python -m bench.attribution [--rounds 1000] [--seed 1]

Of every situation: the share of intervals of effects that hold the truth; the share of studies of
nothing that find something after Holm (false discovery: with no effects, all that is found is
false); among effects of which half are none, the mean share of what is found that is false; how
often the predicted best mixture is truly best, and how often one is called surely better that is
not. Then what the same least squares make of the paper's Table 3, and how near data sets alone come
to its mixtures. Prints tables and writes bench/out/attribution.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from cameleer.core.files import write_json
from cameleer.results.effects import AVERAGE, Attribution, Tuned, attribute, least_squares
from cameleer.results.published.rows import published
from cameleer.results.stats import Items

OUT = Path(__file__).parent / "out" / "attribution.json"
BAND = (0.93, 0.97)
SOURCES = 6
Rng = Any


@dataclass(frozen=True)
class Situation:
    """Studies of one kind. design: see `mixtures_of`; effects: the truth for each of SOURCES;
    luck: the standard deviation of training's luck in score; spread: of single items' effects;
    ease: the least and the most with which an item is solved untuned."""

    name: str
    design: str
    seeds: int
    items: int
    effects: tuple[float, ...]
    luck: float = 0.02
    spread: float = 0.1
    ease: tuple[float, float] = (0.25, 0.55)


@dataclass(frozen=True)
class Found:
    """Shares over all rounds; see the module. width: of an interval, in score; shortfall: how far
    the predicted best mixture is under the truly best, in score; wrongly_sure: of all studies."""

    name: str
    rounds: int
    covered: float
    covered_average: float
    width: float
    any_found: float
    false_found: float
    best_is_best: float
    shortfall: float
    wrongly_sure: float


def mixtures_of(design: str) -> list[tuple[float, ...]]:
    """Amounts of each source in every mixture of a design."""
    one = np.eye(SOURCES)
    rows = {
        "single": list(one),
        "leave-one-out": [np.ones(SOURCES), *(1 - one)],
        "pairs": [one[a] + one[b] for a, b in combinations(range(SOURCES), 2)],
        "add-one-in": [one[0], *(one[0] + one[k] for k in range(1, SOURCES))],
        "sizes": [np.full(SOURCES, share) for share in (0.25, 0.5)],
    }
    return [tuple(row.tolist()) for kind in design.split(" & ") for row in rows[kind]]


def draw(situation: Situation, rng: Rng) -> Attribution:
    """One study: two benchmarks with items of their own, every model's answers right or wrong."""
    mixtures = mixtures_of(situation.design)
    runs: list[tuple[tuple[float, ...], dict[str, Items]]] = []
    every = [(0.0,) * SOURCES] + [one for one in mixtures for _ in range(situation.seeds)]
    chances = {}
    for name, size in (("a", situation.items), ("b", situation.items // 2)):
        ease = rng.uniform(*situation.ease, size)[:, None]
        own = np.array(situation.effects) + rng.normal(0, situation.spread, (size, SOURCES))
        chances[name] = (ease, own)
    for number, amounts in enumerate(every):
        run = {}
        for name, (ease, own) in chances.items():
            luck = rng.normal(0, situation.luck) if number else 0.0
            chance = ease[:, 0] + own @ np.array(amounts) + luck
            right = (rng.random(len(chance)) < chance).astype(float)
            run[name] = Items({str(item): score for item, score in enumerate(right.tolist())})
        runs.append((amounts, run))
    tuned = [
        Tuned(str(amounts), {f"d{k}": amount for k, amount in enumerate(amounts)}, run)
        for amounts, run in runs[1:]
    ]
    return attribute(tuned, runs[0][1])


def simulate(situation: Situation, rounds: int, seed: int) -> Found:
    """Draw `rounds` studies and count."""
    rng = np.random.default_rng(seed)
    truth = {f"d{k}": effect for k, effect in enumerate(situation.effects)}
    whole = sum(max(0.0, effect) for effect in situation.effects)
    counts: list[list[float]] = [[] for _ in range(8)]
    held, held_average, width, anything, false, best, short, wrong = counts
    for _ in range(rounds):
        found = draw(situation, rng)
        for one in found.effects:
            right = one.low <= truth[one.source] <= one.high
            (held_average if one.benchmark == AVERAGE else held).append(right)
            width.append(one.high - one.low)
        told = [one for one in found.effects if one.benchmark != AVERAGE and one.p_holm < 0.05]
        anything.append(bool(told))
        mistaken = [one for one in told if not truth[one.source] * one.value > 0]
        false.append(len(mistaken) / max(1, len(told)))
        chosen = found.best[-1]
        short.append(whole - sum(truth[name] for name in chosen.sources))
        best.append(short[-1] < 1e-9)  # sources without an effect do no harm
        trained = dict(zip(truth, _amounts(chosen.against), strict=True))
        gain = sum((name in chosen.sources) * e - trained[name] * e for name, e in truth.items())
        wrong.append(chosen.sure and gain <= 0)
    return Found(situation.name, rounds, *(float(np.mean(count)) for count in counts))


def _amounts(mixture: str) -> tuple[float, ...]:
    return tuple(float(amount) for amount in mixture.strip("()").split(","))


NONE = (0.0,) * SOURCES
HALF = (0.08, 0.0, -0.06, 0.0, 0.05, 0.0)
FEW, SELDOM = (0.03, 0.0, 0.02, 0.0, 0.01, 0.0), (0.005, 0.015)
APART = (0.09, 0.06, 0.07, -0.08, 0.08, -0.06)


def situations() -> list[Situation]:
    """What the table shows."""
    both = "single & leave-one-out"
    return [
        Situation("single, 1 seed, no luck", "single", 1, 200, HALF, 0.0),
        Situation("single, 1 seed", "single", 1, 200, HALF),
        Situation("single, 2 seeds", "single", 2, 200, HALF),
        Situation("single, 3 seeds", "single", 3, 200, HALF),
        Situation("leave-one-out, 2 seeds", "leave-one-out", 2, 200, HALF),
        Situation("leave-one-out, 3 seeds", "leave-one-out", 3, 200, HALF),
        Situation("single and leave-one-out, 1 seed", both, 1, 200, HALF),
        Situation("single and leave-one-out, 2 seeds", both, 2, 200, HALF),
        Situation("single and leave-one-out, 2 seeds, much luck", both, 2, 1000, HALF, 0.05),
        Situation("single and pairs, 1 seed", "single & pairs", 1, 200, HALF),
        Situation("all of these and sizes, 2 seeds", f"{both} & pairs & sizes", 2, 200, HALF),
        Situation("no effects: single, 1 seed", "single", 1, 200, NONE),
        Situation("no effects: single, 2 seeds", "single", 2, 200, NONE),
        Situation("no effects: single and leave-one-out, 1 seed", both, 1, 200, NONE),
        Situation("no effects: single and leave-one-out, 2 seeds", both, 2, 200, NONE),
        Situation("few solved: single, 2 seeds", "single", 2, 64, FEW, 0.0, 0.0, SELDOM),
        Situation(
            "few solved: single and leave-one-out, 2 seeds", both, 2, 64, FEW, 0.0, 0.0, SELDOM
        ),
        Situation("clear effects: single, 2 seeds", "single", 2, 500, APART, 0.01),
        Situation("clear effects: single and leave-one-out, 2 seeds", both, 2, 500, APART, 0.01),
    ]


COLUMNS = ("mmlu:0-shot", "gsm:cot", "bbh:cot", "tydiqa:gold", "codex_humaneval:pass@10")
"""Of the paper's Table 3; AlpacaEval is left out, as the untuned base has none."""
HUMAN = ("cot", "flan_v2", "dolly", "oasst1")
MIXES = {"human": HUMAN, "tulu": (*HUMAN, "gpt4_alpaca", "code_alpaca", "sharegpt")}
"""The paper's two mixtures and their parts, each whole as it was trained on alone."""


@dataclass(frozen=True)
class Guess:
    """What data sets alone make expect of a mixture, and what it scored, [5] each in points."""

    added: Any
    mean: Any
    best: Any
    printed: Any

    def missed(self) -> dict[str, float]:
        """By how many points each guess is off, on average over benchmarks."""
        guesses = {"adding up": self.added, "mean of parts": self.mean, "best part": self.best}
        return {name: float(np.abs(one - self.printed).mean()) for name, one in guesses.items()}


def table_3() -> tuple[dict[str, Any], dict[str, Guess]]:
    """(effect of each data set against the untuned base [5], in points; the guesses of each mix).

    The paper's LLaMA 13B, from the published numbers. One training of each and no per-item scores:
    no interval can be made of them.
    """
    scores = {
        data: np.array([cells[label] for label in COLUMNS])
        for data in dict.fromkeys(row.data for row in published("table-3"))
        if (cells := {row.benchmark: row.value for row in published("table-3") if row.data == data})
    }
    names = [name for name in scores if name and name not in MIXES]
    rows = np.array([scores[""], *(scores[name] for name in names)])
    solve, _ = least_squares(np.vstack([np.zeros(len(names)), np.eye(len(names))]))
    fitted = solve @ rows
    effects = dict(zip(names, fitted[1:], strict=True))
    mixes = {}
    for mix, parts in MIXES.items():
        alone = np.array([scores[part] for part in parts])
        added = fitted[0] + sum(effects[part] for part in parts)
        mixes[mix] = Guess(added, alone.mean(axis=0), alone.max(axis=0), scores[mix])
    return effects, mixes


def main() -> None:
    """Print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    heads = ("held", "average", "width", "found", "false", "best", "short", "wrong")
    print(f"{'%':54}" + "".join(f"{head:>9}" for head in heads))
    rows = []
    for situation in situations():
        found = simulate(situation, given.rounds, given.seed)
        rows.append(asdict(found))
        shares = list(rows[-1].values())[2:]
        print(f"{found.name:54}" + "".join(f"{100 * one:9.1f}" for one in shares), flush=True)
        if not BAND[0] <= found.covered <= BAND[1]:
            print(f"outside 93 to 97 %: {found.name}", file=sys.stderr)
    write_json(OUT, {"rounds": given.rounds, "seed": given.seed, "rows": rows})
    tell_table_3()


def tell_table_3() -> None:
    """Print what is made of the paper's table."""
    effects, mixes = table_3()
    print("\nTable 3, effects against the untuned base in points: " + ", ".join(COLUMNS))
    for name, points in effects.items():
        print(f"{name:24}" + _points(points))
    for name, guess in mixes.items():
        print(f"{name + ', adding up':24}" + _points(guess.added))
        print(f"{name + ', best part':24}" + _points(guess.best))
        print(f"{name + ', printed':24}" + _points(guess.printed))
        print("off by " + ", ".join(f"{how} {by:.1f}" for how, by in guess.missed().items()))


def _points(values: Sequence[float]) -> str:
    return "".join(f"{value:8.1f}" for value in values)


if __name__ == "__main__":
    main()
