"""What a source is: a file that reads one instruction data set's native files as conversations.

A source is a module of `cameleer.data.sources` (or an entry point of the group `cameleer.sources`)
whose docstring is its card and which holds

    CARD: Card                                      the card's facts
    convert(job: Convert) -> Iterator[Conversation] the records in the file's order, streamed
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from cameleer.chat.conversation import Conversation
from cameleer.chat.render import Rule
from cameleer.core.folders import locate
from cameleer.core.plugins import plugin, plugins

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

    native: names or patterns of its files; instances and the mean lengths (LLaMA tokens): those of
    the paper's Table 1; downloads: where the files come from; derived_from: sources whose records,
    or models taught by them, went into this one.
    """

    title: str
    origin: str
    licence: str
    citation: str
    native: tuple[str, ...]
    instances: int
    rounds: float
    prompt_tokens: float
    completion_tokens: float
    downloads: tuple[Download, ...] = ()
    derived_from: tuple[str, ...] = ()


@dataclass
class Convert:
    """One conversion: where the files are, by which rule, with which seed, and what was counted.

    counts: `read`, `kept` and one `dropped: <reason>` for each reason.
    """

    folder: Path
    rule: Rule = "fixed"
    seed: int = 42
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)


def source_named(name: str) -> ModuleType:
    """The module of a source; an unknown one is the user's error."""
    return plugin(HOME, GROUP, name, "cameleer data ls")


def all_sources() -> dict[str, ModuleType]:
    """Every source by name."""
    return dict(sorted(plugins(HOME, GROUP).items()))


def convert(
    name: str, root: Path | None, rule: Rule = "fixed", seed: int = 42
) -> tuple[Iterator[Conversation], Counter[str]]:
    """A source's conversations, streamed, and the counts that fill as they are read."""
    module = source_named(name)
    job = Convert(locate(root, "instruct", name, module.CARD.native), rule, seed)

    def counted() -> Iterator[Conversation]:
        for conversation in module.convert(job):
            job.counts["kept"] += 1
            yield conversation

    return counted(), job.counts
