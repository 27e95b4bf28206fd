"""A campaign: which answers people compare, by what guidelines, and how many times.

DIR/campaign.json      settings, counts, and what the items were made from; written last
DIR/items.jsonl        one instance to a line: a prompt with two models' answers, or a practice item
DIR/annotations.sqlite the ratings, unless they go to another database
"""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

import cameleer
from cameleer.core.config import Config, read_options
from cameleer.core.console import warn
from cameleer.core.errors import UserError, unknown
from cameleer.core.files import (
    read_json,
    read_text,
    replacing,
    sha256_file,
    sha256_tree,
    to_json,
    write_json,
)
from cameleer.core.jsonl import read_jsonl
from cameleer.human.answers import Asked, Matched, read_answers, read_instances
from cameleer.human.protocol import GUIDELINES, PRACTICE

CAMPAIGN, ITEMS = "campaign.json", "items.jsonl"
VERSION = 1  # of these files
PREFERENCES = range(-2, 3)


class Settings(Config):
    """What a campaign is run by.

    guidelines: markdown, shown to raters; overlap: the share of instances that a second person
    rates too; repeats: how many ratings of each rater are asked for a second time, hidden; target:
    half width of the 95 % interval of a pair's win rate at which it is done, or None; seed: of the
    sample of items, of orders and of assignment.
    """

    name: str
    guidelines: str
    overlap: float = Field(default=0.2, ge=0, le=1)
    repeats: int = Field(default=5, ge=0)
    target: float | None = Field(default=None, gt=0, lt=0.5)
    seed: int = 42


@dataclass(frozen=True)
class Practice:
    """What a good rating of a practice item is, and what is told to who rated it.

    preferences: all that are right, from -2 (A is clearly better) to 2 (B is clearly better).
    """

    a_acceptable: bool
    b_acceptable: bool
    preferences: tuple[int, ...]
    told: str


@dataclass(frozen=True)
class Instance:
    """Two models' answers to one prompt, to be compared.

    index: its place in `Campaign.instances`; key: the item's, which other pairs share; a, b: the
    models, A being the reference where there is one; practice: of a practice item.
    """

    index: int
    key: str
    prompt: str
    a: str
    b: str
    completion_a: str
    completion_b: str
    practice: Practice | None = None


