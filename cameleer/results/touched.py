"""What a model gained on the test items that its mixture touches, and on those that it does not.

A gain that is larger on items that stand in the training data is, in part at least, no skill: the
difference of the two gains says how large a part. The base's scores on the same items tell it from
items that are easy for everybody.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from cameleer.core.errors import UserError
from cameleer.core.jsonl import read_jsonl
from cameleer.results.stats import (
    Estimate,
    Paired,
    Run,
    suite_difference,
    suite_mean,
    t_p,
    t_quantile,
)

LABELS = "labels.jsonl"
FEW = 6  # of fewer items not even all changing sides alike is a sign (sign test: p of 2 / 2^n)


class Touch(NamedTuple):
    """How a mixture touches an item: the kind of the strongest match, and whether a right answer
    stands there, too; None if the item has none."""

    kind: str
    answer_seen: bool | None


@dataclass(frozen=True)
class Labels:
    """Which test items a mixture touches. items: all that were looked for, by their keys."""

    folder: Path
    items: frozenset[str]
    touched: dict[str, Touch]

    def kinds(self, keys: Collection[str]) -> Counter[str]:
        """How many of some items are touched, by kind, the kind met first in the labels first."""
        return Counter(one.kind for item, one in self.touched.items() if item in keys)

    def answered(self, keys: Collection[str]) -> int:
        """Of how many of some items the answer was seen, too."""
        return sum(bool(one.answer_seen) for item, one in self.touched.items() if item in keys)


def read_labels(folder: Path) -> Labels:
    """The labels in a folder that `cameleer study run` or `cameleer data overlap` wrote."""
    path = folder / LABELS
    items: set[str] = set()
    touched: dict[str, Touch] = {}
    for line, row in read_jsonl(path):
        try:
            items.add(row["item"])
            if row["touched"]:
                touched[row["item"]] = Touch(row["kind"], row["answer_seen"])
        except KeyError as error:
            field = str(error.args[0])
            raise UserError("is missing", file=path, line=line, field=field) from None
    return Labels(folder, frozenset(items), touched)


@dataclass(frozen=True)
class Side:
    """A base and a tuned model on some of a benchmark's items, and the difference of the two."""

    base: Estimate
    tuned: Estimate
    moved: Paired


@dataclass(frozen=True)
class Excess:
    """By how much a difference is larger on touched items than on clean ones, in -2..2."""

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Split:
    """Both sides, None where a benchmark has no such items; excess: None where one has too FEW."""

    touched: Side | None = None
    clean: Side | None = None
    excess: Excess | None = None


def split(base: Sequence[Run], tuned: Sequence[Run], touched: Collection[str]) -> Split:
    """A tuned model (a run for each seed) against its base, on a benchmark or the mean of several.

    Raises UserError if the runs are not over the same items.
    """
    keys = {key for run in base for items in run.values() for key in items.scores}
    inside = _side(base, tuned, keys & set(touched))
    outside = _side(base, tuned, keys - set(touched))
    if inside is None or outside is None or min(inside.moved.n, outside.moved.n) < FEW:
        return Split(inside, outside)
    return Split(inside, outside, excess(inside.moved, outside.moved))


def _side(base: Sequence[Run], tuned: Sequence[Run], keys: Collection[str]) -> Side | None:
    before, after = _within(base, keys), _within(tuned, keys)
    if not all(items.scores for run in before for items in run.values()):
        return None
    return Side(suite_mean(before), suite_mean(after), suite_difference(before, after))


def _within(runs: Sequence[Run], keys: Collection[str]) -> list[Run]:
    """The runs over some of their items."""
    return [
        {
            name: replace(items, scores={k: s for k, s in items.scores.items() if k in keys})
            for name, items in run.items()
        }
        for run in runs
    ]


def excess(touched: Paired, clean: Paired, level: float = 0.95) -> Excess:
    """The difference of two differences over other items, both with their interval at `level`.

    Its interval is made of theirs, by what each reaches towards and away from the other (MOVER: Zou
    and Donner, Statistics in Medicine 27, 2008, 1693-1702), so that it is as right for few items
    and for scores of 0 and 1 as they are. p is that of the normal distribution whose error reaches
    from the value as far towards 0 as the interval does: it is below 1 - level where 0 is outside.
    Several seeds' share of the error is in both differences, which is too much where seeds move
    all items alike.
    """
    value = touched.difference - clean.difference
    down = math.hypot(touched.difference - touched.low, clean.high - clean.difference)
    up = math.hypot(touched.high - touched.difference, clean.difference - clean.low)
    errors = t_quantile(math.inf, level) * value / (down if value > 0 else up)
    return Excess(value, value - down, value + up, t_p(errors, math.inf))
