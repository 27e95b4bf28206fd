"""A campaign: which answers people compare, by what guidelines, and how many times.

DIR/campaign.json      settings, counts, and what the items were made from; written last
DIR/items.jsonl        one instance to a line: a prompt with two models' answers, or a practice item
DIR/annotations.sqlite the ratings, unless they go to another database
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cameleer
from cameleer.core.config import Config
from cameleer.core.console import warn
from cameleer.core.errors import UserError
from cameleer.core.files import read_json, to_json, write_json, write_jsonl

CAMPAIGN, ITEMS = "campaign.json", "items.jsonl"


class Settings(Config):
    """What a campaign is run by.

    guidelines: markdown, shown to raters; overlap: the share of instances that a second person
    rates too; repeats: how many ratings of each rater are asked for a second time, hidden; target:
    half width of the 95 % interval of a pair's win rate at which it is done, or None; seed: of the
    sample of items, of orders and of assignment.
    """

    name: str
    guidelines: str
    overlap: float = 0.2
    repeats: int = 0
    target: float | None = None
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
        raise NotImplementedError

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
    repeats: int = 0,
    target: float | None = None,
    seed: int = 42,
) -> Campaign:
    """Make a campaign of recorded answers; the same again changes nothing.

    answers: for each model a file (see `answers.py`); instances: in their place, a file of prompts
    with the completions of two models each, as the paper's; pairs: (A, B), needed unless the
    answers leave no choice; items: take a sample of so many prompts, the same for all pairs.
    """
    raise NotImplementedError
