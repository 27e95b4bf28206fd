"""Real answers to read: the same few items, drawn by seed, over all models of a base."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from cameleer.core.files import to_json
from cameleer.report.analysis import Matrix
from cameleer.results.store import Evaluation

SHOWN, SEED = 5, 42
LONGEST = 4000  # characters of a text that the page shows; what is left out is said


@dataclass(frozen=True)
class Reply:
    """What one model said to an item. score: 1 is as good as can be."""

    model: str
    output: str
    extracted: str
    score: float
    finish: str
    note: str


@dataclass(frozen=True)
class Question:
    """An item with every model's reply. prompts: each distinct prompt and the models it was for."""

    key: str
    target: str
    prompts: list[tuple[str, list[str]]]
    replies: list[Reply]


def questions(matrix: Matrix, benchmark: str) -> list[Question]:
    """Up to SHOWN items of a benchmark that every model answered; of several seeds the first."""
    runs = {row.label: score.runs[0] for row in matrix.rows if (score := row.scores[benchmark])}
    lower = benchmark in matrix.lower
    if not runs:
        return []
    shared = sorted(set.intersection(*(set(run.items.scores) for run in runs.values())))
    draw = random.Random(f"{SEED} {benchmark}")
    keys = sorted(draw.sample(shared, min(SHOWN, len(shared))), key=shared.index)
    rows = {model: _rows(run, keys) for model, run in runs.items()}
    return [
        _question(key, {model: found[key] for model, found in rows.items()}, lower) for key in keys
    ]


def _rows(run: Evaluation, keys: list[str]) -> dict[str, dict[str, Any]]:
    return run.samples(frozenset(keys))


def _question(key: str, rows: dict[str, dict[str, Any]], lower: bool) -> Question:
    prompts: dict[str, list[str]] = {}
    for model, row in rows.items():
        prompts.setdefault(shortened(str(row.get("prompt", ""))), []).append(model)
    first = next(iter(rows.values()))
    return Question(
        key=key,
        target=shortened(_text(first.get("target"))),
        prompts=list(prompts.items()),
        replies=[_reply(model, row, lower) for model, row in rows.items()],
    )


def _reply(model: str, row: dict[str, Any], lower: bool) -> Reply:
    outputs, finish = row.get("outputs") or [""], row.get("finish") or []
    more = f"\n\n[1 of {len(outputs)} outputs]" if len(outputs) > 1 else ""
    extracted = row.get("extracted") or [None]
    return Reply(
        model=model,
        output=shortened(str(outputs[0])) + more,
        extracted="nothing" if extracted[0] is None else shortened(_text(extracted[0])),
        score=1 - float(row["score"]) if lower else float(row["score"]),
        finish="cut at the length limit" if finish and finish[0] == "length" else "",
        note=str(row.get("note") or ""),
    )


def shortened(text: str, where: str = ", in samples.jsonl") -> str:
    """The text, or its beginning and end with a word on how much is left out, and where it is."""
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    left = len(text) - 2 * half
    return f"{text[:half]}\n[… {left:,} characters{where} …]\n{text[-half:]}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value)
