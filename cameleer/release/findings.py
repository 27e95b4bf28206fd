"""What a check of a bundle found, and how what it says is compared with what was derived."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NEAR = 1e-9  # how far apart two machines may be in the same float
SHOWN = 20  # differences of one page of text that are told one by one
NUMBER = re.compile(r"[-−+]?\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class Problem:
    """What is wrong, with the file (as named in the bundle) and the field or line."""

    file: str
    what: str
    field: str = ""

    def __str__(self) -> str:
        return (
            f"{self.file}: {self.field}: {self.what}" if self.field else f"{self.file}: {self.what}"
        )


@dataclass
class Findings:
    """What was checked. numbers: how many were derived and compared; near: by file, how many of
    them differ by less than NEAR; given: what had to be taken as it is, and why."""

    problems: list[Problem] = field(default_factory=list)
    files: int = 0
    numbers: int = 0
    near: Counter[str] = field(default_factory=Counter)
    given: list[str] = field(default_factory=list)
    fingerprint: str = ""

    def compare(self, file: str, said: Any, derived: Any, where: str = "") -> None:
        """Note every leaf of `derived` of which `said` says something else."""
        if isinstance(derived, Mapping) and isinstance(said, Mapping):
            for key in dict.fromkeys([*derived, *said]):
                inner = f"{where}.{key}" if where else str(key)
                self.compare(file, said.get(key), derived.get(key), inner)
        elif isinstance(derived, list) and isinstance(said, list) and len(derived) == len(said):
            for index, (one, other) in enumerate(zip(said, derived, strict=True)):
                self.compare(file, one, other, f"{where}.{index}")
        else:
            self.numbers += isinstance(derived, int | float)
            if not same(said, derived):
                self.problems.append(Problem(file, f"says {said}, re-derived {derived}", where))
            elif said != derived:
                self.near[file] += 1


def same(said: Any, derived: Any) -> bool:
    """Whether two values are equal, floats but for what two machines may round otherwise."""
    numbers = [
        isinstance(one, int | float) and not isinstance(one, bool) for one in (said, derived)
    ]
    if all(numbers):
        return math.isclose(said, derived, rel_tol=NEAR, abs_tol=NEAR)
    return bool(said == derived)


def compare_files(found: Findings, name: str, said: Path, derived: Path) -> None:
    """Note where a file says something else than the one derived; numbers are compared as such."""
    if derived.suffix == ".csv":
        _compare_tables(found, name, _table(said), _table(derived))
    elif derived.suffix in (".md", ".html", ".tex", ".svg", ".txt"):
        compare_texts(found, name, lines(said), lines(derived))
    elif said.read_bytes() == derived.read_bytes():
        return
    elif derived.suffix == ".png":
        found.given.append(f"{name}: not the picture that this machine draws, as with other fonts")
    else:
        found.problems.append(Problem(name, "other bytes than those derived anew"))


def _table(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.reader(handle))


def lines(path: Path) -> list[str]:
    """The lines of a text."""
    return path.read_text(encoding="utf-8").split("\n")


def _compare_tables(
    found: Findings, name: str, said: list[list[str]], derived: list[list[str]]
) -> None:
    if list(map(len, said)) != list(map(len, derived)) or said[:1] != derived[:1]:
        about = f"{len(said)} rows, re-derived {len(derived)}, or other columns"
        found.problems.append(Problem(name, about))
        return
    head = said[0] if said else []
    for line, (row, anew) in enumerate(zip(said[1:], derived[1:], strict=True), 2):
        for column, one, other in zip(head, row, anew, strict=True):
            numbers = _float(one), _float(other)
            found.numbers += numbers[1] is not None
            if one == other:
                continue
            if None not in numbers and same(*numbers):
                found.near[name] += 1
            else:
                about = f"says {one or 'nothing'}, re-derived {other or 'nothing'}"
                found.problems.append(Problem(name, about, f"line {line}, '{column}'"))


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def compare_texts(found: Findings, name: str, said: list[str], derived: list[str]) -> None:
    """Line by line; of a line that differs the first number, or word, that does."""
    if len(said) != len(derived):
        about = f"{len(said)} lines, re-derived {len(derived)}"
        found.problems.append(Problem(name, about))
        return
    different = 0
    for line, (one, other) in enumerate(zip(said, derived, strict=True), 1):
        found.numbers += len(NUMBER.findall(other))
        if one == other:
            continue
        different += 1
        if different <= SHOWN:
            about = "says {}, re-derived {}".format(*_first_difference(one, other))
            found.problems.append(Problem(name, about, f"line {line}"))
    if different > SHOWN:
        found.problems.append(Problem(name, f"{different - SHOWN} more lines differ"))


def _first_difference(one: str, other: str) -> tuple[str, str]:
    """The first numbers, else words, in which two lines differ."""
    for pattern in (NUMBER, re.compile(r"\S+")):
        for pair in zip(pattern.findall(one), pattern.findall(other), strict=False):
            if pair[0] != pair[1]:
                return repr(pair[0][:80]), repr(pair[1][:80])
    return f"{len(one)} characters", f"{len(other)}"
