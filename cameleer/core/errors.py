"""The one error that is the user's to mend: it names file, line and field, and says what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """A mistake in what the user gave; the command line prints it as one line and exits with 2.

    Parameters
    ----------
    message: what is wrong, without a final full stop.
    file, line, field: where it is; `line` counts from 1.
    hint: what to do about it.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | Path | None = None,
        line: int | None = None,
        field: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.message, self.hint = message, hint
        self.file, self.line, self.field = file, line, field
        where = "" if file is None else str(file)
        if line is not None:
            where += f":{line}"
        text = ": ".join(part for part in (where, field and f"field '{field}'", message) if part)
        super().__init__(f"{text} ({hint})" if hint else text)

    def __str__(self) -> str:
        return " ".join(str(self.args[0]).split())


def out_of_memory(error: BaseException) -> bool:
    """Whether that is what went wrong, in the words of Python, of torch or of another library."""
    said = str(error).lower()
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "allocate memory" in said or "out of memory" in said


def unknown(kind: str, name: str, known: Iterable[str], see: str | None = None) -> UserError:
    """The error for a name that nobody answers to, with the nearest known name.

    see: what lists the known ones; None: the error does.
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    guess = f"did you mean '{near[0]}'? " if near else ""
    listed = f"`{see}` lists them" if see else f"known: {', '.join(known)}"
    return UserError(f"unknown {kind} '{name}'", hint=guess + listed)
