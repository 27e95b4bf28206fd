"""What a study's mixtures hold, told before they are built.

One that is built is read. One of small files is built aside, in a scratch folder. Of others, and of
those that what is here cannot fill, the first conversations of each source stand for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from statistics import fmean
from typing import Any

from cameleer.chat.conversation import Conversation, read_conversations
from cameleer.core.artifact import Stage
from cameleer.core.console import silence, warn
from cameleer.core.errors import UserError
from cameleer.core.files import read_json, write_jsonl
from cameleer.data.convert import itself, stream
from cameleer.data.mix.build import CONVERSATIONS, build
from cameleer.data.mix.config import MixConfig, Part, expand
from cameleer.data.mix.gather import Leaf, leaves
from cameleer.data.source import Convert, located, source_named
from cameleer.model.load import load_tokenizer
from cameleer.study.grid import Grid
from cameleer.train.config import TrainConfig
from cameleer.train.workload import BYTES_PER_TOKEN, Workload, workload

SMALL = 64 << 20  # bytes of native files that are read to build mixtures aside: some seconds' work
COUNTED = "counted"
SAMPLED = 1000  # conversations that stand for a mixture, and most that are read of a source


@dataclass(frozen=True)
class Material:
    """A mixture's conversations, or some of them.

    file: of conversations; share: of the mixture that they are; sources: conversations of the whole
    mixture by source; how: "" where they are all.
    """

    file: Path
    share: float
    sources: Mapping[str, float]
    how: str = ""

    def work(self, config: TrainConfig, tokenizer: Any | None) -> Workload:
        """The work of an epoch; tokenizer: None if it is not here."""
        found = workload(config.model_copy(update={"data": self.file}), tokenizer)
        if not self.how:
            return found
        rows = max(1, round(found.rows / self.share))
        return replace(found, tokens=found.tokens / self.share, rows=rows, how=self.how)


def materials(grid: Grid, scratch: Path) -> dict[str, Material]:
    """The material of every mixture of a study; scratch: a folder for what is built aside."""
    left = {one.name: one for one in grid.study.mixtures if not grid.mixes[one.name].done()}
    small = sum(_bytes(expand(mixture), grid.data) for mixture in left.values()) <= SMALL
    found, short = {}, {}
    for mixture in grid.study.mixtures:
        name = mixture.name
        if name not in left:
            found[name] = _built(grid.mixes[name])
            continue
        try:
            aside = _aside(mixture, grid, scratch) if small else None
        except UserError as error:
            aside, short[name] = None, error
        found[name] = aside or _sampled(expand(mixture), grid.data, scratch / f"{name}.jsonl")
    for name, why in islice(short.items(), 1):
        warn(f"{len(short)} mixtures cannot be built from what is here, first {name}: {why}")
    return found


def _bytes(mixture: MixConfig, data: Path | None) -> int:
    files = (path for leaf in leaves(mixture) for path in leaf.files(data).values())
    return sum(path.stat().st_size for path in files)


def _built(stage: Stage) -> Material:
    sources = read_json(stage.folder / "manifest.json")["outcome"]["sources"]
    taken = {name: facts["taken"] for name, facts in sources.items()}
    return Material(stage.folder / CONVERSATIONS, 1.0, taken)


def _aside(mixture: MixConfig, grid: Grid, scratch: Path) -> Material:
    """The mixture built in the scratch folder. Raises UserError where it cannot be."""
    stage = replace(grid.mixes[mixture.name], folder=scratch / mixture.name)
    silence(True)
    try:
        build(mixture, grid.data, stage, load_tokenizer)
    finally:
        silence(False)
    return _built(stage)


@dataclass(frozen=True)
class _Pool:
    """The first conversations of a source, and how many it has, about."""

    first: list[Conversation]
    count: float

    @property
    def tokens(self) -> float:
        """Supervised tokens of a conversation, about."""
        turns = (turn for one in self.first for turn in one.messages if turn.role == "assistant")
        size = sum(len(turn.content.encode()) for turn in turns)
        return max(1.0, size / BYTES_PER_TOKEN / len(self.first))


def _sampled(mixture: MixConfig, data: Path | None, file: Path) -> Material:
    """A sample in which each source has the share that it has in the mixture."""
    pools = {leaf.path: _pool(leaf, data) for leaf in leaves(mixture)}
    amounts = _amounts(mixture, pools)
    whole = sum(amounts.values())
    picked = {path: max(1, round(min(SAMPLED, whole) * n / whole)) for path, n in amounts.items()}
    rows = [
        one.to_row()
        for path, count in picked.items()
        for one in islice(cycle(pools[path].first), count)
    ]
    write_jsonl(file, rows)
    how = f"estimated from the first {SAMPLED:,} conversations of each source"
    return Material(file, len(rows) / whole, amounts, how)


def _pool(leaf: Leaf, data: Path | None) -> _Pool:
    first = list(islice(_read(leaf, data), SAMPLED))
    if not first:
        raise UserError(f"part '{leaf.path}' gives no conversation")
    if len(first) < SAMPLED:
        return _Pool(first, len(first))
    size = sum(path.stat().st_size for path in leaf.files(data).values())
    return _Pool(first, size / fmean(len(str(one.to_row())) for one in first))


def _read(leaf: Leaf, data: Path | None) -> Iterator[Conversation]:
    part = leaf.part
    if part.file is not None:
        return read_conversations(part.file, lambda _: None)
    assert part.source is not None
    job = Convert(located(part.source, part.folder or data), leaf.rule, on_bad=lambda _: None)
    return stream(source_named(part.source), job, itself, SAMPLED)


def _amounts(mixture: MixConfig, pools: Mapping[str, _Pool], above: str = "") -> dict[str, float]:
    """Conversations that the mixture takes of each source, filters aside."""
    there = {}
    for part in mixture.parts:
        path = f"{above}{part.name}"
        inside = part.mix
        if isinstance(inside, MixConfig):
            there[part.name] = _amounts(inside, pools, f"{path}/")
        else:
            there[part.name] = {path: pools[path].count}
    wanted = {part.name: _wanted(part, there[part.name], pools) for part in mixture.parts}
    if mixture.weighted:
        wanted = _weighted(mixture, there, pools)
    return {
        path: count * wanted[name] / sum(inside.values())
        for name, inside in there.items()
        for path, count in inside.items()
    }


def _wanted(part: Part, there: Mapping[str, float], pools: Mapping[str, _Pool]) -> float:
    whole = sum(there.values())
    count = (part.count or whole * (part.fraction or 1.0)) * part.repeat
    most = part.max_tokens / _tokens(there, pools) if part.max_tokens else count
    return min(count, part.max_count or count, most)


def _weighted(
    mixture: MixConfig, there: Mapping[str, dict[str, float]], pools: Mapping[str, _Pool]
) -> dict[str, float]:
    """By their weights, in conversations or in tokens: as many as there are without repeating."""
    sizes = {
        name: _tokens(inside, pools) if mixture.weigh == "tokens" else 1.0
        for name, inside in there.items()
    }
    shares = {part.name: part.weight or 0.0 for part in mixture.parts}
    fits = min(sum(there[name].values()) * sizes[name] / share for name, share in shares.items())
    unit = mixture.total / sum(shares.values()) if mixture.total else fits
    return {name: unit * share / sizes[name] for name, share in shares.items()}


def _tokens(there: Mapping[str, float], pools: Mapping[str, _Pool]) -> float:
    """Supervised tokens of a conversation of these sources, on average."""
    return sum(n * pools[path].tokens for path, n in there.items()) / sum(there.values())
