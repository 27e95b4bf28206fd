"""Which test items stand in training data: whole, in part, or nearly, and where.

Kinds of match, strongest first. All compare words (see `shingles`) of an item's question with those
of one message:

exact    the question stands there whole; one of under five words is a whole line of a user
13-gram  half of its runs of thirteen words (a run of 13: Brown et al. 2020, appendix C)
8-gram   half of its runs of eight words
near     runs of three words, in a stretch as long as the question: Jaccard index of at least 0.6;
         of questions made from one mould the most alike only

Runs that stand in many questions of one benchmark, such as "which of the following is", say nothing
about an item and do not count; how many were left out is told. What is found in part must also hold
the words that tell the item from others of its benchmark: "What is the purpose of a compiler?" is
not "What is the purpose of a quality circle?". A question that several items share, or that
is made of common words alone, is looked for together with its context, such as its options.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from math import log
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cameleer.chat.conversation import Conversation, Message, read_conversations
from cameleer.core.console import progress
from cameleer.core.cores import over_cores
from cameleer.core.jsonl import OnBad
from cameleer.data.overlap.duplicates import count_lines, jaccard, source_of
from cameleer.data.overlap.probes import (
    ANCHOR,
    FEW,
    KINDS,
    PARTLY,
    Index,
    Ints,
    ItemText,
    Probe,
    Table,
    signs_of,
)
from cameleer.data.overlap.shingles import (
    Numbers,
    in_batches,
    numbers,
    runs,
    spans,
    word_numbers,
    words,
)

ANSWER_WITHIN = 100  # words after a question in the same message, where its answer is looked for
AROUND = 300  # characters shown before and after what matched
BATCH = 256  # conversations that are worked on at once

LEADS = frozenset({"task", "instruction", "question", "q"})  # of templates, before a question
TAILS = frozenset({"answer", "output", "response", "a"})  # and after it


class Match(NamedTuple):
    """An item found in a conversation.

    share: of the item's runs (exact: 1; near: the Jaccard index); place: of the conversation among
    all that were read; message: index in it; start, end: characters of the message; answer_seen:
    whether one of its answers stands there too, None if it has none; text: the message around it,
    of which the first character is at `text_start`.
    """

    item: str
    kind: str
    share: float
    place: int
    file: str
    source: str
    conversation: str
    message: int
    role: str
    start: int
    end: int
    answer_seen: bool | None
    text: str
    text_start: int

    @property
    def benchmark(self) -> str:
        return self.item.partition("/")[0]

    @property
    def strength(self) -> tuple[int, float, bool]:
        """Orders matches: greater is stronger."""
        return -KINDS.index(self.kind), self.share, bool(self.answer_seen)

    def row(self) -> dict[str, Any]:
        """The JSON object that stands for it, without the text."""
        return {
            "item": self.item,
            "kind": self.kind,
            "share": round(self.share, 4),
            "file": self.file,
            "source": self.source,
            "conversation": self.conversation,
            "message": self.message,
            "role": self.role,
            "start": self.start,
            "end": self.end,
            "answer_seen": self.answer_seen,
        }


class Task(NamedTuple):
    """A conversation to be searched: its place among all, its file, its source, itself."""

    place: int
    file: str
    source: str
    conversation: Conversation


class Hit(NamedTuple):
    """A probe found in a message: by what, how much of it, and from which word to which."""

    probe: int
    kind: str
    share: float
    begin: int
    end: int

    @property
    def strength(self) -> tuple[int, float]:
        """Orders hits: greater is stronger."""
        return -KINDS.index(self.kind), self.share


class Searcher:
    """Looks for an index's items in batches of conversations."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.answers: dict[str, list[bytes]] = {}

    def __call__(self, tasks: list[Task]) -> list[Match]:
        """The strongest match of every item in every conversation."""
        ids = [[word_numbers(turn.content) for turn in one.conversation.messages] for one in tasks]
        messages = [one for conversation in ids for one in conversation]
        turns = [turn for one in tasks for turn in one.conversation.messages]
        hits = self._hits(messages, turns)
        found: list[Match] = []
        first = 0
        for task, said in zip(tasks, ids, strict=True):
            best: dict[int, tuple[Hit, int]] = {}
            for message in range(len(said)):
                for hit in hits.get(first + message, ()):
                    held = best.get(hit.probe)
                    stronger = held is None or hit.strength > held[0].strength
                    if stronger and self._said(hit, task.conversation.messages[message].content):
                        best[hit.probe] = (hit, message)
            for hit, message in self._apart(list(best.values())):
                found += self._matches(task, said, hit, message)
            first += len(said)
        return found

    def _apart(self, hits: list[tuple[Hit, int]]) -> list[tuple[Hit, int]]:
        """Hits without near ones where another question of the benchmark is more alike.

        Questions made from one mould are like each other; a stretch of text is one of them at most.
        """
        kept: list[tuple[Hit, int]] = []
        for hit, message in sorted(hits, key=lambda one: one[0].strength, reverse=True):
            benchmark = self.index.probes[hit.probe].benchmark
            if hit.kind != "near" or not any(
                message == other
                and min(hit.end, one.end) - max(hit.begin, one.begin) > (hit.end - hit.begin) / 2
                and self.index.probes[one.probe].benchmark == benchmark
                for one, other in kept
            ):
                kept.append((hit, message))
        return kept

    def _said(self, hit: Hit, text: str) -> bool:
        """Whether the signs are there, too, where they matter to an exact match."""
        strict = self.index.probes[hit.probe].strict
        if hit.kind != "exact" or not strict:
            return True
        return len(self.index.probes[hit.probe].ids) < ANCHOR or strict in signs_of(text)

    def _hits(self, messages: list[Numbers], turns: list[Message]) -> dict[int, list[Hit]]:
        """What is found in each message, by its index."""
        # A number that is no word's stands between messages: no run reaches across it.
        wall = np.array([0x5DEECE66D], np.uint64)
        flat = np.concatenate([part for one in messages for part in (one, wall)] or [wall])
        ends = np.cumsum([len(one) + 1 for one in messages]) - 1
        starts = ends - np.array([len(one) for one in messages], np.int64)
        hits: dict[int, list[Hit]] = defaultdict(list)
        for message, hit in self._exact(flat, starts, ends):
            hits[message].append(hit)
        for message, turn in enumerate(turns):
            if turn.role != "assistant":  # where a few common words are seldom a question
                hits[message] += self._whole(turn.content)
        for kind, table in self.index.tables.items():
            for message, hit in self._partly(kind, table, flat, starts, ends):
                hits[message].append(hit)
        return hits

    def _exact(self, flat: Numbers, starts: Ints, ends: Ints) -> Iterator[tuple[int, Hit]]:
        table = self.index.anchors
        places, entries = table.find(flat)
        of = np.searchsorted(ends, places)
        for place, entry, message in zip(
            places.tolist(), entries.tolist(), of.tolist(), strict=True
        ):
            probe = int(table.probes[entry])
            asked = self.index.probes[probe].ids
            begin = place - int(table.offsets[entry])
            end = begin + len(asked)
            inside = begin >= starts[message] and end <= ends[message]
            if inside and np.array_equal(flat[begin:end], asked):
                at = int(starts[message])
                yield message, Hit(probe, "exact", 1.0, begin - at, end - at)

    def _whole(self, text: str) -> Iterator[Hit]:
        """Short questions that are a whole line, but for the words of a template."""
        for line in text.splitlines(keepends=True):
            if line.count(" ") > ANCHOR + 2:
                continue
            listed = words(line)
            if not 0 < len(listed) <= ANCHOR + 1:
                continue
            ids, begin, end = numbers(listed), 0, len(listed)
            begin += end > 1 and listed[0] in LEADS
            end -= end - begin > 1 and listed[-1] in TAILS
            for one, other in dict.fromkeys([(0, len(ids)), (begin, end)]):
                for probe in self.index.whole.get(ids[one:other].tobytes(), ()):
                    signs = signs_of(line)
                    if self.index.probes[probe].strict in (signs, _framed(signs)):
                        before = len(words(text[: text.index(line)]))
                        yield Hit(probe, "exact", 1.0, before + one, before + other)

    def _partly(
        self, kind: str, table: Table, flat: Numbers, starts: Ints, ends: Ints
    ) -> Iterator[tuple[int, Hit]]:
        """Probes of which enough runs stand in a message."""
        places, entries = table.find(flat)
        of = np.searchsorted(ends, places)
        every = len(self.index.probes)
        pair = of * every + table.probes[entries]
        # A run that comes twice in a message counts once.
        once = np.unique(of * len(table.probes) + entries, return_index=True)[1]
        pairs, found = np.unique(pair[once], return_counts=True)
        shares = found / table.counted[pairs % max(1, every)]
        enough = shares >= PARTLY[kind].share
        order = np.argsort(pair, kind="stable")
        left = np.searchsorted(pair[order], pairs[enough])
        right = np.searchsorted(pair[order], pairs[enough], "right")
        for one, begin, end, share in zip(
            pairs[enough].tolist(),
            left.tolist(),
            right.tolist(),
            shares[enough].tolist(),
            strict=True,
        ):
            message, probe = divmod(one, every)
            rows = order[begin:end]
            text = flat[starts[message] : ends[message]]
            here = places[rows] - starts[message]
            aligned = here - table.offsets[entries[rows]]
            asked = self.index.probes[probe]
            if kind == "near":
                low, high, share = _nearest(text, asked.ids, aligned)
            else:
                low, high = _stretch(here, aligned, len(asked.ids), table.n)
            if (
                share >= PARTLY[kind].share
                and self._told(asked, text[low:high]) >= PARTLY[kind].told
            ):
                yield message, Hit(probe, kind, share, low, high)

    def _told(self, probe: Probe, stretch: Numbers) -> float:
        """How much of what tells an item from others stands in a stretch, in rarity of words."""
        rarity = self.index.rarity[probe.benchmark]
        weights = {word: rarity.get(word, log(FEW)) for word in set(probe.ids.tolist())}
        there = set(stretch.tolist())
        told = sum(weight for word, weight in weights.items() if word in there)
        return told / max(sum(weights.values()), 1e-9)

    def _matches(self, task: Task, said: list[Numbers], hit: Hit, message: int) -> list[Match]:
        """One match for each item that asks the question."""
        turn = task.conversation.messages[message]
        places = spans(turn.content)
        start, end = places[hit.begin][0], places[hit.end - 1][1]
        text_start = max(0, start - AROUND)
        return [
            Match(
                item.item,
                hit.kind,
                hit.share,
                task.place,
                task.file,
                task.source,
                task.conversation.id,
                message,
                turn.role,
                start,
                end,
                self._answered(item, task.conversation, said, hit, message),
                turn.content[text_start : end + AROUND],
                text_start,
            )
            for item in self.index.probes[hit.probe].items
        ]

    def _answered(
        self, item: ItemText, one: Conversation, said: list[Numbers], hit: Hit, message: int
    ) -> bool | None:
        """Whether an answer stands in what the assistant says, or soon after the question.

        Options are shown after a question with the right one among them: then the assistant's
        messages alone count.
        """
        if item.item not in self.answers:
            said_so = [numbers(words(text)).tobytes() for text in item.answers]
            self.answers[item.item] = [answer for answer in said_so if answer]
        answers = self.answers[item.item]
        if not answers:
            return None
        texts = [
            ids.tobytes()
            for ids, turn in zip(said, one.messages, strict=True)
            if turn.role == "assistant"
        ]
        if not item.context:
            texts.append(said[message][hit.end : hit.end + ANSWER_WITHIN].tobytes())
        return any(_holds(text, answer) for text in texts for answer in answers)


