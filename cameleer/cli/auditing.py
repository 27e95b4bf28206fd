"""Verbs of `cameleer judge` that ask whether a judge is to be trusted: audit, correct."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cameleer.cli.options import Json, out_file
from cameleer.core.console import emit_json, note, table, warn
from cameleer.core.errors import UserError

if TYPE_CHECKING:
    from cameleer.results.powered import Corrected

Judged = Annotated[
    list[Path],
    typer.Argument(help="-o of `judge run`, judgements.jsonl, or AlpacaEval's annotations.json."),
]
LABELS = "What people said: -o of `annotate export`, or its judgements.jsonl."
Answers = Annotated[
    list[Path] | None,
    typer.Option("--outputs", help="Answers of a model, where judgements come without texts."),
]
ODD = 0.01


def audit(
    judged: Judged,
    labels: Annotated[Path | None, typer.Option("--labels", help=LABELS)] = None,
    outputs: Answers = None,
    own: Annotated[
        list[str] | None,
        typer.Option(help="JUDGE=MODEL: what the judge's own model is called among those judged."),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page.")] = None,
    json: Json = False,
) -> None:
    """Audit judges: order, length, lists, own model, repeats, agreement with people and each other.

    With --labels judges are ranked by agreement with them, and tested against dummies that prefer
    the longer answer, the one with more unique tokens, or the one shown first.

    Example: `cameleer judge audit judged/ --labels people.jsonl --html audit.html`
    """
    from cameleer.evals.judge.audit import audit as audited
    from cameleer.evals.judge.audit import hear
    from cameleer.evals.judge.audit_page import tables, write_page
    from cameleer.evals.judge.outputs import read_outputs

    heard = hear(judged, [read_outputs(path) for path in outputs or []])
    people = hear([labels]) if labels else None
    texts = (people.texts if people else {}) | heard.texts
    report = audited(heard.judgements, texts, people.judgements if people else (), _own(own or []))
    if html is not None:
        write_page(report, out_file(html))
    if json:
        facts = _plain(asdict(report))
        for row, standing in zip(facts["leaderboard"], report.leaderboard, strict=True):
            row["beats"] = standing.beats
        emit_json(facts)
        return
    for part in tables(report):
        table(part.title, part.columns, [list(row) for row in part.rows])
        for said in part.notes:
            note(said)
        note("")
    for said in report.notes:
        warn(said)


def _own(given: list[str]) -> dict[str, str]:
    """By judge, the name of its model."""
    parts = [one.rpartition("=") for one in given]
    for whole, (judge, _, model) in zip(given, parts, strict=True):
        if not judge or not model:
            raise UserError(f"'{whole}' is not JUDGE=MODEL", field="own")
    return {judge: model for judge, _, model in parts}


def _plain(value: Any) -> Any:
    """JSON has no infinity: what has no end is null."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if value == float("inf") else value


def correct(
    judged: Judged,
    labels: Annotated[Path, typer.Option("--labels", help=LABELS)],
    json: Json = False,
) -> None:
    """Correct a judge's win rates by a few labels of people (prediction-powered inference).

    The labelled items are to be a random part of those judged. How much the judge helps is found
    from the data: one that agrees with nobody is not used.

    Example: `cameleer judge correct judged/judgements.jsonl --labels people.jsonl`
    """
    from cameleer.evals.judge.audit import hear
    from cameleer.results.powered import correct as corrected

    rows = corrected(hear(judged).judgements, hear([labels]).judgements)
    if json:
        emit_json({"rows": [_facts(row) for row in rows]})
        return
    columns = ["judge", "A", "B", "labels", "verdicts", "judge alone, %", "people alone, %",
               "corrected, %", "worth in labels"]  # fmt: skip
    table("How often B wins against A, draws half", columns, [_shown(row) for row in rows])
    for row in rows:
        _tell(row)


def _facts(row: Corrected) -> dict[str, Any]:
    facts: dict[str, Any] = asdict(row)
    found = facts.pop("found")
    if row.found is None:
        return facts | {"labels": 0}
    alone = {f"{who}_alone": found.pop(who) for who in ("judge", "people")}
    return {**facts, **alone, **found, "saved": row.found.saved}


def _shown(row: Corrected) -> list[Any]:
    from cameleer.evals.judge.audit_page import NONE, share

    found = row.found
    who = [row.judge, row.a or "all", row.b]
    if found is None:
        return [*who, 0, NONE, NONE, NONE, NONE, NONE]
    rates = [share(one) for one in (found.judge, found.people, found.corrected)]
    return [*who, found.labels, found.verdicts, *rates, f"{found.effective:.0f}"]


def _tell(row: Corrected) -> None:
    """What a reader of a row should know."""
    name = f"{row.judge}, {row.a or 'all'} / {row.b}"
    counts = {"verdicts that are none": row.unknown, "labels that are none": row.unlabelled,
              "labelled items without a verdict": row.unjudged}  # fmt: skip
    left_out = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    if left_out:
        note(f"{name}: left out are {left_out}")
    if row.found is None:
        warn(f"{name}: people labelled nothing of it")
    elif row.found.note:
        warn(f"{name}: not corrected, since {row.found.note}")
    elif row.found.odd < ODD:
        warn(
            f"{name}: the judge thinks otherwise of the labelled items than of the others "
            f"(p = {row.found.odd:.2g}), as it would if they were no random part; then the "
            "corrected win rate is of neither"
        )