@dataclass(frozen=True)
class Campaign:
    """What a campaign's folder holds; fingerprint: of the instances, hex SHA-256."""

    folder: Path
    settings: Settings
    instances: list[Instance]
    fingerprint: str
    counts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> Campaign:
        """Read a campaign. Raises UserError where items.jsonl is not what it was made with; other
        settings than it was made with are said."""
        file, items = folder / CAMPAIGN, folder / ITEMS
        if not file.is_file():
            hint = "`cameleer annotate new` makes one"
            raise UserError("holds no campaign", file=folder, hint=hint)
        held = read_json(file)
        if not isinstance(held, dict) or held.get("version") != VERSION:
            raise UserError(f"is no campaign of version {VERSION}", file=file)
        settings = _settings(held.get("settings"), file)
        if sha256_file(items) != held.get("fingerprint"):
            hint = "put the file back as it was: ratings given to it would be of other answers"
            raise UserError("was changed since the campaign was made", file=items, hint=hint)
        if _hash(settings.model_dump_json()) != held.get("settings_fingerprint"):
            warn(f"{file}: settings were changed since the campaign was made; taken as they are")
        rows = [_instance(index, row, items, line) for index, (line, row) in _numbered(items)]
        return cls(folder, settings, rows, held["fingerprint"], dict(held.get("counts", {})))

    @property
    def rated(self) -> list[Instance]:
        """The instances that count: all but practice."""
        return [one for one in self.instances if one.practice is None]

    @property
    def practice(self) -> list[Instance]:
        return [one for one in self.instances if one.practice is not None]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs of models, (A, B), in the order of the instances."""
        return list(dict.fromkeys((one.a, one.b) for one in self.rated))

    @property
    def expected_ratings(self) -> int:
        """Ratings in all, hidden repeats aside, if no pair is done before by its target."""
        count = len(self.rated)
        return count + math.ceil(self.settings.overlap * count - 1e-9)


def new_campaign(
    folder: Path,
    answers: Mapping[str, Path],
    pairs: Sequence[tuple[str, str]] = (),
    *,
    instances: Path | None = None,
    items: int | None = None,
    guidelines: Path | None = None,
    practice: Path | None = None,
    name: str | None = None,
    overlap: float = 0.2,
    repeats: int = 5,
    target: float | None = None,
    seed: int = 42,
) -> Campaign:
    """Make a campaign of recorded answers; the same again changes nothing.

    answers: for each model a file (see `answers`); instances: a file of prompts with the
    completions of two models each, as the paper's; pairs: (A, B), by default those of `instances`,
    or the only two models; items: take a sample of so many prompts, the same for all pairs;
    guidelines: a file of markdown; practice: JSON lines {"prompt", "completion_a", "completion_b",
    "a_acceptable", "b_acceptable", "preferences", "told"}, none if it is empty. Raises UserError
    for what cannot be read, and where the folder holds something else.
    """
    settings = _settings(
        {
            "name": name or folder.resolve().name,
            "guidelines": read_text(guidelines) if guidelines else GUIDELINES,
            "overlap": overlap,
            "repeats": repeats,
            "target": target,
            "seed": seed,
        }
    )
    matched = Matched()
    given = read_instances(instances, matched) if instances else []
    for model, path in answers.items():
        read_answers(model, path, matched)
    chosen = _pairs(pairs or given, matched.asked)
    rows = _compared(matched, chosen, items, seed)
    rows += _practised(practice)
    counts = dict(+matched.counts)  # those that are not 0
    text = "".join(to_json(row) + "\n" for row in rows)
    fingerprint = _hash(text)
    if not _require_free(folder, fingerprint, settings):
        with replacing(folder / ITEMS) as handle:
            handle.write(text)
        about = {
            "version": VERSION,
            "fingerprint": fingerprint,
            "settings": settings.model_dump(),
            "settings_fingerprint": _hash(settings.model_dump_json()),
            "counts": counts,
            "inputs": _inputs(answers, instances),
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "cameleer": cameleer.__version__,
        }
        write_json(folder / CAMPAIGN, about)
    return Campaign.open(folder)


def _require_free(folder: Path, fingerprint: str, settings: Settings) -> bool:
    """Whether the folder holds this very campaign already; UserError where it holds anything else.

    Items without a campaign.json were left by a call that was killed: they are written anew.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError("is a file, a folder is needed", file=folder)
    if (folder / CAMPAIGN).exists():
        held = Campaign.open(folder)
        if held.fingerprint == fingerprint and held.settings == settings:
            return True
        raise UserError("holds another campaign", file=folder, hint="give another folder")
    left = {one.name for one in folder.iterdir()} - {ITEMS} if folder.exists() else set()
    if any(not name.endswith(".tmp") for name in left):
        raise UserError("holds other files", file=folder, hint="give a new or an empty folder")
    return False


def _pairs(pairs: Sequence[tuple[str, str]], asked: Iterable[Asked]) -> list[tuple[str, str]]:
    """The pairs to compare, checked against the models that are there."""
    models = list(dict.fromkeys(model for one in asked for model in one.completions))
    if not pairs:
        if len(models) != 2:
            hint = f"give --pairs A,B of {', '.join(models)}"
            raise UserError("it is not said which models to compare", field="pairs", hint=hint)
        pairs = [(models[0], models[1])]
    seen: set[frozenset[str]] = set()
    for pair in pairs:
        for model in pair:
            if model not in models:
                error = unknown("model", model, models, "cameleer annotate new --help")
                hint = f"there are {', '.join(models)}"
                raise UserError(error.message, field="pairs", hint=hint)
        if len(set(pair)) < 2 or frozenset(pair) in seen:
            what = "compares a model with itself" if len(set(pair)) < 2 else "is given twice"
            raise UserError(f"{pair[0]},{pair[1]} {what}", field="pairs")
        seen.add(frozenset(pair))
    return list(pairs)


