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
from typing import Any, TypeVar

from cameleer.chat.conversation import Conversation
from cameleer.chat.render import Rule
from cameleer.core.errors import UserError
from cameleer.core.folders import locate
from cameleer.core.jsonl import OnBad, StrayTextError
from cameleer.core.plugins import plugin, plugins

R = TypeVar("R")
HOME, GROUP = "cameleer.data.sources", "cameleer.sources"


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


Made = Conversation | Dropped
BAD = "bad record"


@dataclass
class Convert:
    """One conversion: where the files are, by which rule, with which seed, and what was counted.

    folder: of the native files; a file of any name, where the card allows one. tokenizer: what
    long conversations are measured with, to be split to `max_tokens`; None: they are not split.
    strict: the first record that cannot be read is raised; otherwise it is dropped, counted and
    told to `on_bad`. counts: `read`, which is the sum of `kept` and one `dropped: <reason>` for
    each reason; and whatever else a source has to say. numbers: of the records, bad ones included.
    """

    folder: Path
    rule: Rule = "fixed"
    seed: int = 42
    strict: bool = False
    on_bad: OnBad = None
    tokenizer: Any = None
    max_tokens: int = 2048
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random, self.draws = random.Random(self.seed), 0
        self.numbers = itertools.count()

    def bad(self, error: UserError) -> None:
        """A record that cannot be read at all: it takes its number and its draw, and is dropped.

        Text between records is no record: it takes nothing, and is counted on its own.
        """
        if not isinstance(error, StrayTextError):
            next(self.numbers)
            self.pass_draw()
            self.drop(error)
        else:
            self.pass_over(error)

    def pass_over(self, error: StrayTextError) -> None:
        """Count and tell text that is no record, or raise what is wrong with it."""
        if self.strict:
            raise error
        self.counts["passed over: text between records"] += 1
        if self.on_bad:
            self.on_bad(error)

    def pass_draw(self) -> None:
        """Draw for a record that cannot, so that it changes no draw of those behind it."""
        self.draws += 1
        self.random.random()

    def drop(self, error: UserError) -> None:
        """Count and tell a record that cannot be used, or raise what is wrong with it."""
        if self.strict:
            raise error
        self.counts["read"] += 1
        self.counts[f"dropped: {BAD}"] += 1
        if self.on_bad:
            self.on_bad(error)

    def each(self, records: Iterable[R], make: Callable[[R], Iterable[Made]]) -> Iterator[Made]:
        """What `make` gives for each record; one that it cannot use (UserError) goes whole."""
        for record in records:
            draws = self.draws
            try:
                made = list(make(record))
            except UserError as error:
                if self.draws == draws:
                    self.pass_draw()
                self.drop(error)
            else:
                yield from made


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


def convert(
    name: str,
    root: Path | None,
    rule: Rule = "fixed",
    seed: int = 42,
    *,
    strict: bool = False,
    on_bad: OnBad = None,
    tokenizer: Any = None,
    max_tokens: int = 2048,
) -> tuple[Iterator[Conversation], Counter[str]]:
    """A source's conversations, streamed, and the counts that fill as they are read.

    Files that cannot be read at all, or hold no record, raise UserError; single records that cannot
    be read are dropped, counted and told to `on_bad`, or with `strict` raised. `tokenizer` and
    `max_tokens` are for sources that split what is too long (`sharegpt`).
    """
    module = source_named(name)
    job = Convert(located(name, root), rule, seed, strict, on_bad, tokenizer, max_tokens)

    def counted() -> Iterator[Conversation]:
        for made in module.convert(job):
            job.counts["read"] += 1
            if isinstance(made, Dropped):
                job.counts[f"dropped: {made.reason}"] += 1
            else:
                job.counts["kept"] += 1
                yield made
        if not job.counts["read"]:
            raise UserError("no record in it", file=job.folder)

    return counted(), job.counts
