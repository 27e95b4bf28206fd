"""How scores grow with the amount of data: mixtures of one make-up in several sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import log2

from cameleer.core.errors import UserError
from cameleer.results.attribution import tuned_runs
from cameleer.results.effects import Attribution, Effect, attribute
from cameleer.results.store import Study

ALIKE = 0.1  # so much of two mixtures may come from other sources: random draws of one whole do
DOUBLING = "doubling"


@dataclass(frozen=True)
class Curve:
    """Mixtures of one make-up on one base, by one way of training ("" where there is but one).

    sizes: the conversations of each, from few to many; growth: what doubling them adds to each
    benchmark's score, on average over the range, adjusted by Holm; straight: by benchmark the p of
    every doubling adding the same, where seeds let it be told.
    """

    base: str
    way: str
    sizes: Mapping[str, int]
    growth: tuple[Effect, ...]
    straight: Mapping[str, float]

    @property
    def name(self) -> str:
        """The largest mixture, which has most to say of what all are made of."""
        largest = list(self.sizes)[-1]
        return largest.removesuffix(f" ({self.way})")


def curves(study: Study) -> list[Curve]:
    """Every curve of a study of which two sizes are finished."""
    found = []
    for base in study.bases:
        for way, mixtures in study.ways.items():
            for sizes in families({name: study.mixtures[name] for name in mixtures}):
                try:
                    grown = _growth(study, base, sizes)
                except UserError:
                    continue  # too little is finished
                found.append(Curve(base, way, sizes, grown.effects, grown.misfit))
    return found


def families(mixtures: Mapping[str, Mapping[str, int]]) -> list[dict[str, int]]:
    """Mixtures of the same sources in about the same shares, if they come in several sizes: their
    conversations by name, from few to many."""
    totals = {name: sum(parts.values()) for name, parts in mixtures.items() if any(parts.values())}
    groups: list[list[str]] = []
    for name in sorted(totals, key=lambda one: -totals[one]):
        home = next((one for one in groups if _alike(mixtures[one[0]], mixtures[name])), None)
        if home is None:
            groups.append([name])
        else:
            home.append(name)
    several = [group for group in groups if len({totals[name] for name in group}) > 1]
    return [{name: totals[name] for name in reversed(group)} for group in several]


def _alike(a: Mapping[str, int], b: Mapping[str, int]) -> bool:
    """Whether two mixtures have the same sources, in shares that differ little in all."""
    if {name for name in a if a[name]} != {name for name in b if b[name]}:
        return False
    whole, other = sum(a.values()), sum(b.values())
    return sum(abs(a[name] / whole - b.get(name, 0) / other) for name in a) / 2 <= ALIKE


def _growth(study: Study, base: str, sizes: Mapping[str, int]) -> Attribution:
    """The line through scores by the logarithm of the size, per doubling: the same statistics as of
    effects, of a source whose amount is how often the smallest size was doubled."""
    tuned, _, _ = tuned_runs(study, base, sizes)
    least = min(sizes[one.mixture] for one in tuned)
    doubled = [log2(sizes[one.mixture] / least) for one in tuned]
    runs = [
        replace(one, amounts={DOUBLING: times}) for one, times in zip(tuned, doubled, strict=True)
    ]
    found = attribute(runs)
    most = max(doubled)
    each = (
        replace(one, value=one.value / most, low=one.low / most, high=one.high / most)
        for one in found.effects
    )
    return replace(found, effects=tuple(each))
