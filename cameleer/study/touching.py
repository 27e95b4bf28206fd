"""Which test items stand in each mixture of a study: looked for before anything is trained on it.

Each mixture has a stage of its own, whose folder holds what `cameleer data overlap` writes: labels,
matches, and a page to read them on.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

from cameleer.chat.conversation import Conversation, read_conversations
from cameleer.core.artifact import Stage
from cameleer.core.console import note, warn
from cameleer.core.cores import cores
from cameleer.core.errors import UserError
from cameleer.core.files import read_json, write_json
from cameleer.data.mix.build import CONVERSATIONS
from cameleer.data.overlap.duplicates import count_lines, source_of
from cameleer.data.overlap.matches import write_matches
from cameleer.data.overlap.probes import Index, ItemText, build_index
from cameleer.data.overlap.search import Match, Task, search
from cameleer.evals.benchmark import benchmark_named
from cameleer.evals.corpus import READERS, texts
from cameleer.study.grid import Grid

WORTH_CORES = 20_000  # conversations, from which more processes are worth their start
SUMMARY = "summary.json"


def touch(grid: Grid) -> None:
    """Look for the items of the study's benchmarks in its mixtures, where that is not done.

    The stages are put into `grid.touched`. Benchmarks whose items cannot be looked for are told and
    left out. The mixtures must have been built.
    """
    if not grid.study.overlap:
        return
    named = [benchmark_named(spec.benchmark).name for spec in grid.study.benchmarks]
    names = [name for name in dict.fromkeys(named) if name in READERS]
    if others := sorted({*named} - {*names}):
        note(f"{', '.join(others)}: test items are not looked for: no list of them is known")
    finder = _Finder(names, grid.data)
    for mixture, mix in grid.mixes.items() if names else ():
        stage = grid.placed(_stage(grid, mix, mixture, names))
        if stage.run(lambda folder, mix=mix: finder.write(folder, mix)):  # type: ignore[misc]
            _tell(mixture, stage)
        grid.touched[mixture] = stage


def _stage(grid: Grid, mix: Stage, mixture: str, names: list[str]) -> Stage:
    """The stage of one mixture: decided by its conversations and the benchmarks' native files."""
    inputs = {"mixture": mix.fingerprint}
    for label, (_, evaluation) in grid.works[0].evals.items():
        name = label.partition(":")[0]
        if name in names:
            inputs |= {f"{name}/{file}": mark for file, mark in evaluation.inputs.items()}
    return Stage("touched", grid.folder / "touched" / mixture, {"benchmarks": names}, inputs)


def _tell(mixture: str, stage: Stage) -> None:
    """Say what was found, before a model learns it."""
    facts = read_json(stage.folder / SUMMARY)
    found = []
    for name, fact in facts["benchmarks"].items():
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in fact["kinds"].items() if number)
        if fact["touched"]:
            found.append(f"{fact['touched']:,} of {name} ({kinds})")
    if found:
        page = stage.folder / "matches.html"
        warn(f"{mixture} touches test items: {'; '.join(found)}; read them: {page}")


class _Finder:
    """Looks for items in one mixture after the other; a conversation of several is searched once.

    The items are read, and indexed, when the first mixture is searched.
    """

    def __init__(self, names: list[str], data: Path | None) -> None:
        self.names, self.data = names, data
        self.unread: dict[str, str] = {}
        self.known: dict[bytes, list[Match]] = {}

    @cached_property
    def texts(self) -> list[ItemText]:
        """All items; a benchmark that cannot be read is told and left out."""
        found: list[ItemText] = []
        for name in self.names:
            try:
                found += [ItemText(*one) for one in texts(name, self.data)]
            except UserError as error:
                self.unread[name] = str(error)
                warn(f"{name}: test items cannot be looked for: {error}")
        return found

    @cached_property
    def index(self) -> Index:
        return build_index(self.texts)

    def write(self, folder: Path, mix: Stage) -> dict[str, Any]:
        """Write all that is found in a mixture; returns what `summary.json` holds."""
        facts: dict[str, Any] = {"mixture": mix.folder.name}
        write_matches(folder, self.texts, self.index, self._matches(mix.folder), facts)
        facts["unread"] = self.unread
        write_json(folder / SUMMARY, facts)
        return facts

    def _matches(self, mix: Path) -> Iterator[Match]:
        """Every match in a mixture, in the order of its conversations."""
        file = mix / CONVERSATIONS
        many = count_lines(file) >= WORTH_CORES
        fresh: list[list[Match]] = []
        for match in search(self.index, self._new(file, fresh), cores=cores() if many else 1):
            fresh[match.place].append(match)
        for place, one in enumerate(read_conversations(file)):
            for match in self.known[_mark(one)]:
                yield match._replace(
                    place=place,
                    file=f"{mix.name}/{CONVERSATIONS}",
                    source=source_of(one, file),
                    conversation=one.id,
                )

    def _new(self, file: Path, fresh: list[list[Match]]) -> Iterator[Task]:
        """The conversations that stood in no mixture before; their matches belong into `fresh`."""
        for one in read_conversations(file):
            mark = _mark(one)
            if mark not in self.known:
                self.known[mark] = []
                fresh.append(self.known[mark])
                yield Task(len(fresh) - 1, file.name, one.source, one)


def _mark(one: Conversation) -> bytes:
    """What tells texts of conversations apart."""
    digest = blake2b(digest_size=16)
    for turn in one.messages:
        for part in (turn.role, turn.content):
            digest.update(len(part.encode()).to_bytes(8) + part.encode())
    return digest.digest()
