"""Conversations that say the same as an earlier one, to the word or nearly, over any files.

Exact: the same words (see `shingles`). Near: the sets of runs of five words have a Jaccard index of
at least 0.7. Candidates come from MinHash (Broder 1997) and bands of its values; each is checked on
the sets themselves, so that what is called near is never a matter of chance. Some are missed: at an
index of 0.7 one in a hundred, at 0.8 one in fifty thousand.

Each conversation is compared with earlier ones that are kept, never with those that are not: all
that goes is like something that stays, and likeness makes no chains.
"""

from __future__ import annotations

import os
import re
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cameleer.chat.conversation import Conversation, read_conversations
from cameleer.core.console import progress
from cameleer.core.cores import over_cores
from cameleer.core.jsonl import OnBad
from cameleer.data.encode import WITH_INPUT, WITHOUT_INPUT
from cameleer.data.overlap.shingles import (
    Numbers,
    in_batches,
    numbers,
    runs,
    word_numbers,
    words,
)

By = Literal["conversation", "prompt"]
Places = NDArray[np.int64]
"""[n] places of conversations among all that were read."""

RUN = 5  # words
THRESHOLD = 0.7  # Jaccard index from which two texts are near duplicates
BANDS, ROWS = 25, 5  # of the MinHash values; conversations that share a whole band are candidates
CHECKED = 64  # earlier candidates that one conversation is compared with, likeliest first
BATCH = 512  # conversations that are worked on at once

