"""Reading JSON with the line of every mistake, and writing so that a file is whole or not there."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cameleer.core.errors import UserError

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
        raise UserError(f"broken JSON: {error.msg}", file=path, line=error.lineno) from None
    except (RecursionError, ValueError) as error:  # nested too deep; too many digits
        raise UserError(f"cannot be read: {error}", file=path) from None


OnBad = Callable[[UserError], None] | None
"""Told of each record that cannot be read, which is then stepped over; None: it is raised."""

MOST_OF_ONE = 1 << 28  # bytes of one record; a longer one is no record but a broken file
MOST_FROM_ONE = 200  # bytes that one byte of a gzip file may unpack to; text gives 3 to 20
GZIP_BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)


def read_jsonl(path: Path, on_bad: OnBad = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) for each non-empty line; streamed, one line in memory.

    A name that ends in .gz is unpacked on the way. Raises UserError if the file cannot be opened,
    and for a line that is no JSON object, unless `on_bad` takes it.
    """
    for number, line in _lines(path, on_bad):
        try:
            yield number, _object(line)
        except UserError as error:
            _tell(on_bad, error.message, path, number, error.hint)


def read_lines(path: Path, on_bad: OnBad = None) -> Iterator[tuple[int, str]]:
    """(number from 1, text without its line break) for each non-empty line; as `read_jsonl`."""
    for number, line in _lines(path, on_bad):
        try:
            yield number, line.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            _tell(on_bad, "is not UTF-8 text", path, number, "convert it to UTF-8")


def _object(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError:
        raise UserError("is not UTF-8 text", hint="convert it to UTF-8") from None
    except json.JSONDecodeError as error:
        raise UserError(f"broken JSON: {error.msg} at column {error.colno}") from None
    except (RecursionError, ValueError) as error:  # nested too deep; too many digits
        raise UserError(f"cannot be read: {error}") from None
    if not isinstance(row, dict):
        raise UserError("is not a JSON object")
    return row


def _tell(
    on_bad: OnBad, message: str, file: Path, line: int | None = None, hint: str | None = None
) -> None:
    error = UserError(message, file=file, line=line, hint=hint)
    if on_bad is None:
        raise error from None
    on_bad(error)


def _lines(path: Path, on_bad: OnBad) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line) for each line with something on it; one over the limit is bad."""
    number = 0
    with open_bytes(path) as handle:
        while True:
            number += 1
            try:
                line = handle.readline(MOST_OF_ONE)
                if len(line) == MOST_OF_ONE and not line.endswith(b"\n"):
                    while (more := handle.readline(CHUNK)) and not more.endswith(b"\n"):
                        pass
                    _tell(on_bad, f"is longer than {MOST_OF_ONE >> 20} MiB", path, number)
                    continue
            except GZIP_BROKEN as error:
                _tell(on_bad, f"the gzip file ends early or is broken: {error}", path, number)
                return
            except _BombError as error:
                _tell(on_bad, str(error), path, number)
                return
            if not line:
                return
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                yield number, line


def open_bytes(path: Path) -> Any:
    """A file that must be there, for reading; one named .gz is unpacked on the way."""
    try:
        if path.suffix == ".gz":
            return _Unpacked(path)
        return path.open("rb")
    except FileNotFoundError:
        raise UserError("no such file", file=path, hint="check the path") from None
    except IsADirectoryError:
        raise UserError("is a folder, a file is needed", file=path) from None


class _BombError(Exception):
    """A packed file that unpacks to far more than text does."""


class _Unpacked(gzip.GzipFile):
    """A gzip file that is given up when it swells as no text does."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self.most = CHUNK * 64 + MOST_FROM_ONE * path.stat().st_size

    def readline(self, size: int | None = -1) -> bytes:
        return self._checked(super().readline(size))

    def read1(self, size: int = -1) -> bytes:
        return self._checked(super().read1(size))

    def _checked(self, data: bytes) -> bytes:
        if self.tell() > self.most:
            raise _BombError(f"unpacks to more than {MOST_FROM_ONE} times its size: left there")
        return data


CHUNK = 1 << 20  # bytes read at a time from a large JSON file
EDGE = 16  # a value that the end of a chunk cuts is reported within so many characters of it


def read_json_array(path: Path, on_bad: OnBad = None) -> Iterator[tuple[int, Any]]:
    """(line of its first character, value) for each element of a JSON file that is one array.

    Streamed: memory holds a chunk and the element that crosses its end. A name that ends in .gz is
    unpacked on the way. A top level that is no array raises UserError with the line; so does a
    syntax error or text that is not UTF-8, unless `on_bad` takes it: then the next element is
    looked for, which is an object that shares a key with one before.
    """
    with _Window(path) as text:
        if text.next_character() != "[":
            raise text.error("is not a JSON array", hint="the file must be one list of records")
        text.at += 1
        keys: set[str] = set()
        delimiter = "]" if text.next_character() == "]" else ","
        text.at += delimiter == "]"
        while delimiter == ",":
            text.next_character()
            line = text.line()
            try:
                value = text.value()
                keys.update(value if isinstance(value, dict) else ())
                yield line, value
                delimiter = text.delimiter()
            except UserError as error:
                _tell(on_bad, error.message, path, error.line, error.hint)
                if not text.find_object(keys):
                    return
        if text.next_character():
            _tell(on_bad, "broken JSON: more text after the end of the array", path, text.line())


