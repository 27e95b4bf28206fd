"""Building a mixture: read and filter its parts, choose, shuffle, write; and say what is in it."""

from __future__ import annotations

import json
import random
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b, sha256
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from cameleer.chat.conversation import Conversation, read_conversations
from cameleer.chat.render import BATCH, Rule, render
from cameleer.chat.template import template_named
from cameleer.core.artifact import Stage
from cameleer.core.console import note, progress
from cameleer.core.errors import UserError
from cameleer.core.files import replacing, sha256_file, to_json
from cameleer.core.folders import locate
from cameleer.data.filters import Filters, Sieve
from cameleer.data.mixture import MixConfig, Part, expand
from cameleer.data.mixture_page import page
from cameleer.data.provenance import asks, edges, licence_of, strictest
from cameleer.data.selection import SEED, Positions, Selection
from cameleer.data.source import convert, source_named

CONVERSATIONS, PAGE = "conversations.jsonl", "MIXTURE.md"

LoadTokenizer = Callable[[str], Any]
"""Gives the tokenizer of a folder, hub id or `embedded:NAME`; called only where one is named."""


def mix_stage(
    config: MixConfig, data_root: Path | None, folder: Path, load: LoadTokenizer | None = None
) -> Stage:
    """The stage that builds a mixture in `folder`; reads its inputs to fingerprint them.

    What decides the result are seeds, parts, and the contents of native files, of files of ids and
    of the tokenizer: not where they lie, nor the mixture's name.
    """
    config = expand(config)
    inputs, decides = {}, {"seed": SEED, **_deciding(config, "fixed")}
    for leaf in _leaves(config):
        for name, path in _native_files(leaf, data_root).items():
            inputs[f"{leaf.path}/{name}"] = sha256_file(path)
        for sieve in leaf.sieves:
            if sieve.filters.drop is not None:
                inputs[f"{sieve.where}: ids to drop"] = sha256_file(sieve.filters.drop)
    if counter := _counter(config, load):
        inputs["tokenizer"] = counter.fingerprint
        decides |= {"template": config.template, "max_seq_length": config.max_seq_length}
    return Stage("mix", folder, decides, inputs)


def _deciding(mixture: MixConfig, rule: Rule) -> dict[str, Any]:
    """The fields that decide what a mixture takes, as JSON values; those left out are not there."""
    rule = mixture.rule or rule
    parts = []
    for part in mixture.parts:
        said = _said(part, {"name", "rule", "source", "folder", "file", "mix", "filters"})
        if part.source is not None:
            said["rule"] = part.rule or rule
        if isinstance(part.mix, MixConfig):
            said["mix"] = _deciding(part.mix, rule)
        parts.append({"name": part.name, **said})
    counting = {"tokenizer", "template", "max_seq_length"}
    return {
        **_said(mixture, {"name", "about", "rule", "parts", "filters", *counting}),
        "parts": parts,
    }


def _said(config: MixConfig | Part, but: set[str]) -> dict[str, Any]:
    """Fields that are not at their default; a file of ids to drop is an input."""
    said = config.model_dump(mode="json", exclude=but, exclude_defaults=True)
    filters = config.filters.model_dump(mode="json", exclude={"drop"}, exclude_defaults=True)
    return {**said, **({"filters": filters} if filters else {})}


@dataclass(frozen=True)
class _Leaf:
    """A part that is read: its path in the tree, its rule, and the sieves it passes, in order."""

    part: Part
    path: str
    rule: Rule
    sieves: tuple[Sieve, ...]


def _leaves(
    mixture: MixConfig, path: str = "", rule: Rule = "fixed", around: tuple[Sieve, ...] = ()
) -> Iterator[_Leaf]:
    """Every source and file of an expanded mixture, in order."""
    rule = mixture.rule or rule
    around = (*_sieve(mixture.filters, path or mixture.name), *around)
    for part in mixture.parts:
        below = f"{path}/{part.name}" if path else part.name
        sieves = (*_sieve(part.filters, below), *around)
        if isinstance(part.mix, MixConfig):
            yield from _leaves(part.mix, below, rule, sieves)
        else:
            yield _Leaf(part, below, part.rule or rule, sieves)


