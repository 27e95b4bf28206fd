"""`cameleer study effects`: what each data set of a study did, on the terminal or as JSON."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cameleer.cli.options import Json, StudyFolder, study_folder
from cameleer.core.console import emit_json, note, table, warn
from cameleer.core.errors import UserError

if TYPE_CHECKING:
    from cameleer.results.attribution import Told


class By(StrEnum):
    """`amount`: a source counts by its conversations; `presence`: as there or not."""

    amount = "amount"
    presence = "presence"


def effects(
    study: Annotated[Path, typer.Argument(help="STUDY.yaml, or a study's folder.")],
    by: Annotated[By, typer.Option(help="Count a source's conversations, or that it is there.")] = (
        By.amount
    ),
    output: StudyFolder = None,
    json: Json = False,
) -> None:
    """Tell what each data set did to each benchmark, how surely, and which mixture should be best.

    For every base, and every way of training. Effects are fitted to all tuned models at once; the
    intervals hold the choice of items and, where seeds show it, the luck of training.

    Example: `cameleer study effects runs/camels-mini`
    """
    from cameleer.results.attribution import attributions
    from cameleer.results.store import read_study

    folder = study_folder(study, output)
    read = read_study(folder)
    read.require_unchanged()
    told = attributions(read, by=by.value)
    if not any(one.found for one in told):
        raise UserError(told[0].why, file=folder)
    if json:
        facts = [_facts(one) for one in told]
        emit_json({"study": str(folder), "by": by.value, "attributions": facts})
        return
    for one in told:
        _tell(one)


def _facts(told: Told) -> dict[str, Any]:
    from dataclasses import asdict

    from cameleer.results.attribution import effect_rows

    facts: dict[str, Any] = {"base": told.base, "way": told.way, "why_not": told.why}
    if told.found is None:
        return facts
    return {**facts, **asdict(told.found), "effects": effect_rows(told.found)}


def _tell(told: Told) -> None:
    from cameleer.report.effects_shown import verdict
    from cameleer.report.words import interval, p_value, points, signed

    found = told.found
    if found is None:
        warn(f"{told.title}: {told.why}")
        return
    rows = [
        [one.source, one.benchmark, signed(one.value), interval(one),
         p_value(one.p), p_value(one.p_holm), verdict(one)]
        for source in found.sources
        for one in found.effects
        if one.source == source
    ]  # fmt: skip
    head = ["source", "benchmark", "effect", "95 % interval", "p", "p (Holm)", "verdict"]
    table(told.title, head, rows)
    table("", ["on", "predicted", "the best mixture"],
          [[one.benchmark, points(one.value), one.word] for one in found.best])  # fmt: skip
    for text in found.notes:
        note(text)
