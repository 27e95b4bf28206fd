"""`cameleer study same`: whether two runs of a study found the same, number by number."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cameleer.cli.options import Json
from cameleer.core.console import emit_json, table
from cameleer.core.errors import UserError


def same(
    first: Annotated[Path, typer.Argument(help="A study's folder.")],
    second: Annotated[Path, typer.Argument(help="Another run of it.")],
    json: Json = False,
) -> None:
    """Compare two runs of a study: weights, scores, every item's answer, judgements; not times.

    Exits with 2 if anything differs.

    Example: `cameleer study same runs/here runs/on-the-cluster`
    """
    from cameleer.results.same import compare

    found = compare(first, second)
    counts = {name: value for name, value in asdict(found).items() if name != "differences"}
    told = {**counts, "same": not found.differences}
    if json:
        emit_json({**told, "differences": [asdict(one) for one in found.differences]})
    else:
        table("", list(told), [list(told.values())])
        rows = [[one.where, one.how] for one in found.differences]
        if rows:
            table("", ["where", "difference"], rows)
    if found.differences:
        one = found.differences[0]
        count = len(found.differences)
        raise UserError(f"{count} differences, first {one.where}: {one.how}", file=second)
