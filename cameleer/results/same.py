"""Whether two runs of a study found the same: weights, scores and answers, cell by cell.

Times are no findings: they are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cameleer.core.files import read_json, sha256_file
from cameleer.core.jsonl import read_jsonl
from cameleer.results.judgements import FILE
from cameleer.results.store import Cell, Evaluation, Study, read_study

TIMES = {"seconds"}


@dataclass(frozen=True)
class Difference:
    """What of a cell or judging differs. where: of which; how: in words."""

    where: str
    how: str


@dataclass(frozen=True)
class Compared:
    """What was compared: trained models, evaluations, items' answers and judgements; and what
    differs of them."""

    models: int
    evaluations: int
    items: int
    judgements: int
    differences: list[Difference]


def compare(first: Path, second: Path) -> Compared:
    """Compare the results in two studies' folders.

    Raises UserError for a folder that holds no study.
    """
    a, b = read_study(first), read_study(second)
    found: list[Difference] = []
    models = evaluations = items = 0
    for one, other in _pairs(a, b, found):
        models += _models(one, other, found)
        for label in sorted(one.evals.keys() | other.evals.keys()):
            where = f"{one.label}, {label}"
            sides = one.evals.get(label), other.evals.get(label)
            if sides[0] is None or sides[1] is None:
                found.append(_unfinished(where, sides[0] is None))
                continue
            evaluations += 1
            items += _evaluations(where, sides[0], sides[1], found)
    judgements = _judgings(a, b, found)
    return Compared(models, evaluations, items, judgements, found)


def _pairs(a: Study, b: Study, found: list[Difference]) -> list[tuple[Cell, Cell]]:
    """Cells of both; one that a study lacks is a difference."""
    own, others = ({cell.label: cell for cell in study.cells} for study in (a, b))
    for label in sorted(own.keys() ^ others.keys()):
        found.append(Difference(label, f"is in the {'first' if label in own else 'second'} alone"))
    return [(own[label], others[label]) for label in own if label in others]


def _unfinished(where: str, first: bool) -> Difference:
    return Difference(where, f"is not finished in the {'first' if first else 'second'}")


def _models(a: Cell, b: Cell, found: list[Difference]) -> int:
    """Compare weights, byte by byte; returns the models compared."""
    if a.train is None or b.train is None:
        if a.train is not b.train:
            found.append(_unfinished(f"{a.label}, training", a.train is None))
        return 0
    sums = [
        {file.name: sha256_file(file) for file in sorted(side.folder.glob("*.safetensors"))}
        for side in (a.train, b.train)
    ]
    if sums[0] != sums[1]:
        losses = [side.outcome.get("final_loss") for side in (a.train, b.train)]
        how = f"weights differ (final loss {losses[0]}, {losses[1]})"
        found.append(Difference(f"{a.label}, training", how))
    return 1


def _evaluations(where: str, a: Evaluation, b: Evaluation, found: list[Difference]) -> int:
    """Compare scores and every item's row; returns the items compared."""
    if _untimed(a.scores) != _untimed(b.scores):
        values = [side.scores.get("value") for side in (a, b)]
        found.append(Difference(where, f"scores differ ({values[0]}, {values[1]})"))
    own, others = _rows(a.folder / "samples.jsonl"), _rows(b.folder / "samples.jsonl")
    _rows_alike(where, "answers", own, others, found)
    return len(own.keys() & others.keys())


def _judgings(a: Study, b: Study, found: list[Difference]) -> int:
    """Compare what judges said; returns the judgements compared."""
    own, others = ({_judging(folder): folder for folder in study.judgings} for study in (a, b))
    count = 0
    for name in sorted(own.keys() | others.keys()):
        if name not in own or name not in others:
            found.append(_unfinished(f"judging {name}", name not in own))
            continue
        rows = [dict(enumerate(_list(side[name] / FILE))) for side in (own, others)]
        _rows_alike(f"judging {name}", "judgements", rows[0], rows[1], found)
        count += len(rows[0])
    return count


def _judging(folder: Path) -> str:
    """Who judged whom against whom."""
    facts = read_json(folder / "result.json")
    return f"{facts['judge']}: {facts['b']} against {facts['a']}"


def _rows_alike(
    where: str, what: str, own: dict[Any, Any], others: dict[Any, Any], found: list[Difference]
) -> None:
    keys = own.keys() | others.keys()
    unlike = sorted(key for key in keys if own.get(key) != others.get(key))
    if unlike:
        how = f"{len(unlike)} of {len(keys)} {what} differ, first {unlike[0]}"
        found.append(Difference(where, how))


def _rows(path: Path) -> dict[str, Any]:
    return {row["item"]: row for row in _list(path)}


def _list(path: Path) -> list[Any]:
    return [_untimed(row) for _, row in read_jsonl(path)]


def _untimed(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in TIMES}
