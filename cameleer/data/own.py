"""What a user's own files need: any name, an array or lines, ids and sources of their own."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path

from cameleer.core.errors import UserError
from cameleer.core.jsonl import GZIP_BROKEN, open_bytes
from cameleer.data.encode import Row, array_rows, jsonl_rows
from cameleer.data.source import Card, Convert, native_files

NATIVE = ("*.jsonl", "*.jsonl.gz", "*.json", "*.json.gz")
OURS = ("fetched.json", ".bad.jsonl")  # ends of names of files that we write beside data


class Identities:
    """Ids that are given out once each: one that is asked for again gets a number behind it."""

    def __init__(self) -> None:
        self.times: dict[str, int] = {}

    def once(self, job: Convert, wanted: str) -> str:
        """`wanted`, or `wanted-2`, `wanted-3` … if it was given out before, which is counted."""
        if wanted not in self.times:
            self.times[wanted] = 1
            return wanted
        job.counts["mended: id given before"] += 1
        number = self.times[wanted] + 1
        while f"{wanted}-{number}" in self.times:
            number += 1
        self.times[wanted] = number
        self.times[f"{wanted}-{number}"] = 1
        return f"{wanted}-{number}"


def native_id(job: Convert, row: Row) -> str | None:
    """The `id` of a record, if it is a text or a whole number that says something."""
    value = row.values.get("id")
    if isinstance(value, str) and value.strip():
        return row.text(job, "id")
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def own_rows(job: Convert, card: Card) -> Iterator[Row]:
    """The records of every file, by file name."""
    for path in native_files(card, job.folder):
        if path == job.folder or not path.name.endswith(OURS):
            yield from either_rows(job, path)


def either_rows(job: Convert, path: Path) -> Iterator[Row]:
    """The objects of a file that is one JSON array or JSON lines, as its first character says."""
    try:
        with open_bytes(path) as file:
            head: bytes = file.read1(1 << 16)
    except GZIP_BROKEN:
        head = b""  # the reader of lines tells
    first = head.removeprefix(BOM_UTF8).lstrip().partition(b"\n")[0].rstrip()
    if first.startswith(b"{") and first.endswith((b"{", b"[")):
        hint = "take its list of records out, or write an object a line"
        raise UserError("is one JSON object over many lines", file=path, hint=hint)
    return (array_rows if first.startswith(b"[") else jsonl_rows)(job, path)


def own_name(job: Convert, row: Row, identities: Identities) -> tuple[str, str]:
    """(id, source) of a record: its own, else the file's name, with the record's number as id.

    `dataset` is read as `source`, as in the paper's own files.
    """
    stem = Path(row.file.name.removesuffix(".gz")).stem
    field = next((name for name in ("source", "dataset") if row.values.get(name)), None)
    source = row.text(job, field) if field else stem
    return identities.once(job, native_id(job, row) or f"{stem}_{row.number}"), source
