"""What was found of duplicates and of test items, kept in a folder: labels, matches, a page.

duplicates.jsonl  groups of conversations that say the same
labels.jsonl      one line for every test item, touched or not
matches.jsonl     one line for every item and conversation in which it was found
summary.json      all counts
matches.html      the matches to read, strongest first
cleaned/          the files without what was to be removed
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cameleer.chat.conversation import is_conversation
from cameleer.core.artifact import Stage
from cameleer.core.console import note
from cameleer.core.errors import UserError
from cameleer.core.files import replacing, sha256_file, to_json, write_json, write_jsonl
from cameleer.core.jsonl import read_jsonl
from cameleer.data.bad import BadTold
from cameleer.data.overlap.duplicates import By, Duplicates, find_duplicates
from cameleer.data.overlap.page import Shown, page
from cameleer.data.overlap.probes import KINDS, Index, ItemText, build_index
from cameleer.data.overlap.search import Match, find_overlap

LISTED = 5  # matches that an item's label lists
SHOWN = 150  # matches of each benchmark on the page


@dataclass
class Label:
    """What became known of one item: how many matches, and the strongest few."""

    total: int = 0
    answer_seen: bool | None = None
    matches: list[Match] = field(default_factory=list)

    def add(self, match: Match) -> None:
        self.total += 1
        if match.answer_seen is not None:
            self.answer_seen = bool(self.answer_seen or match.answer_seen)
        self.matches = sorted([*self.matches, match], key=lambda one: one.strength, reverse=True)
        del self.matches[LISTED:]

    def row(self, item: str) -> dict[str, Any]:
        """The line of `labels.jsonl`."""
        best = self.matches[0] if self.matches else None
        return {
            "item": item,
            "touched": best is not None,
            "kind": best and best.kind,
            "share": round(best.share, 4) if best else 0.0,
            "answer_seen": self.answer_seen,
            "total": self.total,
            "matches": [{k: v for k, v in m.row().items() if k != "item"} for m in self.matches],
        }


@dataclass
class _Seen:
    """What the matches add up to while they pass by.

    labels: by item; places: of conversations that hold an item; best: the strongest matches of each
    benchmark; sources: the items that were found in each source, by benchmark and source.
    """

    labels: dict[str, Label] = field(default_factory=dict)
    places: set[int] = field(default_factory=set)
    best: dict[str, list[tuple[Any, int, Match]]] = field(default_factory=lambda: defaultdict(list))
    sources: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    count: int = 0

    def rows(self, matches: Iterable[Match]) -> Iterator[dict[str, Any]]:
        """The lines of `matches.jsonl`, noting each match."""
        for match in matches:
            self.count += 1
            self.labels[match.item].add(match)
            self.places.add(match.place)
            self.sources[match.benchmark, match.source].add(match.item)
            held = self.best[match.benchmark]
            heapq.heappush(held, (match.strength, -self.count, match))
            if len(held) > SHOWN:
                heapq.heappop(held)
            yield {**match.row(), "text": match.text, "text_start": match.text_start}


def overlap_stage(
    files: Sequence[Path],
    texts: Sequence[ItemText],
    by: By,
    remove: Sequence[str],
    folder: Path,
) -> Stage:
    """The stage whose folder holds all that is found; reads the files to fingerprint them."""
    for name, times in Counter(file.name.removesuffix(".gz") for file in files).items():
        if times > 1 and remove:
            raise UserError(f"{times} files are named '{name}'; names must differ to remove")
    inputs = {}
    for number, file in enumerate(files):
        if not file.is_file():
            raise UserError("no such file", file=file, hint="check the path")
        inputs[f"{number}/{file.name}"] = sha256_file(file)
    inputs["test items"] = digest_of(texts)
    config = {"by": by, "remove": sorted(remove)}
    return Stage("overlap", folder, config, inputs)


def digest_of(texts: Iterable[ItemText]) -> str:
    """Hex SHA-256 of test items, which decides what is found."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(to_json(text).encode())
    return digest.hexdigest()


def write_overlap(
    folder: Path,
    files: Sequence[Path],
    texts: Sequence[ItemText],
    by: By,
    remove: Sequence[str],
    cores: int,
    *,
    strict: bool = False,
) -> dict[str, Any]:
    """Find everything and write it into `folder`; returns what `summary.json` holds.

    Lines that are no conversations are told, counted and left out, or with `strict` raised.
    """
    told, bad = BadTold(), Counter[str]()

    def first_time(error: UserError) -> None:
        bad[str(error.file)] += 1
        told.add(error)

    on_bad = None if strict else first_time
    duplicates = find_duplicates(files, by, cores=cores, scratch=folder, on_bad=on_bad)
    told.sum_up("in all", "`cameleer data convert jsonl --from FILE` lists those of a file")
    write_jsonl(folder / "duplicates.jsonl", duplicates.rows())
    facts: dict[str, Any] = {"files": _files(duplicates, bad), "duplicates": _repeats(duplicates)}
    touched: set[int] = set()
    if texts:
        index = build_index(texts)
        found = find_overlap(index, files, cores=cores, on_bad=_told_before)
        touched = write_matches(folder, texts, index, found, facts)
    if remove:
        gone = _gone(duplicates, touched, remove)
        facts["removed"] = _clean(folder / "cleaned", files, gone)
    write_json(folder / "summary.json", facts)
    return facts


