"""Reading JSON with the line of every mistake, and writing so that a file is whole or not there."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
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
        raise UserError(f"broken JSON: {_mistake(error)}", file=path, line=error.lineno) from None
    except (RecursionError, ValueError) as error:  # nested too deep; too many digits
        raise UserError(f"cannot be read: {error}", file=path) from None


def _mistake(error: json.JSONDecodeError) -> str:
    return error.msg.removesuffix(" at").rstrip(": ")


OnBad = Callable[[UserError], None] | None
"""Told of each record that cannot be read, which is then stepped over; None: it is raised."""


class StrayTextError(UserError):
    """Text among records that is none: stepping over it loses nothing but itself."""


MOST_OF_ONE = 1 << 26  # bytes of one record; a longer one is no record but a broken file
MOST_FROM_ONE = 100  # bytes that one byte of a gzip file may unpack to; text gives 3 to 20
GZIP_BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)
CHUNK = 1 << 20  # bytes read at a time from a large file


def read_jsonl(path: Path, on_bad: OnBad = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) for each object of a JSON-lines file; one line in memory.

    Packed files are unpacked on the way. A line may hold several whole objects: then only their
    line break was lost. Raises UserError if the file cannot be opened, and for a line that holds
    anything else, unless `on_bad` takes it: as StrayTextError if it is no record, nor what is left
    of one.
    """
    keys: Keys = {}
    bad = False  # whether the line before was
    for number, line in _lines(path, on_bad):
        try:
            value = _value(line)
        except UserError as error:
            lost = not isinstance(error, StrayTextError) or _is_record(line, keys, bad)
            bad = True
            _tell(on_bad, error.message, path, number, error.hint, lost=lost)
            continue
        bad = False
        for row in value if isinstance(value, _Several) else (value,):
            keys[next(iter(row), "")] = None
            yield number, row


def _is_record(line: bytes, keys: Keys, cut: bool) -> bool:
    """Whether a broken line was a record: it begins as one does, or ends as one does or is no text
    and is not the rest of a line before it that was `cut`."""
    text = line.decode(errors="replace").strip()
    ends = text.endswith("}") or "\ufffd" in text
    begins = text.startswith("{") or re.search(_first_key(keys), text) is not None
    return begins or (ends and not cut)


def read_lines(path: Path, on_bad: OnBad = None) -> Iterator[tuple[int, str]]:
    """(number from 1, text without its line break) for each non-empty line; as `read_jsonl`."""
    for number, line in _lines(path, on_bad):
        try:
            yield number, line.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            _tell(on_bad, "is not UTF-8 text", path, number, "convert it to UTF-8")


class _Several(list[dict[str, Any]]):
    """Objects that stand in one line."""


def _value(line: bytes) -> dict[str, Any] | _Several:
    """The object in a line, or the several that it holds."""
    try:
        text = line.decode()
        row = DECODER.decode(text)
    except UnicodeDecodeError:
        raise StrayTextError("is not UTF-8 text", hint="convert it to UTF-8") from None
    except json.JSONDecodeError as error:
        several = _several(text) if error.msg == "Extra data" else None
        if several is None:
            message = f"broken JSON: {_mistake(error)} at column {error.colno}"
            raise StrayTextError(message) from None
        return several
    except (RecursionError, ValueError) as error:  # nested too deep; too many digits
        raise UserError(f"cannot be read: {error}") from None
    if not isinstance(row, dict):
        hint = "is the file one JSON array? then its name should end in .json"
        raise UserError("is not a JSON object", hint=hint if isinstance(row, list) else None)
    return row


Keys = dict[str, None]
"""The keys with which the records of a file begin, so far."""

MOST_KEYS = 16  # of more, none says anything
ANY_KEY = r"[^\"\\]{0,100}"


def _first_key(keys: Keys) -> str:
    """A pattern for a key with which records begin; for any, if none is known."""
    few = 0 < len(keys) <= MOST_KEYS
    return rf'"(?:{"|".join(map(_written, keys)) if few else ANY_KEY})"\s*:'


def _written(key: str) -> str:
    """A pattern for a key as it may stand in a file, characters escaped or not."""
    plain, escaped = (json.dumps(key, ensure_ascii=ascii)[1:-1] for ascii in (False, True))
    return "|".join({re.escape(plain), re.escape(escaped)})


