"""A large file of JSON records in parts of whole records, for several processes to read.

Where a part ends is a guess at where a record does: the readers find out whether it holds whole
records, and read on into the next part if it does not.
"""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from cameleer.core.jsonl import CHUNK, MOST_OF_ONE, Bytes, Part, open_bytes

SIZE = 1 << 20  # bytes of a part: some ten milliseconds of work
OPENING = re.compile(rb'(?:\xef\xbb\xbf)?\s*\[\s*\{\s*("[^"\\]{0,100}"\s*:)')
NEAR = 1 << 16  # bytes before the end of a part in which a record surely ends, mostly
OVERLAP = 1 << 10  # bytes in which the end of a record and the beginning of the next surely fit


def line_parts(path: Path, size: int = SIZE) -> Iterator[Part]:
    """A file of JSON lines in parts of about `size` bytes, more where a line is longer."""
    lines, first = 0, True
    with open_bytes(path) as handle:
        while data := handle.read(size):
            if not data.endswith(b"\n"):
                data += _rest_of_line(handle)
            records = data.count(b"\n{") + data.startswith((b"{", b"\xef\xbb\xbf{"))
            yield Part(path, data, lines, records, first, False)
            lines, first = lines + _lines_in(data), False
        yield Part(path, b"", lines, 0, first, True, handle.broken)


def _rest_of_line(handle: Bytes) -> bytes:
    """What is left of a line; of one that is too long, as much as shows that it is."""
    line = rest = handle.readline(MOST_OF_ONE)
    while rest and not rest.endswith(b"\n"):
        rest = handle.readline(CHUNK)
    return line if line.endswith(b"\n") else line + rest[-1:]


def _lines_in(data: bytes) -> int:
    """How many lines there are in it, as the reader of lines counts them."""
    if b"\r" not in data:
        return data.count(b"\n") + (not data.endswith(b"\n"))
    return sum(1 + line.rstrip(b"\r\n").count(b"\r") for line in io.BytesIO(data))


def array_parts(path: Path, size: int = SIZE) -> Iterator[Part]:
    """A JSON file that is one array of objects in parts of about `size` bytes, more where a record
    is longer; each ends before an object that begins with the key with which the first one does."""
    lines, first, held, between = 0, True, b"", b"\0"
    with open_bytes(path) as handle:
        opening = OPENING.match(handle.peek(CHUNK))
        key = opening[1] if opening else b'"'
        record = re.compile(rb"\}\s*,\s*(?=\{\s*" + re.escape(key) + rb")")
        while data := handle.read(size):
            held += data
            found = _last(record, held, max(0, len(held) - len(data) - OVERLAP))
            if found is None and len(held) < MOST_OF_ONE:
                continue
            end = len(held)
            if found:
                end = found.end()
                between = held[found.start() : held.index(key, end) + len(key)]
            yield Part(path, held[:end], lines, held.count(between), first, False)
            lines, first, held = lines + held.count(b"\n", 0, end), False, held[end:]
        yield Part(path, held, lines, held.count(between) + 1, first, True, handle.broken)


def _last(pattern: re.Pattern[bytes], data: bytes, begin: int) -> re.Match[bytes] | None:
    """The last place where a pattern fits, from `begin` on."""
    for start in (max(begin, len(data) - NEAR), begin):
        if found := deque(pattern.finditer(data, start), maxlen=1):
            return found[0]
    return None
