"""Reading two models' answers to be judged, and verdicts on them, in AlpacaEval's files or ours.

AlpacaEval's model_outputs.json is a list of {instruction, output, generator, dataset}; an
evaluation of ours that has no score holds the same in outputs.json. Its annotations.json is a list
of {instruction, output_1, generator_1, output_2, generator_2, annotator, preference}, where 1 is
the reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cameleer.core.errors import UserError
from cameleer.core.files import read_json
from cameleer.core.jsonl import read_jsonl
from cameleer.results.answer_files import OUTPUTS, SAMPLES, answers_file
from cameleer.results.records import Judgement

NOT_ANNOTATED = "not annotated"  # the note of a verdict that is null


@dataclass(frozen=True, slots=True)
class Output:
    """A model's answer; item: the key of the instruction; dataset: where it was taken from."""

    item: str
    instruction: str
    output: str
    dataset: str = ""


@dataclass(frozen=True)
class Outputs:
    """What one model answered, in the file's order."""

    generator: str
    rows: tuple[Output, ...]
    path: Path

    def by_instruction(self) -> dict[str, list[Output]]:
        """The answers to each instruction; several where it is asked several times."""
        found: dict[str, list[Output]] = {}
        for row in self.rows:
            found.setdefault(row.instruction, []).append(row)
        return found


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models' answers to one instruction, A being the reference; item: its key in A's file."""

    item: str
    instruction: str
    a: str
    b: str
    dataset: str = ""


@dataclass(frozen=True)
class Pairing:
    """The answers to the same instructions, in A's order, and how many stand alone."""

    pairs: list[Pair]
    only_a: int
    only_b: int

    def alone(self, a: str, b: str) -> str:
        """A sentence on what one of the two models has not answered, or ""."""
        said = [
            f"{count} instructions are answered by {one} only"
            for count, one in ((self.only_a, a), (self.only_b, b))
            if count
        ]
        return " and ".join(said) + f": {len(self.pairs)} pairs are left" if said else ""


def read_outputs(path: Path) -> Outputs:
    """The answers in a file of AlpacaEval's form, or in a folder that holds one.

    A folder is an evaluation of ours (`outputs.json`) or of AlpacaEval's results
    (`model_outputs.json`). An item's key is the one in the evaluation's samples, else
    `alpaca_eval/<row>`, which is the benchmark's own only if the file leaves none out: instructions
    tell two files' items apart, as in `pair_outputs`. A file that does not name its model gets the
    name of its folder. Raises UserError for anything else, several models in one file, or no
    answers.
    """
    file = answers_file(path)
    records = _records(file)
    rows = [
        Output(
            f"alpaca_eval/{number}",
            _text(row, "instruction", file, number),
            _text(row, "output", file, number),
            str(row.get("dataset") or ""),
        )
        for number, row in enumerate(records)
    ]
    name = _only(records, "generator", file) or file.resolve().parent.name
    keys = _keys(file.with_name(SAMPLES)) if file.name == OUTPUTS else []
    if len(keys) == len(rows):
        rows = [replace(row, item=key) for row, key in zip(rows, keys, strict=True)]
    return Outputs(name, tuple(rows), file)


def pair_outputs(a: Outputs, b: Outputs) -> Pairing:
    """Pair two models' answers by instruction; a is the reference.

    The n-th time that an instruction is asked in one file goes with the n-th time in the other.
    Raises UserError if they share none.
    """
    waiting = {said: list(found) for said, found in b.by_instruction().items()}
    pairs = []
    for row in a.rows:
        if theirs := waiting.get(row.instruction):
            other = theirs.pop(0)
            dataset = row.dataset or other.dataset
            pairs.append(Pair(row.item, row.instruction, row.output, other.output, dataset))
    if not pairs:
        hint = f"they are of another test set than {a.path}"
        raise UserError("none of its instructions is answered in both", file=b.path, hint=hint)
    return Pairing(pairs, len(a.rows) - len(pairs), sum(map(len, waiting.values())))


