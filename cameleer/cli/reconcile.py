"""Verb of `cameleer eval` that lays our samples beside those of lm-eval."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cameleer.cli.options import Json
from cameleer.core.console import emit_json, note, table

CELL = 48  # characters of a text in a table


def reconcile(
    folder: Annotated[Path, typer.Argument(help="One benchmark's folder, of `eval run`.")],
    theirs: Annotated[Path, typer.Argument(help="samples_….jsonl of lm-eval's --log_samples.")],
    metric: Annotated[
        str | None, typer.Option(help="A metric of lm-eval's. [default: the first]")
    ] = None,
    filter: Annotated[
        str | None, typer.Option(help="A filter of lm-eval's. [default: the first]")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="List so many items at most.")] = 20,
    json: Json = False,
) -> None:
    """Tell which items lm-eval scores otherwise: by prompt, output, extraction or grading.

    Example: `cameleer eval reconcile evals/gsm-cot out/model/samples_gsm8k_cot_….jsonl`
    """
    from cameleer.evals.reconcile import CAUSES
    from cameleer.evals.reconcile import reconcile as compare

    found = compare(folder, theirs, metric, filter)
    counts = found.counts()
    flips = [pair for pair in found.pairs if pair.cause]
    if json:
        emit_json({**counts, "items": [asdict(pair) for pair in flips]})
        return
    shown = {**counts, "flips": "", "ours": f"{counts['ours']:.4f}"}
    shown |= {"theirs": f"{counts['theirs']:.4f}"}
    table(f"{folder} beside {theirs.name}", list(shown), [list(shown.values())])
    for cause, number in counts["flips"].items():
        note(f"{number} x {cause}: {CAUSES[cause]}")
    columns = ["item", "document", "ours", "theirs", "cause", "ours says", "lm-eval says"]
    rows = []
    for pair in flips[:limit]:
        said = pair.texts["extracted" if pair.cause in ("extraction", "grading") else pair.cause]
        rows.append([pair.item, pair.document, pair.ours, pair.theirs, pair.cause, *_apart(*said)])
    if rows:
        table("", columns, rows)
    if len(flips) > limit:
        note(f"{len(flips) - limit} more: --limit, or --json for all with their texts")


def _apart(first: str, second: str) -> tuple[str, str]:
    """Two texts from shortly before where they part."""
    at = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), 0)
    begin = max(0, at - 8)
    return repr(first[begin : begin + CELL]), repr(second[begin : begin + CELL])