def _compared(
    matched: Matched, pairs: Sequence[tuple[str, str]], items: int | None, seed: int
) -> list[dict[str, Any]]:
    """The instances as rows, item by item; what of them stands out is added to the counts."""
    counts, rows, taken = matched.counts, list[dict[str, Any]](), list[Asked]()
    for asked in matched.asked:
        there = [set(pair) <= asked.completions.keys() for pair in pairs]
        for pair, both in zip(pairs, there, strict=True):
            if not both and set(pair) & asked.completions.keys():
                counts[
                    "answers left out: the other model of a pair has none to the same prompt"
                ] += 1
        if any(there):
            taken.append(asked)
    if not taken:
        hint = "are they answers to the same prompts?"
        raise UserError("no prompt is answered by both models of a pair", hint=hint)
    if items is not None and items < len(taken):
        chosen = sorted(random.Random(seed).sample(range(len(taken)), items))
        taken = [taken[index] for index in chosen]
    elif items is not None and items > len(taken):
        counts["items fewer than were asked for"] = items - len(taken)
    for asked in taken:
        for a, b in pairs:
            if {a, b} <= asked.completions.keys():
                rows.append(_row(asked, a, b, counts))
    return rows


def _row(asked: Asked, a: str, b: str, counts: Counter[str]) -> dict[str, Any]:
    first, second = asked.completions[a], asked.completions[b]
    counts["empty answers in a comparison"] += (not first.strip()) + (not second.strip())
    counts["comparisons of two answers that are the same"] += first == second
    texts = {"completion_a": first, "completion_b": second}
    return {"key": asked.key, "prompt": asked.prompt, "a": a, "b": b, **texts}


def _practised(file: Path | None) -> list[dict[str, Any]]:
    """The practice items as rows."""
    found: list[tuple[int | None, dict[str, Any]]] = [(None, row) for row in PRACTICE]
    if file is not None:
        found = [*read_jsonl(file)]
    texts = ("prompt", "completion_a", "completion_b")
    rows = []
    for number, (line, row) in enumerate(found):
        good = {key: value for key, value in row.items() if key not in texts}
        made: dict[str, Any] = {"key": f"practice/{number}", "a": "", "b": "", "practice": good}
        made |= {name: row.get(name) for name in texts}
        _instance(number, made, file or Path(ITEMS), line)
        rows.append(made)
    return rows


def _numbered(items: Path) -> Iterable[tuple[int, tuple[int, dict[str, Any]]]]:
    return enumerate(read_jsonl(items))


def _instance(index: int, row: dict[str, Any], file: Path, line: int | None) -> Instance:
    """The instance that a row of items.jsonl stands for."""
    texts: dict[str, Any] = {}
    for name in ("key", "prompt", "a", "b", "completion_a", "completion_b"):
        texts[name] = row.get(name)
        if not isinstance(texts[name], str):
            raise UserError("is missing or not text", file=file, line=line, field=name)
    held = row.get("practice")
    practice = _practice(held, file, line) if held is not None else None
    return Instance(index=index, practice=practice, **texts)


def _practice(row: dict[str, Any], file: Path, line: int | None) -> Practice:
    kinds: dict[str, type] = {
        "a_acceptable": bool,
        "b_acceptable": bool,
        "preferences": list,
        "told": str,
    }
    for name, kind in kinds.items():
        if not isinstance(row.get(name), kind):
            what = {bool: "neither true nor false", list: "no list", str: "no text"}[kind]
            raise UserError(f"is missing or {what}", file=file, line=line, field=name)
    for name in row.keys() - kinds.keys():
        hint = f"known: {', '.join(kinds)}"
        raise UserError("is not known", file=file, line=line, field=name, hint=hint)
    right = row["preferences"]
    if not right or any(type(one) is not int or one not in PREFERENCES for one in right):
        said = "is no list of numbers from -2 (A is clearly better) to 2"
        raise UserError(said, file=file, line=line, field="preferences")
    return Practice(row["a_acceptable"], row["b_acceptable"], tuple(right), row["told"])


def _settings(values: Any, file: Path | None = None) -> Settings:
    if not isinstance(values, dict):
        raise UserError("is missing", file=file, field="settings")
    try:
        return read_options(Settings, values)
    except UserError as error:
        raise UserError(error.message, file=file, field=error.field, hint=error.hint) from None


def _inputs(answers: Mapping[str, Path], instances: Path | None) -> dict[str, Any]:
    """What the items were made from."""
    files = {**answers, **({"instances": instances} if instances else {})}
    return {name: {"path": str(path), "sha256": sha256_tree(path)} for name, path in files.items()}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
