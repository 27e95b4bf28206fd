"""What a stage has taken so far, told by what it left on the disk; over all its resumes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from cameleer.core.artifact import MANIFEST, SCRATCH, Stage
from cameleer.core.errors import UserError
from cameleer.core.files import read_json
from cameleer.core.jsonl import read_jsonl

LOGS = ("metrics.jsonl", "samples.jsonl", f"{SCRATCH}/answers.jsonl")
TOTALS = ("scores.json", "result.json")
ASKED = ("prompt_tokens", "new_tokens")


@dataclass(frozen=True)
class Took:
    """rows: steps, or answers; prompt_tokens and new_tokens: of the answers."""

    seconds: float = 0.0
    rows: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0

    def __add__(self, other: Took) -> Took:
        return Took(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def took(stage: Stage) -> Took:
    """What the stage took, finished or not.

    The manifest's seconds are those of the last call alone, so that those of its steps or answers
    are taken where they are more.
    """
    if not stage.done():
        return _of_rows(_rows(stage.partial))
    found = next((stage.folder / name for name in TOTALS if (stage.folder / name).is_file()), None)
    if found is None:
        told = _of_rows(_rows(stage.folder))
    else:
        facts = read_json(found)
        counts = (int(facts.get(name) or 0) for name in ASKED)
        told = Took(facts.get("seconds") or 0.0, facts.get("requests", facts.get("n", 0)), *counts)
    whole = float(read_json(stage.folder / MANIFEST)["seconds"])
    return Took(max(told.seconds, whole), told.rows, told.prompt_tokens, told.new_tokens)


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    for name in LOGS:
        if (folder / name).is_file():
            yield from (row for _, row in read_jsonl(folder / name, _torn))


def _torn(error: UserError) -> None:
    """A line that a kill left half written is none."""


def _of_rows(rows: Iterator[dict[str, Any]]) -> Took:
    total = Took()
    for row in rows:
        if row.get("step") == 0:
            continue  # losses before training
        tokens = (row.get(name) or 0 for name in ASKED)
        total += Took(row.get("seconds") or 0.0, 1, *tokens)
    return total
