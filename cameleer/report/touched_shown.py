"""The report's section on items that mixtures touch: in words, as tables, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from cameleer.report.analysis import AVERAGE, BETTER, LEVEL, NO_DIFFERENCE, WORSE, Analysis
from cameleer.report.facts import Table, relative
from cameleer.report.tables import Sheet
from cameleer.report.touched import Compared, Touching, over
from cameleer.report.words import MISSING, counted, interval, listed, p_is, p_value, points, signed
from cameleer.results.touched import FEW, Excess, Side

HOW = {
    BETTER: "detectably better than the base",
    WORSE: "detectably worse than the base",
    NO_DIFFERENCE: "not detectably different from the base",
}


def headlines(analysis: Analysis, told: Touching) -> list[str]:
    """For each base the mixtures whose gain over all benchmarks hangs on items seen before."""
    found = []
    for matrix in analysis.matrices:
        names = [
            one.whole.mixture
            for one in told.found
            if (one.whole.base, one.whole.benchmark) == (matrix.base, matrix.columns[-1])
            and one.whole.verdict == BETTER != one.verdict
        ]
        of = f"{matrix.base}: " if len(analysis.matrices) > 1 else ""
        if names:
            gained = f"what {listed(names)} gained is not detectable without items seen before"
            found.append(f"{of}But {gained}.")
    return found


def sentences(told: Touching) -> list[str]:
    """What belongs to the study's answer: verdicts that hang on items seen before."""
    return [_sentence(one) for one in told.found if one.telling]


def _sentence(one: Compared) -> str:
    whole = one.whole
    start = (
        f"Seen before: on {whole.base}, {whole.mixture} touches {one.touched:,} of the "
        f"{counted(one.asked, 'item')} of {over(one)}. Over all of them it is "
        f"{HOW[whole.verdict]} ({signed(whole.paired.difference)} points)"
    )
    if one.clean is None:
        return f"{start}, and none is left that could tell what it learned besides."
    clean = one.clean.paired
    start += (
        f", over the clean ones {HOW[one.verdict]} ({signed(clean.difference)}, {interval(clean)})."
    )
    excess = one.split.excess
    if one.split.touched is None:  # of an average: not every benchmark has touched items
        return start
    if excess is None or one.p_holm is None:
        return f"{start} Too few are touched to tell whether they are why."
    sure = "detectably" if one.p_holm < LEVEL else "not detectably"
    larger = "larger" if (excess.value > 0) != whole.lower_is_better else "smaller"
    return (
        f"{start} What it gained on the touched ones is {sure} {larger} "
        f"({signed(excess.value)}, {_limits(excess)}; adjusted {p_is(one.p_holm)})."
    )


def content(analysis: Analysis, told: Touching, out: Path) -> dict[str, Any]:
    """What the section shows."""
    pages: dict[Path, list[str]] = {}
    for name, labels in told.labels.items():
        page = labels.folder / "matches.html"
        if labels.touched and page.is_file():  # a bundle is without what quotes its data
            pages.setdefault(page, []).append(name)
    return {
        "said": _said(told),
        "generated": analysis.study.generated,
        "overview": overview(told),
        "tables": [_of_base(base, told) for base in analysis.study.bases],
        "pages": [(listed(names), quote(relative(page, out))) for page, names in pages.items()],
        "few": FEW,
    }


def _said(told: Touching) -> list[str]:
    """In words what was found, and what was not looked for."""
    said = []
    if told.found:
        names = dict.fromkeys(one.whole.mixture for one in told.found)
        said.append(f"Items that were asked stand in {listed(list(names))}.")
    elif told.compared:
        said.append("Of the items that were asked none was found in any of these mixtures.")
    for benchmark, mixtures in told.unscored.items():
        counts = [f"{number:,} in {mixture}" for mixture, number in mixtures.items()]
        said.append(f"Of {benchmark}, which has no scores to split, items stand: {listed(counts)}.")
    if told.unknown:
        said.append(f"Items of {listed(told.unknown)} were not looked for, or not all of them.")
    if told.unsearched:
        why = "the study says overlap: false, or this is not done yet"
        said.append(f"Nothing was looked for in {listed(told.unsearched)}: {why}.")
    return said


