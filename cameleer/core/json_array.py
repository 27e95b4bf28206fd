"""Reading a large JSON array element by element, with the line of each mistake."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cameleer.core.errors import UserError
from cameleer.core.jsonl import (
    DECODER,
    MOST_OF_ONE,
    WHITESPACE,
    Keys,
    Known,
    OnBad,
    Reading,
    StrayTextError,
    first_key,
    mistake,
    open_bytes,
    tell,
)

CHUNK = 1 << 20  # bytes read at a time from a large file
EDGE = 16  # a value that the end of a chunk cuts is reported within so many characters of it


def read_json_array(
    path: Path, on_bad: OnBad = None, within: str | None = None, reading: Reading | None = None
) -> Iterator[tuple[int, Any]]:
    """(line of its first character, value) for each element of a JSON file that is one array.

    within: the file is an object, and the array its value of that name. reading: a part of
    the file is read, up to its end or that of the first behind it that ends between two elements.

    Streamed: memory holds a chunk and the element that crosses its end. Packed files are unpacked
    on the way. A top level that is no array raises UserError with the line; so does a syntax error
    or text that is not UTF-8, unless `on_bad` takes it: a record by its first line, text between
    records as StrayTextError. Reading then goes on at the next object that begins with the same key
    as those before.
    """
    with _Window(path, on_bad is not None, reading) as text:
        text.open(within)
        delimiter = "" if text.next_character() == "]" else ","
        text.at += not delimiter
        while not (delimiter and text.part_ends()):
            tried = False
            try:
                if not delimiter:
                    if not text.next_character() or (within and text.object_goes_on()):
                        break
                    text.keys.clear()  # what was read may have lain deeper than the records
                    raise text.error("broken JSON: more text after the end of the array")
                text.next_character()
                yield from text.plain()
                if text.part_ends():
                    return
                line, tried = text.line(), True
                value = text.value()
                tried = False
                if text.is_utf8():
                    yield line, value
                else:
                    tell(on_bad, "is not UTF-8 text", path, line, "convert it to UTF-8")
                delimiter = text.delimiter()
            except StrayTextError as error:
                if on_bad is None:
                    raise
                found, lost = text.skip(tried)
                message = text.handle.broken or error.message
                tell(on_bad, message, path, error.line, error.hint, lost=lost)
                if not found:
                    return
                delimiter = ","
        if text.handle.broken and not text.part_ends():
            tell(on_bad, text.handle.broken, path, text.line(), lost=False)


NEXT = re.compile(r"[ \t\n\r]*,[ \t\n\r]*(?=\{)")  # between two objects
NEXT_OR_END = re.compile(r"[ \t\n\r]*,[ \t\n\r]*(?=\{|\Z)")  # and at the end of a part
WORD = re.compile(r'[\w"]')
OBJECT = re.compile(r'\{\s*"([^"\\]{0,100})"\s*:')
WITHIN = re.compile(r'[:\[]\s*\{\s*"([^"\\]{0,100})"\s*:')
LIST_OF_OBJECTS = re.compile(r"\[\s*\{")
KEY_BEHIND = re.compile(r'\s*,\s*"([^"\\]{0,100})"\s*:')
VALUE_ENDS = re.compile(r"\s*(?:[,\]]|$)")
GOES_ON = re.compile(r'\s*(?:,\s*"|\}|,?\s*$)')
TAIL = 256  # characters in which a key with its brace and blanks surely fits


class _Window:
    """The part of a file's text that is being looked at; `at` is the next character's index."""

    def __init__(self, path: Path, mending: bool = False, reading: Reading | None = None) -> None:
        self.parts = None if reading is None else _Parts(reading)
        self.handle, self.mending = self.parts or open_bytes(path), mending
        self.known = reading.known if reading else Known()
        self.path, self.text, self.at, self.ended = path, "", 0, False
        self.decode = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
        self.next = NEXT if reading is None else NEXT_OR_END
        self.lines, self.counted = (
            reading.part.lines if reading else 0,
            0,
        )  # line breaks before `counted`, an index of `text`
        self.doubtful = False  # whether the text holds bytes that are not UTF-8
        self.begin = 0  # where the value before `at` begins
        self.keys = self.known.keys
        self.inmost = 0  # where what is nested too deep may end, an index of `text`
        self.likely: Keys | None = None  # what `likely_keys` found in this text

    def __enter__(self) -> _Window:
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.close()

    def open(self, within: str | None) -> None:
        """Step behind the "[" of the array."""
        if self.parts and not self.parts.now.first:
            return
        if within is None:
            if self.next_character() != "[":
                hint = "the file must be one list of records"
                raise UserError("is not a JSON array", file=self.path, line=self.line(), hint=hint)
            self.at += 1
            return
        name = re.compile(rf'"{within}"\s*:\s*\[')
        while not (found := name.search(self.text, self.at)):
            if self.ended:
                raise UserError(f"there is no list '{within}'", file=self.path, line=1)
            self.at = max(self.at, len(self.text) - TAIL)
            self.more()
        self.at = found.end()

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

    def part_ends(self) -> bool:
        """Whether the part ends here, between two elements, and the file goes on behind it."""
        if not self.parts or self.parts.now.last or not self.text:
            return False
        end = WHITESPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
        return end == len(self.text)

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
                record = re.compile(r"\{\s*" + first_key(self.keys))
                if record.search(self.text, self.at, end):
                    raise self.error("broken JSON: a list around records")
            return
        self.keys[next(iter(value), "")] = None
        if (
            key
            and key[1] not in self.keys
            and (len(value) < self.known.size or not self.known.size)
        ):
            raise self.error("broken JSON: the object ends too early")
        self.known.size = len(value)

    def plain(self) -> Iterator[tuple[int, Any]]:
        """The objects that stand whole in the chunk, each with another behind it: the usual case,
        and the shortest way; `value` takes what it leaves."""
        text = self.text
        while not self.doubtful and text.startswith("{", self.at):
            try:
                value, end = DECODER.raw_decode(text, self.at)
            except (RecursionError, ValueError):
                return
            follows = self.next.match(text, end)
            if not follows:
                return
            self.keys[next(iter(value), "")], self.known.size = None, len(value)
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

    def object_goes_on(self) -> bool:
        """Whether the object that holds the array goes on, or ends, behind it."""
        return GOES_ON.match(self.text, self.at) is not None

    def skip(self, tried: bool) -> tuple[bool, bool]:
        """Step to the next object that begins as a record; whether there is one, and whether what
        was stepped over is a record: an object, an element, or something with a record's first key.

        tried: a value that begins at `at` could not be read.
        """
        key = first_key(self.keys or self.likely_keys())
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
        return self.error(f"broken JSON: {mistake(error)}" + f" at line {there}" * (there > line))

    def error(self, message: str, hint: str | None = None) -> StrayTextError:
        return StrayTextError(message, file=self.path, line=self.line(), hint=hint)


class _Parts:
    """Parts of a file as a file to read: a part, and those behind it as they are asked for."""

    def __init__(self, reading: Reading) -> None:
        self.now, self.more, self.given = reading.part, reading.more, False

    def read(self, _: int) -> bytes:
        """The next part, whole; nothing behind the last."""
        if self.given:
            if self.now.last or self.more is None:
                return b""
            self.now = self.more()
        self.given = True
        return self.now.data

    @property
    def broken(self) -> str:
        return self.now.broken

    def close(self) -> None:
        """Nothing is open."""


def _encodable(text: str) -> bool:
    """Whether there is nothing in a text that the decoder made of bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
