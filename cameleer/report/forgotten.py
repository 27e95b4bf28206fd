"""What tuned models forgot of what their base could do, and what they learned, item by item."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cameleer.report.analysis import AVERAGE, WORSE, Analysis, Difference, Score
from cameleer.report.facts import Table, number, relative
from cameleer.report.tables import Sheet
from cameleer.report.words import MISSING, counted, interval, p_is, points, signed
from cameleer.results.stats import Estimate, Items, mean_interval, score_table
from cameleer.results.store import UNTUNED

RIGHT = 0.5  # an item is right with this score or more


@dataclass(frozen=True)
class Flips:
    """The items of a benchmark that changed sides from a base to a model tuned on a mixture.

    right: items that the base had right; forgotten: of these now wrong; learned: of the other items
    now right; of several seeds the mean. lost: the share forgotten, None where the base had nothing
    right. folders: where the base's and the model's answers stand (of several seeds the first's).
    """

    difference: Difference
    right: int
    forgotten: float
    learned: float
    items: int
    lost: Estimate | None
    folders: tuple[Path, Path]


@dataclass(frozen=True)
class Changed:
    """Where the items are to be read: by which base and benchmark their page goes, the two models
    as the report calls them, and a command from the folder of the report."""

    page: tuple[str, str]
    sides: tuple[str, str]
    command: str


@dataclass(frozen=True)
class Shown:
    """What the page says of it. changed: the comparisons in which items changed sides."""

    words: list[str]
    table: Table
    sheet: Sheet
    changed: list[Changed]


def shown(analysis: Analysis, out: Path) -> Shown:
    """The part of a page in the folder `out`: nothing where nothing is compared with its base."""
    found = flips(analysis)
    told = table(found, len(analysis.matrices) > 1)
    return Shown(in_words(found) if found else [], told, sheet(found, told), changed(found, out))


def flips(analysis: Analysis) -> list[Flips]:
    """For every difference to a base on a benchmark, in the same order."""
    rows = {
        (matrix.base, row.mixture): row.scores
        for matrix in analysis.matrices
        for row in matrix.rows
        if not row.reference
    }
    found = []
    for one in analysis.differences:
        base, tuned = (rows[one.base, name][one.benchmark] for name in (None, one.mixture))
        if one.benchmark != AVERAGE and base and tuned:
            found.append(_flips(one, base, tuned))
    return found


def _flips(difference: Difference, base: Score, tuned: Score) -> Flips:
    runs = [run.items_upward for run in (base.runs[0], *tuned.runs)]
    table, _ = score_table(runs)
    right = table >= RIGHT
    before, after = right[0], right[1:].mean(axis=0)
    return Flips(
        difference,
        right=int(before.sum()),
        forgotten=float((1 - after[before]).sum()),
        learned=float(after[~before].sum()),
        items=len(before),
        lost=_share(runs[0], before, 1 - after),
        folders=(base.runs[0].folder, tuned.runs[0].folder),
    )


def _share(items: Items, of: Any, lost: Any) -> Estimate | None:
    """The mean of `lost` over some items, all of equal weight, with its interval; None of none."""
    keys = sorted(items.scores)
    clusters = [items.clusters.get(key, "") for key, one in zip(keys, of, strict=True) if one]
    return mean_interval(lost[of], clusters=clusters) if clusters else None


def in_words(found: list[Flips]) -> list[str]:
    """What was detectably forgotten, a sentence for each; or that nothing was."""
    worse = [one for one in found if one.difference.verdict == WORSE]
    if not worse:
        more = sum(one.forgotten > one.learned for one in found)
        compared = counted(len(found), "comparison")
        return [
            "On no benchmark is a tuned model detectably worse than its base. On "
            f"{more} of {compared} more items were forgotten than learned: chance will do that too."
        ]
    return [_sentence(one) for one in worse]


def _sentence(one: Flips) -> str:
    difference, paired = one.difference, one.difference.paired
    moved = f"{signed(paired.difference)} points, {interval(paired)}"
    return (
        f"{difference.mixture} on {difference.base} forgot {difference.benchmark}: of "
        f"{counted(one.right, 'item')} that the base had right {number(one.forgotten)} are wrong "
        f"now, of the {one.items - one.right:,} others {number(one.learned)} right ({moved}; "
        f"adjusted {p_is(difference.p_holm)})."
    )


def table(found: list[Flips], several: bool) -> Table:
    """Every benchmark of every tuned model on which items changed sides."""
    rows = []
    for one in found:
        if not one.forgotten and not one.learned:
            continue
        difference = one.difference
        name = f"{difference.base}: {difference.mixture}" if several else difference.mixture
        lost = f"{points(one.lost.value)} ({interval(one.lost)})" if one.lost else MISSING
        counts = [f"{one.right:,}", number(one.forgotten), lost]
        rest = [f"{one.items - one.right:,}", number(one.learned)]
        rows.append([name, difference.benchmark, *counts, *rest, difference.verdict])
    head = ["mixture", "benchmark", "right before", "forgotten", "% of these (95 %)"]
    return Table(
        "Items that changed sides from the untuned base to the tuned model",
        [*head, "wrong before", "learned", "in all"],
        rows,
        ("benchmark", "in all"),
    )


def sheet(found: list[Flips], told: Table) -> Sheet:
    """The table as files; in the CSV the share that was forgotten lies in 0..1."""
    head = ["base", "mixture", "benchmark", "items", "right", "forgotten", "lost", "low", "high"]
    rows = []
    for one in found:
        what, lost = one.difference, one.lost
        shares = [lost.value, lost.low, lost.high] if lost else [""] * 3
        counts = [one.items, one.right, one.forgotten, *shares, one.learned, what.verdict]
        rows.append([what.base, what.mixture, what.benchmark, *counts])
    return Sheet("forgotten", [told], [*head, "learned", "verdict"], rows)


def changed(found: list[Flips], out: Path) -> list[Changed]:
    """Where to read the items that changed sides."""
    return [
        Changed(
            (one.difference.base, one.difference.benchmark),
            (UNTUNED, one.difference.mixture),
            _command(one, out),
        )
        for one in found
        if one.forgotten or one.learned
    ]


def _command(one: Flips, out: Path) -> str:
    folders = (relative(folder, out) for folder in one.folders)
    return shlex.join(["cameleer", "eval", "diff", *folders])
