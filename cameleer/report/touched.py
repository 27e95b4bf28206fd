"""Comparisons with the base, split by whether the mixture touches the items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cameleer.report.analysis import AVERAGE, LEVEL, Analysis, Difference, column_runs
from cameleer.results.stats import holm
from cameleer.results.touched import Labels, Split, read_labels, split

NONE_LEFT = "no item left"


@dataclass(frozen=True)
class Compared:
    """A mixture on one benchmark, or on the average of all.

    whole: its difference to the base; asked: over how many items; kinds: of those that it touches,
    by how; answered: of how many of them it holds the answer, too. The rest only where it touches
    some: split; clean: the difference without them, adjusted within the family of `whole` with all
    others cleaned as well; p_holm: of the excess, within all of them.
    """

    whole: Difference
    asked: int
    kinds: Counter[str]
    answered: int
    split: Split = field(default_factory=Split)
    clean: Difference | None = None
    p_holm: float | None = None

    @property
    def touched(self) -> int:
        return self.kinds.total()

    @property
    def verdict(self) -> str:
        """Over the clean items."""
        if not self.touched:
            return self.whole.verdict
        return self.clean.verdict if self.clean else NONE_LEFT

    @property
    def telling(self) -> bool:
        """Whether who reads the verdict over all items must know of this."""
        sure = self.p_holm is not None and self.p_holm < LEVEL
        return sure or self.verdict != self.whole.verdict


@dataclass(frozen=True)
class Touching:
    """Every comparison that could be split. labels: by mixture; unscored: by benchmark that has no
    scores and by mixture, how many of all its items are touched; unknown: benchmarks with items
    that were not looked for; unsearched: mixtures in which nothing was looked for."""

    labels: Mapping[str, Labels]
    compared: list[Compared]
    unscored: dict[str, dict[str, int]]
    unknown: list[str]
    unsearched: list[str]

    @property
    def found(self) -> list[Compared]:
        """Those with touched items."""
        return [one for one in self.compared if one.touched]


def touching(analysis: Analysis) -> Touching:
    """Every comparison with the base, split by the labels of its mixture."""
    study = analysis.study
    read = {folder: read_labels(folder) for folder in set(study.touched.values())}
    labels = {mixture: read[folder] for mixture, folder in study.touched.items()}
    compared: list[Compared] = []
    for family in (analysis.differences, analysis.averages):
        compared += _cleaned(family, [_compared(analysis, one, labels) for one in family])
    known = {one.whole.benchmark for one in compared}
    asked = {one.benchmark for one in analysis.differences if one.mixture in labels}
    return Touching(
        labels=labels,
        compared=_with_excess(compared),
        unscored=_unscored(analysis, labels),
        unknown=sorted(asked - known),
        unsearched=[mixture for mixture in study.mixtures if mixture not in labels],
    )


def _unscored(analysis: Analysis, labels: Mapping[str, Labels]) -> dict[str, dict[str, int]]:
    """How many items are touched of benchmarks whose answers are only written."""
    scored = {name for matrix in analysis.matrices for name in matrix.benchmarks}
    found: dict[str, dict[str, int]] = {}
    for label in analysis.study.benchmarks:
        start = label.partition(":")[0] + "/"
        for mixture, own in labels.items() if label not in scored else ():
            if number := sum(item.startswith(start) for item in own.touched):
                found.setdefault(label, {})[mixture] = number
    return found


def _compared(
    analysis: Analysis, whole: Difference, labels: Mapping[str, Labels]
) -> Compared | None:
    """One comparison; None where not all of its items were looked for in its mixture."""
    own = labels.get(whole.mixture)
    matrix = next(one for one in analysis.matrices if one.base == whole.base)
    row = next(one for one in matrix.tuned if one.mixture == whole.mixture)
    base = column_runs(matrix, matrix.rows[0], whole.benchmark)
    keys = {key for run in base for items in run.values() for key in items.scores}
    if own is None or not keys <= own.items:
        return None
    found = Compared(whole, len(keys), own.kinds(keys), own.answered(keys))
    if not found.touched:
        return found
    return replace(found, split=split(base, column_runs(matrix, row, whole.benchmark), own.touched))


def _cleaned(family: Sequence[Difference], found: Sequence[Compared | None]) -> Iterator[Compared]:
    """What was found, with differences over clean items: a family in which those without touched
    items stand as they are."""
    sides = [one.split.clean if one else None for one in found]
    clean = [
        replace(one, paired=side.moved) if side else one
        for one, side in zip(family, sides, strict=True)
    ]
    ps = holm([one.paired.p for one in clean])
    for own, side, difference, p in zip(found, sides, clean, ps, strict=True):
        if own:
            yield replace(own, clean=replace(difference, p_holm=p)) if side else own


def _with_excess(found: Sequence[Compared]) -> list[Compared]:
    """The comparisons, the p of each excess adjusted for all of them."""
    tested = [one for one in found if one.split.excess]
    ps = holm([one.split.excess.p for one in tested])  # type: ignore[union-attr]
    adjusted = dict(zip(map(id, tested), ps, strict=True))
    return [replace(one, p_holm=adjusted.get(id(one))) for one in found]


def over(one: Compared) -> str:
    """What a comparison is over, in a sentence."""
    return "the benchmarks together" if one.whole.benchmark == AVERAGE else one.whole.benchmark
