"""Reading small files whole, and writing so that a file is whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cameleer.core.errors import UserError
from cameleer.core.jsonl import mistake

WHITESPACE = re.compile(r"[ \t\n\r]*")


def read_text(path: Path) -> str:
    """The UTF-8 text of a file that must be there."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError("no such file", file=path, hint="check the path") from None
    except IsADirectoryError:
        raise UserError("is a folder, a file is needed", file=path) from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise UserError(
            "is not UTF-8 text", file=path, line=line, hint="convert it to UTF-8"
        ) from None


def read_json(path: Path) -> Any:
    """The value of a JSON file; a syntax error names its line."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"broken JSON: {mistake(error)}", file=path, line=error.lineno) from None
    except (RecursionError, ValueError) as error:  # nested too deep; too many digits
        raise UserError(f"cannot be read: {error}", file=path) from None


def to_json(row: Any) -> str:
    """One line of JSON as all our files hold it: text unescaped, keys in the order given."""
    return json.dumps(row, ensure_ascii=False, separators=(", ", ": "))


class WriteError(OSError):
    """A refusal of the system to write what was asked for, by whose name it goes."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name `path` in a refusal: a file beside it or a folder above it says nothing to the user."""
    try:
        yield
    except OSError as error:
        raise WriteError(error.errno, error.strerror, str(path)) from error


@contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; on success it is flushed to disk and takes its name."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        if path.exists() and not path.is_file():
            hint = "give another name"
            raise UserError("is no plain file: it is not replaced", file=path, hint=hint)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = temporary.open(mode, encoding=None if "b" in mode else "utf-8")
    try:
        with handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        with writing(path):
            temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk is told without a name
        raise
    finally:
        temporary.unlink(missing_ok=True)


def require_outside(out: Path, *inputs: Path) -> None:
    """Raise UserError if `out` lies in a folder that is read: to write there would change it."""
    for given in inputs:
        if given.is_dir() and given.resolve() in out.resolve().parents:
            hint = "give an -o outside of it"
            raise UserError(f"lies in {given}, which is read for it", file=out, hint=hint)


def require_plain(path: Path, field: str) -> None:
    """Raise UserError where a file is to be written and something else is: a folder, a device."""
    if path.exists() and not path.is_file():
        what = "is a folder" if path.is_dir() else "is no plain file"
        raise UserError(f"{what}, a file is needed", file=path, field=field)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all."""
    with replacing(path) as handle:
        json.dump(value, handle, ensure_ascii=False, indent=2)
        handle.write("\n")


def write_passing(path: Path, value: Any) -> None:
    """Write as JSON what is soon written anew: readers find it whole, a crash may lose it."""
    aside = path.with_name(f".{path.name}")
    with writing(path):
        aside.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
        aside.replace(path)


def write_jsonl(path: Path, rows: Iterable[Any]) -> int:
    """Write rows as JSON lines, whole or not at all; returns how many."""
    count = 0
    with replacing(path) as handle:
        for row in rows:
            handle.write(to_json(row) + "\n")
            count += 1
    return count


class JsonlLog:
    """Appends rows to a JSONL file; a line torn by a kill is cut off when the file is opened again.

    A killed process can leave its last line half written. Such a line is no record: it is removed
    here, so that every reader after us meets whole lines only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists():
            whole = path.read_bytes()
            end = whole.rfind(b"\n") + 1
            if end != len(whole):
                os.truncate(path, end)
        self.handle = path.open("a", encoding="utf-8")

    def append(self, rows: Iterable[Any]) -> None:
        """Write rows and hand them to the operating system before returning."""
        self.handle.write("".join(to_json(row) + "\n" for row in rows))
        self.handle.flush()

    def sync(self) -> None:
        """Wait until what was appended is on the disk."""
        self.handle.flush()
        os.fsync(self.handle.fileno())

    def close(self) -> None:
        self.sync()
        self.handle.close()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_tree(path: Path) -> str:
    """Hex SHA-256 of a file, or of a folder's names and contents, hidden ones left out."""
    if path.is_file():
        return sha256_file(path)
    if not path.is_dir():
        raise UserError("no such file or folder", file=path, hint="check the path")
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        name = file.relative_to(path)
        if not any(part.startswith(".") for part in name.parts):
            digest.update(f"{name.as_posix()}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()
