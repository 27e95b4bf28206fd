"""The report's numbers as files: the matrix as Markdown and CSV, differences and data as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cameleer.core.artifact import MANIFEST
from cameleer.core.csv_rows import write_csv
from cameleer.core.files import read_json, replacing
from cameleer.report.analysis import Analysis, Matrix, Row
from cameleer.report.words import MARKS, MISSING, interval, points, signed
from cameleer.results.store import Study


def write_tables(analysis: Analysis, out: Path) -> None:
    """Write table.md, table.csv, differences.csv and data.csv; scores in the CSVs lie in 0..1."""
    with replacing(out / "table.md") as handle:
        handle.write("\n".join(markdown(matrix) for matrix in analysis.matrices))
    write_csv(out / "table.csv", *_matrix_rows(analysis))
    write_csv(out / "differences.csv", *_difference_rows(analysis))
    write_csv(out / "data.csv", *_data_rows(analysis.study))


def markdown(matrix: Matrix) -> str:
    """A matrix as a Markdown table, in points: score, interval, difference to the base."""
    lines = [
        f"**{_plain(matrix.base)}**: scores in points, 95 % intervals in brackets, difference to "
        "the base (▲ better, ▼ worse where detectable)",
        "",
        f"| data | {' | '.join(map(_plain, matrix.columns))} |",
        f"|---|{'---:|' * len(matrix.columns)}",
    ]
    for row in matrix.rows:
        cells = " | ".join(_markdown_cell(row, column) for column in matrix.columns)
        lines.append(f"| {_plain(row.label)} | {cells} |")
    return "\n".join([*lines, ""])


def _markdown_cell(row: Row, column: str) -> str:
    score = row.scores[column]
    if score is None:
        return MISSING
    value = points(score.estimate.value)
    text = f"{f'**{value}**' if score.best else value} [{interval(score.estimate)}]"
    if score.difference is None:
        return text
    moved = score.difference.paired.difference
    mark = MARKS.get(score.difference.verdict, "")
    return f"{text} {mark}{signed(moved)}"


def _plain(text: str) -> str:
    """Text that a Markdown table takes for nothing but text."""
    text = " ".join(text.split()).replace("|", "\\|")
    return text.replace("<", "&lt;").replace("*", "\\*").replace("`", "\\`")


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


def source_facts(study: Study) -> tuple[list[str], list[tuple[str, str, dict[str, Any]]]]:
    """(names of the facts, (mixture, source, facts) of each source of each mixture).

    From the manifests of the mixtures and, for supervised tokens, of the first training with each;
    of a mixture not built yet there is only what study.json declares.
    """
    facts: list[tuple[str, str, dict[str, Any]]] = []
    for mixture, declared in study.mixtures.items():
        cells = [cell for cell in study.cells if cell.mixture == mixture]
        built = next((cell.mix for cell in cells if cell.mix), None)
        sources = read_json(built / MANIFEST)["outcome"].get("sources") if built else None
        if not sources:
            sources = {name: {"declared": count} for name, count in declared.items()}
        train = next((cell.train for cell in cells if cell.train), None)
        counts = (train.outcome.get("counts") or {}) if train else {}
        for name, values in sources.items():
            tokens = counts.get(f"supervised: {name}")
            learned = {"supervised_tokens": tokens} if tokens else {}
            facts.append((mixture, name, {**values, **learned}))
    simple = [
        key
        for _, _, values in facts
        for key, value in values.items()
        if isinstance(value, int | float | str)
    ]
    return list(dict.fromkeys(simple)), facts


def _data_rows(study: Study) -> tuple[list[str], list[list[Any]]]:
    names, facts = source_facts(study)
    rows = [
        [mixture, source, *(values.get(name, "") for name in names)]
        for mixture, source, values in facts
    ]
    return ["mixture", "source", *names], rows
