"""Judgements of models and people: reading, writing, the tally of a pair, acceptance by model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from cameleer.core.errors import UserError, unknown
from cameleer.core.files import write_jsonl
from cameleer.core.jsonl import read_jsonl
from cameleer.results.records import Judgement
from cameleer.results.stats import Estimate, mean_interval

FILE = "judgements.jsonl"
TIE = 1.5
REPEAT = "repeat"
"""How the note begins of a hidden repeat: a person is asked again, to see if they say the same. It
tells of its rater, not of the models."""
QUALITIES = ("", "good", "invalid", "too_hard")
KINDS = ("judge", "human")

_FIELDS = {field.name: field for field in fields(Judgement)}
_TEXTS = ("item", "a", "b", "who", "comment", "said", "note", "time")
_AMOUNTS = ("seconds", "price")


def read_judgements(path: Path) -> list[Judgement]:
    """The judgements of a JSONL file, or of `judgements.jsonl` in a folder, in the file's order.

    Raises UserError with file, line and field for what is no judgement.
    """
    file = path / FILE if path.is_dir() else path
    return [from_row(row, file, line) for line, row in read_jsonl(file)]


def write_judgements(path: Path, judgements: Iterable[Judgement]) -> int:
    """Write judgements as JSON lines, whole or not at all; returns how many."""
    return write_jsonl(path, map(to_row, judgements))


def to_row(judgement: Judgement) -> dict[str, Any]:
    """The JSON object that stands for it in a file: what says nothing is left out."""
    found = {name: getattr(judgement, name) for name in _FIELDS}
    return {name: value for name, value in found.items() if value != _FIELDS[name].default}


def from_row(row: dict[str, Any], file: Path | None = None, line: int | None = None) -> Judgement:
    """The judgement that a JSON object stands for; file and line are for the error's text."""
    said = dict(row)
    if isinstance(said.get("acceptable"), list):
        said["acceptable"] = tuple(said["acceptable"])
    for name in said.keys() - _FIELDS.keys():
        error = unknown("field", name, _FIELDS, "docs/how-to/agreement.md")
        raise UserError(error.message, file=file, line=line, hint=error.hint)
    for name, field in _FIELDS.items():
        if name not in said and field.default is MISSING:
            raise UserError("is missing", file=file, line=line, field=name)
        wrong = _wrong(name, said[name]) if name in said else ""
        if wrong:
            raise UserError(wrong, file=file, line=line, field=name)
    return Judgement(**said)


def _wrong(name: str, value: Any) -> str:
    """What is wrong with the value of a field, or ""."""
    if name in _TEXTS:
        return "" if isinstance(value, str) else "is not text"
    if name == "kind":
        return "" if value in KINDS else f"is none of {', '.join(KINDS)}"
    if name == "quality":
        return "" if value in QUALITIES else f"is none of {', '.join(QUALITIES[1:])}"
    if name == "acceptable":
        two = isinstance(value, tuple) and len(value) == 2
        right = two and all(one is None or isinstance(one, bool) for one in value)
        return "" if right else "is not two of true, false and null"
    if value is None:
        return ""
    if name == "b_first":
        return "" if isinstance(value, bool) else "is not true, false or null"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "is not a number"
    if name == "preference" and not 1 <= value <= 2:
        return "is not in 1 (A is better) to 2 (B is better)"
    return "is below 0" if value < 0 else ""


def is_repeat(judgement: Judgement) -> bool:
    """Whether it is a person's hidden repeat, which counts for nothing but their consistency."""
    return judgement.kind == "human" and judgement.note.partition(";")[0] == REPEAT


def swapped(judgement: Judgement) -> Judgement:
    """The same judgement with A and B the other way round."""
    return replace(
        judgement,
        a=judgement.b,
        b=judgement.a,
        preference=None if judgement.preference is None else 3 - judgement.preference,
        b_first=None if judgement.b_first is None else not judgement.b_first,
        acceptable=(judgement.acceptable[1], judgement.acceptable[0]),
    )


Pair = tuple[str, str]
"""Two models, A and B."""


def pairs(judgements: Iterable[Judgement]) -> dict[Pair, list[Judgement]]:
    """Judgements by (A, B); those of the same two models the other way round are `swapped`."""
    found: dict[Pair, list[Judgement]] = {}
    for judgement in judgements:
        turned = (judgement.b, judgement.a) in found
        one = swapped(judgement) if turned else judgement
        found.setdefault((one.a, one.b), []).append(one)
    return found


