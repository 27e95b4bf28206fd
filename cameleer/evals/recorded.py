"""Grading outputs that were recorded: lines {"item", "output"} of whatever model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cameleer.core.errors import UserError
from cameleer.core.jsonl import read_jsonl
from cameleer.core.text import whole
from cameleer.evals.benchmark import Ask, Benchmark, benchmark_named
from cameleer.evals.review import REVIEWS, Reviews, review, reviewer_models, texts_to_read
from cameleer.evals.scoring import Row, score_answer, unanswered
from cameleer.results.records import Answer, Item, Rule

_Read = tuple[int, Row, Item, list[str]]
"""A line of recorded answers: its number, itself, the item that it is about, its outputs."""


def grade(
    label: str,
    answers: Path,
    data: Path | None,
    rule: Rule = "fixed",
    reviewers: dict[str, str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Score recorded outputs: {"item", "output"} in, {"item", "extracted", "score"} out.

    An output is a text or a list of texts (samples); "target" in a line takes the place of the
    data's, "logprobs" are those of its choices, "reviews" what reviewers said, "finish" how outputs
    ended: an item that was never answered is scored as in a run. Outputs without reviews are read
    by the setting's reviewers; all are if `reviewers` names others. Raises UserError with file and
    line for a line that cannot be graded.
    """
    benchmark = benchmark_named(label)
    setting = benchmark.setting
    if not setting.scored:
        raise UserError(f"{label} has no score: its answers are for a judge or people to compare")
    ask = Ask(benchmark.folder(data), benchmark.setting_name, rule, setting.format, grading=True)
    known: dict[str, Item] = {item.key: item for item in benchmark.module.items(ask)}
    read = [(line, row, *_recorded(row, known, answers, line)) for line, row in read_jsonl(answers)]
    said = _recorded_reviews(benchmark, reviewers or {}, ask, answers, read)
    for line, row, item, outputs in read:
        try:
            answer = _answer(row, outputs)
            score = score_answer(benchmark, item, answer, ask, said.get(line))
        except UserError as error:
            raise UserError(error.message, file=answers, line=line, hint=error.hint) from None
        one = isinstance(row["output"], str)
        extracted = score.extracted[0] if one else score.extracted
        yield {"item": item.key, "extracted": extracted, "score": score.value}


def _answer(row: Row, outputs: list[str]) -> Answer:
    return Answer(row["item"], outputs, [], _finish(row), 0, 0, 0.0)


def _finish(row: Row) -> list[str]:
    finish = row.get("finish")
    return finish if isinstance(finish, list) else []


def _recorded(
    row: dict[str, Any], known: dict[str, Item], file: Path, line: int
) -> tuple[Item, list[str]]:
    """The item that a line of recorded answers is about, and its outputs."""
    key, output = row.get("item"), row.get("output")
    if not isinstance(key, str):
        raise UserError("is missing or not text", file=file, line=line, field="item")
    outputs = [output] if isinstance(output, str) else output
    if not isinstance(outputs, list) or not outputs or any(not isinstance(o, str) for o in outputs):
        wanted = "is not a text or a list of texts"
        raise UserError(wanted, file=file, line=line, field="output")
    outputs = [whole(one) for one in outputs]
    item = known.get(key)
    if item is None and "target" not in row:
        hint = "give the --data that it is from, or a target in the line"
        raise UserError(f"unknown item '{key}'", file=file, line=line, field="item", hint=hint)
    target = row.get("target", item.target if item else None)
    meta = item.meta if item else {}
    if row.get("logprobs"):
        meta = meta | {"logprobs": row["logprobs"]}
    return Item(key, "", "", "", target, meta, item.choices if item else ()), outputs


def _recorded_reviews(
    benchmark: Benchmark, given: dict[str, str], ask: Ask, file: Path, read: Sequence[_Read]
) -> dict[int, Reviews]:
    """What reviewers say of the outputs of each line: as recorded there, else they are asked."""
    found: dict[int, Reviews] = {}
    unread: dict[str, tuple[Item, list[str]]] = {}
    models = reviewer_models(benchmark, given)
    for line, row, item, outputs in read if models else ():
        reviews = row.get("reviews")
        if ask.rule == "fixed" and unanswered(_answer(row, outputs)):
            continue
        if reviews is None or given:
            unread[str(line)] = (item, outputs)
        elif not _fits(reviews, models, len(outputs)):
            wanted = f"is not a list of {len(outputs)} numbers in 0..1 for each of"
            raise UserError(f"{wanted} {', '.join(models)}", file=file, line=line, field="reviews")
        else:
            found[line] = reviews
    if unread:
        with tempfile.TemporaryDirectory() as folder:
            texts = texts_to_read(benchmark, unread, ask)
            said, _ = review(benchmark, given, texts, Path(folder) / REVIEWS)
        found |= {int(line): reviews for line, reviews in said.items()}
    return found


def _fits(reviews: Any, names: Iterable[str], outputs: int) -> bool:
    """Whether recorded reviews hold a probability for every output, of every reviewer."""
    lists = [reviews.get(name) if isinstance(reviews, dict) else None for name in names]
    return all(
        isinstance(values, list)
        and len(values) == outputs
        and all(isinstance(value, int | float) and 0 <= value <= 1 for value in values)
        for values in lists
    )
