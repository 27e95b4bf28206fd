"""How often prediction-powered intervals of 95 % hold the truth, and what they save in labels.

    python -m bench.powered [--rounds 2000] [--seed 1]

Draws campaigns whose truth is known: a model's win rate, a judge that is right so often where it
wins and where it loses, few labels of people among 805 verdicts; plain wins and losses, or with
draws, slight preferences and probabilities, or with three pairs of models to an item. Beside the
corrected interval it counts that of the labels alone, of the judge alone, and the published one
(PPI++, normal quantile). Prints a table, on stderr what holds the truth less often than 93 of 100
times, and writes bench/out/powered.json. With --real FILE... the truth is that of AlpacaEval's
annotations, of which labels are drawn, and the judge is a dummy that prefers the longer answer.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cameleer.core.files import write_json
from cameleer.results.powered import Powered, powered

OUT = Path(__file__).parent / "out" / "powered.json"
LEAST = 0.93
ITEMS = 805  # of AlpacaEval
LABELS = (20, 30, 50, 100)
WIN_RATES = (0.02, 0.1, 0.5, 0.9)
JUDGES = {
    "right on 60 %": (0.6, 0.6),
    "right on 75 %": (0.75, 0.75),
    "right on 90 %": (0.9, 0.9),
    "right on 97 %": (0.97, 0.97),
    "for the model": (0.95, 0.7),
    "against it": (0.7, 0.95),
}
"""How often a judge is right on items that the model wins, and on those that it loses."""

Rng = Any
Draw = Callable[[Rng], tuple[Powered, tuple[float, float], float]]
"""One campaign: what we say, the published interval, and the truth."""


@dataclass
class Row:
    """One situation; covered_*: shares of intervals that held the truth, of the corrected, the
    published, the labels' and the judge's one; width_*: mean widths; effective: mean number of
    labels that would be as sure."""

    kind: str
    judge: str
    win_rate: float
    labels: int
    covered: float
    covered_published: float
    covered_people: float
    covered_judge: float
    width: float
    width_people: float
    effective: float


def published(labels: Any, verdicts: Any, others: Any, power: float) -> tuple[float, float]:
    """The interval of PPI++ for a mean at this lambda: normal, variances as they are."""
    value = labels.mean() - power * (verdicts.mean() - others.mean())
    variance = np.var(labels - power * verdicts) / len(labels) + power**2 * np.var(others) / len(
        others
    )
    half = 1.959964 * math.sqrt(variance)
    return float(value - half), float(value + half)


def judged(rng: Rng, truth: Any, judge: tuple[float, float]) -> Any:
    """What a judge says of wins (1) and losses (0)."""
    right = rng.random(len(truth)) < np.where(truth == 1, *judge)
    return np.where(right, truth, 1 - truth)


def one_campaign(labels: Any, verdicts: Any, n: int) -> tuple[Powered, tuple[float, float]]:
    """The first n items are labelled."""
    known, told, rest = labels[:n], verdicts[:n], verdicts[n:]
    found = powered(known.tolist(), told.tolist(), rest.tolist())
    return found, published(known, told, rest, found.power)


def plain(win_rate: float, judge: tuple[float, float], n: int) -> Draw:
    """Wins and losses only."""

    def draw(rng: Rng) -> tuple[Powered, tuple[float, float], float]:
        truth = (rng.random(ITEMS) < win_rate).astype(float)
        return *one_campaign(truth, judged(rng, truth, judge), n), win_rate

    return draw


def graded(win_rate: float, judge: tuple[float, float], n: int) -> Draw:
    """A fifth of the labels are draws, a third slight; the judge tells probabilities."""
    mean = 0.8 * (0.75 * win_rate + 0.25 * (0.25 + 0.5 * win_rate)) + 0.1

    def draw(rng: Rng) -> tuple[Powered, tuple[float, float], float]:
        won = (rng.random(ITEMS) < win_rate).astype(float)
        clear = rng.random(ITEMS) < 0.75
        labels = np.where(clear, won, 0.25 + 0.5 * won)
        labels = np.where(rng.random(ITEMS) < 0.2, 0.5, labels)
        said = judged(rng, won, judge)
        verdicts = np.where(said == 1, rng.beta(6, 1, ITEMS), rng.beta(1, 6, ITEMS))
        return *one_campaign(labels, verdicts, n), mean

    return draw


def clustered(win_rate: float, judge: tuple[float, float], n: int) -> Draw:
    """Three opponents to an item, whose outcomes correlate by a third; n // 3 items are labelled
    against all, so that n labels are fewer independent ones."""
    spread = 2.0  # a + b of the items' Beta distribution: 1 / (1 + spread) is the correlation

    def draw(rng: Rng) -> tuple[Powered, tuple[float, float], float]:
        items = ITEMS // 3
        chance = rng.beta(spread * win_rate, spread * (1 - win_rate), items)
        truth = (rng.random((items, 3)) < chance[:, None]).astype(float).ravel()
        verdicts = judged(rng, truth, judge)
        names = [str(item) for item in range(items) for _ in range(3)]
        known = 3 * (n // 3)
        found = powered(
            truth[:known].tolist(),
            verdicts[:known].tolist(),
            verdicts[known:].tolist(),
            clusters=(names[:known], names[known:]),
        )
        limits = published(truth[:known], verdicts[:known], verdicts[known:], found.power)
        return found, limits, win_rate

    return draw


def simulate(draw: Draw, rounds: int, seed: list[int]) -> dict[str, float]:
    """Count over `rounds` draws."""
    rng = np.random.default_rng(seed)
    sums = dict.fromkeys(
        ("covered", "covered_published", "covered_people", "covered_judge", "width",
         "width_people", "effective"), 0.0,
    )  # fmt: skip
    for _ in range(rounds):
        found, limits, truth = draw(rng)
        sums["covered"] += found.corrected.low <= truth <= found.corrected.high
        sums["covered_published"] += limits[0] <= truth <= limits[1]
        sums["covered_people"] += found.people.low <= truth <= found.people.high
        sums["covered_judge"] += found.judge.low <= truth <= found.judge.high
        sums["width"] += found.corrected.high - found.corrected.low
        sums["width_people"] += found.people.high - found.people.low
        sums["effective"] += found.effective
    return {name: value / rounds for name, value in sums.items()}


def situations() -> list[tuple[str, str, float, int, Draw]]:
    """(kind, judge, win rate, labels, draw) of all."""
    found = [
        ("wins and losses", name, rate, n, plain(rate, judge, n))
        for name, judge in JUDGES.items()
        for rate in WIN_RATES
        for n in LABELS
    ]
    for kind, make, sizes in (
        ("with draws and degrees", graded, (30, 100)),
        ("three pairs to an item", clustered, (60, 150)),
    ):
        found += [
            (kind, name, rate, n, make(rate, JUDGES[name], n))
            for name in ("right on 75 %", "right on 90 %", "for the model")
            for rate in (0.1, 0.5, 0.9)
            for n in sizes
        ]
    return found


def real(files: list[Path], rounds: int, seed: int) -> list[Row]:
    """Labels drawn from published verdicts; the judge prefers the longer answer."""
    from cameleer.evals.judge.audit import hear
    from cameleer.evals.judge.leaderboard import LONGER, dummies
    from cameleer.results.powered import opinion

    rows = []
    for file in files:
        heard = hear([file])
        said, longer = opinion(heard.judgements).shares, dummies(heard.texts)[LONGER]
        pair = heard.judgements[0]
        name = f"{pair.a} / {pair.b}"
        turned = pair.a > pair.b
        both = np.array([(share, longer[where]) for where, share in said.items()])
        both = 1 - both if turned else both
        truth = float(both[:, 0].mean())
        for n in (30, 50, 100):

            def draw(
                rng: Rng, both: Any = both, n: int = n, truth: float = truth
            ) -> tuple[Powered, tuple[float, float], float]:
                mixed = both[rng.permutation(len(both))]
                return *one_campaign(mixed[:, 0], mixed[:, 1], n), truth

            found = simulate(draw, rounds, [seed, n, *name.encode()])
            rows.append(Row(name, "the longer answer", truth, n, **found))
    return rows


def say(row: Row) -> None:
    """One line of the table; what covers too seldom goes to stderr as well."""
    shares = (row.covered, row.covered_published, row.covered_people, row.covered_judge)
    print(
        f"{row.kind:36}{row.judge:19}{100 * row.win_rate:>6.1f}{row.labels:>7}"
        + "".join(f"{100 * share:>10.1f}" for share in shares)
        + f"{100 * row.width:>8.1f}{100 * row.width_people:>8.1f}{row.effective:>8.0f}",
        flush=True,
    )
    if row.covered < LEAST:
        print(f"below 93 %: {row}", file=sys.stderr)


def main() -> None:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", type=Path, nargs="*", default=[])
    given = parser.parse_args()
    print(
        f"{'kind':36}{'judge':19}{'wins':>6}{'labels':>7}{'covered':>10}{'published':>10}"
        f"{'people':>10}{'judge':>10}{'width':>8}{'people':>8}{'worth':>8}"
    )
    rows = []
    if given.real:
        rows = real(given.real, given.rounds, given.seed)
        for row in rows:
            say(row)
    else:
        for number, (kind, judge, rate, n, draw) in enumerate(situations()):
            found = simulate(draw, given.rounds, [given.seed, number])
            rows.append(Row(kind, judge, rate, n, **found))
            say(rows[-1])
        plainly = [row.covered for row in rows]
        print(f"covered: mean {100 * np.mean(plainly):.1f}, least {100 * min(plainly):.1f} %")
    out = OUT.with_name("powered_real.json") if given.real else OUT
    facts = {"rounds": given.rounds, "seed": given.seed, "rows": [asdict(row) for row in rows]}
    write_json(out, facts)


if __name__ == "__main__":
    main()
