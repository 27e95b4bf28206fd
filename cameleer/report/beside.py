"""The paper's models beside a study's: published numbers in a table of their own, not compared."""

from __future__ import annotations

import re

from cameleer.report.analysis import Analysis, Row
from cameleer.report.facts import Table
from cameleer.report.words import MISSING, points
from cameleer.results.published.rows import Published, published

THIS = "this study"
PAPER = ("table-3", "table-5", "table-6")
OTHERS = {"cards": "published, model card", "tulu-2": "published, Tülu 2 paper"}
"""Asked only for benchmarks of which the paper's tables have nothing verified."""

Line = tuple[str, str, dict[str, Published]]
"""A published model, where it is printed, and its scores by benchmark."""


def beside_table(analysis: Analysis) -> Table | None:
    """The study's models, then published ones, on the benchmarks of which both have scores.

    None where no benchmark is the paper's. The study's scores have their number of items in
    brackets. Averages are left out: they are over other benchmarks.
    """
    settings = {
        name: paper_setting(name) for matrix in analysis.matrices for name in matrix.benchmarks
    }
    there = {row.benchmark for row in published(*PAPER, *OTHERS)}
    columns = {name: setting for name, setting in settings.items() if setting in there}
    if not columns:
        return None
    lower = {name for matrix in analysis.matrices for name in matrix.lower}
    head = [f"{name} ↓" if name in lower else name for name in columns]
    rows = _own(analysis, list(columns))
    for model, where, scores in _published(set(columns.values())):
        of = [scores.get(setting) for setting in columns.values()]
        rows.append([model, where, *(f"{one.value:.1f}" if one else MISSING for one in of)])
    caption = "In points; in brackets how many items this study asked"
    return Table(caption, ["model", "from", *head], rows, ("from",))


def paper_setting(label: str) -> str:
    """The setting of the paper that a benchmark's label is, or is a subset of: `gsm:cot-200` and
    `tydiqa:api-gold-20` are `gsm:cot` and `tydiqa:gold`."""
    return re.sub(r"-\d+$", "", label).replace(":api-", ":")


def _own(analysis: Analysis, columns: list[str]) -> list[list[str]]:
    """The study's models, with references once, however many bases there are."""
    rows: dict[str, list[str]] = {}
    several = len(analysis.matrices) > 1
    for matrix in analysis.matrices:
        for row in matrix.rows:
            name = row.label if row.mixture else f"{matrix.base}, untuned"
            if several and row.mixture and not row.reference:
                name = f"{matrix.base}: {name}"
            cells = [_cell(row, column) for column in columns]
            if any(cell != MISSING for cell in cells):
                rows.setdefault(name, [name, THIS, *cells])
    return list(rows.values())


def _cell(row: Row, column: str) -> str:
    score = row.scores.get(column)
    if score is None:
        return MISSING
    return f"{points(score.estimate.value)} ({score.estimate.n:,})"


def _published(settings: set[str]) -> list[Line]:
    """Published models with a score in one of some settings, in printed order: the paper's first,
    then others' for the settings that the paper's tables have nothing of."""
    lines = _lines([row for row in published(*PAPER) if row.benchmark in settings])
    missing = settings - {name for _, _, scores in lines for name in scores}
    for table, where in OTHERS.items():
        rows = [row for row in published(table) if row.benchmark in settings]
        lines += [
            (model, where, scores) for model, _, scores in _lines(rows) if missing & scores.keys()
        ]
    return lines


def _lines(rows: list[Published]) -> list[Line]:
    scores: dict[str, dict[str, Published]] = {}
    for row in rows:
        scores.setdefault(row.model, {}).setdefault(row.benchmark, row)
    return [(model, _printed_in(of), of) for model, of in scores.items()]


def _printed_in(scores: dict[str, Published]) -> str:
    """`published, table 3` or `published, table 5, 6`."""
    tables = sorted({row.table.partition("-")[2] for row in scores.values()})
    return f"published, table {', '.join(tables)}"