@dataclass(frozen=True, slots=True)
class Annotation:
    """A verdict of a released file; a, b: the answers judged, None where the file holds none.

    preference: 1 (A) to 2 (B), 1.5 for a draw, None where there is none. seconds, price (US
    dollars): what it took.
    """

    item: str
    instruction: str
    a: str | None
    b: str | None
    preference: float | None
    seconds: float | None
    price: float | None


@dataclass(frozen=True)
class Annotations:
    """One judge's verdicts on one model (b) against the reference (a), in the file's order."""

    a: str
    b: str
    judge: str
    rows: tuple[Annotation, ...]
    path: Path

    def judgements(self) -> list[Judgement]:
        """The same as records that judges and people share."""
        return [
            Judgement(
                row.item,
                self.a,
                self.b,
                row.preference,
                self.judge,
                "judge",
                note=NOT_ANNOTATED if row.preference is None else "",
                seconds=row.seconds,
                price=row.price,
            )
            for row in self.rows
        ]


def read_annotations(path: Path) -> Annotations:
    """The verdicts of an annotations.json.

    Raises UserError for a file that is no list of verdicts, for several models or judges in one
    file, and for a preference that is neither null, 0 (a draw, as older files have it) nor in 1..2.
    """
    records, rows = _records(path), []
    for number, row in enumerate(records):
        if "preference" not in row:
            hint = "these are a model's outputs, no verdicts" if "output" in row else None
            said = f"is missing in record {number}"
            raise UserError(said, file=path, field="preference", hint=hint)
        rows.append(
            Annotation(
                f"alpaca_eval/{number}",
                _text(row, "instruction", path, number),
                _optional_text(row, "output_1", path, number),
                _optional_text(row, "output_2", path, number),
                _preference(row["preference"], path, number),
                _amount(row.get("time_per_example")),
                _amount(row.get("price_per_example")),
            )
        )
    a, b = (_only(records, field, path) for field in ("generator_1", "generator_2"))
    judge = _only(records, "annotator", path) or path.resolve().parent.name
    b = b or path.resolve().parent.parent.name
    return Annotations(a or "reference", b, judge, tuple(rows), path)


def _records(path: Path) -> list[dict[str, Any]]:
    """A JSON list of objects, at least one."""
    rows = read_json(path)
    if not isinstance(rows, list):
        raise UserError("is not a list of records", file=path)
    if not rows:
        raise UserError("holds no records", file=path)
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise UserError(f"record {number} is not an object", file=path)
    return rows


def _only(records: Sequence[dict[str, Any]], field: str, path: Path) -> str:
    """The one name that all records that have this field give, or "" if none has it."""
    names = sorted({str(row[field]) for row in records if row.get(field) is not None})
    if len(names) > 1:
        said = f"names {len(names)} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        raise UserError(said, file=path, field=field, hint="one to a file: split it")
    return names[0] if names else ""


def _keys(samples: Path) -> list[str]:
    """The items' keys in an evaluation of ours, in the order of its outputs."""
    if not samples.is_file():
        return []
    return [str(row["item"]) for _, row in read_jsonl(samples) if "item" in row]


def _text(row: dict[str, Any], field: str, path: Path, number: int) -> str:
    value = row.get(field)
    if not isinstance(value, str):
        raise UserError(f"is missing or not text in record {number}", file=path, field=field)
    return value


def _optional_text(row: dict[str, Any], field: str, path: Path, number: int) -> str | None:
    return None if row.get(field) is None else _text(row, field, path, number)


def _preference(value: Any, path: Path, number: int) -> float | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"is not a number in record {number}", file=path, field="preference")
    if value == 0:
        return 1.5
    if not 1 <= value <= 2:
        hint = "1 is the reference, 2 the model, 0 or 1.5 a draw, null no verdict"
        said = f"is {value} in record {number}"
        raise UserError(said, file=path, field="preference", hint=hint)
    return float(value)


def _amount(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) else None
