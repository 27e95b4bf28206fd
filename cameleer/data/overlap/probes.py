"""What test items are looked for by: their questions' words, and the runs that tell them apart."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import log
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cameleer.data.overlap.shingles import Numbers, numbers, runs, words

Ints = NDArray[np.int64]


class Kind(NamedTuple):
    """n: words in a run; share: of an item's runs, from which it counts as found; told: share of
    what tells the item from others that must be there, in rarity of words."""

    n: int
    share: float
    told: float


PARTLY = {
    "13-gram": Kind(13, 0.5, 0.6),
    "8-gram": Kind(8, 0.5, 0.85),
    "near": Kind(3, 0.6, 0.85),
}
KINDS = ("exact", *PARTLY)
"""Kinds of match, strongest first."""

COMMON = 10  # a run that stands in more questions of a benchmark than this says nothing
TELLING = 10.0  # rarity (nats, summed over words) from which a question alone is an identity
FEW = 1000  # questions that a benchmark counts as at least, where the rarity of words is told
ANCHOR = 5  # words by which whole questions are found; shorter ones must be a whole line
NEAR_LEAST = 8  # words that a question has at least for a near match

_UNSAID = re.compile(r"[\s.,;:!?'\"`´‘’“”„«»…]+")
_SIGN = re.compile(r"[^\w\s.,;:!?'\"`´‘’“”„«»…-]")
_TOP = np.uint64(64 - 22)


class ItemText(NamedTuple):
    """A test item's key, question, right answers, and what is shown beside the question."""

    item: str
    question: str
    answers: tuple[str, ...] = ()
    context: str = ""


@dataclass(frozen=True)
class Probe:
    """A question that is looked for: its words' numbers, and the items that ask it.

    strict: what must stand in a message for an exact match besides the words, where signs matter;
    whole: only an exact match counts, as other items have the same words with other signs;
    context: the words are those of question and context.
    """

    benchmark: str
    ids: Numbers
    items: tuple[ItemText, ...]
    strict: str = ""
    whole: bool = False
    context: bool = False


@dataclass(frozen=True)
class Table:
    """Runs of n words and the probes that they stand in.

    keys: [runs] ascending; starts: [runs + 1] where each one's entries begin; probes, offsets:
    [entries] the probe, and the word at which the run begins in it; counted: [probes] how many runs
    each has here; some: for the top 22 bits of a run, whether any key has them.
    """

    n: int
    keys: Numbers
    starts: Ints
    probes: Ints
    offsets: Ints
    counted: Ints
    some: NDArray[np.bool_]

    def find(self, ids: Numbers) -> tuple[Ints, Ints]:
        """(place in `ids`, entry) wherever one of the runs stands."""
        found = runs(ids, self.n)
        places = np.flatnonzero(self.some[found >> _TOP])
        at = np.searchsorted(self.keys, found[places])
        at[at == len(self.keys)] = 0
        right = self.keys[at] == found[places] if len(self.keys) else np.zeros(0, bool)
        places, at = places[right], at[right]
        times = self.starts[at + 1] - self.starts[at]
        within = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
        return np.repeat(places, times), np.repeat(self.starts[at], times) + within


@dataclass(frozen=True)
class Index:
    """All that is looked for, and what had to be left out.

    whole: questions of under ANCHOR words; rarity: per benchmark of each word, in nats; facts: per
    benchmark what was counted of its items.
    """

    probes: list[Probe]
    tables: dict[str, Table]
    anchors: Table
    whole: dict[bytes, list[int]]
    rarity: dict[str, dict[int, float]]
    facts: dict[str, dict[str, int]]


def build_index(texts: Iterable[ItemText]) -> Index:
    """An index over items; their keys say which benchmark each is of."""
    by_benchmark: dict[str, list[ItemText]] = defaultdict(list)
    for text in texts:
        by_benchmark[text.item.partition("/")[0]].append(text)
    facts: dict[str, dict[str, int]] = {}
    rarity: dict[str, dict[int, float]] = {}
    probes: list[Probe] = []
    for name, items in by_benchmark.items():
        questions = [numbers(words(item.question)) for item in items]
        rarity[name] = _rarity(questions)
        asked = _probes(name, items, questions, rarity[name])
        facts[name] = _facts(items, asked)
        probes += asked
    tables = {name: _table(probes, name, facts) for name in PARTLY}
    whole: dict[bytes, list[int]] = defaultdict(list)
    for at, one in enumerate(probes):
        if len(one.ids) < ANCHOR:
            whole[one.ids.tobytes()].append(at)
    return Index(probes, tables, _anchors(probes), dict(whole), rarity, facts)


def _rarity(questions: Sequence[Numbers]) -> dict[int, float]:
    """How rare each word is in a benchmark: log(questions / questions that have it).

    Of few questions little is known: they count as FEW of which the others have other words.
    """
    having: Counter[int] = Counter()
    for ids in questions:
        having.update(set(ids.tolist()))
    return {word: log(max(FEW, len(questions)) / times) for word, times in having.items()}


def _probes(
    benchmark: str,
    items: Sequence[ItemText],
    questions: Sequence[Numbers],
    rarity: dict[int, float],
) -> list[Probe]:
    """The different questions; with their contexts where they would not tell an item by itself."""
    asked: dict[bytes, list[ItemText]] = defaultdict(list)
    for item, ids in zip(items, questions, strict=True):
        asked[ids.tobytes()].append(item)
    probes: list[Probe] = []
    for key, group in asked.items():
        ids = np.frombuffer(key, np.uint64)
        vague = len(group) > 1 or sum(rarity[word] for word in set(ids.tolist())) < TELLING
        told: dict[bytes, list[ItemText]] = defaultdict(list)
        for item in group:
            told[numbers(words(item.context)).tobytes() if vague else b""].append(item)
        for more, same in told.items():
            if key + more:
                probes += _by_signs(benchmark, np.frombuffer(key + more, np.uint64), same, more)
    return probes


