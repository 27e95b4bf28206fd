"""Tables of human ratings: the one released with Tülu 1, and our own exports.

The released table (allenai/open-instruct, human_eval) has a row for each rating that somebody sent:
id, instance_index, instance_id, prompt, model_a, model_b, completion_a, completion_b,
completion_a_is_acceptable, completion_b_is_acceptable, preference, instance_quality, comment,
evaluator, timestamp. Model A is the one that stood first. A row whose answers are empty only holds
what was said of the instance. It came as an Excel workbook, and people keep it as they can: from a
spreadsheet or a data frame, as CSV, JSON or JSON lines.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

from cameleer.core.errors import UserError
from cameleer.core.files import read_json, read_text
from cameleer.core.jsonl import read_jsonl
from cameleer.human.workbook import read_sheet
from cameleer.results.judgements import FILE, from_row, swapped
from cameleer.results.records import Judgement

Format = Literal["tulu1", "own"]
V = TypeVar("V")
Cells = dict[str, Any]
Row = tuple[int | None, Cells]
"""Its line, where the file has lines, and its cells by column."""

NEEDED = (
    "instance_index", "instance_id", "model_a", "model_b", "completion_a_is_acceptable",
    "completion_b_is_acceptable", "preference", "evaluator", "timestamp",
)  # fmt: skip
OWN = ("item", "a", "b", "preference", "who")
BLANK = {"", "nan", "none", "null", "na", "n/a", "<na>", "nat"}
YES, NO = {"yes", "y", "true", "1", "1.0"}, {"no", "n", "false", "0", "0.0"}
PREFERENCES = {
    "a-is-better": 1.0,
    "a-is-clearly-better": 1.0,
    "a-is-slightly-better": 1.25,
    "tie": 1.5,
    "b-is-slightly-better": 1.75,
    "b-is-better": 2.0,
    "b-is-clearly-better": 2.0,
}
QUALITIES: dict[str, Literal["good", "invalid", "too_hard"]] = {
    "good": "good",
    "bad": "invalid",
    "invalid": "invalid",
    "hard": "too_hard",
    "too-hard": "too_hard",
}
JSON = (".json", ".jsonl")
LONGEST_CELL = 1 << 26  # characters; the csv module's own limit is shorter than some answers


@dataclass(frozen=True, slots=True)
class Rated:
    """A row of a table of ratings.

    index: which comparison it is of, as the table counts them; moment: when it was sent, None where
    that is not told; judgement: A and B in the order of their names, so that both orders of a pair
    are one.
    """

    line: int | None
    index: str
    moment: datetime | None
    judgement: Judgement

    @property
    def answered(self) -> bool:
        """Whether it holds any answer, and not only what was said of the instance."""
        return self.judgement.preference is not None or any(
            answer is not None for answer in self.judgement.acceptable
        )


def read_ratings(path: Path, form: Format | None = None) -> tuple[Format, list[Rated]]:
    """(the table's form, its rows in the file's order).

    path: a table, or a folder that holds `judgements.jsonl`; form: None is told by the columns.
    Raises UserError with file, line and field for what cannot be read.
    """
    file = path / FILE if path.is_dir() else path
    if path.is_dir() and not file.exists():
        hint = f"of a campaign, `cameleer annotate export {path}` makes a table"
        raise UserError(f"holds no {FILE}", file=path, hint=hint)
    columns, rows = _rows(file)
    form = form or ("tulu1" if "model_a" in columns else "own")
    needed, read = (NEEDED, _released) if form == "tulu1" else (OWN, _own)
    missing = [name for name in needed if name not in columns]
    if missing:
        hint = f"columns needed: {', '.join(needed)}"
        raise UserError(f"has no column '{missing[0]}'", file=file, hint=hint)
    return form, read(file, rows)


def _released(file: Path, rows: Sequence[Row]) -> list[Rated]:
    moments = _moments(file, rows, "timestamp", needed=True)
    return [
        Rated(line, _index(file, line, row), moment, _judgement(file, line, row, moment))
        for (line, row), moment in zip(rows, moments, strict=True)
    ]


def _judgement(file: Path, line: int | None, row: Cells, moment: datetime | None) -> Judgement:
    first, second = (_name(file, line, row, name) for name in ("model_a", "model_b"))
    if first == second:
        raise UserError("is model_a too", file=file, line=line, field="model_b")
    preference = _one_of(file, line, row, "preference", PREFERENCES)
    accepted = [_yes(file, line, row, f"completion_{side}_is_acceptable") for side in "ab"]
    turned = first > second
    if turned:
        accepted.reverse()
        preference = None if preference is None else 3 - preference
    return Judgement(
        item=f"human/{_name(file, line, row, 'instance_id')}",
        a=min(first, second),
        b=max(first, second),
        preference=preference,
        who=_name(file, line, row, "evaluator"),
        kind="human",
        b_first=turned,
        acceptable=(accepted[0], accepted[1]),
        quality=_one_of(file, line, row, "instance_quality", QUALITIES) or "",
        comment=_text(row.get("comment")),
        note="" if preference is not None else "no preference was given",
        time=moment.isoformat() if moment else "",
    )


def _own(file: Path, rows: Sequence[Row]) -> list[Rated]:
    """Our own judgements, as JSON lines or as a table with the same names for columns."""
    moments = _moments(file, rows, "time", needed=False)
    found = []
    for (line, row), moment in zip(rows, moments, strict=True):
        one = from_row(row if file.suffix in JSON else _typed(file, line, row), file, line)
        one = one if one.a <= one.b else swapped(one)
        found.append(Rated(line, "\0".join((one.a, one.b, one.item)), moment, one))
    return found


def _typed(file: Path, line: int | None, row: Cells) -> Cells:
    """The cells of a table as the values of a judgement."""
    sides = [_yes(file, line, row, f"acceptable_{side}") for side in "ab"]
    found: Cells = {"kind": "human", "acceptable": tuple(sides), "preference": None}
    for name, cell in row.items():
        text = _text(cell)
        if name in ("acceptable_a", "acceptable_b") or not text:
            continue
        if name == "b_first":
            found[name] = _yes(file, line, row, name)
        elif name in ("preference", "seconds", "price"):
            found[name] = _number(file, line, name, text)
        else:
            found[name] = text
    return found


def _number(file: Path, line: int | None, field: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"'{text}' is no number", file=file, line=line, field=field) from None


def _index(file: Path, line: int | None, row: Cells) -> str:
    """A whole number however it is written: a data frame may have made 12 into 12.0."""
    return re.sub(r"\.0+$", "", _name(file, line, row, "instance_index"))


def _name(file: Path, line: int | None, row: Cells, field: str) -> str:
    text = _text(row.get(field))
    if not text:
        raise UserError("is empty", file=file, line=line, field=field)
    return text


def _text(cell: Any) -> str:
    """A cell without space around it; "" for what stands for nothing."""
    text = "" if cell is None else str(cell).strip()
    return "" if text.lower() in BLANK else text


def _one_of(
    file: Path, line: int | None, row: Cells, field: str, known: Mapping[str, V]
) -> V | None:
    text = _text(row.get(field))
    if not text:
        return None
    word = re.sub(r"[\s_-]+", "-", text.lower())
    if word not in known:
        hint = f"known are {', '.join(known)}"
        raise UserError(f"unknown value '{text}'", file=file, line=line, field=field, hint=hint)
    return known[word]


def _yes(file: Path, line: int | None, row: Cells, field: str) -> bool | None:
    word = _text(row.get(field)).lower()
    if word and word not in YES | NO:
        hint = "yes or no is needed, or nothing"
        raise UserError(f"unknown value '{word}'", file=file, line=line, field=field, hint=hint)
    return word in YES if word else None


def _iso(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _days(text: str) -> datetime:
    """A spreadsheet's own count of days."""
    return datetime(1899, 12, 30) + timedelta(days=float(text))