_WITHIN = re.compile(
    r"^(?:### )?(?:Input|Additional Context):|^Now complete the following instance -$", re.MULTILINE
)
_random = np.random.default_rng(20230607)
_FACTORS = _random.integers(0, 2**63, BANDS * ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_TERMS = _random.integers(0, 2**63, BANDS * ROWS, dtype=np.uint64)
_HALF = np.uint64(32)  # bits


class Member(NamedTuple):
    """A conversation that repeats the one its group keeps.

    record: its place among all that were read; kind: "exact" if an earlier one has the same words,
    else "near"; similarity: Jaccard index with the one that is kept.
    """

    record: int
    kind: str
    similarity: float


class Group(NamedTuple):
    """Conversations that say the same; `kept` is the place of the first of them."""

    kept: int
    members: list[Member]


@dataclass
class Duplicates:
    """What was read, by place, and the groups found in it.

    file, source: indices into `files` and `sources`; counts: `read`, `exact`, `near`, `short`
    (under five words: compared as wholes only), `unchecked` (candidates that were passed over).
    """

    files: list[Path]
    by: By
    sources: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    file: array[int] = field(default_factory=lambda: array("i"))
    source: array[int] = field(default_factory=lambda: array("i"))
    groups: list[Group] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def where(self, record: int) -> dict[str, str]:
        """File, source and id of a conversation."""
        return {
            "file": str(self.files[self.file[record]]),
            "source": self.sources[self.source[record]],
            "id": self.ids[record],
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """One JSON object for each group."""
        for number, group in enumerate(self.groups):
            members = [
                {**self.where(one.record), "kind": one.kind, "similarity": one.similarity}
                for one in group.members
            ]
            yield {"group": number, "kept": self.where(group.kept), "members": members}

    def pairs(self) -> Counter[tuple[str, str, str]]:
        """How many of a source repeat one of a source: (source kept, source repeating, kind)."""
        found: Counter[tuple[str, str, str]] = Counter()
        for group in self.groups:
            kept = self.sources[self.source[group.kept]]
            for one in group.members:
                found[kept, self.sources[self.source[one.record]], one.kind] += 1
        return found

    def repeats(self) -> dict[int, str]:
        """The kind of every conversation that repeats an earlier one, by place."""
        return {one.record: one.kind for group in self.groups for one in group.members}


def find_duplicates(
    files: Sequence[Path],
    by: By = "conversation",
    *,
    cores: int = 1,
    scratch: Path | None = None,
    on_bad: OnBad = None,
) -> Duplicates:
    """Exact and near duplicates within and across files of conversations, streamed.

    by: compare whole conversations, or the user's messages alone, without the words that the
    paper's templates set around an instruction. scratch: folder for a temporary
    file of four bytes a word. on_bad: told of each line that is no conversation, which is left out;
    None: it is raised. Memory holds about half a kilobyte for each conversation.
    """
    found = Duplicates(list(files), by)
    digests, sizes = array("Q"), array("q")
    bands: list[Numbers] = []
    total = sum(map(count_lines, files))
    with tempfile.TemporaryFile(dir=scratch) as spool:
        with progress("compare conversations", total) as ticker:
            work = partial(sketch, unframe=by == "prompt")
            for part in over_cores(work, in_batches(_texts(found, on_bad), BATCH), cores):
                digests.frombytes(part.digests.tobytes())
                sizes.frombytes(part.sizes.tobytes())
                bands.append(part.bands)
                spool.write(part.shingles.tobytes())
                ticker.advance(len(part.digests))
        spool.flush()
        sets = _Sets(spool, np.asarray(sizes, np.int64))
        found.counts.update(read=len(digests), short=int((sets.sizes == 0).sum()))
        first = _first(np.asarray(digests, np.uint64))
        kept, similarity = _near(bands, first, sets, found.counts)
    _gather(found, first, kept, similarity)
    return found


def count_lines(file: Path) -> int:
    """Lines of a file, for the progress bar; none if it cannot be read, which is told later."""
    try:
        with file.open("rb") as handle:
            return sum(1 for _ in handle)
    except OSError:
        return 0


def _texts(found: Duplicates, on_bad: OnBad) -> Iterator[str]:
    """What is compared of every conversation; notes in `found` where each comes from."""
    known: dict[str, int] = {}
    for index, file in enumerate(found.files):
        for one in read_conversations(file, on_bad):
            source = source_of(one, file)
            if source not in known:
                known[source] = len(found.sources)
                found.sources.append(source)
            found.ids.append(one.id)
            found.file.append(index)
            found.source.append(known[source])
            yield "\n".join(
                turn.content
                for turn in one.messages
                if found.by == "conversation" or turn.role == "user"
            )


def source_of(one: Conversation, file: Path) -> str:
    """A conversation's source; of one that has no name, its file's."""
    return file.stem if one.source == "unnamed" else one.source


class Sketch(NamedTuple):
    """A batch of texts: a digest of each [n], how many different runs it has [n], the bands of its
    MinHash values [n, BANDS], and its runs, 32 bits each, ascending, text after text."""

    digests: Numbers
    sizes: Places
    bands: Numbers
    shingles: NDArray[np.uint32]


def sketch(texts: list[str], unframe: bool = False) -> Sketch:
    """All that is needed of texts to compare them; a text of under RUN words has no runs.

    unframe: leave out the words of a template around an instruction.
    """
    digests = np.zeros(len(texts), np.uint64)
    sets: list[NDArray[np.uint32]] = []
    for index, text in enumerate(texts):
        ids = numbers(unframed(text)) if unframe else word_numbers(text)
        digest = blake2b(ids.tobytes(), digest_size=8).digest()
        digests[index] = int.from_bytes(digest, "little")
        sets.append(np.unique((runs(ids, RUN) >> _HALF).astype(np.uint32)))
    sizes = np.fromiter(map(len, sets), np.int64, len(sets))
    flat = np.concatenate(sets) if sets else np.zeros(0, np.uint32)
    return Sketch(digests, sizes, _bands(flat, sizes), flat)


def _bands(flat: NDArray[np.uint32], sizes: Places) -> Numbers:
    """[texts, BANDS] numbers that are equal where all ROWS MinHash values of a band are."""
    bands = np.zeros((len(sizes), BANDS), np.uint64)
    having = np.flatnonzero(sizes)
    if not len(having):
        return bands
    starts = (np.cumsum(sizes) - sizes)[having]
    wide, hashed = flat.astype(np.uint64), np.empty(len(flat), np.uint64)
    for index in range(BANDS * ROWS):
        np.multiply(wide, _FACTORS[index], out=hashed)
        hashed += _TERMS[index]
        hashed >>= _HALF  # multiply-shift (Dietzfelbinger et al. 1997)
        band = bands[:, index // ROWS]
        band[having] *= np.uint64(0x9E3779B97F4A7C15)
        band[having] += np.minimum.reduceat(hashed, starts)
    return bands


@cache
def _frames() -> tuple[list[list[str]], list[list[str]]]:
    """The words that the paper's templates set before an instruction and after it, longest first.

    Two sources that draw other templates for the same instruction would hide that it is the same.
    """
    prompts = [prompt for prompt, _, _ in (*WITH_INPUT, *WITHOUT_INPUT)]
    prompts += [prompt.replace("Plase", "Please") for prompt in prompts]
    leads = {tuple(words(prompt.partition("{instruction}")[0])) for prompt in prompts}
    tails = {tuple(words(prompt.rpartition("}")[2])) for prompt in prompts}
    return _longest_first(leads), _longest_first(tails)


def _longest_first(frames: set[tuple[str, ...]]) -> list[list[str]]:
    return sorted((list(frame) for frame in frames if frame), key=len, reverse=True)


def unframed(text: str) -> list[str]:
    """Words of a prompt without those of a template before, within and after them."""
    listed = words(_WITHIN.sub("", text))
    leads, tails = _frames()
    begin = next((len(frame) for frame in leads if listed[: len(frame)] == frame), 0)
    end = next((len(frame) for frame in tails if listed[-len(frame) :] == frame), 0)
    return listed[begin : len(listed) - end] or listed


class _Sets:
    """The runs of every text, in a temporary file, read when two of them are compared."""

    def __init__(self, spool: IO[bytes], sizes: Places) -> None:
        self.file, self.sizes = spool.fileno(), sizes
        self.starts = (np.cumsum(sizes) - sizes) * 4

    def read(self, record: int) -> NDArray[np.uint32]:
        data = os.pread(self.file, int(self.sizes[record]) * 4, int(self.starts[record]))
        return np.frombuffer(data, np.uint32)


def jaccard(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Members of both sets over members of either; sets as arrays without repeats."""
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / max(1, len(a) + len(b) - both)


def _first(digests: Numbers) -> Places:
    """For each text the place of the first one with the same words."""
    _, first, of = np.unique(digests, return_index=True, return_inverse=True)
    return np.asarray(first[of], np.int64)


def _near(
    bands: list[Numbers], first: Places, sets: _Sets, counts: Counter[str]
) -> tuple[Places, NDArray[np.float64]]:
    """For each first text the kept text that it is like, or itself, and their Jaccard index."""
    kept, similarity = np.arange(len(first)), np.ones(len(first))
    records = np.flatnonzero((first == kept) & (sets.sizes > 0))
    buckets, starts = _buckets(bands, records)
    slots = np.zeros(starts[-1], np.int64)  # the kept texts of each bucket, so far
    filled = np.zeros(len(starts) - 1, np.int64)
    todo = np.flatnonzero((buckets >= 0).any(axis=1))
    with progress("check near duplicates", len(todo)) as ticker:
        for row in todo.tolist():
            ticker.advance()
            record, mine = int(records[row]), buckets[row][buckets[row] >= 0]
            rivals = np.concatenate([slots[starts[b] : starts[b] + filled[b]] for b in mine])
            best, like = _best(record, rivals, sets, counts)
            if like >= THRESHOLD:
                kept[record], similarity[record] = best, like
            else:
                slots[starts[mine] + filled[mine]] = record
                filled[mine] += 1
    return kept, similarity


def _buckets(bands: list[Numbers], records: Places) -> tuple[NDArray[np.int32], Places]:
    """Which bucket each text is in, band by band [records, BANDS], -1 where it is alone there.

    Second: [buckets + 1] where each bucket begins if they lie one behind the other.
    """
    table = np.concatenate(bands)[records] if len(records) else np.zeros((0, BANDS), np.uint64)
    buckets = np.full(table.shape, -1, np.int32)
    sizes = [np.zeros(1, np.int64)]
    count = 0
    for band in range(BANDS):
        _, of, times = np.unique(table[:, band], return_inverse=True, return_counts=True)
        shared = times > 1
        name = np.where(shared, count + np.cumsum(shared) - 1, -1)
        buckets[:, band] = name[of]
        count += int(shared.sum())
        sizes.append(times[shared])
    return buckets, np.cumsum(np.concatenate(sizes))


def _best(record: int, rivals: Places, sets: _Sets, counts: Counter[str]) -> tuple[int, float]:
    """The earlier text that a text is most like, and the Jaccard index; the first of equals."""
    if not len(rivals):
        return record, 0.0
    rivals, shared = np.unique(rivals, return_counts=True)
    size, sizes = sets.sizes[record], sets.sizes[rivals]
    # Sets of very different sizes cannot be alike enough; those that share most bands may well be.
    fit = np.minimum(size, sizes) >= THRESHOLD * np.maximum(size, sizes)
    rivals, shared = rivals[fit], shared[fit]
    likeliest = rivals[np.argsort(-shared, kind="stable")]
    counts["unchecked"] += max(0, len(likeliest) - CHECKED)
    own = sets.read(record)
    found = [(jaccard(own, sets.read(int(one))), -int(one)) for one in likeliest[:CHECKED]]
    like, place = max(found, default=(0.0, -record))
    return -place, like


def _gather(found: Duplicates, first: Places, kept: Places, similarity: Any) -> None:
    """Groups, in the order of what they keep."""
    members: dict[int, list[Member]] = {}
    stays = kept[first]
    for record in np.flatnonzero(stays != np.arange(len(first))).tolist():
        origin = int(first[record])
        kind = "near" if origin == record else "exact"
        found.counts[kind] += 1
        one = Member(record, kind, round(float(similarity[origin]), 4))
        members.setdefault(int(stays[record]), []).append(one)
    found.groups = [Group(place, members[place]) for place in sorted(members)]
