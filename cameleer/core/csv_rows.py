"""CSV files: read with the line of every row and mistake, written whole or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cameleer.core.errors import UserError
from cameleer.core.files import replacing
from cameleer.core.jsonl import open_bytes


def read_csv(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number from 1 at which it ends, fields) for each row that is not empty.

    Raises UserError if the file cannot be opened, is not UTF-8, or breaks off.
    """
    with open_bytes(path) as handle:
        data = handle.read()
        if handle.broken:
            raise UserError(handle.broken, file=path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        hint = "convert it to UTF-8"
        raise UserError("is not UTF-8 text", file=path, line=line, hint=hint) from None
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"broken CSV: {error}", file=path, line=reader.line_num) from None


def write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table, with the names of its columns first."""
    with replacing(path) as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)
