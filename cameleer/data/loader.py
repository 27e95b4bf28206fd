"""From conversations to the rows of every step: tokenised once, packed anew each epoch."""

from __future__ import annotations

import os
import shutil
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cameleer.chat.conversation import Conversation
from cameleer.chat.render import Renderer, Rule
from cameleer.chat.template import Template
from cameleer.core.console import note
from cameleer.core.errors import UserError
from cameleer.core.files import read_json, write_json
from cameleer.data.pack import pack
from cameleer.data.rendering import by_all_cores


@dataclass(frozen=True)
class Tokens:
    """Tokenised conversations, mapped from disk.

    ids: [tokens] uint32; supervised: [tokens] bool; starts: [conversations + 1] int64, where each
    begins; sources: [conversations] uint32, each one's place in `names`; places: [conversations]
    int64, which of the file's conversations each is, from 0; counts: what was read, kept, cut and
    dropped, and `supervised: <source>` per source.
    """

    ids: NDArray[np.uint32]
    supervised: NDArray[np.bool_]
    starts: NDArray[np.int64]
    sources: NDArray[np.uint32]
    places: NDArray[np.int64]
    names: list[str]
    counts: Counter[str]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[conversations] tokens of each."""
        return np.diff(self.starts)


def tokenise(
    data: Path,
    tokenizer: Any,
    template: Template,
    *,
    max_tokens: int,
    on_long: Literal["cut", "drop", "error"],
    rule: Rule,
    folder: Path,
) -> Tokens:
    """Tokenise a file of conversations into `folder`, or take up what an earlier call left there.

    on_long: a conversation over `max_tokens` is cut there, dropped, or a UserError that names it.
    """
    whole = folder / "tokens.json"  # written last: its presence says that the rest is whole
    if not (whole.exists() and _as_long_as_said(folder)):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        limit = max_tokens if on_long == "cut" else None
        renderer = Renderer(tokenizer, template, max_tokens=limit, rule=rule)
        work = partial(_arrays, max_tokens=max_tokens, on_long=on_long)
        counts: Counter[str] = Counter()
        lengths, sources, places = array("q"), array("I"), array("q")
        names: dict[str, int] = {}
        with (folder / "ids.u32").open("wb") as ids, (folder / "supervised.u8").open("wb") as mask:
            for found in by_all_cores(data, renderer, work):
                if found.too_long:
                    raise _too_long(data, *found.too_long, max_tokens)
                ids.write(found.ids)
                mask.write(found.supervised)
                lengths.frombytes(found.lengths)
                sources.extend(names.setdefault(name, len(names)) for name in found.sources)
                places.extend(counts["read"] + place for place in found.places)
                counts.update(found.counts)
        starts = np.concatenate([[0], np.cumsum(np.frombuffer(lengths, np.int64))])
        starts.astype(np.int64).tofile(folder / "starts.i64")
        for name, numbers in (("sources.u32", sources), ("places.i64", places)):
            (folder / name).write_bytes(numbers.tobytes())
        for file in folder.iterdir():  # else a power cut could leave tokens.json alone whole
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        write_json(whole, {"names": list(names), "counts": counts})
    return _mapped(folder, data, max_tokens)


def _as_long_as_said(folder: Path) -> bool:
    """Whether none of the files was cut since."""
    counts = Counter(read_json(folder / "tokens.json")["counts"])
    tokens, kept = counts["tokens"], counts["kept"]
    sizes = {"ids.u32": 4 * tokens, "supervised.u8": tokens, "starts.i64": 8 * (kept + 1)}
    sizes |= {"sources.u32": 4 * kept, "places.i64": 8 * kept}
    there = {file.name: file.stat().st_size for file in folder.iterdir()}
    return all(there.get(name) == size for name, size in sizes.items())


@dataclass(frozen=True)
class _Arrays:
    """Some conversations' tokens: ids as uint32, mask as bool, lengths as int64, all as bytes.

    sources: of each; places: of each among the conversations that were given, from 0.
    too_long: id and tokens of the first one over the limit, where that is an error.
    """

    ids: bytes
    supervised: bytes
    lengths: bytes
    counts: Counter[str]
    sources: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    too_long: tuple[str, int] | None = None


def _arrays(
    renderer: Renderer,
    conversations: Iterable[Conversation],
    *,
    max_tokens: int,
    on_long: Literal["cut", "drop", "error"],
) -> _Arrays:
    counts: Counter[str] = Counter()
    ids, masks, lengths = [], [], array("q")
    sources, places = [], []
    for item in renderer.render(conversations, counts):
        mask = b"\0" + item.supervised[1:]  # nothing stands before the first that could predict it
        learned = mask.count(1)
        if not learned:
            counts["dropped_no_supervised"] += 1
            counts["kept"] -= 1
            continue
        if len(mask) > max_tokens:
            if on_long == "error":
                return _Arrays(b"", b"", b"", counts, too_long=(item.id, len(mask)))
            counts["dropped_long"] += 1
            counts["kept"] -= 1
            continue
        ids.append(item.ids)
        masks.append(mask)
        lengths.append(len(mask))
        sources.append(item.source)
        places.append(counts["read"] - 1)  # rendering counts each conversation as it comes to it
        counts["tokens"] += len(mask)
        counts["supervised"] += learned
        counts[f"supervised: {item.source}"] += learned
    return _Arrays(b"".join(ids), b"".join(masks), lengths.tobytes(), counts, sources, places)


def _too_long(data: Path, identity: str, tokens: int, limit: int) -> UserError:
    return UserError(
        f"conversation '{identity}' has {tokens} tokens, over the limit of {limit}",
        file=data,
        field="max_seq_length",
        hint="raise it, or set on_long to cut or drop",
    )


def _mapped(folder: Path, data: Path, max_tokens: int) -> Tokens:
    facts = read_json(folder / "tokens.json")
    counts = Counter(facts["counts"])
    if not counts["tokens"]:
        raise UserError(
            "holds no conversation that can be learned from",
            file=data,
            hint="; ".join(what_was_left_out(counts, max_tokens)) or None,
        )
    return Tokens(
        np.memmap(folder / "ids.u32", np.uint32, "r"),
        np.memmap(folder / "supervised.u8", np.bool_, "r"),
        np.fromfile(folder / "starts.i64", np.int64),
        np.fromfile(folder / "sources.u32", np.uint32),
        np.fromfile(folder / "places.i64", np.int64),
        facts["names"],
        counts,
    )


def say_what_was_left_out(counts: Counter[str], max_tokens: int) -> None:
    """One line for everything that did not reach the model whole."""
    for line in what_was_left_out(counts, max_tokens):
        note(line)


def what_was_left_out(counts: Counter[str], max_tokens: int) -> Iterator[str]:
    """What did not reach the model whole, and why."""
    if counts["cut"]:
        lost = f"{counts['cut']} of {counts['read']} conversations cut at {max_tokens} tokens"
        yield f"{lost} ({counts['cut_tokens']} tokens lost)"
    for key, words in (
        ("dropped_long", f"dropped, longer than {max_tokens} tokens"),
        ("dropped_no_supervised", "dropped, nothing in them is to be learned"),
    ):
        if counts[key]:
            yield f"{counts[key]} of {counts['read']} conversations {words}"
    if counts["straddling"]:
        yield f"{counts['straddling']} tokens reach from a prompt into its answer: not in the loss"


SQUARE = 8192  # attention in a document of so many tokens costs about as much as all else there
Row = list[int]
"""Indices of the conversations that lie in one packed row."""


def epoch_rows(lengths: Sequence[int], row_tokens: int, seed: int, epoch: int) -> list[Row]:
    """The rows of one epoch: every conversation once, best fit, shuffled by seed and epoch."""
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    packed = pack([int(lengths[index]) for index in order], row_tokens)
    rows = [[int(order[index]) for index in row] for row in packed]
    return [rows[index] for index in random.permutation(len(rows))]


def epoch_steps(rows: list[Row], rows_of_a_step: int) -> Iterator[list[Row]]:
    """The rows of each optimizer step; the last may have fewer."""
    for begin in range(0, len(rows), rows_of_a_step):
        yield rows[begin : begin + rows_of_a_step]


def micro_batches(
    rows: list[Row], lengths: Sequence[int], size: int, ranks: int
) -> list[list[list[Row]]]:
    """For each rank its micro-batches of one step: [ranks][micro-batches] lists of `size` rows.

    lengths: [conversations] tokens. Every rank has as many micro-batches, as ranks wait for each
    other in each; some may be smaller, or without rows.
    """
    # Rows are about equally full, so what sets them apart is attention, square in documents.
    costs = [sum((n := int(lengths[index])) + n * n // SQUARE for index in row) for row in rows]
    own = share(rows, costs, ranks)
    count = max(-(-len(part) // size) for part in own)
    return [[part[at * size : (at + 1) * size] for at in range(count)] for part in own]


def share(rows: Sequence[Row], tokens_of_row: Sequence[int], ranks: int) -> list[list[Row]]:
    """One optimizer step's rows dealt out to the ranks: [ranks] lists, rows in their order.

    tokens_of_row: [rows] tokens, or any other cost. Ranks get the same number of rows, give or take
    one, and as equal a cost as dealing gives: from the costliest rows down, `ranks` at a time, the
    costliest to the rank that has least. Told by the arguments alone, so that every rank works out
    the same; with fewer rows than ranks the last ones get none.
    """
    costliest_first = sorted(range(len(rows)), key=lambda row: -tokens_of_row[row])
    costs, dealt = [0] * ranks, [list[int]() for _ in range(ranks)]
    for begin in range(0, len(rows), ranks):
        poorest_first = sorted(range(ranks), key=lambda rank: costs[rank])
        for rank, row in zip(poorest_first, costliest_first[begin : begin + ranks], strict=False):
            costs[rank] += tokens_of_row[row]
            dealt[rank].append(row)
    return [[rows[row] for row in sorted(own)] for own in dealt]