def _sieve(filters: Filters, where: str) -> tuple[Sieve, ...]:
    return () if filters == Filters() else (Sieve(filters, where),)


def _native_files(leaf: _Leaf, data_root: Path | None) -> dict[str, Path]:
    """The files that a part is read from, by their names in its folder."""
    part = leaf.part
    if part.file is not None:
        if not part.file.is_file():
            raise UserError("no such file", file=part.file, hint="check the part's 'file'")
        return {part.file.name: part.file}
    assert part.source is not None
    native = source_named(part.source).CARD.native
    folder = locate(part.folder or data_root, "instruct", part.source, native)
    paths = sorted({path for pattern in native for path in folder.glob(pattern)})
    return {path.relative_to(folder).as_posix(): path for path in paths}


# ---- counting tokens


class _TokenCounter:
    """Counts tokens as training will: in the template, supervised ones up to the cut."""

    def __init__(self, tokenizer: Any, config: MixConfig) -> None:
        self.tokenizer, self.most = tokenizer, config.max_seq_length
        self.template = template_named(config.template)
        rules = tokenizer.backend_tokenizer.to_str() + str(tokenizer.eos_token)
        self.fingerprint = sha256(rules.encode()).hexdigest()

    def count(self, batch: Sequence[Conversation]) -> list[tuple[int, int]]:
        """(tokens, supervised tokens) of each conversation."""
        sizes: list[tuple[int, int] | None] = [None] * len(batch)
        # Rendering leaves out conversations without an answer: the place tells which are there.
        placed = (replace(one, source=str(place)) for place, one in enumerate(batch))
        for rendered in render(placed, self.tokenizer, self.template):
            supervised = sum(rendered.supervised[: self.most])
            sizes[int(rendered.source)] = (len(rendered.ids), supervised)
        return [size or (self._tokens(one), 0) for size, one in zip(sizes, batch, strict=True)]

    def _tokens(self, conversation: Conversation) -> int:
        text = self.template.text(conversation.messages, self.tokenizer.eos_token)
        return len(self.tokenizer(text, verbose=False)["input_ids"])


def _counter(config: MixConfig, load: LoadTokenizer | None) -> _TokenCounter | None:
    if config.tokenizer is None:
        return None
    if load is None:
        raise UserError("nothing loads tokenizers here", field="tokenizer")
    return _TokenCounter(load(config.tokenizer), config)


# ---- reading


@dataclass
class _Reading:
    """What was read of all parts, one entry for each conversation that passed the filters.

    starts: [kept + 1] where each begins in the spool; messages; characters: of the assistant's;
    supervised: tokens; identities: hash of source and id. By path of the part: pools, counts, and
    the sources that its conversations name.
    """

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
        leaf: _Leaf,
        data_root: Path | None,
        counter: _TokenCounter | None,
        spool: IO[bytes] | None,
    ) -> None:
        """Read a part to its end; what passes its sieves goes to the spool, if there is one."""
        first, sources = len(self.messages), Counter[str]()
        conversations, counts = _open(leaf, data_root)
        for conversation, tokens, supervised in _sized(conversations, counter):
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
            self.messages.append(len(conversation.messages))
            answers = (turn.content for turn in conversation.messages if turn.role == "assistant")
            self.characters.append(sum(map(len, answers)))
            self.supervised.append(supervised)
            self.identities.append(_identity(conversation))
        self.pools[leaf.path] = np.arange(first, len(self.messages), dtype=np.int64)
        self.counts[leaf.path], self.sources[leaf.path] = counts, sources
        note(f"{leaf.path}: {len(self.messages) - first} conversations")


