"""`cameleer annotate export`: what raters said, as files."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cameleer.cli.campaigns import Database, Folder, need_extra
from cameleer.cli.options import Json, out_folder
from cameleer.core.console import emit_json, note


class Form(StrEnum):
    """What a file of ratings looks like."""

    judgements = "judgements"
    csv = "csv"
    tulu1 = "tulu1"


def export(
    folder: Folder,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A file, or a folder to put it into.")
    ],
    form: Annotated[
        Form,
        typer.Option(
            "--format",
            help="`judgements`: JSON lines; `csv`: the same as a table; `tulu1`: a table with the "
            "columns of the one released with the paper.",
        ),
    ] = Form.judgements,
    names: Annotated[
        bool, typer.Option("--names", help="Raters by their names, not as annotator-1, -2, ….")
    ] = False,
    database: Database = None,
    json: Json = False,
) -> None:
    """Write a campaign's ratings to a file; it can be given while people rate.

    Practice is left out; hidden repeats are noted as such (in `tulu1` left out).

    Example: `cameleer annotate export camels -o results/camels`
    """
    need_extra()

    from cameleer.human.campaign import Campaign
    from cameleer.human.database import open_database
    from cameleer.human.export import write_export

    campaign = Campaign.open(folder)
    engine = open_database(campaign, database)
    try:
        counts = write_export(engine, campaign, out_folder(output), form.value, names)
    finally:
        engine.dispose()
    if json:
        emit_json({"output": str(output), "format": form.value, **counts})
        return
    note(
        f"{output}: {counts['judgements']:,} judgements by {counts['annotators']} annotators, of "
        f"which {counts['unjudged']} give no preference, and {counts['repeats']} hidden repeats; "
        f"{counts['practice']} practice ratings are left out"
    )
