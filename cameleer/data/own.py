"""What a user's own files need: any name, an array or lines, ids and sources of their own."""

from __future__ import annotations

from pathlib import Path

from cameleer.data.encode import Row, Rows, either_rows
from cameleer.data.source import Card, Convert, native_files

NATIVE = ("*.jsonl", "*.jsonl.gz", "*.json", "*.json.gz")
OURS = ("fetched.json", ".bad.jsonl")  # ends of names of files that we write beside data


def native_id(job: Convert, row: Row) -> str | None:
    """The `id` of a record, if it is a text or a whole number that says something."""
    value = row.values.get("id")
    if isinstance(value, str) and value.strip():
        return row.text(job, "id")
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def own_rows(job: Convert, card: Card) -> Rows:
    """The records of every file, by file name."""
    paths = native_files(card, job.folder)
    return either_rows(
        job, *(path for path in paths if path == job.folder or not path.name.endswith(OURS))
    )


def own_name(job: Convert, row: Row) -> tuple[str, str]:
    """(id, source) of a record: its own, else the file's name, with the record's number as id.

    `dataset` is read as `source`, as in the paper's own files.
    """
    stem = Path(row.file.name.removesuffix(".gz")).stem
    field = next((name for name in ("source", "dataset") if row.values.get(name)), None)
    source = row.text(job, field) if field else stem
    return job.once(native_id(job, row) or f"{stem}_{row.number}"), source
