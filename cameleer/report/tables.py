"""The report's tables as files: Markdown and LaTeX to be read, CSV with every digit to go on with.

TABLES/scores.*       every model on every benchmark
TABLES/differences.*  every mixture against its base
TABLES/data.*         what each source gave to each mixture
TABLES/effects.*      what each source did to each benchmark (see effects_shown)
TABLES/growth.*       what each doubling of the data adds, where there are several sizes (see scale)
TABLES/forgotten.*    items that changed sides from the base to a tuned model (see forgotten)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cameleer.core.csv_rows import write_csv
from cameleer.core.files import replacing
from cameleer.report.analysis import Analysis, Matrix, Row
from cameleer.report.facts import Table, data_table, difference_table, source_facts
from cameleer.report.words import MARKS, MISSING, interval, points, signed
from cameleer.results.store import Study

LATEX = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "[": "{[}",  # after the end of a row these two would be part of its command
        "*": "{*}",
        "−": "$-$",
        "–": "--",
        "…": r"\ldots{}",
        "±": r"$\pm$",
        "×": r"$\times$",
        "·": r"$\cdot$",
        "▲": r"$\triangle$",
        "▼": r"$\nabla$",
        "↓": r"$\downarrow$",
        "✓": r"$\surd$",
    }
)
"""Characters that LaTeX obeys or has no glyph for, as it prints them."""
LATIN = re.compile("[^\u0000-\u017f]")  # what pdflatex prints of Unicode without more packages


@dataclass(frozen=True)
class Sheet:
    """A table as files of one name: as it is read (one for each base), and its numbers in full."""

    name: str
    shown: list[Table]
    head: list[str]
    rows: list[list[Any]]


def write_tables(sheets: Sequence[Sheet], folder: Path) -> list[str]:
    """Write those that have rows as NAME.md, NAME.tex and NAME.csv; returns their names."""
    written = [sheet for sheet in sheets if sheet.rows]
    for sheet in written:
        with replacing(folder / f"{sheet.name}.md") as handle:
            handle.write("\n".join(map(markdown, sheet.shown)))
        with replacing(folder / f"{sheet.name}.tex") as handle:
            labels = [f"{sheet.name}-{n}" if n > 1 else sheet.name for n in _count(sheet.shown)]
            handle.write("\n".join(map(latex, sheet.shown, labels)))
        write_csv(folder / f"{sheet.name}.csv", sheet.head, sheet.rows)
    return [sheet.name for sheet in written]


def _count(tables: Sequence[Table]) -> range:
    return range(1, len(tables) + 1)


def analysis_sheets(analysis: Analysis) -> list[Sheet]:
    """Scores, differences and data; in the CSV scores and differences lie in 0..1."""
    return [
        Sheet("scores", list(map(matrix_table, analysis.matrices)), *_matrix_rows(analysis)),
        Sheet("differences", [difference_table(analysis)], *_difference_rows(analysis)),
        Sheet("data", [data_table(analysis.study)], *_data_rows(analysis.study)),
    ]


def markdown(table: Table) -> str:
    """A table in Markdown, its caption above."""
    rows = [
        [f"**{_plain(cell)}**" if (y, x) in table.strong else _plain(cell)
         for x, cell in enumerate(row)]
        for y, row in enumerate(table.rows)
    ]  # fmt: skip
    marks = ["---" if left else "---:" for left in _left(table)]
    lines = [list(map(_plain, table.head)), marks, *rows]
    return "\n".join([_plain(table.caption), "", *(f"| {' | '.join(one)} |" for one in lines), ""])


def _plain(text: str) -> str:
    """Text that a Markdown table takes for nothing but text."""
    text = " ".join(text.split()).replace("|", "\\|")
    return text.replace("<", "&lt;").replace("*", "\\*").replace("`", "\\`")


def latex(table: Table, label: str) -> str:
    """A table in LaTeX with booktabs, in an environment that floats, as papers have it."""
    rows = [
        [rf"\textbf{{{_tex(cell)}}}" if (y, x) in table.strong else _tex(cell)
         for x, cell in enumerate(row)]
        for y, row in enumerate(table.rows)
    ]  # fmt: skip
    columns = "".join("l" if left else "r" for left in _left(table))
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_tex(table.caption)}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _row(list(map(_tex, table.head))),
        r"\midrule",
        *map(_row, rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        "",
    ]
    if LATIN.search("".join(lines)):
        lines.insert(0, "% holds letters that are not Latin: use XeLaTeX or LuaLaTeX")
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _tex(text: str) -> str:
    return " ".join(text.split()).translate(LATEX)


def _left(table: Table) -> list[bool]:
    """Whether a column's cells begin at the left, as words do."""
    return [index == 0 or name in table.texts for index, name in enumerate(table.head)]


def matrix_table(matrix: Matrix) -> Table:
    """A matrix in points: score, interval, difference to the base; the best are set off."""
    rows = [[row.label, *(_cell(row, column) for column in matrix.columns)] for row in matrix.rows]
    best = frozenset(
        (y, x)
        for y, row in enumerate(matrix.rows)
        for x, column in enumerate(matrix.columns, 1)
        if (score := row.scores[column]) and score.best
    )
    caption = (
        f"{matrix.base}: scores in points, 95 % intervals in brackets, difference to the base "
        "(▲ better, ▼ worse where detectable)"
    )
    heads = [f"{column} ↓" if column in matrix.lower else column for column in matrix.columns]
    return Table(caption, ["data", *heads], rows, strong=best)


def _cell(row: Row, column: str) -> str:
    score = row.scores[column]
    if score is None:
        return MISSING
    text = f"{points(score.estimate.value)} [{interval(score.estimate)}]"
    if score.difference is None:
        return text
    moved = score.difference.paired.difference
    return f"{text} {MARKS.get(score.difference.verdict, '')}{signed(moved)}"


def _matrix_rows(analysis: Analysis) -> tuple[list[str], list[list[Any]]]:
    columns = list(dict.fromkeys(c for matrix in analysis.matrices for c in matrix.columns))
    parts = ("", " low", " high", " n", " seeds", " seed sd")
    head = ["base", "mixture", *(column + part for column in columns for part in parts)]
    rows = []
    for matrix in analysis.matrices:
        for row in matrix.rows:
            cells: list[Any] = []
            for column in columns:
                score = row.scores.get(column)
                if score is None:
                    cells += [""] * len(parts)
                    continue
                e, seeds = score.estimate, len(score.runs) or len(matrix.runs[row.mixture])
                cells += [e.value, e.low, e.high, e.n, seeds, score.spread]
            rows.append([matrix.base, row.mixture or "", *cells])
    return head, rows


def _difference_rows(analysis: Analysis) -> tuple[list[str], list[list[Any]]]:
    head = ["base", "mixture", "benchmark", "n", "difference", "low", "high", "p", "p_holm"]
    rows: list[list[Any]] = []
    for one in [*analysis.differences, *analysis.averages]:
        pair = one.paired
        counts = [one.items_better, one.items_worse, pair.same, one.verdict]
        numbers = [pair.n, pair.difference, pair.low, pair.high, pair.p, one.p_holm]
        rows.append([one.base, one.mixture, one.benchmark, *numbers, *counts])
    return [*head, "better", "worse", "same", "verdict"], rows


def _data_rows(study: Study) -> tuple[list[str], list[list[Any]]]:
    names, facts = source_facts(study)
    rows = [
        [mixture, source, *(values.get(name, "") for name in names)]
        for mixture, source, values in facts
    ]
    return ["mixture", "source", *names], rows