def _written(*forms: str) -> Callable[[str], datetime]:
    def read(text: str) -> datetime:
        for form in forms:
            try:
                return datetime.strptime(text, form)
            except ValueError:
                pass
        raise ValueError(text)

    return read


def _spelt(day: str) -> Callable[[str], datetime]:
    """A date as a spreadsheet shows it, with the year in two digits or four, and a time."""
    times = ("%H:%M:%S", "%H:%M", "%I:%M:%S %p", "%I:%M %p")
    return _written(*(f"{day}{year} {time}" for year in ("%y", "%Y") for time in times))


DATES: tuple[tuple[str, Callable[[str], datetime]], ...] = (
    ("2023-05-18 10:03:22", _iso),
    ("days since 1899-12-30", _days),
    ("month first", _spelt("%m/%d/")),
    ("day first", _spelt("%d/%m/")),
    ("day first", _spelt("%d.%m.")),
)


def _moments(file: Path, rows: Sequence[Row], field: str, *, needed: bool) -> list[datetime | None]:
    """The times of all rows, which are written in one way; nothing is guessed where two fit."""
    texts = [_text(row.get(field)) for _, row in rows]
    if needed and not all(texts):
        line = rows[texts.index("")][0]
        raise UserError("is empty", file=file, line=line, field=field)
    given = [text for text in texts if text]
    fitting = [(name, read) for name, read in DATES if _fits(read, given)]
    if not fitting:
        _say_unreadable(file, rows, field)
    if len(fitting) > 1 and given:
        hint = "write times as 2023-05-18 10:03:22"
        names = " or ".join(name for name, _ in fitting)
        raise UserError(f"may be dates with the {names}", file=file, field=field, hint=hint)
    read = fitting[0][1]
    return [read(text) if text else None for text in texts]


