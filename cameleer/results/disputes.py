"""Items that a judge and people both judged: how often they side alike, and where they do not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cameleer.results.judgements import swapped
from cameleer.results.records import Judgement
from cameleer.results.stats import Estimate, mean_interval

NEITHER = 1e-9  # a preference no further from 1.5 is for neither
Place = tuple[str, str, str]
"""An item and the two models that were compared on it, by name."""


@dataclass(frozen=True)
class Dispute:
    """An item on which a judge and people prefer different answers; both turned to the same A."""

    item: str
    a: str
    b: str
    judge: list[Judgement]
    people: list[Judgement]

    @property
    def judged(self) -> float:
        """The judge's mean preference, 1 (A) to 2 (B)."""
        return _mean(self.judge)

    @property
    def rated(self) -> float:
        """The people's."""
        return _mean(self.people)

    @property
    def distance(self) -> float:
        return abs(self.judged - self.rated)


@dataclass(frozen=True)
class Meeting:
    """A judge and people on the same comparisons.

    items: how many both judged; same, opposite: on how many they side alike or against each other;
    on the others one of them prefers neither. agreement: mean of 1 for the same side (or neither),
    one half where just one of them prefers neither, 0 for opposite sides (arXiv 2306.04751, App.
    G.2). disputes: the opposite ones, the furthest apart first.
    """

    judge: str
    items: int
    same: int
    opposite: int
    agreement: Estimate | None
    disputes: list[Dispute]


def meeting(judge: str, judged: Sequence[Judgement], people: Sequence[Judgement]) -> Meeting:
    """What a judge and people say of the comparisons that both judged; several say their mean."""
    machine, human = _by_place(judged), _by_place(people)
    shared = [
        Dispute(item, a, b, machine[item, a, b], human[item, a, b])
        for item, a, b in sorted(machine.keys() & human.keys())
    ]
    sides = [(_side(one.judged), _side(one.rated)) for one in shared]
    agreed = [1 - abs(first - second) / 2 for first, second in sides]
    disputes = [one for one, (first, second) in zip(shared, sides, strict=True)
                if first * second < 0]  # fmt: skip
    return Meeting(
        judge=judge,
        items=len(shared),
        same=sum(first * second > 0 for first, second in sides),
        opposite=len(disputes),
        agreement=_agreement(agreed, [one.item for one in shared]),
        disputes=sorted(disputes, key=lambda one: (-one.distance, -len(one.people), one.item)),
    )


def _agreement(agreed: Sequence[float], items: Sequence[str]) -> Estimate | None:
    return mean_interval(agreed, clusters=items) if agreed else None


def _by_place(judgements: Sequence[Judgement]) -> dict[Place, list[Judgement]]:
    """Judgements by item and pair of models, the names in order, those without verdict left out."""
    found: dict[Place, list[Judgement]] = defaultdict(list)
    for one in judgements:
        if one.preference is not None:
            turned = one if one.a <= one.b else swapped(one)
            found[turned.item, turned.a, turned.b].append(turned)
    return found


def _mean(judgements: Sequence[Judgement]) -> float:
    told = [one.preference for one in judgements if one.preference is not None]
    return sum(told) / len(told)


def _side(preference: float) -> int:
    """-1: A is better, 1: B is, 0: neither."""
    return 0 if abs(preference - 1.5) <= NEITHER else 1 if preference > 1.5 else -1