def _by_signs(
    benchmark: str, ids: Numbers, items: Sequence[ItemText], context: bytes
) -> Iterator[Probe]:
    """One probe for items of the same words, or one for each way in which their signs differ."""
    texts: dict[str, list[ItemText]] = defaultdict(list)
    for item in items:
        texts[signs_of(item.question)].append(item)
    for text, group in texts.items():
        many = len(_SIGN.findall(text)) >= len(ids) / 4
        strict = text if len(texts) > 1 or many or len(ids) < ANCHOR else ""
        yield Probe(benchmark, ids, tuple(group), strict, len(texts) > 1, bool(context))


def signs_of(text: str) -> str:
    """A text without white space, quotes and the points of sentences, in lower case."""
    return _UNSAID.sub("", unicodedata.normalize("NFKC", text).lower())


def _facts(items: Sequence[ItemText], probes: Sequence[Probe]) -> dict[str, int]:
    """Of how many items it is known beforehand that not every kind can find them."""
    lengths = [len(one.ids) for one in probes for _ in one.items]
    return {
        "items": len(items),
        "without_words": len(items) - len(lengths),
        "with_context": sum(len(one.items) for one in probes if one.context),
        "told_by_signs": sum(len(one.items) for one in probes if one.whole),
        **{
            f"under_{n}_words": sum(length < n for length in lengths)
            for n in (ANCHOR, PARTLY["8-gram"].n, PARTLY["13-gram"].n)
        },
    }


def _entries(probes: Sequence[Probe], n: int) -> tuple[Numbers, Ints, Ints]:
    """[entries] every different run of every probe: the run, its probe, where it first begins.

    Ascending, by run and then by probe.
    """
    sizes = np.array([len(one.ids) for one in probes], np.int64)
    flat = np.concatenate([np.zeros(0, np.uint64), *(one.ids for one in probes)])
    keys = runs(flat, n)
    owners = np.repeat(np.arange(len(probes)), sizes)[: len(keys)]
    offsets = np.arange(len(keys)) - (np.cumsum(sizes) - sizes)[owners]
    inside = offsets + n <= sizes[owners]  # others reach into the next probe
    keys, owners, offsets = keys[inside], owners[inside], offsets[inside]
    order = np.argsort(keys, kind="stable")
    keys, owners, offsets = keys[order], owners[order], offsets[order]
    new = _changes(keys) | _changes(owners)
    return keys[new], owners[new], offsets[new]


def _changes(values: NDArray[Any]) -> NDArray[np.bool_]:
    """[values] whether each differs from the one before; the first does."""
    changed = np.ones(len(values), bool)
    changed[1:] = values[1:] != values[:-1]
    return changed


def _frequency(probes: Sequence[Probe], keys: Numbers, owners: Ints) -> Ints:
    """[entries] in how many questions of its benchmark each run stands; entries as `_entries`."""
    names = {name: at for at, name in enumerate(dict.fromkeys(one.benchmark for one in probes))}
    # Probes are in the order of benchmarks: the entries of a run and a benchmark are neighbours.
    benchmark = np.array([names[one.benchmark] for one in probes], np.int64)[owners]
    group = np.cumsum(_changes(keys) | _changes(benchmark)) - 1
    return np.bincount(group)[group] if len(group) else group


def _table(probes: list[Probe], kind: str, facts: dict[str, dict[str, int]]) -> Table:
    """The runs that say something of an item; counts those that are left out in `facts`."""
    n, least = PARTLY[kind].n, NEAR_LEAST if kind == "near" else 0
    keys, owners, offsets = _entries(probes, n)
    fit = [len(one.ids) >= least and not one.whole for one in probes]
    chosen = np.array(fit, bool)[owners]
    keys, owners, offsets = keys[chosen], owners[chosen], offsets[chosen]
    kept = _frequency(probes, keys, owners) <= COMMON
    counted = np.bincount(owners[kept], minlength=len(probes))
    total = np.bincount(owners, minlength=len(probes))
    for at, probe in enumerate(probes):
        fact = facts[probe.benchmark]
        for name, number in (
            ("runs", int(total[at])),
            ("common", int(total[at] - counted[at])),
            ("items_all_common", len(probe.items) * int(total[at] > 0 == counted[at])),
        ):
            fact[f"{kind}_{name}"] = fact.get(f"{kind}_{name}", 0) + number
    return _as_table(n, keys[kept], owners[kept], offsets[kept], counted)


def _anchors(probes: list[Probe]) -> Table:
    """For every probe that is long enough, its rarest run of ANCHOR words, the first of equals."""
    keys, owners, offsets = _entries(probes, ANCHOR)
    order = (_frequency(probes, keys, owners) << 32) + offsets
    least = np.full(len(probes), np.iinfo(np.int64).max)
    np.minimum.at(least, owners, order)
    rarest = order == least[owners]
    counted = np.bincount(owners[rarest], minlength=len(probes))
    return _as_table(ANCHOR, keys[rarest], owners[rarest], offsets[rarest], counted)


def _as_table(n: int, keys: Numbers, owners: Ints, offsets: Ints, counted: Ints) -> Table:
    """A table of entries, which are ascending by run."""
    begins = np.flatnonzero(_changes(keys))
    unique = keys[begins]
    some = np.zeros(1 << 22, bool)
    some[unique >> _TOP] = True
    return Table(n, unique, np.append(begins, len(keys)), owners, offsets, counted, some)