def _open(leaf: _Leaf, data_root: Path | None) -> tuple[Iterator[Conversation], Counter[str]]:
    part, counts = leaf.part, Counter[str]()
    if part.source is not None:
        return convert(part.source, part.folder or data_root, leaf.rule)
    assert part.file is not None

    def counted(path: Path) -> Iterator[Conversation]:
        for conversation in read_conversations(path):
            counts.update(("read", "kept"))
            if conversation.source == "unnamed":
                conversation = replace(conversation, source=part.name)
            yield conversation

    return counted(part.file), counts


def _sized(
    conversations: Iterable[Conversation], counter: _TokenCounter | None
) -> Iterator[tuple[Conversation, int, int]]:
    """Each conversation with its tokens and supervised tokens, both 0 where nothing counts them."""
    stream = iter(conversations)
    while batch := list(islice(stream, BATCH)):
        sizes = counter.count(batch) if counter else [(0, 0)] * len(batch)
        for conversation, (tokens, supervised) in zip(batch, sizes, strict=True):
            yield conversation, tokens, supervised


def _identity(conversation: Conversation) -> int:
    name = f"{conversation.source}\0{conversation.id}".encode()
    return int.from_bytes(blake2b(name, digest_size=8).digest())


# ---- building


def build(
    config: MixConfig, data_root: Path | None, stage: Stage, load: LoadTokenizer | None = None
) -> Path:
    """Build the mixture unless it is there; returns the folder, which holds conversations.jsonl.

    Conversations pass through a spool file, so that memory holds only their positions. Each part is
    sampled by its own seed: adding a part changes no other part's picks. A conversation that is
    taken again has `#2`, `#3`, … behind its id. The manifest's outcome is told by `plan`; people
    read it in MIXTURE.md. Raises UserError if a part cannot give what is asked for.
    """

    def work(folder: Path) -> dict[str, Any]:
        whole, spool = expand(config), folder / "spool.jsonl"
        with spool.open("wb") as out:
            reading, sieves = _read(whole, data_root, load, out)
        taken = _select(whole, reading)
        _write(whole, reading, taken, spool, folder / CONVERSATIONS)
        spool.unlink()
        outcome = _outcome(whole, reading, taken, sieves)
        with replacing(folder / PAGE) as handle:
            handle.write(page(outcome))
        return outcome

    stage.run(work)
    return stage.folder


def plan(
    config: MixConfig, data_root: Path | None, load: LoadTokenizer | None = None
) -> dict[str, Any]:
    """What building would take, without writing anything: the outcome that a manifest holds.

    `conversations`, `measure` (what answers are counted in), `licences`, `strictest`, `derived`,
    `warnings`, and in `sources` for each part its conversion's counts with the filters', `asked`,
    `taken`, `repeats` (of those, second and further times), `messages`, `share` of conversations,
    `answer_share` of the assistant's characters, with a tokenizer `supervised_tokens`, their
    `token_share` and `without_answer` (conversations that teach nothing), and `licence`.
    """
    whole = expand(config)
    reading, sieves = _read(whole, data_root, load, None)
    return _outcome(whole, reading, _select(whole, reading), sieves)


def _read(
    config: MixConfig, data_root: Path | None, load: LoadTokenizer | None, out: IO[bytes] | None
) -> tuple[_Reading, list[Sieve]]:
    reading, counter = _Reading(), _counter(config, load)
    sieves: dict[int, Sieve] = {}
    for leaf in _leaves(config):
        sieves |= {id(sieve): sieve for sieve in leaf.sieves}
        reading.add(leaf, data_root, counter, out)
    return reading, list(sieves.values())


def _select(config: MixConfig, reading: _Reading) -> Positions:
    tokens = np.array(reading.supervised, dtype=np.int64)
    return Selection(reading.pools, tokens).mixture(config)


def _write(config: MixConfig, reading: _Reading, taken: Positions, spool: Path, to: Path) -> None:
    """Copy what is taken from the spool in an order drawn by the mixture's seed."""
    order = array("q", taken.tobytes())
    random.Random(SEED if config.seed is None else config.seed).shuffle(order)
    identities = np.array(reading.identities)[taken]
    values, times = np.unique(identities, return_counts=True)
    seen = dict.fromkeys(values[times > 1].tolist(), 0)
    with (
        spool.open("rb") as source,
        replacing(to, "wb") as out,
        progress(f"write {config.name}", len(order)) as ticker,
    ):
        for position in order:
            begin, end = reading.starts[position], reading.starts[position + 1]
            source.seek(begin)
            line = source.read(end - begin)
            if (identity := reading.identities[position]) in seen:
                seen[identity] += 1
                line = _numbered(line, seen[identity])
            out.write(line)
            ticker.advance()