def _several(text: str) -> _Several | None:
    """All objects of a line that holds nothing else, else None."""
    rows, at = _Several(), 0
    while at < len(text):
        try:
            row, at = DECODER.raw_decode(text, at)
        except (RecursionError, ValueError):
            return None
        if not isinstance(row, dict):
            return None
        rows.append(row)
        at = WHITESPACE.match(text, at).end()  # type: ignore[union-attr]
    return rows


def _tell(
    on_bad: OnBad, message: str, file: Path, line: int | None = None, hint: str | None = None,
    *, lost: bool = True,
) -> None:  # fmt: skip
    """Hand over what cannot be read, or raise it; lost: whether it is a record."""
    error = (UserError if lost else StrayTextError)(message, file=file, line=line, hint=hint)
    if on_bad is None:
        raise error from None
    on_bad(error)


def _lines(path: Path, on_bad: OnBad) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line) for each line with something on it; one over the limit is bad.

    A carriage return alone ends a line too, as it does for Python's text files.
    """
    number = 0
    with open_bytes(path) as handle:
        while line := handle.readline(MOST_OF_ONE):
            number += 1
            if len(line) == MOST_OF_ONE and not line.endswith(b"\n"):
                while (more := handle.readline(CHUNK)) and not more.endswith(b"\n"):
                    pass
                _tell(on_bad, f"is longer than {MOST_OF_ONE >> 20} MiB", path, number)
                continue
            if b"\r" in line:
                pieces = line.rstrip(b"\r\n").split(b"\r")
            elif line.startswith(b"{"):
                yield number, line  # the usual case, and the shortest way
                continue
            else:
                pieces = [line]
            for index, piece in enumerate(pieces):
                number += index > 0
                piece = piece.removeprefix(codecs.BOM_UTF8)  # also where files were put together
                if piece.strip():
                    yield number, piece
        if handle.broken:
            _tell(on_bad, handle.broken, path, number, lost=False)


class Bytes(io.BufferedReader):
    """A file for reading; broken: why it ends where it should not, or ""."""

    @property
    def broken(self) -> str:
        return getattr(self.raw, "broken", "")


def open_bytes(path: Path) -> Bytes:
    """A file of text that must be there; what begins as gzip does is unpacked on the way."""
    try:
        raw = path.open("rb", buffering=0)
        handle = Bytes(raw, CHUNK)
        if handle.peek(2)[:2] == b"\x1f\x8b":
            handle = Bytes(_Unpacked(handle, os.fstat(raw.fileno()).st_size), CHUNK)
    except FileNotFoundError:
        raise UserError("no such file", file=path, hint="check the path") from None
    except IsADirectoryError:
        raise UserError("is a folder, a file is needed", file=path) from None
    except OSError as error:  # no right to read it, links that go round in a circle
        raise UserError(f"cannot be read: {error.strerror}", file=path) from None
    start = handle.peek(4)[:4]
    zeros = start[::2] == b"\0\0", start[1::2] == b"\0\0"
    if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or zeros[0] != zeros[1]:
        handle.close()
        hint = "convert it to UTF-8, for example with iconv -f UTF-16 -t UTF-8"
        raise UserError("is UTF-16 text", file=path, hint=hint)
    return handle


class _Unpacked(io.RawIOBase):
    """What a gzip file holds, up to where it breaks off or swells as no text does."""

    def __init__(self, packed: Bytes, size: int) -> None:
        self.packed, self.gzip, self.broken = packed, gzip.GzipFile(fileobj=packed), ""
        self.left = CHUNK * 64 + MOST_FROM_ONE * size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.broken:
            return 0
        try:
            data = self.gzip.read1(len(buffer))
        except GZIP_BROKEN as error:
            self.broken = f"the gzip file ends early or is broken: {error}"
            return 0
        self.left -= len(data)
        if self.left < 0:
            self.broken = f"unpacks to more than {MOST_FROM_ONE} times its size: left there"
            return 0
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self.packed.close()
        super().close()


EDGE = 16  # a value that the end of a chunk cuts is reported within so many characters of it


def read_json_array(path: Path, on_bad: OnBad = None) -> Iterator[tuple[int, Any]]:
    """(line of its first character, value) for each element of a JSON file that is one array.

    Streamed: memory holds a chunk and the element that crosses its end. Packed files are unpacked
    on the way. A top level that is no array raises UserError with the line; so does a syntax error
    or text that is not UTF-8, unless `on_bad` takes it: a record by its first line, text between
    records as StrayTextError. Reading then goes on at the next object that begins with the same key
    as those before.
    """
    with _Window(path, on_bad is not None) as text:
        if text.next_character() != "[":
            hint = "the file must be one list of records"
            raise text.error("is not a JSON array", hint=hint)
        text.at += 1
        delimiter = "" if text.next_character() == "]" else ","
        text.at += not delimiter
        while True:
            tried = False
            try:
                if not delimiter:
                    if not text.next_character():
                        break
                    text.keys.clear()  # what was read may have lain deeper than the records
                    raise text.error("broken JSON: more text after the end of the array")
                text.next_character()
                yield from text.plain()
                line, tried = text.line(), True
                value = text.value()
                tried = False
                if text.is_utf8():
                    yield line, value
                else:
                    _tell(on_bad, "is not UTF-8 text", path, line, "convert it to UTF-8")
                delimiter = text.delimiter()
            except StrayTextError as error:
                if on_bad is None:
                    raise
                found, lost = text.skip(tried)
                message = text.handle.broken or error.message
                _tell(on_bad, message, path, error.line, error.hint, lost=lost)
                if not found:
                    return
                delimiter = ","
        if text.handle.broken:
            _tell(on_bad, text.handle.broken, path, text.line(), lost=False)


DECODER = json.JSONDecoder()
NEXT = re.compile(r"[ \t\n\r]*,[ \t\n\r]*(?=\{)")  # between two objects
WORD = re.compile(r'[\w"]')
OBJECT = re.compile(r'\{\s*"([^"\\]{0,100})"\s*:')
WITHIN = re.compile(r'[:\[]\s*\{\s*"([^"\\]{0,100})"\s*:')
LIST_OF_OBJECTS = re.compile(r"\[\s*\{")
KEY_BEHIND = re.compile(r'\s*,\s*"([^"\\]{0,100})"\s*:')
VALUE_ENDS = re.compile(r"\s*(?:[,\]]|$)")
TAIL = 256  # characters in which a key with its brace and blanks surely fits


class _Window:
    """The part of a file's text that is being looked at; `at` is the next character's index."""

    def __init__(self, path: Path, mending: bool = False) -> None:
        self.handle, self.mending = open_bytes(path), mending
        self.path, self.text, self.at, self.ended = path, "", 0, False
        self.decode = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
        self.lines, self.counted = 0, 0  # line breaks before `counted`, an index of `text`
        self.doubtful = False  # whether the text holds bytes that are not UTF-8
        self.begin = 0  # where the value before `at` begins
        self.keys: Keys = {}
        self.inmost = 0  # where what is nested too deep may end, an index of `text`
        self.likely: Keys | None = None  # what `likely_keys` found in this text
        self.size = 0  # how many keys the last object has

    def __enter__(self) -> _Window:
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.close()

    def more(self, size: int = CHUNK) -> None:
        """Let go of what lies behind `at` and read on."""
        self.let_go()
        data = self.handle.read(size)
        self.ended = not data
        self.text += self.decode(data, self.ended)
        self.doubtful, self.likely = not _encodable(self.text), None

    def let_go(self) -> None:
        """Forget what lies behind `at`."""
        self.line()
        self.inmost = max(0, self.inmost - self.at)
        self.text, self.at, self.counted = self.text[self.at :], 0, 0

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
        if self.mending and LIST_OF_OBJECTS.match(self.text, self.at):
            raise self.error("broken JSON: a '[' before a record")  # it would swallow all others
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                if self.ended or not self.cuts(error):
                    raise self.broken(error) from None
            except RecursionError as error:
                # Each brace that opens on the way in would fail the same way, and take as long.
                inmost = self.text.find("}", self.at)
                self.inmost = len(self.text) if inmost < 0 else inmost
                raise self.error(f"cannot be read: {error}") from None
            except ValueError as error:  # too many digits
                raise self.error(f"cannot be read: {error}") from None
            else:
                # A number at the very end of the chunk may go on in the next one.
                if end < len(self.text) - EDGE or self.ended:
                    self.check(value, end)
                    self.begin, self.at = self.at, end
                    return value
            if len(self.text) - self.at > MOST_OF_ONE:
                raise self.error(f"is longer than {MOST_OF_ONE >> 20} MiB")
            self.more(max(CHUNK, len(self.text) - self.at))

    def check(self, value: Any, end: int) -> None:
        """Raise if what follows a value at `end` shows that it is none."""
        key = KEY_BEHIND.match(self.text, end)
        if not isinstance(value, dict):
            if self.mending and (key or not VALUE_ENDS.match(self.text, end)):
                raise self.error("broken JSON: expecting an object")
            if self.mending and isinstance(value, list) and self.keys:
                record = re.compile(r"\{\s*" + _first_key(self.keys))
                if record.search(self.text, self.at, end):
                    raise self.error("broken JSON: a list around records")
            return
        self.keys[next(iter(value), "")] = None
        if key and key[1] not in self.keys and (len(value) < self.size or not self.size):
            raise self.error("broken JSON: the object ends too early")
        self.size = len(value)

    def plain(self) -> Iterator[tuple[int, Any]]:
        """The objects that stand whole in the chunk, each with another behind it: the usual case,
        and the shortest way; `value` takes what it leaves."""
        text = self.text
        while not self.doubtful and text.startswith("{", self.at):
            try:
                value, end = DECODER.raw_decode(text, self.at)
            except (RecursionError, ValueError):
                return
            follows = NEXT.match(text, end)
            if not follows:
                return
            self.keys[next(iter(value), "")], self.size = None, len(value)
            yield self.line(), value
            self.at = follows.end()

    def cuts(self, error: json.JSONDecodeError) -> bool:
        """Whether the error may come from the end of the chunk."""
        return error.msg.startswith("Unterminated") or error.pos >= len(self.text) - EDGE

    def is_utf8(self) -> bool:
        """Whether the value just read stands in the file as UTF-8."""
        return not self.doubtful or _encodable(self.text[self.begin : self.at])

    def delimiter(self) -> str:
        """Step over the "," or "]" after a record; "" for the latter."""
        found = self.next_character()
        if found not in (",", "]") or not found:
            raise self.error("broken JSON: expecting ',' or ']' after a record")
        self.at += 1
        return found.rstrip("]")

    def skip(self, tried: bool) -> tuple[bool, bool]:
        """Step to the next object that begins as a record; whether there is one, and whether what
        was stepped over is a record: an object, an element, or something with a record's first key.

        tried: a value that begins at `at` could not be read.
        """
        key = _first_key(self.keys or self.likely_keys())
        record, keyed = re.compile(r"\{\s*" + key), re.compile(key)
        opened = tried and self.text[self.at : self.at + 1] == "{"
        if self.at > CHUNK >> 4:
            self.let_go()  # json counts the lines from here to each of its errors
        start, said, lost = max(self.at + tried, self.inmost), False, False
        self.inmost = 0
        while True:
            found = record.search(self.text, start)
            whole = len(self.text) - (0 if self.ended else TAIL)
            end = found.start() if found else max(start, whole)
            lost = lost or keyed.search(self.text, self.at, end) is not None
            said = said or (opened and WORD.search(self.text, self.at, end) is not None)
            if found or self.ended:
                rest = self.text[self.at : end].strip()
                element = tried and rest.endswith(",") and rest.strip(", \t\r\n") != ""
                self.at = end
                return found is not None, lost or said or element
            self.at = end
            self.more()
            start = 0

    def likely_keys(self) -> Keys:
        """Where no record was read yet: the first keys of objects in the chunk, but those of
        objects within others."""
        if self.likely is None:
            within = {found[1] for found in WITHIN.finditer(self.text, self.at + 1)}
            keys = (found[1] for found in OBJECT.finditer(self.text, self.at + 1))
            self.likely = {key: None for key in keys if key not in within}
        return self.likely

    def broken(self, error: json.JSONDecodeError) -> StrayTextError:
        """The error of a value at `at`: its first line, and in words where the mistake is."""
        line = self.line()
        there = line + self.text.count("\n", self.at, error.pos)
        return self.error(f"broken JSON: {_mistake(error)}" + f" at line {there}" * (there > line))

    def error(self, message: str, hint: str | None = None) -> StrayTextError:
        return StrayTextError(message, file=self.path, line=self.line(), hint=hint)


def _encodable(text: str) -> bool:
    """Whether there is nothing in a text that the decoder made of bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