def overview(told: Touching) -> Table:
    """How many of the items that were asked each mixture touches, whatever the base."""
    shares: dict[str, dict[str, str]] = {}
    for one in told.compared:
        row = shares.setdefault(one.whole.mixture, {})
        row[one.whole.benchmark] = _share(one)
    names = list(dict.fromkeys(name for row in shares.values() for name in row if name != AVERAGE))
    rows = [
        [mixture, *(row.get(name, MISSING) for name in names)] for mixture, row in shares.items()
    ]
    return Table("Items touched, of those that were asked", ["mixture", *names], rows)


def _of_base(base: str, told: Touching) -> Table:
    """The comparisons with one base in which some items are touched."""
    rows = []
    for one in told.found:
        if one.whole.base != base:
            continue
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in one.kinds.most_common())
        sides = [*_side(one.split.touched), *_side(one.split.clean)]
        excess = _excess(one.split.excess, one.p_holm)
        verdicts = [one.whole.verdict, one.verdict]
        named = [one.whole.mixture, one.whole.benchmark]
        how = f"{kinds}; {counted(one.answered, 'answer')}"
        rows.append([*named, _share(one), how, *verdicts, *excess, *sides])
    head = ["mixture", "benchmark", "touched", "how", "over all items", "over clean items"]
    head += ["touched less clean", "p (Holm)", "touched: base → tuned", "difference, touched"]
    head += ["clean: base → tuned", "difference, clean"]
    texts = ("benchmark", "how", "over all items", "over clean items")
    caption = f"{base}: scores on the items that a mixture touches, and on those that it does not"
    return Table(caption, head, rows, texts)


def _share(one: Compared) -> str:
    return f"{one.touched:,} of {one.asked:,}"


def _side(side: Side | None) -> list[str]:
    if side is None:
        return [MISSING, MISSING]
    moved = f"{signed(side.moved.difference)} ({interval(side.moved)})"
    return [f"{points(side.base.value)} → {points(side.tuned.value)}", moved]


def _excess(excess: Excess | None, p: float | None) -> list[str]:
    if excess is None or p is None:
        return [MISSING, MISSING]
    return [f"{signed(excess.value)} ({_limits(excess)})", p_value(p)]


def _limits(excess: Excess) -> str:
    return f"{signed(excess.low)} to {signed(excess.high)}"


def sheet(analysis: Analysis, told: Touching) -> Sheet:
    """The section's tables; in the CSV every comparison, also those without touched items."""
    numbers = ("n", "base", "tuned", "difference", "low", "high", "p")
    sides = [f"{side} {name}" for side in ("touched", "clean") for name in numbers]
    head = ["base", "mixture", "benchmark", "asked", "touched", "kinds", "answers", *sides]
    head += ["clean p_holm", "excess", "excess low", "excess high", "excess p", "excess p_holm"]
    rows = [_row(one) for one in told.compared]
    shown = [overview(told), *(_of_base(base, told) for base in analysis.study.bases)]
    shown = [table for table in shown if table.rows]
    return Sheet("touched", shown, [*head, "verdict", "verdict clean"], rows)


def _row(one: Compared) -> list[Any]:
    kinds = "; ".join(f"{kind} {number}" for kind, number in one.kinds.most_common())
    named = [one.whole.base, one.whole.mixture, one.whole.benchmark]
    excess = one.split.excess
    return [
        *named, one.asked, one.touched, kinds, one.answered,
        *_numbers(one.split.touched),
        *_numbers(one.split.clean),
        one.clean.p_holm if one.clean else "",
        *([excess.value, excess.low, excess.high, excess.p] if excess else [""] * 4),
        "" if one.p_holm is None else one.p_holm, one.whole.verdict, one.verdict,
    ]  # fmt: skip


def _numbers(side: Side | None) -> list[Any]:
    if side is None:
        return [""] * 7
    moved = side.moved
    scores = [moved.n, side.base.value, side.tuned.value]
    return [*scores, moved.difference, moved.low, moved.high, moved.p]