def _framed(signs: str) -> str:
    """What a template frames, of a short message as `_signs` gives it."""
    for lead in LEADS:
        signs = signs.removeprefix(lead)
    for tail in TAILS:
        signs = signs.removesuffix(tail)
    return signs


def _stretch(here: Ints, aligned: Ints, length: int, n: int) -> tuple[int, int]:
    """From which word to which the runs stand that belong together.

    here: [runs] where they begin; aligned: [runs] where the question would begin by each.
    """
    values, times = np.unique(aligned, return_counts=True)
    most = values[np.argmax(times)]
    near = here[(here >= most - length // 4) & (here <= most + length + length // 4)]
    return int(near.min()), int(near.max()) + n


def _nearest(text: Numbers, asked: Numbers, aligned: Ints) -> tuple[int, int, float]:
    """The stretch of a message that is as long as a question and most like it; and how like."""
    n = PARTLY["near"].n
    own = np.unique(runs(asked, n))
    values, times = np.unique(aligned, return_counts=True)
    best = (0, 0, 0.0)
    for value in values[np.argsort(-times, kind="stable")][:3].tolist():
        low = min(max(0, value), max(0, len(text) - len(asked)))
        high = min(len(text), low + len(asked))
        like = jaccard(own, np.unique(runs(text[low:high], n)))
        if like > best[2]:
            best = (low, high, like)
    return best


def _holds(text: bytes, part: bytes) -> bool:
    """Whether words stand in a row in others; both as numbers of eight bytes."""
    at = text.find(part)
    while at >= 0 and at % 8:
        at = text.find(part, at + 1)
    return at >= 0


_searcher: Searcher | None = None  # of this process


def _begin(index: Index) -> None:
    global _searcher
    _searcher = Searcher(index)


def _search(tasks: list[Task]) -> tuple[int, list[Match]]:
    """How many were searched, and what was found."""
    assert _searcher is not None
    return len(tasks), _searcher(tasks)


def find_overlap(
    index: Index, files: Sequence[Path], *, cores: int = 1, on_bad: OnBad = None
) -> Iterator[Match]:
    """Every match of an item in the conversations of files, streamed, in the files' order.

    Of an item and a conversation the strongest match alone. on_bad: told of each line that is no
    conversation, which is left out; None: it is raised.
    """
    tasks = (
        Task(place, str(file), source_of(one, file), one)
        for place, (file, one) in enumerate(
            (file, one) for file in files for one in read_conversations(file, on_bad)
        )
    )
    yield from search(index, tasks, sum(map(count_lines, files)), cores=cores)


def search(
    index: Index, tasks: Iterable[Task], total: int | None = None, *, cores: int = 1
) -> Iterator[Match]:
    """As `find_overlap`, in conversations from anywhere; total: how many there are, if known."""
    with progress("look for test items", total) as ticker:
        batches = in_batches(tasks, BATCH)
        for searched, found in over_cores(_search, batches, cores, _begin, (index,)):
            ticker.advance(searched)
            yield from found
