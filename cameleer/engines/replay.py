"""Recorded outputs in place of a model: lines {"item", "output"}, or a samples.jsonl.

`replay:FILE` answers each item with what the file holds for it, whatever the prompt. An output is a
text or a list of texts; a samples.jsonl brings log-probabilities, tokens and times along.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cameleer.core.config import Config
from cameleer.core.errors import UserError
from cameleer.core.files import sha256_file
from cameleer.core.jsonl import read_jsonl
from cameleer.core.text import whole
from cameleer.engines.engine import Request, UnansweredError
from cameleer.results.records import Answer, Rule

BY_NAME = True


class Options(Config):
    """There is nothing to set."""


def fingerprint(model: str) -> str:
    """The file's contents."""
    return sha256_file(_file(model))


def make(model: str, options: Options, identity: dict[str, Any]) -> ReplayEngine:  # noqa: ARG001
    """The engine for a file."""
    return ReplayEngine(_file(model), identity)


class ReplayEngine:
    """Answers from a file."""

    def __init__(self, file: Path, identity: dict[str, Any]) -> None:
        self.file, self.identity = file, identity
        self.recorded: dict[str, Answer] = {}
        for line, row in read_jsonl(file):
            answer = _recorded(row, file, line)
            if answer.item in self.recorded:
                raise UserError("is there twice", file=file, line=line, field=f"item {answer.item}")
            self.recorded[answer.item] = answer

    def count_tokens(self, text: str) -> int:  # noqa: ARG002
        """None: whatever was asked then, nothing is dropped now."""
        return 0

    def cut(self, text: str, tokens: int, rule: Rule) -> str:  # noqa: ARG002
        """The text as it is."""
        return text

    def batches(self, requests: Sequence[Request]) -> list[list[Request]]:
        return [[request] for request in requests]

    def answer(self, batch: Sequence[Request]) -> list[Answer]:
        """What the file holds. Raises UnansweredError for an item that it does not."""
        for request in batch:
            if request.key not in self.recorded:
                raise UnansweredError(f"item {request.key} is not there", file=self.file)
        return [self.recorded[request.key] for request in batch]


def _file(model: str) -> Path:
    path = Path(model).expanduser()
    if not path.is_file():
        raise UserError("no such file", file=path, hint="replay:FILE takes recorded outputs")
    return path


def _recorded(row: dict[str, Any], file: Path, line: int) -> Answer:
    """The answer that a line holds."""
    key = row.get("item")
    if not isinstance(key, str):
        raise UserError("is missing or not text", file=file, line=line, field="item")
    field = "outputs" if "outputs" in row else "output"
    said = row.get(field)
    outputs = [said] if isinstance(said, str) else said
    if not isinstance(outputs, list) or not outputs or any(not isinstance(o, str) for o in outputs):
        message = "is not a text or a list of texts"
        raise UserError(message, file=file, line=line, field=field)
    return Answer(
        key,
        [whole(one) for one in outputs],
        row.get("logprobs") or [],
        row.get("finish") or ["stop"] * len(outputs),
        row.get("prompt_tokens") or 0,
        row.get("new_tokens") or 0,
        row.get("seconds") or 0.0,
    )
