"""Mixtures: parts of sources, sampled and shuffled by a seed, as one fingerprinted folder."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from pydantic import ConfigDict, Field, model_validator

from cameleer.chat.conversation import Conversation, read_conversations
from cameleer.chat.render import Rule
from cameleer.core.artifact import Stage
from cameleer.core.config import Config
from cameleer.core.console import note, progress
from cameleer.core.errors import UserError
from cameleer.core.files import replacing, sha256_file, to_json
from cameleer.core.folders import locate
from cameleer.data.source import convert, source_named

CONVERSATIONS = "conversations.jsonl"


class Part(Config):
    """One part of a mixture: a source, or a file of conversations; all of it, or a sample.

    source: name of a source, read by `rule` from the folder `from` (default: the data folder).
    file: a conversations file instead. count, fraction: how much is taken, at most one of them.
    """

    model_config = ConfigDict(populate_by_name=True)

    source: str | None = None
    folder: Path | None = Field(default=None, alias="from")
    file: Path | None = None
    rule: Rule = "fixed"
    count: int | None = Field(default=None, ge=1)
    fraction: float | None = Field(default=None, gt=0, le=1)

    @model_validator(mode="after")
    def _one_origin_and_one_amount(self) -> Part:
        if (self.source is None) == (self.file is None):
            raise ValueError("a part has either 'source' or 'file'")
        if self.file and self.model_fields_set & {"folder", "rule"}:
            raise ValueError("'from' and 'rule' go with 'source', not with 'file'")
        if self.count is not None and self.fraction is not None:
            raise ValueError("a part has 'count' or 'fraction', not both")
        return self

    @property
    def name(self) -> str:
        """The source's name, or the file's without its ending."""
        return self.source or (self.file.stem if self.file else "")


class MixConfig(Config):
    """A mixture: its name, a word about it, the seed of all its choices, and its parts."""

    name: str
    about: str = ""
    seed: int = 42
    parts: list[Part] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> MixConfig:
        for name, times in Counter(part.name for part in self.parts).items():
            if times > 1:
                raise ValueError(f"{times} parts are named '{name}'; names must differ")
        return self


def mix_stage(config: MixConfig, data_root: Path | None, folder: Path) -> Stage:
    """The stage that builds a mixture in `folder`; reads its inputs to fingerprint them.

    What decides the result are seed, parts and the contents of native files: not where they lie,
    nor the mixture's name.
    """
    inputs = {
        f"{part.name}/{name}": sha256_file(path)
        for part in config.parts
        for name, path in _native_files(part, data_root).items()
    }
    parts = [
        {"name": part.name, **part.model_dump(exclude={"folder", "file"})} for part in config.parts
    ]
    return Stage("mix", folder, {"seed": config.seed, "parts": parts}, inputs)


def _native_files(part: Part, data_root: Path | None) -> dict[str, Path]:
    """The files that a part is read from, by their names in its folder."""
    if part.file is not None:
        if not part.file.is_file():
            raise UserError("no such file", file=part.file, hint="check the part's 'file'")
        return {part.file.name: part.file}
    native = source_named(part.name).CARD.native
    folder = locate(part.folder or data_root, "instruct", part.name, native)
    paths = sorted({path for pattern in native for path in folder.glob(pattern)})
    return {path.relative_to(folder).as_posix(): path for path in paths}


@dataclass
class _Read:
    """What was read of a part.

    starts: [kept + 1] where its conversations begin in the spool, and where the last ends;
    messages, answers: [kept] messages, and characters of the assistant's, in each.
    """

    counts: Counter[str]
    starts: array[int]
    messages: array[int] = field(default_factory=lambda: array("q"))
    answers: array[int] = field(default_factory=lambda: array("q"))


def build(config: MixConfig, data_root: Path | None, stage: Stage) -> Path:
    """Build the mixture unless it is there; returns the folder, which holds conversations.jsonl.

    Conversations pass through a spool file, so that memory holds only their positions. Each part is
    sampled by its own seed: adding a part changes no other part's picks. The manifest's outcome is
    `conversations` and, for each part in `sources`, the counts of its conversion, `taken`,
    `messages`, and its `share` of conversations and `answer_share` of the assistant's characters
    (close to its weight in the loss). Raises UserError if a part has less than is asked for.
    """

    def work(folder: Path) -> dict[str, Any]:
        spool = folder / "spool.jsonl"
        with spool.open("wb") as out:
            read = [_spool(part, data_root, out) for part in config.parts]
        picks = [_picks(config, index, one) for index, one in enumerate(read)]
        order = [(part, pick) for part, picked in enumerate(picks) for pick in picked]
        random.Random(config.seed).shuffle(order)
        with (
            spool.open("rb") as source,
            replacing(folder / CONVERSATIONS, "wb") as out,
            progress(f"write {config.name}", len(order)) as ticker,
        ):
            for part, pick in order:
                begin, end = read[part].starts[pick], read[part].starts[pick + 1]
                source.seek(begin)
                out.write(source.read(end - begin))
                ticker.advance()
        spool.unlink()
        return {"name": config.name, "about": config.about, **_outcome(config, read, picks)}

    stage.run(work)
    return stage.folder


def _spool(part: Part, data_root: Path | None, out: IO[bytes]) -> _Read:
    """Append all of a part's conversations to the spool."""
    conversations, counts = _open(part, data_root)
    read = _Read(counts, array("q", [out.tell()]))
    for conversation in conversations:
        if conversation.source == "unnamed":
            conversation = replace(conversation, source=part.name)
        out.write((to_json(conversation.to_row()) + "\n").encode())
        read.starts.append(out.tell())
        read.messages.append(len(conversation.messages))
        answers = (turn.content for turn in conversation.messages if turn.role == "assistant")
        read.answers.append(sum(map(len, answers)))
    note(f"{part.name}: {len(read.messages)} conversations")
    return read


def _open(part: Part, data_root: Path | None) -> tuple[Iterator[Conversation], Counter[str]]:
    if part.file is None:
        return convert(part.name, part.folder or data_root, part.rule)
    counts: Counter[str] = Counter()

    def counted(path: Path) -> Iterator[Conversation]:
        for conversation in read_conversations(path):
            counts.update(("read", "kept"))
            yield conversation

    return counted(part.file), counts


def _picks(config: MixConfig, index: int, read: _Read) -> list[int]:
    """Which of a part's conversations are taken, in their order."""
    part, there = config.parts[index], len(read.messages)
    if not there:
        raise UserError(f"part '{part.name}' gives no conversation", field=f"parts.{index}")
    count = there
    if part.count is not None:
        count = part.count
    elif part.fraction is not None:
        count = max(1, round(part.fraction * there))
    if count > there:
        raise UserError(
            f"{count} of '{part.name}' are asked for, it gives {there}",
            field=f"parts.{index}.count",
            hint=f"ask for at most {there}, or leave 'count' out to take all",
        )
    return sorted(random.Random(f"{config.seed}/{part.name}").sample(range(there), count))


def _outcome(config: MixConfig, read: list[_Read], picks: list[list[int]]) -> dict[str, Any]:
    taken = sum(map(len, picks))
    answers = [
        sum(one.answers[pick] for pick in picked) for one, picked in zip(read, picks, strict=True)
    ]
    sources = {
        part.name: {
            **one.counts,
            "taken": len(picked),
            "messages": sum(one.messages[pick] for pick in picked),
            "share": len(picked) / taken,
            "answer_share": characters / max(1, sum(answers)),
        }
        for part, one, picked, characters in zip(config.parts, read, picks, answers, strict=True)
    }
    return {"conversations": taken, "sources": sources}
