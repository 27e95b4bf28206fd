"""Reading the published numbers: TABLE.csv here, a line for each model, a column for each score."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cameleer.core.csv_rows import read_csv
from cameleer.core.errors import unknown

HERE = Path(__file__).parent
FACTS = ("model", "base", "data", "against", "source")
TABLES = (
    "table-3", "table-4", "table-5", "table-6", "table-7",
    "figure-3", "figure-4", "cards", "tulu-2",
)  # fmt: skip
"""Tables and figures of arXiv 2306.04751v2; the model cards of June 2023; the Tülu 2 paper."""


@dataclass(frozen=True, slots=True)
class Published:
    """One printed score, in points of 100.

    model: as this project calls it, the same in all tables; data: the source or named mixture it
    was tuned on, "" for none or an unknown one. benchmark: a label of `cameleer eval ls` or a name
    alone; `average`, the mean of the six columns of tables 3 to 5 (`cards`: of six tasks, each over
    its two settings first); or `alpaca_farm`, what came before AlpacaEval. metric: of the human
    evaluation, which has several; against: the model it was compared with. source: marks of
    `sources`, a blank between them.
    """

    table: str
    model: str
    base: str
    data: str
    benchmark: str
    metric: str
    against: str
    value: float
    source: str


def published(*tables: str) -> list[Published]:
    """The verified scores of some tables, or of all, in printed order; what could not be verified
    is not among them. Raises UserError for an unknown table."""
    for name in tables:
        if name not in TABLES:
            raise unknown("table", name, TABLES, "cameleer eval published")
    return [row for name in tables or TABLES for row in _table(name)]


def sources() -> dict[str, str]:
    """What stands behind each source mark."""
    (_, _), *rows = read_csv(HERE / "sources.csv")
    return {mark: about for _, (mark, about) in rows}


def _table(name: str) -> list[Published]:
    (_, head), *lines = read_csv(HERE / f"{name}.csv")
    rows = []
    for _, line in lines:
        cells = dict(zip(head, line, strict=True))
        facts = {fact: cells.pop(fact, "") for fact in FACTS}
        for column, printed in cells.items():
            if printed:
                benchmark, _, metric = column.partition(" ")
                row = Published(
                    name, benchmark=benchmark, metric=metric, value=float(printed), **facts
                )
                rows.append(row)
    return rows
