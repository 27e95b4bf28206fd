"""Asking until the interval is narrow enough: how often that interval then holds the truth.

    python -m bench.stopping [--rounds 2000] [--seed 1]

Draws campaigns of one pair whose win rate is known, looks at the interval every few ratings as the
rating app does, and stops where it does (`cameleer.human.standing`). Beside it the same number of
ratings fixed beforehand. Prints a table and writes bench/out/stopping.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from cameleer.core.console import table
from cameleer.core.files import write_json
from cameleer.human.standing import LEAST
from cameleer.results.stats import Estimate, mean_interval

OUT = Path(__file__).parent / "out" / "stopping.json"
EVERY = 10  # ratings between two looks
LEVELS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
SHARES = {
    "close": (0.2, 0.2, 0.2, 0.2, 0.2),
    "paper, 65B against ChatGPT": (0.072, 0.205, 0.331, 0.193, 0.199),
    "paper, 65B against 7B": (0.111, 0.117, 0.319, 0.211, 0.242),
    "one-sided": (0.02, 0.03, 0.1, 0.25, 0.6),
}
"""Shares of the five verdicts, from A clearly better to B clearly better."""


def main() -> None:
    """Draw, stop and count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    random = np.random.default_rng(given.seed)
    rows = [
        row(name, shares, target, given.rounds, random)
        for name, shares in SHARES.items()
        for target in (0.1, 0.05)
    ]
    table("", list(rows[0]), [list(one.values()) for one in rows])
    write_json(OUT, {"rounds": given.rounds, "every": EVERY, "least": LEAST, "rows": rows})


def row(name: str, given: Any, target: float, rounds: int, random: Any) -> dict[str, Any]:
    """One pair and one target."""
    shares = np.array(given) / sum(given)
    truth = float(LEVELS @ shares)
    ends = [stopped(random.choice(LEVELS, size=2000, p=shares), target) for _ in range(rounds)]
    number = round(float(np.mean([one.n for one in ends])))
    fixed = [mean_interval(random.choice(LEVELS, size=number, p=shares)) for _ in range(rounds)]
    return {
        "verdicts": name,
        "win rate": round(truth, 3),
        "target": target,
        "ratings": number,
        "held": held(ends, truth),
        "held, number fixed": held(fixed, truth),
        "bias, points": round(100 * (float(np.mean([one.value for one in ends])) - truth), 2),
    }


def stopped(values: Any, target: float) -> Estimate:
    """The interval at the first look at which it is narrow enough."""
    for n in range(LEAST, len(values) + 1, EVERY):
        found = mean_interval(values[:n])
        if (found.high - found.low) / 2 <= target:
            return found
    raise ValueError("too few values for this target")


def held(intervals: list[Estimate], truth: float) -> float:
    """Share of intervals that hold the truth."""
    return round(float(np.mean([one.low <= truth <= one.high for one in intervals])), 3)


if __name__ == "__main__":
    main()
