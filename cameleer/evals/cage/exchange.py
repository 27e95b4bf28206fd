"""Program and tests in two processes: calls and results go between them as plain values alone.

The tests never share an interpreter with the program that they judge. They call a stand-in for its
function; arguments and results travel as JSON with the type of each value named, and are built anew
on the other side from types of this file's choosing. So an object that equals everything, a patched
`builtins` or a frame walked for the expected answer stays where it was made.

Carried: None, bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, range,
Decimal, Fraction (of subclasses the plain value), and what is left of an iterator. A result of
another type arrives as an object that equals only itself, and a failure after that says so.
"""

from __future__ import annotations

import builtins
import json
import os
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, NoReturn

MOST = 1 << 24  # bytes of one message
SAID = 200  # characters of an exception's text

_SEQUENCES: dict[str, Callable[[Any], Any]] = {
    "list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "iterator": iter,
}  # fmt: skip
_TEXTS: dict[str, tuple[Callable[[Any], Any], Callable[[str], Any]]] = {
    "int": (hex, lambda text: int(text, 16)),
    "float": (float.hex, float.fromhex),
    "complex": (str, complex),
    "bytes": (bytes.hex, bytes.fromhex),
    "Decimal": (str, Decimal),
    "Fraction": (str, Fraction),
}
_PLAIN = (int, float, complex, str, bytes, list, tuple, set, frozenset, dict, Decimal, Fraction)


class Gone(BaseException):
    """The other side has ended, or talks nonsense."""


class Uncarried:
    """Stands for a value that cannot be carried; equals only itself."""


def pack(value: Any) -> Any:
    """The value as JSON can hold it: texts, truth and None bare, all others as [type, content]."""
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind.__name__ in _TEXTS and kind in _PLAIN:
        return [kind.__name__, _TEXTS[kind.__name__][0](value)]
    if kind in (list, tuple, set, frozenset):
        return [kind.__name__, [pack(part) for part in value]]
    if kind is dict:
        return ["dict", [[pack(key), pack(part)] for key, part in value.items()]]
    if kind is range:
        return ["range", [pack(part) for part in (value.start, value.stop, value.step)]]
    for plain in _PLAIN:
        if isinstance(value, plain):
            return pack(plain(value))  # type: ignore[arg-type]
    if isinstance(value, Iterator):
        return ["iterator", [pack(part) for part in value]]
    return ["uncarried", kind.__name__]


def unpack(packed: Any) -> Any:
    """The value that `pack` was given, of plain types; ValueError and the like for nonsense."""
    if packed is None or isinstance(packed, bool | str):
        return packed
    kind, content = packed
    if kind in _SEQUENCES:
        return _SEQUENCES[kind]([unpack(part) for part in content])
    if kind == "dict":
        return {unpack(key): unpack(part) for key, part in content}
    if kind == "range":
        return range(*map(unpack, content))
    if kind == "uncarried":
        return Uncarried()
    return _TEXTS[kind][1](content)


class Line:
    """One end of a two-way line on which each message is one line of JSON."""

    def __init__(self, inward: int, outward: int) -> None:
        self.inward, self.outward, self.waiting = inward, outward, b""

    def say(self, message: Any) -> None:
        text = json.dumps(message).encode() + b"\n"
        try:
            while text:
                text = text[os.write(self.outward, text) :]
        except OSError:
            raise Gone from None

    def hear(self) -> Any:
        """The next message. Raises Gone if there is none, or if it is no JSON, or too long."""
        pieces = [self.waiting]
        while b"\n" not in pieces[-1]:
            piece = os.read(self.inward, 1 << 16)
            pieces.append(piece)
            if not piece or sum(map(len, pieces)) > MOST:
                raise Gone
        text, _, self.waiting = b"".join(pieces).partition(b"\n")
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise Gone from None


def described(error: BaseException) -> list[str]:
    """An exception as [name, name of the built-in one that it is, text]."""
    kinds = type(error).__mro__
    known = next(kind for kind in kinds if getattr(builtins, kind.__name__, None) is kind)
    return [type(error).__name__, known.__name__, str(error)[:SAID]]


def rebuilt(name: str, known: str, text: str) -> BaseException:
    """The exception that was described, or a RuntimeError where it cannot be made of a text."""
    kind = getattr(builtins, known, None)
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        kind = RuntimeError
    try:
        error = (kind if name == known else type(name, (kind,), {}))(text)
    except TypeError:
        return RuntimeError(f"{name}: {text}")
    assert isinstance(error, BaseException)
    return error


def serve(line: Line) -> NoReturn:
    """The program's side: run its code, then answer calls of its function until nobody calls."""
    space: dict[str, Any] = {"__name__": "program"}
    code, entry_point = line.hear()

    def load() -> bool:
        exec(compile(code, "program", "exec"), space)
        return not entry_point or entry_point in space

    def call() -> Any:
        return pack(space[entry_point](*given[0], **given[1]))

    line.say(_answer(load))
    while True:
        given = unpack(line.hear())
        line.say(_answer(call))


def _answer(work: Callable[[], Any]) -> list[Any]:
    try:
        return ["returned", work()]
    except BaseException as error:
        return ["raised", described(error)]


class Program:
    """The tests' side of a program: to be loaded, then called as if it were its function."""

    def __init__(self, line: Line) -> None:
        self.line, self.gone, self.uncarried = line, False, ""

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._ask(pack((given, named)))

    def load(self, code: str, entry_point: str) -> None:
        if not self._ask([code, entry_point]):
            raise NameError(f"name '{entry_point}' is not defined")

    def _ask(self, message: Any) -> Any:
        """Send, and build what comes back; once gone it stays so, whatever tests may catch."""
        if self.gone:
            raise Gone
        try:
            self.line.say(message)
            how, content = self.line.hear()
            if how == "returned":
                if isinstance(content, list) and content[:1] == ["uncarried"]:
                    self.uncarried = str(content[1])[:SAID]
                return unpack(content)
            error = rebuilt(*map(str, content))
        except BaseException:
            self.gone = True
            raise Gone from None
        raise error


def judge(line: Line, job: dict[str, str]) -> dict[str, Any]:
    """The tests' side: load the program, run the tests to their last line, say how it went.

    setup is code that the tests need and that stands in the benchmark's own prompt; names that it
    defines are the tests', but for the entry point, which is the program's function.
    """
    program = Program(line)
    try:
        program.load(job["code"], job["entry_point"])
        space: dict[str, Any] = {"__name__": "tests"}
        exec(_setup(job["setup"]), space)
        space[job["entry_point"]] = program
        exec(compile(job["test"], "tests", "exec"), space)
    except Gone:
        return {"passed": False, "gone": True}
    except BaseException as error:
        if program.gone:
            return {"passed": False, "gone": True}
        reason = f"{type(error).__name__}: {str(error)[:SAID]}".removesuffix(": ")
        if program.uncarried:
            reason += f" (a result of type {program.uncarried} is not carried to the tests)"
        return {"passed": False, "reason": reason}
    return {"passed": not program.gone, "gone": program.gone}


def _setup(text: str) -> Any:
    """The prompt's code; a function's head without a docstring is given a body."""
    try:
        return compile(text, "setup", "exec")
    except SyntaxError:
        return compile(f"{text.rstrip()}\n    pass\n", "setup", "exec")