def _numbered(line: bytes, time: int) -> bytes:
    """The conversation as it stands the second time and later: with the number behind its id."""
    if time == 1:
        return line
    row = json.loads(line)
    return (to_json({**row, "id": f"{row['id']}#{time}"}) + "\n").encode()


# ---- what is in it


def _outcome(
    config: MixConfig, reading: _Reading, taken: Positions, sieves: list[Sieve]
) -> dict[str, Any]:
    per = {
        "messages": np.array(reading.messages, dtype=np.int64),
        "characters": np.array(reading.characters, dtype=np.int64),
        "supervised_tokens": np.array(reading.supervised, dtype=np.int64),
    }
    measure = "characters" if config.tokenizer is None else "supervised_tokens"
    answers = max(1, int(per["characters"][taken].sum()))
    tokens = max(1, int(per["supervised_tokens"][taken].sum()))
    leaves = list(_leaves(config))
    sources = {}
    for leaf, name in zip(leaves, _short([leaf.path for leaf in leaves]), strict=True):
        pool = reading.pools[leaf.path]
        own = taken[(taken >= pool[0]) & (taken <= pool[-1])]
        sources[name] = {
            **{reason: n for reason, n in reading.counts[leaf.path].items() if n},
            "asked": leaf.part.asked,
            "taken": len(own),
            "repeats": len(own) - len(np.unique(own)),
            "messages": int(per["messages"][own].sum()),
            "share": len(own) / len(taken),
            "answer_share": int(per["characters"][own].sum()) / answers,
            "licence": "; ".join(_licences(leaf.part, reading.sources[leaf.path])),
        }
        if config.tokenizer is not None:
            learned = per["supervised_tokens"][own]
            sources[name] |= {
                "supervised_tokens": int(learned.sum()),
                "token_share": int(learned.sum()) / tokens,
                "without_answer": int((learned == 0).sum()),
            }
    stated = {one for leaf in leaves for one in _licences(leaf.part, reading.sources[leaf.path])}
    derived = edges(name for found in reading.sources.values() for name in found)
    return {
        "name": config.name,
        "about": config.about,
        "conversations": len(taken),
        "measure": measure,
        "sources": sources,
        "licences": {one: asks(one) for one in sorted(stated)},
        "strictest": strictest(stated),
        "derived": derived,
        "warnings": list(_warnings(derived, reading, taken, sieves)),
    }


def _short(paths: list[str]) -> list[str]:
    """The last names of paths, or the whole paths of those that share it."""
    times = Counter(path.rpartition("/")[2] for path in paths)
    return [path if times[last := path.rpartition("/")[2]] > 1 else last for path in paths]


def _licences(part: Part, found: Counter[str]) -> list[str]:
    """The licences that a part is under; a file's, unless stated, are those of known sources."""
    if part.licence is not None:
        return [part.licence]
    return sorted({licence_of(source) for source in ([part.source] if part.source else found)})


def _warnings(
    derived: list[tuple[str, str]], reading: _Reading, taken: Positions, sieves: list[Sieve]
) -> Iterator[str]:
    for source, above in derived:
        yield f"{source} is derived from {above}: the same records may enter twice"
    distinct = np.unique(taken)
    again = len(distinct) - len(np.unique(np.array(reading.identities)[distinct]))
    if again:
        yield f"{again} conversations have source and id of another; they end in #2, #3, …"
    for sieve in sieves:
        if missing := sieve.not_met():
            path, total = sieve.filters.drop, len(sieve.unwanted)
            yield f"{missing} of the {total} ids of {path} were not met in {sieve.where}"