BETWEEN = re.compile(r"\}\s*,\s*(?=\{)")
NOT_UTF8 = re.compile("[\udc80-\udcff]")  # what the decoder makes of bytes that are not UTF-8


class _Window:
    """The part of a file's text that is being looked at; `at` is the next character's index."""

    def __init__(self, path: Path) -> None:
        self.handle: Any = open_bytes(path)
        self.path, self.text, self.at, self.ended = path, "", 0, False
        self.decode = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
        self.lines, self.counted = 0, 0  # line breaks before `counted`, an index of `text`
        self.doubtful = False  # whether the text holds bytes that are not UTF-8
        self.decoder = json.JSONDecoder()

    def __enter__(self) -> _Window:
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.close()

    def more(self, size: int = CHUNK) -> None:
        """Let go of what lies behind `at` and read on."""
        self.line()
        self.text, self.at, self.counted = self.text[self.at :], 0, 0
        try:
            data = self.handle.read1(size)
        except (*GZIP_BROKEN, _BombError):
            data = b""  # the array then ends early, which is told
        self.ended = not data
        self.text += self.decode(data, self.ended)
        self.doubtful = NOT_UTF8.search(self.text) is not None

    def line(self) -> int:
        """The line, from 1, of the character at `at`."""
        self.lines += self.text.count("\n", self.counted, self.at)
        self.counted = self.at
        return self.lines + 1

    def next_character(self) -> str:
        """Step over white space; the character that stands there, or "" at the end."""
        while True:
            self.at = WHITESPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self.more()

    def value(self) -> Any:
        """The JSON value that begins at `at`; steps over it, if it can be read."""
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                if self.ended or not self.cuts(error):
                    self.at = min(error.pos, len(self.text))
                    raise self.error(f"broken JSON: {error.msg}") from None
            except (RecursionError, ValueError) as error:  # nested too deep; too many digits
                raise self.error(f"cannot be read: {error}") from None
            else:
                # A number at the very end of the chunk may go on in the next one.
                if end < len(self.text) or self.ended:
                    begin, self.at = self.at, end
                    if self.doubtful and NOT_UTF8.search(self.text, begin, end):
                        self.at = end - 1  # from its last brace the next one is found
                        raise self.error("is not UTF-8 text", hint="convert it to UTF-8")
                    return value
            if len(self.text) - self.at > MOST_OF_ONE:
                raise self.error(f"is longer than {MOST_OF_ONE >> 20} MiB")
            self.more(max(CHUNK, len(self.text) - self.at))

    def cuts(self, error: json.JSONDecodeError) -> bool:
        """Whether the error may come from the end of the chunk."""
        return error.msg.startswith("Unterminated") or error.pos >= len(self.text) - EDGE

    def delimiter(self) -> str:
        """The "," or "]" after a record; steps over it."""
        found = self.next_character()
        if found not in (",", "]") or not found:
            raise self.error("broken JSON: expecting ',' or ']' after a record")
        self.at += 1
        return found

    def find_object(self, keys: set[str]) -> bool:
        """Step to the next object that holds one of `keys` (any, if there are none), if any."""
        here = self.text[self.at : self.at + 1] == "{"
        while True:
            if here and self.is_object(keys):
                return True
            found = BETWEEN.search(self.text, self.at + here)
            if found:
                self.at, here = found.end(), True
                continue
            if self.ended:
                return False
            self.at = max(self.at, len(self.text) - 4 * EDGE)
            here = False
            self.more()

    def is_object(self, keys: set[str]) -> bool:
        """Whether a whole object with one of `keys` begins at `at`."""
        while True:
            try:
                value, _ = self.decoder.raw_decode(self.text, self.at)
                return isinstance(value, dict) and (not keys or not keys.isdisjoint(value))
            except json.JSONDecodeError as error:
                if self.ended or not self.cuts(error) or len(self.text) - self.at > MOST_OF_ONE:
                    return False
            except (RecursionError, ValueError):
                return False
            self.more(max(CHUNK, len(self.text) - self.at))

    def error(self, message: str, hint: str | None = None) -> UserError:
        return UserError(message, file=self.path, line=self.line(), hint=hint)


def to_json(row: Any) -> str:
    """One line of JSON as all our files hold it: text unescaped, keys in the order given."""
    return json.dumps(row, ensure_ascii=False, separators=(", ", ": "))


@contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; on success it is flushed to disk and takes its name."""
    if path.exists() and not path.is_file():
        raise UserError("is no plain file: it is not replaced", file=path, hint="give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open(mode, encoding=None if "b" in mode else "utf-8") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk is told without a name
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all."""
    with replacing(path) as handle:
        json.dump(value, handle, ensure_ascii=False, indent=2)
        handle.write("\n")


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
