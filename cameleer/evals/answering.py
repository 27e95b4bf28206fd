"""Asking an engine, with a log: what was answered once is never asked again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cameleer.core.console import kept_told, progress, warn
from cameleer.core.errors import UserError
from cameleer.core.files import JsonlLog
from cameleer.core.jsonl import read_jsonl
from cameleer.engines.engine import Engine, Request, UnansweredError
from cameleer.results.records import Answer

Row = dict[str, Any]


def answered(
    engine: Engine,
    requests: Sequence[Request],
    path: Path,
    label: str,
    row_of: Callable[[Request, Answer], Row],
) -> dict[str, Row]:
    """The rows of the log at `path` by their `item`, when every request has one.

    row_of: the line of the log that an answer makes. Raises UserError if a request got no answer;
    the others are kept.
    """
    log = JsonlLog(path)
    status: Callable[[], str] = getattr(engine, "status", str)
    try:
        rows = {row["item"]: row for _, row in read_jsonl(path)}
        done = sum(request.key in rows for request in requests)
        with progress(label, len(requests), done) as ticker:
            for batch in engine.batches(requests):
                missing = [request for request in batch if request.key not in rows]
                if not missing:
                    continue
                # Answered whole, so that every batch is made up as in an unbroken run.
                try:
                    with kept_told(ticker, status):
                        answers = zip(batch, engine.answer(batch), strict=True)
                except UnansweredError as error:
                    warn(str(error))
                    continue
                new = [row_of(*pair) for pair in answers if pair[0] in missing]
                log.append(new)
                rows |= {row["item"]: row for row in new}
                ticker.advance(len(new), status())
    finally:
        log.close()
    if unanswered := [request.key for request in requests if request.key not in rows]:
        shown = ", ".join(unanswered[:3]) + (", …" if len(unanswered) > 3 else "")
        message = f"{len(unanswered)} of {len(requests)} items got no answer ({shown})"
        hint = "the others are kept; the same command asks for these again"
        raise UserError(f"{label}: {message}", hint=hint)
    return rows
