"""`cameleer annotate agreement`: what human ratings come to, and how far raters agree."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cameleer.cli.options import Json, Rule, RuleOption
from cameleer.core.console import emit_json, note, out, table

if TYPE_CHECKING:
    from cameleer.human.agreement import Compared, Pooled, Report
    from cameleer.results.agreement import Agreement
    from cameleer.results.stats import Estimate
    from cameleer.results.strength import Effect

NONE = "–"


class Form(StrEnum):
    """How a table of ratings is laid out."""

    tulu1 = "tulu1"
    own = "own"


Table = Annotated[
    Path, typer.Argument(help="Ratings as CSV, Excel workbook or JSON (lines), or a folder.")
]
FormOption = Annotated[
    Form | None,
    typer.Option(
        "--format",
        help="`tulu1`: the table released with the paper; `own`: what we write. "
        "[default: told by its columns]",
    ),
]


def agreement(
    file: Table, form: FormOption = None, rule: RuleOption = Rule.fixed, json: Json = False
) -> None:
    """Verdicts, acceptance and agreement of human ratings, per pair of models and pooled.

    Every number has its 95 % interval. `paper` counts an item's first rating, and its first two for
    agreement; `fixed` counts all of them, each item weighing the same.

    Example: `cameleer annotate agreement eval_annotations_tulu_1.csv --format tulu1 --rule paper`
    """
    from cameleer.human.agreement import report
    from cameleer.human.released import read_ratings

    told, rows = read_ratings(file, form.value if form else None)
    found = report(rows, rule.value)
    if json:
        emit_json({"file": str(file), "format": told, **asdict(found)})
    else:
        _show(found)


def _show(found: Report) -> None:
    counts = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in found.counts.items())
    note(f"{counts}; rule {found.rule}")
    for line in found.notes:
        note(f"note: {line}")
    _show_agreement(found)
    _show_verdicts(found.pairs)
    _show_acceptance(found)
    if found.strengths and len(found.strengths.models) > 2:
        _show_strengths(found)
    _show_raters(found)


def _show_agreement(found: Report) -> None:
    parts: list[tuple[str, Compared | Pooled]] = [
        (f"{one.a} : {one.b}", one) for one in found.pairs
    ]
    if len(parts) > 1:
        parts.append(("all pairs", found.pooled))
    names = list(found.pooled.agreement)
    rows = [[name, *(_measured(one.agreement[name]) for _, one in parts)] for name in names]
    sizes: list[list[Any]] = [
        ["items", *(one.items for _, one in parts)],
        ["of these rated by several", *(one.multiple for _, one in parts)],
    ]
    table("Agreement", ["", *(name for name, _ in parts)], sizes + rows)


def _show_verdicts(pairs: list[Compared]) -> None:
    out.print()
    rows = [
        [f"{one.a} : {one.b}", *(_estimated(share) for share in one.verdicts.values())]
        for one in pairs
    ]
    names = next((list(one.verdicts) for one in pairs if one.verdicts), [])
    heads = [name.replace("_", " ").replace("a ", "A ").replace("b ", "B ") for name in names]
    table("Verdicts, % of items", ["A : B", *heads], rows)


def _show_acceptance(found: Report) -> None:
    out.print()
    by_model = found.pooled.acceptance
    several = slice(None if len(found.pairs) > 1 else 0)
    rows = [
        [
            model,
            _estimated(share),
            _estimated(found.adjusted.get(model)),
            *(_estimated(one.acceptance.get(model)) for one in found.pairs[several]),
        ]
        for model, share in sorted(by_model.items(), key=lambda pair: -pair[1].value)
    ]
    heads = [f"in {one.a} : {one.b}" for one in found.pairs[several]]
    _table("Acceptance, %", ["model", "all", "strictness taken out", *heads], rows)


def _show_strengths(found: Report) -> None:
    assert found.strengths is not None
    out.print()
    rows = [[name, _effect(one)] for name, one in found.strengths.models.items()]
    table("Strength, log odds against the average model (Bradley-Terry)", ["model", ""], rows)
    for name, effect in (("shown first", found.strengths.first), ("tie", found.strengths.ties)):
        if effect:
            out.print(f"{name}: {_effect(effect)}", markup=False)


def _show_raters(found: Report) -> None:
    out.print()
    rows = [
        [
            one.name,
            one.judgements,
            _estimated(one.acceptance),
            _effect(one.strictness),
            _estimated(one.ties),
            _estimated(one.first),
            _estimated(one.verdict_with_others),
            _estimated(one.acceptance_with_others),
            _estimated(one.verdict_with_self),
        ]
        for one in found.raters
    ]
    heads = ["rater", "ratings", "accepts %", "strictness", "ties %", "for the first %",
             "verdict as others %", "acceptance as others %", "verdict as own %"]  # fmt: skip
    _table("Raters, the strictest first", heads, rows)


def _table(title: str, heads: list[str], rows: list[list[Any]]) -> None:
    """A table without the columns that hold nothing."""
    held = [at for at in range(len(heads)) if any(row[at] != NONE for row in rows)]
    table(title, [heads[at] for at in held], [[row[at] for at in held] for row in rows])


def _measured(one: Agreement) -> str:
    """A measure of agreement; none where it is not defined."""
    if one.value is None or one.low is None or one.high is None:
        return NONE
    return f"{one.value:.4f} [{one.low:.2f}, {one.high:.2f}]"


def _estimated(one: Estimate | None) -> str:
    if one is None:
        return NONE
    return f"{100 * one.value:.1f} [{100 * one.low:.1f}, {100 * one.high:.1f}]"


def _effect(one: Effect | None) -> str:
    return NONE if one is None else f"{one.value:+.2f} [{one.low:+.2f}, {one.high:+.2f}]"
