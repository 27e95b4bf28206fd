"""Reading a mixture's parts: each conversation is filtered, measured, and laid down in a spool.

Memory holds where conversations begin and how large they are, never their texts.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b, sha256
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from cameleer.chat.conversation import Conversation, read_conversations
from cameleer.chat.render import BATCH, Renderer, Rule
from cameleer.chat.template import template_named
from cameleer.core.console import note, progress
from cameleer.core.errors import UserError
from cameleer.core.files import to_json
from cameleer.core.folders import locate
from cameleer.core.jsonl import StrayTextError
from cameleer.data.bad import BadTold
from cameleer.data.convert import convert
from cameleer.data.mix.config import MixConfig, Part
from cameleer.data.mix.filters import Filters, Sieve
from cameleer.data.mix.selection import Positions
from cameleer.data.source import BAD, STRAY, native_files, source_named


@dataclass(frozen=True)
class Leaf:
    """A part that is read: its path in the tree, its rule, and the sieves it passes, in order.

    asked: how much of it is asked for, and of what it is in, in words.
    """

    part: Part
    path: str
    rule: Rule
    sieves: tuple[Sieve, ...]
    asked: str

    def files(self, data_root: Path | None) -> dict[str, Path]:
        """The files that it is read from, by their names in its folder."""
        part = self.part
        if part.file is not None:
            if not part.file.is_file():
                raise UserError("no such file", file=part.file, hint="check the part's 'file'")
            return {part.file.name: part.file}
        assert part.source is not None
        card = source_named(part.source).CARD
        root = part.folder or data_root
        folder = locate(root, "instruct", part.source, card.native, any_file=card.any_file)
        if folder.is_file():
            return {folder.name: folder}
        return {path.relative_to(folder).as_posix(): path for path in native_files(card, folder)}


def leaves(
    mixture: MixConfig,
    path: str = "",
    rule: Rule = "fixed",
    around: tuple[Sieve, ...] = (),
    within: str = "",
) -> Iterator[Leaf]:
    """Every source and file of an expanded mixture, in order; the rest is for mixtures in it."""
    rule = mixture.rule or rule
    around = (*_sieve(mixture.filters, path or mixture.name), *around)
    for part in mixture.parts:
        below = f"{path}/{part.name}" if path else part.name
        sieves = (*_sieve(part.filters, below), *around)
        if isinstance(part.mix, MixConfig):
            inside = "" if part.asked == "all" else f"; of {part.name} {part.asked}"
            yield from leaves(part.mix, below, rule, sieves, inside + within)
        else:
            yield Leaf(part, below, part.rule or rule, sieves, part.asked + within)


def _sieve(filters: Filters, where: str) -> tuple[Sieve, ...]:
    return () if filters == Filters() else (Sieve(filters, where),)


class Meter:
    """Counts tokens as training will: in the template, supervised ones up to the cut."""

    def __init__(self, tokenizer: Any, config: MixConfig) -> None:
        self.tokenizer, self.most = tokenizer, config.max_seq_length
        self.renderer = Renderer(tokenizer, template_named(config.template))
        facts = tokenizer.backend_tokenizer.to_str() + str(tokenizer.eos_token)
        self.fingerprint = sha256(facts.encode()).hexdigest()

    def measure(self, batch: list[Conversation]) -> list[tuple[int, int]]:
        """(tokens, supervised tokens up to the cut) of each conversation."""
        made = self.renderer.masked(batch)
        return [(len(one.mask), one.mask[: self.most].count(1)) for one in made]

    def splitting(self) -> dict[str, Any]:
        """What sources need that split conversations too long for training."""
        split = self.most is not None
        return {"tokenizer": self.tokenizer, "max_tokens": self.most} if split else {}


@dataclass
class Gathered:
    """What was read of all parts, one entry for each conversation that passed the filters.

    starts: [kept + 1] where each begins in the spool; messages; characters: of the assistant's;
    supervised: tokens; identities: hash of source and id. By path of the part: pools, counts, and
    the sources that its conversations name.
    """

    leaves: list[Leaf] = field(default_factory=list)
    starts: array[int] = field(default_factory=lambda: array("q", [0]))
    messages: array[int] = field(default_factory=lambda: array("i"))
    characters: array[int] = field(default_factory=lambda: array("q"))
    supervised: array[int] = field(default_factory=lambda: array("i"))
    identities: array[int] = field(default_factory=lambda: array("Q"))
    pools: dict[str, Positions] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    sources: dict[str, Counter[str]] = field(default_factory=dict)

    def add(
        self,
        leaf: Leaf,
        data_root: Path | None,
        meter: Meter | None,
        spool: IO[bytes] | None,
        *,
        strict: bool = False,
    ) -> None:
        """Read a part to its end; what passes its sieves goes to the spool, if there is one."""
        first, sources, bad = len(self.messages), Counter[str](), BadTold()
        conversations, counts = _open(leaf, data_root, meter, bad, strict)
        with progress(f"read {leaf.path}", None) as ticker:
            for conversation, tokens, supervised in _measured(conversations, meter):
                ticker.advance()
                reasons = (sieve.reason(conversation, tokens) for sieve in leaf.sieves)
                if reason := next(filter(None, reasons), None):
                    counts.subtract(["kept"])
                    counts[f"dropped: {reason}"] += 1
                    continue
                sources[conversation.source] += 1
                line = (to_json(conversation.to_row()) + "\n").encode()
                if spool is not None:
                    spool.write(line)
                self.starts.append(self.starts[-1] + len(line))
                self._note(conversation, supervised)
        named = leaf.part.source or f"jsonl --from {leaf.part.file}"
        bad.sum_up(leaf.path, f"`cameleer data convert {named}` lists them")
        if len(self.messages) == first:
            why = ", ".join(f"{n} {reason}" for reason, n in counts.items() if n) or "it is empty"
            raise UserError(f"part '{leaf.path}' gives no conversation", hint=why)
        note(f"{leaf.path}: {len(self.messages) - first} conversations")
        self.leaves.append(leaf)
        self.pools[leaf.path] = np.arange(first, len(self.messages), dtype=np.int64)
        self.counts[leaf.path], self.sources[leaf.path] = counts, sources

    def _note(self, conversation: Conversation, supervised: int) -> None:
        answers = (turn.content for turn in conversation.messages if turn.role == "assistant")
        self.messages.append(len(conversation.messages))
        self.characters.append(sum(map(len, answers)))
        self.supervised.append(supervised)
        self.identities.append(identity(conversation.source, conversation.id))


def identity(source: str, id: str) -> int:
    """64 bits that tell conversations apart by source and id."""
    return int.from_bytes(blake2b(f"{source}\0{id}".encode(), digest_size=8).digest())


def gather(
    config: MixConfig,
    data_root: Path | None,
    meter: Meter | None,
    spool: IO[bytes] | None,
    *,
    strict: bool = False,
) -> Gathered:
    """Read all parts of an expanded mixture; strict: the first bad record is raised."""
    gathered = Gathered()
    for leaf in leaves(config):
        gathered.add(leaf, data_root, meter, spool, strict=strict)
    return gathered


def _open(
    leaf: Leaf, data_root: Path | None, meter: Meter | None, bad: BadTold, strict: bool
) -> tuple[Iterator[Conversation], Counter[str]]:
    part, counts = leaf.part, Counter[str]()
    if part.source is not None:
        split = meter.splitting() if meter else {}
        root = part.folder or data_root
        return convert(part.source, root, leaf.rule, strict=strict, on_bad=bad.add, **split)
    assert part.file is not None

    def dropped(error: UserError) -> None:
        stray = isinstance(error, StrayTextError)
        counts.update([STRAY] if stray else ["read", f"dropped: {BAD}"])
        bad.add(error)

    def counted(path: Path) -> Iterator[Conversation]:
        for conversation in read_conversations(path, None if strict else dropped):
            counts.update(("read", "kept"))
            if conversation.source == "unnamed":
                conversation = replace(conversation, source=part.name)
            yield conversation

    return counted(part.file), counts


def _measured(
    conversations: Iterable[Conversation], meter: Meter | None
) -> Iterator[tuple[Conversation, int, int]]:
    """Each conversation with its tokens and supervised tokens, both 0 where nothing counts them."""
    stream = iter(conversations)
    while batch := list(islice(stream, BATCH)):
        sizes = meter.measure(batch) if meter else [(0, 0)] * len(batch)
        for conversation, (tokens, supervised) in zip(batch, sizes, strict=True):
            yield conversation, tokens, supervised