def write_matches(
    folder: Path,
    texts: Sequence[ItemText],
    index: Index,
    found: Iterable[Match],
    facts: dict[str, Any],
) -> set[int]:
    """Write matches.jsonl, labels.jsonl and matches.html, and add their counts to `facts`.

    index: over all `texts`. Returns the places of the conversations that hold an item.
    """
    seen = _Seen({text.item: Label() for text in texts})
    write_jsonl(folder / "matches.jsonl", seen.rows(found))
    write_jsonl(folder / "labels.jsonl", (seen.labels[one].row(one) for one in seen.labels))
    facts |= {"benchmarks": _benchmarks(seen, index.facts), "matches": seen.count}
    items = {text.item: text for text in texts}
    shown = [
        Shown(match, items[match.item])
        for held in seen.best.values()
        for _, _, match in sorted(held, reverse=True)
    ]
    with replacing(folder / "matches.html") as handle:
        handle.write(page(facts, shown))
    return seen.places


def _told_before(error: UserError) -> None:
    """What could not be read was counted and told, or raised, when it was read first."""


def _files(found: Duplicates, bad: Counter[str]) -> list[dict[str, Any]]:
    counts = Counter(found.file)
    return [
        {"file": str(file), "conversations": counts[number], "bad": bad[str(file)]}
        for number, file in enumerate(found.files)
    ]


def _repeats(found: Duplicates) -> dict[str, Any]:
    pairs = [
        {"kept": kept, "repeats": source, "kind": kind, "conversations": number}
        for (kept, source, kind), number in sorted(found.pairs().items())
    ]
    counts = {name: found.counts[name] for name in ("read", "exact", "near", "short", "unchecked")}
    return {"by": found.by, **counts, "groups": len(found.groups), "pairs": pairs}


def _benchmarks(seen: _Seen, known: dict[str, dict[str, int]]) -> dict[str, dict[str, Any]]:
    """Per benchmark: items touched, by strongest kind, by source, and what could not be told."""
    facts: dict[str, dict[str, Any]] = {}
    for name, fact in known.items():
        rows = [
            label.row(item)
            for item, label in seen.labels.items()
            if label.total and item.partition("/")[0] == name
        ]
        kinds = Counter(row["kind"] for row in rows)
        facts[name] = {
            "items": fact["items"],
            "touched": len(rows),
            "answer_seen": sum(bool(row["answer_seen"]) for row in rows),
            "kinds": {kind: kinds[kind] for kind in KINDS},
            "sources": {
                source: len(items)
                for (benchmark, source), items in sorted(seen.sources.items())
                if benchmark == name
            },
            "limits": {key: number for key, number in fact.items() if key != "items"},
        }
    return facts


def _gone(found: Duplicates, touched: set[int], remove: Sequence[str]) -> dict[int, str]:
    """Why each conversation goes, by place; the first reason of exact, near, overlap counts.

    With near ones go exact ones: else the copies of one that goes would stay.
    """
    gone = dict.fromkeys(touched if "overlap" in remove else (), "overlap")
    for place, kind in found.repeats().items():
        if kind in remove or "near" in remove:
            gone[place] = kind
    return gone


def _clean(folder: Path, files: Sequence[Path], gone: dict[int, str]) -> list[dict[str, Any]]:
    """Write the files' records without those that go; how many stayed and went, and why.

    Records keep all their fields, also those that a conversation has no use for.
    """
    rows, place = [], 0
    for file in files:
        counts = Counter({"read": 0, "kept": 0})

        def kept(file: Path = file, counts: Counter[str] = counts) -> Iterator[dict[str, Any]]:
            nonlocal place
            for _, record in read_jsonl(file, _told_before):
                if not is_conversation(record):
                    continue
                reason = gone.get(place)
                place += 1
                counts.update(("read", f"removed: {reason}" if reason else "kept"))
                if reason is None:
                    yield record

        to = folder / file.name.removesuffix(".gz")
        write_jsonl(to, kept())
        rows.append({"file": f"{folder.name}/{to.name}", **counts})
    note(f"{len(gone)} of {place} conversations removed")
    return rows
