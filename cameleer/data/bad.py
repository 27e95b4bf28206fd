"""The list of records that could not be read: a file beside the output, and a few lines at once."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from cameleer.core.console import warn
from cameleer.core.errors import UserError
from cameleer.core.files import to_json

TOLD = 5  # bad records that are told at once; all are in the file


class BadRecords:
    """Writes each bad record's file, line, field and reason to OUT.bad.jsonl, if there is any."""

    def __init__(self, output: Path) -> None:
        self.file = output.with_suffix(".bad.jsonl")
        self.count = 0

    def __enter__(self) -> BadRecords:
        self.file.unlink(missing_ok=True)  # of an earlier run
        return self

    def add(self, error: UserError) -> None:
        """Note a record that could not be read."""
        if self.count == 0:
            self.handle = self.file.open("w", encoding="utf-8")
        self.count += 1
        row = {
            "file": str(error.file),
            "line": error.line,
            "field": error.field,
            "reason": error.message,
        }
        self.handle.write(to_json(row) + "\n")
        if self.count <= TOLD:
            warn(f"dropped: {error}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self.count:
            self.handle.close()
        if self.count and kind is KeyboardInterrupt:
            self.file.unlink()  # it would be half a list, beside no output
        elif self.count:
            warn(f"{self.count} bad records dropped, listed in {self.file}")

    def facts(self) -> dict[str, str]:
        """Where the list is, if there is one."""
        return {"bad_records": str(self.file)} if self.count else {}