@dataclass(frozen=True, slots=True)
class Tally:
    """What judgements of one pair come to, as seen from B.

    n: how many have a verdict; wins, ties, losses: how many prefer B, neither, A; unknown: how many
    have no verdict. win_rate: mean of preference - 1, so that "slightly" and a judge's probability
    count for what they are; discrete_win_rate: a win counts 1 and a tie 1/2, however clear it was
    (of plain verdicts both are the same). standard_error: of the win rate as AlpacaEval has it, the
    standard deviation (n - 1 in its divisor) over the root of n, here of 0..1 and there times 100;
    None for a single one.
    """

    n: int
    wins: int
    ties: int
    losses: int
    unknown: int
    win_rate: Estimate
    discrete_win_rate: Estimate
    standard_error: float | None


def tally(judgements: Sequence[Judgement], *, even_items: bool = False) -> Tally:
    """Count judgements of one pair; the intervals take those of one item as a cluster.

    even_items: each item weighs the same in the win rates, however often it was judged. Raises
    UserError if there is no verdict at all, ValueError for more than one pair (see `pairs`).
    """
    if len({(one.a, one.b) for one in judgements}) > 1:
        raise ValueError("judgements of more than one pair")
    given = [one for one in judgements if one.preference is not None]
    if not given:
        raise UserError(f"no verdict in {len(judgements)} judgements")
    values = np.array([one.preference for one in given], dtype=float) - 1
    discrete = (np.sign(values - 0.5) + 1) / 2
    wins, losses = int((discrete == 1).sum()), int((discrete == 0).sum())
    n = len(given)
    error = float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else None
    rates = [_mean(kind.tolist(), given, even_items) for kind in (values, discrete)]
    silent = len(judgements) - n
    return Tally(n, wins, n - wins - losses, losses, silent, rates[0], rates[1], error)


SHARES = ("a_clearly", "a_slightly", "tie", "b_slightly", "b_clearly")


def level(preference: float) -> int:
    """The nearest of people's five verdicts: 0 (A is clearly better) to 4 (B is), 2 is neither.

    What leans to one side at all is at least slightly better.
    """
    nearest = math.floor(4 * (preference - 1) + 0.5)
    return nearest + (preference > TIE) - (preference < TIE) if nearest == 2 else nearest


def shares(judgements: Sequence[Judgement], *, even_items: bool = False) -> dict[str, Estimate]:
    """Share of each of the five verdicts (SHARES), and of `a_wins`, `ties` and `b_wins`.

    Of judgements that have a verdict; intervals and even_items as in `tally`. Empty for none.
    """
    given = [one for one in judgements if one.preference is not None]
    if not given:
        return {}
    levels = np.array([level(one.preference) for one in given if one.preference is not None])
    told = {name: levels == at for at, name in enumerate(SHARES)}
    told |= {"a_wins": levels < 2, "ties": levels == 2, "b_wins": levels > 2}
    return {
        name: _mean(held.astype(float).tolist(), given, even_items) for name, held in told.items()
    }


def acceptance(judgements: Iterable[Judgement], *, even_items: bool = False) -> dict[str, Estimate]:
    """How often each model's answers were found acceptable, where that was asked; by model.

    Judgements may be of many pairs; intervals and even_items as in `tally`, an item being one
    item of one pair there.
    """
    asked: dict[str, tuple[list[float], list[Judgement]]] = {}
    for one in judgements:
        for model, answer in zip((one.a, one.b), one.acceptable, strict=True):
            if answer is not None:
                values, given = asked.setdefault(model, ([], []))
                values.append(float(answer))
                given.append(one)
    return {model: _mean(values, given, even_items) for model, (values, given) in asked.items()}


def _mean(values: list[float], given: Sequence[Judgement], even_items: bool) -> Estimate:
    """The mean of one value for each judgement; items are its clusters."""
    weights = None
    if even_items:
        keys = [(one.item, frozenset((one.a, one.b))) for one in given]
        times = Counter(keys)
        weights = [1 / times[key] for key in keys]
    return mean_interval(values, weights=weights, clusters=[one.item for one in given])
