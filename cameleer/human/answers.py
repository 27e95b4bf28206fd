"""Reading models' answers to be compared, and matching those to the same request.

FILE is JSON lines of {"id", "prompt", "completion"} ("id" may be missing), AlpacaEval's
model_outputs.json (a list of {"instruction", "output", …}), or a folder that holds one: an
evaluation of ours (outputs.json) or of AlpacaEval's results. A file of instances is JSON lines of
{"id", "prompt", "completions": [{"model", "completion"}, …]}, as the paper's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cameleer.core.errors import UserError
from cameleer.core.files import read_json
from cameleer.core.json_array import read_json_array
from cameleer.core.jsonl import open_bytes, read_jsonl
from cameleer.core.text import whole
from cameleer.results.answer_files import OUTPUTS, SAMPLES, answers_file


@dataclass
class Asked:
    """A request and what models answered. named: the key is not only a row's number."""

    key: str
    named: bool
    prompt: str
    completions: dict[str, str] = field(default_factory=dict)


@dataclass
class Matched:
    """Requests, matched by key where both sides have one, else by their text, space around it
    aside; and counts of what was not taken as it came."""

    asked: list[Asked] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    by_key: dict[str, Asked] = field(default_factory=dict)
    by_prompt: dict[str, Asked] = field(default_factory=dict)

    def add(self, model: str, key: str, named: bool, prompt: str, completion: str) -> None:
        """Take a model's answer; a second one to the same request is counted, not taken."""
        if whole(prompt) != prompt or whole(completion) != completion:
            self.counts["texts with a broken character"] += 1
            prompt, completion = whole(prompt), whole(completion)
        text = prompt.strip()
        found = self.by_key.get(key) if named else None
        if found is not None and found.prompt.strip() != text:
            self.counts["keys that name another prompt elsewhere"] += 1
            return
        found = found or self.by_prompt.get(text)
        if found is None:
            found = Asked(self._free(key), named, prompt)
            self.asked.append(found)
            self.by_prompt[text] = found
        elif named and not found.named:
            found.key, found.named = self._free(key), True
        self.by_key[found.key] = found
        if found.completions.setdefault(model, completion) != completion:
            self.counts["second answers of a model to a prompt"] += 1

    def _free(self, key: str) -> str:
        """The key, told apart where rows of two files that do not match have the same number."""
        number, free = 2, key
        while free in self.by_key:
            free, number = f"{key}-{number}", number + 1
        return free


def read_answers(model: str, path: Path, into: Matched) -> None:
    """Add what one model answered."""
    file = answers_file(path)
    keys = _keys(file) if file.name == OUTPUTS else {}
    count = 0
    for number, (line, row) in enumerate(_rows(file)):
        ours = "instruction" in row
        prompt = _text(row, "instruction" if ours else "prompt", file, line)
        completion = _text(row, "output" if ours else "completion", file, line)
        key = keys.get(number) or row.get("id")
        if key is not None and not isinstance(key, str | int):
            raise UserError("is no name", file=file, line=line, field="id")
        numbered = f"{'alpaca_eval' if ours else 'items'}/{number}"
        named = key is not None
        into.add(model, str(key) if named else numbered, named, prompt, completion)
        count += 1
    if not count:
        raise UserError("holds no answers", file=file)


def read_instances(path: Path, into: Matched) -> list[tuple[str, str]]:
    """Add the answers of a file of instances; returns its pairs of models, in its order."""
    pairs: dict[tuple[str, str], None] = {}
    for line, row in read_jsonl(path):
        key = f"human/{_text(row, 'id', path, line)}"
        prompt = _text(row, "prompt", path, line)
        completions = row.get("completions")
        if not isinstance(completions, list) or len(completions) != 2:
            raise UserError("is not two", file=path, line=line, field="completions")
        models = []
        for one in completions:
            if not isinstance(one, dict):
                raise UserError("is not an object", file=path, line=line, field="completions")
            models.append(_text(one, "model", path, line))
            into.add(models[-1], key, True, prompt, _text(one, "completion", path, line))
        pairs[models[0], models[1]] = None
    if not pairs:
        raise UserError("holds no instances", file=path)
    return list(pairs)


def _rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) for each record of a JSON list or of JSON lines."""
    with open_bytes(file) as handle:
        is_list = handle.peek(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
    if not is_list:
        yield from read_jsonl(file)
        return
    for line, row in read_json_array(file):
        if not isinstance(row, dict):
            raise UserError("is not an object", file=file, line=line)
        yield line, row


def _keys(outputs: Path) -> dict[int, str]:
    """The items' keys by row, from the samples of the same evaluation."""
    samples = outputs.with_name(SAMPLES)
    if not samples.is_file():
        return {}
    keys = [str(row["item"]) for _, row in read_jsonl(samples) if "item" in row]
    rows = read_json(outputs)
    return dict(enumerate(keys)) if len(keys) == len(rows) else {}


def _text(row: dict[str, Any], name: str, file: Path, line: int) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise UserError("is missing or not text", file=file, line=line, field=name)
    return value
