"""Reading JSON lines, packed or not: each mistake has its line, and can be stepped over."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cameleer.core.errors import UserError

WHITESPACE = re.compile(r"[ \t\n\r]*")
DECODER = json.JSONDecoder()


def mistake(error: json.JSONDecodeError) -> str:
    """What json says is wrong, as a phrase."""
    return error.msg.removesuffix(" at").rstrip(": ")


OnBad = Callable[[UserError], None] | None
"""Told of each record that cannot be read, which is then stepped over; None: it is raised."""


class StrayTextError(UserError):
    """Text among records that is none: stepping over it loses nothing but itself."""


MOST_OF_ONE = 1 << 26  # bytes of one record; a longer one is no record but a broken file
MOST_FROM_ONE = 100  # bytes that one byte of a gzip file may unpack to; text gives 3 to 20
GZIP_BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)
CHUNK = 1 << 20  # bytes read at a time from a large file
Keys = dict[str, None]
"""The keys with which the records of a file begin, so far."""


@dataclass
class Known:
    """What a reader knows of the records before; the reader keeps it up to date.

    keys: with which they begin; size: how many keys the last one has; cut: whether the last line
    could not be read.
    """

    keys: Keys = field(default_factory=dict)
    size: int = 0
    cut: bool = False


@dataclass(frozen=True)
class Part:
    """A part of a file of records, see `cameleer.core.parts`.

    data: its bytes; lines: that end before it; records: that are probably in it; first, last:
    whether the file begins, ends with it; broken: why the file ends there, where it should not, or
    "".
    """

    path: Path
    data: bytes
    lines: int
    records: int
    first: bool
    last: bool
    broken: str = ""


@dataclass
class Reading:
    """How a part is read: with what is known, and what gives the next part to a reader that is in
    the middle of a record at the end of this one."""

    part: Part
    known: Known = field(default_factory=Known)
    more: Callable[[], Part] | None = None


def read_jsonl(
    path: Path, on_bad: OnBad = None, reading: Reading | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) for each object of a JSON-lines file; one line in memory.

    reading: a part of whole lines, which alone is read. Packed files are unpacked on the way. A
    line may hold several whole objects: then only their line break was lost. Raises UserError if
    the file cannot be opened, and for a line that holds anything else, unless `on_bad` takes it: as
    StrayTextError if it is no record, nor what is left of one.
    """
    known = reading.known if reading else Known()
    keys = known.keys
    for number, line in _lines(path, on_bad, reading.part if reading else None):
        try:
            value = _value(line)
        except UserError as error:
            lost = not isinstance(error, StrayTextError) or _is_record(line, keys, known.cut)
            known.cut = True
            tell(on_bad, error.message, path, number, error.hint, lost=lost)
            continue
        known.cut = False
        for row in value if isinstance(value, _Several) else (value,):
            keys[next(iter(row), "")] = None
            yield number, row


def _is_record(line: bytes, keys: Keys, cut: bool) -> bool:
    """Whether a broken line was a record: it begins as one does, or ends as one does or is no text
    and is not the rest of a line before it that was `cut`."""
    text = line.decode(errors="replace").strip()
    ends = text.endswith("}") or "\ufffd" in text
    begins = text.startswith("{") or re.search(first_key(keys), text) is not None
    return begins or (ends and not cut)


def read_lines(path: Path, on_bad: OnBad = None) -> Iterator[tuple[int, str]]:
    """(number from 1, text without its line break) for each non-empty line; as `read_jsonl`."""
    for number, line in _lines(path, on_bad):
        try:
            yield number, line.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            tell(on_bad, "is not UTF-8 text", path, number, "convert it to UTF-8")


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
            message = f"broken JSON: {mistake(error)} at column {error.colno}"
            raise StrayTextError(message) from None
        return several
    except (RecursionError, ValueError) as error:  # nested too deep; too many digits
        raise UserError(f"cannot be read: {error}") from None
    if not isinstance(row, dict):
        hint = "is the file one JSON array? then its name should end in .json"
        raise UserError("is not a JSON object", hint=hint if isinstance(row, list) else None)
    return row


MOST_KEYS = 16  # of more, none says anything
ANY_KEY = r"[^\"\\]{0,100}"


def first_key(keys: Keys) -> str:
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


def tell(
    on_bad: OnBad, message: str, file: Path, line: int | None = None, hint: str | None = None,
    *, lost: bool = True,
) -> None:  # fmt: skip
    """Hand over what cannot be read, or raise it; lost: whether it is a record."""
    error = (UserError if lost else StrayTextError)(message, file=file, line=line, hint=hint)
    if on_bad is None:
        raise error from None
    on_bad(error)


def _lines(path: Path, on_bad: OnBad, part: Part | None = None) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line) for each line with something on it; one over the limit is bad.

    A carriage return alone ends a line too, as it does for Python's text files.
    """
    number = part.lines if part else 0
    with Bytes(_Held(part), CHUNK) if part else open_bytes(path) as handle:
        while line := handle.readline(MOST_OF_ONE):
            number += 1
            if len(line) == MOST_OF_ONE and not line.endswith(b"\n"):
                while (more := handle.readline(CHUNK)) and not more.endswith(b"\n"):
                    pass
                tell(on_bad, f"is longer than {MOST_OF_ONE >> 20} MiB", path, number)
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
            tell(on_bad, handle.broken, path, number, lost=False)


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


class _Held(io.BytesIO):
    """The bytes of a part, as a file."""

    def __init__(self, part: Part) -> None:
        super().__init__(part.data)
        self.broken = part.broken


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