def _fits(read: Callable[[str], datetime], texts: Iterable[str]) -> bool:
    try:
        for text in texts:
            read(text)
    except (ValueError, OverflowError):
        return False
    return True


def _say_unreadable(file: Path, rows: Sequence[Row], field: str) -> None:
    """Name the first time that is not written as the first one is, or as any time is."""
    first = next(text for _, row in rows if (text := _text(row.get(field))))
    ways = [read for _, read in DATES if _fits(read, [first])]
    for line, row in rows:
        text = _text(row.get(field))
        if text and not any(_fits(read, [text]) for read in ways):
            hint = "write all times in one way, as 2023-05-18 10:03:22"
            raise UserError(f"'{text}' is no time", file=file, line=line, field=field, hint=hint)
    raise UserError("times are written in several ways", file=file, field=field)


def _rows(file: Path) -> tuple[set[str], list[Row]]:
    """(columns, rows) of a table: JSON lines, a JSON array of objects, a workbook, or CSV."""
    if file.suffix == ".jsonl":
        rows: list[Row] = list(read_jsonl(file))
    elif file.suffix == ".json":
        rows = list(_array(file))
    else:
        return _table(file, read_sheet(file) if file.suffix == ".xlsx" else _lines(file))
    if not rows:
        raise UserError("holds no row", file=file)
    return {name for _, row in rows for name in row}, rows


def _array(file: Path) -> Iterator[Row]:
    value = read_json(file)
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise UserError("is no JSON array of objects", file=file)
    for row in value:
        yield None, row


def _lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of a CSV file; what divides the names of its header divides its cells."""
    text = read_text(file).removeprefix("\ufeff")
    header = text.lstrip("\r\n").partition("\n")[0]
    divider = max(",;\t", key=header.count)
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=divider, strict=True)
    start = 1
    try:
        for cells in reader:
            yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"is no CSV: {error}", file=file, line=start) from None


def _table(file: Path, lines: Iterable[tuple[int, list[str]]]) -> tuple[set[str], list[Row]]:
    """(columns, rows) of a table whose first line that is not empty is its header."""
    filled = ((line, cells) for line, cells in lines if any(cell.strip() for cell in cells))
    header = next(filled, None)
    if header is None:
        raise UserError("is empty", file=file)
    names = _header(file, *header)
    rows: list[Row] = [(line, _cells(file, line, names, cells)) for line, cells in filled]
    if not rows:
        raise UserError("holds no row below its header", file=file)
    return set(names), rows


def _header(file: Path, line: int, cells: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = next((name for at, name in enumerate(names) if name and name in names[:at]), None)
    if twice:
        raise UserError(f"has two columns '{twice}'", file=file, line=line)
    return names


def _cells(file: Path, line: int, names: Sequence[str], cells: Sequence[str]) -> Cells:
    extra = [cell for cell in cells[len(names) :] if cell.strip()]
    if file.suffix == ".xlsx":  # which leaves out cells at the end that hold nothing
        cells = [*cells, *[""] * (len(names) - len(cells))]
    if len(cells) < len(names) or extra:
        hint = "is a quoted cell broken off, or one with commas not quoted?"
        message = f"has {len(cells)} cells where the header has {len(names)}"
        raise UserError(message, file=file, line=line, hint=hint)
    return {name: cell for name, cell in zip(names, cells, strict=False) if name}
