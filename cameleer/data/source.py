"""What a source is: a file that reads one instruction data set's native files as conversations.

A source is a module of `cameleer.data.sources` (or an entry point of the group `cameleer.sources`)
whose docstring is its card and which holds

    CARD: Card                              the card's facts
    convert(job: Convert) -> Iterator[Made] what the records give, in the file's order, streamed
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar

from cameleer.chat.conversation import Conversation
from cameleer.chat.render import Rule
from cameleer.core.console import warn
from cameleer.core.errors import UserError
from cameleer.core.folders import locate
from cameleer.core.jsonl import OnBad, Reading, StrayTextError
from cameleer.core.plugins import plugin, plugins

R = TypeVar("R")
HOME, GROUP = "cameleer.data.sources", "cameleer.sources"


Form = Literal["array", "lines"]
NativeFile = tuple[Path, Form | Literal["either"]]
"""A file of JSON records, and whether it is one array or lines; either, as its first bytes say."""


@dataclass(frozen=True)
class Download:
    """One native file and where it comes from.

    url: https address, or `hf://datasets/ORG/NAME[@REVISION]/FILE` on the Hugging Face hub; to: its
    name in the data set's folder (of an archive: the folder for its members); bytes, sha256: of
    what is served, where known; member: pattern of the members of an archive that are taken out.
    """

    url: str
    to: str
    bytes: int | None = None
    sha256: str | None = None
    member: str | None = None


@dataclass(frozen=True)
class Card:
    """Facts about a data set.

    native: names or patterns of its files; any_file: it also reads one file of any name; instances
    and the mean lengths (LLaMA tokens): those of the paper's Table 1, if they are in it; downloads:
    where the files come from; derived_from: sources whose records, or models taught by them, went
    into this one.
    """

    title: str
    origin: str
    licence: str
    citation: str
    native: tuple[str, ...]
    instances: int | None = None
    rounds: float | None = None
    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    downloads: tuple[Download, ...] = ()
    derived_from: tuple[str, ...] = ()
    any_file: bool = False


@dataclass(frozen=True, slots=True)
class Dropped:
    """What a record gives where it gives no conversation: the reason, which is counted."""

    reason: str


@dataclass(frozen=True, slots=True)
class Apart(Dropped):
    """Stands for what the records of files give, each by itself, for `cameleer.data.convert`."""

    files: tuple[NativeFile, ...]


Made = Conversation | Dropped
BAD = "bad record"
STRAY = "passed over: text between records"


class Draws:
    """The numbers in [0, 1) that a seed gives, by their place: those of `random.Random(seed)`, of
    which `random.choices`, with which the paper draws, takes one for each call."""

    def __init__(self, seed: int) -> None:
        self.seed, self.stream, self.next = seed, random.Random(seed), 0

    def at(self, place: int) -> float:
        """The number at a place, from 0; fast as long as places grow."""
        if place < self.next:
            self.stream, self.next = random.Random(self.seed), 0
        for _ in range(self.next, place):
            self.stream.random()
        self.next = place + 1
        return self.stream.random()


@dataclass
class Convert:
    """One conversion: where the files are, by which rule, with which seed, and what was counted.

    folder: of the native files; a file of any name, where the card allows one. tokenizer: what
    long conversations are measured with, to be split to `max_tokens`; None: they are not split.
    strict: the first record that cannot be read is raised; otherwise it is dropped, counted and
    told to `on_bad`. counts: `read`, which is the sum of `kept` and one `dropped: <reason>` for
    each reason; and whatever else a source has to say. identities: given out by `once`, and how
    often. random: for samples; draws: for what is drawn for each record, by its number. numbers: of
    the records, bad ones included. reading: the part of a file that alone is read; apart: whether
    records that stand by themselves are left to several processes (`cameleer.data.convert`).
    """

    folder: Path
    rule: Rule = "fixed"
    seed: int = 42
    strict: bool = False
    on_bad: OnBad = None
    tokenizer: Any = None
    max_tokens: int = 2048
    counts: Counter[str] = field(default_factory=Counter)
    identities: dict[str, int] = field(default_factory=dict)
    reading: Reading | None = None
    apart: bool = False

    def __post_init__(self) -> None:
        self.random, self.draws = random.Random(self.seed), Draws(self.seed)
        self.numbers = itertools.count()
        self.within = self.counts
        if self.reading is not None:  # what is not of the part's records was counted with the file
            self.counts = Counter()

    def bad(self, error: UserError) -> None:
        """A record that cannot be read at all: it takes its number, and is dropped.

        Text between records is no record: it takes nothing, and is counted on its own.
        """
        if not isinstance(error, StrayTextError):
            next(self.numbers)
            self.drop(error)
        else:
            self.pass_over(error)

    def pass_over(self, error: StrayTextError) -> None:
        """Count and tell text that is no record, or raise what is wrong with it."""
        if self.strict:
            raise error
        self.counts[STRAY] += 1
        if self.on_bad:
            self.on_bad(error)

    def drop(self, error: UserError) -> None:
        """Count and tell a record that cannot be used, or raise what is wrong with it."""
        if self.strict:
            raise error
        self.counts["read"] += 1
        self.counts[f"dropped: {BAD}"] += 1
        if self.on_bad:
            self.on_bad(error)

    def each(self, records: Iterable[R], make: Callable[[R], Iterable[Made]]) -> Iterator[Made]:
        """What `make` gives for each record, in order; one that it cannot use (UserError) goes
        whole. For records that stand by themselves, `Rows.each` of `cameleer.data.encode`."""
        if self.reading is not None:  # they were all made where the file was begun
            return
        for record in records:
            yield from self.made(record, make)

    def made(self, record: R, make: Callable[[R], Iterable[Made]]) -> list[Made]:
        """What `make` gives for a record, which is dropped if it cannot be used."""
        try:
            return list(make(record))
        except UserError as error:
            self.drop(error)
            return []

    def say(self, text: str) -> None:
        """Warn once, however many processes do the work."""
        if self.reading is None:
            warn(text)

    def once(self, wanted: str) -> str:
        """The id that is wanted, or with a number behind it if it was given before, counted."""
        if wanted not in self.identities:
            self.identities[wanted] = 1
            return wanted
        self.counts["mended: id given before"] += 1
        number = self.identities[wanted] + 1
        while f"{wanted}-{number}" in self.identities:
            number += 1
        self.identities[wanted] = number
        self.identities[f"{wanted}-{number}"] = 1
        return f"{wanted}-{number}"


def source_named(name: str) -> ModuleType:
    """The module of a source; an unknown one is the user's error."""
    return plugin(HOME, GROUP, name, "cameleer data ls")


def all_sources() -> dict[str, ModuleType]:
    """Every source by name."""
    return dict(sorted(plugins(HOME, GROUP).items()))


def located(name: str, root: Path | None) -> Path:
    """The folder of a source's native files in the data folder `root`, or the one file given."""
    card: Card = source_named(name).CARD
    return locate(root, "instruct", name, card.native, any_file=card.any_file)


def native_files(card: Card, folder: Path) -> list[Path]:
    """The files that a source reads in the folder that was located, or the one file."""
    if folder.is_file():
        return [folder]
    return sorted({path for pattern in card.native for path in folder.glob(pattern)})


def is_here(name: str) -> bool:
    """Whether the default data folder holds a source's files."""
    try:
        return bool(located(name, None))
    except UserError:
        return False


def require_apart(name: str, root: Path | None, output: Path) -> None:
    """Refuse an output that is one of the files read, or would be the next time."""
    folder = located(name, root).resolve()
    path, card = output.resolve(), source_named(name).CARD
    among = path.parent == folder and any(fnmatch(path.name, one) for one in card.native)
    if path == folder or among:
        raise UserError(
            f"would be read as a file of '{name}'",
            file=output,
            field="output",
            hint="write elsewhere",
        )
