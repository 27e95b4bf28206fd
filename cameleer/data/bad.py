"""Records that could not be read: the first are told; where there is an output, all are listed."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from cameleer.core.console import warn
from cameleer.core.errors import UserError
from cameleer.core.files import replacing, to_json

FIRST = 3  # bad records that are told where none are listed
TOLD = 5  # bad records that are told at once; all are in the file


class BadTold:
    """Counts what could not be read, and tells the first of it."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, error: UserError) -> None:
        """Note a record, or text between records, that could not be read."""
        self.count += 1
        if self.count <= FIRST:
            warn(f"dropped: {error}")

    def sum_up(self, where: str, see: str) -> None:
        """Say how many there were, if not all were told, and what lists them."""
        if self.count > FIRST:
            warn(f"{where}: {self.count} bad records dropped; {see}")


class BadRecords:
    """Writes what could not be read, each with file, line, field and reason, to OUT.bad.jsonl.

    The list is there if it has a line, also where a mistake of the user ends the work; that of an
    earlier run never is.
    """

    def __init__(self, output: Path) -> None:
        self.file = output.with_suffix(".bad.jsonl")
        self.count = 0

    def __enter__(self) -> BadRecords:
        if self.file.is_dir():
            raise UserError("is a folder: bad records are to be listed there", file=self.file)
        self.file.unlink(missing_ok=True)
        return self

    def add(self, error: UserError) -> None:
        """Note a record, or text between records, that could not be read."""
        if self.count == 0:
            self.writing = replacing(self.file)
            self.handle = self.writing.__enter__()
        self.count += 1
        row = {
            "file": str(error.file),
            "line": error.line,
            "field": error.field,
            "reason": error.message,
        }
        # Names of files may hold bytes that are no UTF-8: JSON has escapes for them.
        self.handle.write(to_json(row).encode(errors="backslashreplace").decode() + "\n")
        if self.count <= TOLD:
            warn(f"dropped: {error}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if not self.count:
            return
        if error is None or isinstance(error, UserError):
            self.writing.__exit__(None, None, None)
            warn(f"{self.count} could not be read, listed in {self.file}")
        else:
            self.writing.__exit__(kind, error, at)

    def facts(self) -> dict[str, str]:
        """Where the list is, if there is one."""
        return {"bad_records": str(self.file)} if self.count else {}
