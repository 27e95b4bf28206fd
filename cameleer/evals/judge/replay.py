"""Scoring released verdicts again: AlpacaEval's numbers to the last digit, and what they leave out.

The official numbers (alpaca_eval's get_winrate, absolute scoring rule) are in percent: the mean of
preference - 1 over the rows with a verdict, where a draw is half a win; its standard error, with
n - 1; and the average length of the answers judged, in characters, without its fraction.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from cameleer.core.csv_rows import read_csv
from cameleer.core.errors import UserError
from cameleer.evals.judge.outputs import Annotations, Outputs
from cameleer.results.length_control import Gamed, Joint, Published, joint, published
from cameleer.results.stats import mean_interval
from cameleer.results.unique_tokens import (
    Counts,
    Point,
    Split,
    counts,
    dummy_win_rate,
    words,
)

COMPARED = {
    "win_rate": "win_rate",
    "standard_error": "standard_error",
    "n_wins": "n_wins",
    "n_wins_base": "n_losses",
    "n_draws": "n_draws",
    "n_total": "n_total",
    "avg_length": "avg_length",
    "discrete_win_rate": "discrete_win_rate",
}
"""Columns of a leaderboard that must be the same here, and our names of them."""
CONTROLLED = "length_controlled_winrate"
NEAR = 0.25  # of the largest difference in length: answers about as long as the reference's

Row = dict[str, str]
"""A model's row of a leaderboard, as printed."""


@dataclass(frozen=True, slots=True)
class Tallied:
    """Verdicts counted as AlpacaEval does; rates in percent. low, high: 95 % interval, ours.

    standard_error: None of a single verdict. n_null: rows without a verdict, which are in no other
    number. discrete_win_rate: with every verdict rounded to a win or a loss.
    """

    win_rate: float
    standard_error: float | None
    low: float
    high: float
    n_wins: int
    n_draws: int
    n_losses: int
    n_total: int
    n_null: int
    discrete_win_rate: float


def tallied(preferences: Sequence[float | None]) -> Tallied:
    """Count verdicts from 1 (reference) to 2 (model); raises UserError if there are none."""
    known = np.array([said for said in preferences if said is not None]) - 1
    if not len(known):
        raise UserError("no row has a verdict: there is no win rate")
    n = len(known)
    error = float(known.std(ddof=1)) / math.sqrt(n) * 100 if n > 1 else None
    wins, losses = int((known > 0.5).sum()), int((known < 0.5).sum())
    interval = mean_interval(known.tolist())
    return Tallied(
        win_rate=float(known.mean()) * 100,
        standard_error=error,
        low=interval.low * 100,
        high=interval.high * 100,
        n_wins=wins,
        n_draws=n - wins - losses,
        n_losses=losses,
        n_total=n,
        n_null=len(preferences) - n,
        discrete_win_rate=(wins + (n - wins - losses) / 2) / n * 100,
    )


@dataclass(frozen=True)
class Texts:
    """The answers that an annotation file is about, in its order; None where nobody holds them.

    notes: what is missing or other than the files of answers say, one sentence each.
    """

    a: list[str | None]
    b: list[str | None]
    notes: list[str]

    def pairs(self) -> list[tuple[str, str]]:
        """Where both are there."""
        both = zip(self.a, self.b, strict=True)
        return [(a, b) for a, b in both if a is not None and b is not None]


def texts_of(annotations: Annotations, outputs: Outputs | None, reference: Outputs | None) -> Texts:
    """The answers judged: as the annotations hold them, else from the files of answers.

    Raises UserError if a file of answers shares no instruction with the annotations.
    """
    notes: list[str] = []
    sides = []
    for held, file in (([row.a for row in annotations.rows], reference),
                       ([row.b for row in annotations.rows], outputs)):  # fmt: skip
        sides.append(held if file is None else _filled(annotations, held, file, notes))
    for name, side in zip((annotations.a, annotations.b), sides, strict=True):
        if missing := sum(text is None for text in side):
            notes.append(f"{missing} of {len(side)} answers of {name} are in no file")
    return Texts(sides[0], sides[1], notes)


def _filled(
    annotations: Annotations, held: Sequence[str | None], file: Outputs, notes: list[str]
) -> list[str | None]:
    """Answers as held, and where there is none as in the file; what differs goes to the notes."""
    answers = {said: [row.output for row in rows] for said, rows in file.by_instruction().items()}
    turn: Counter[str] = Counter()
    found: list[str | None] = []
    unknown = other = 0
    for row, text in zip(annotations.rows, held, strict=True):
        own = answers.get(row.instruction, [])
        place = turn[row.instruction]
        turn[row.instruction] += 1
        unknown += not own
        theirs = own[min(place, len(own) - 1)] if own else None
        other += text is not None and theirs is not None and text not in own
        found.append(theirs if text is None else text)
    if unknown == len(held):
        hint = f"they are of another test set than {annotations.path}"
        raise UserError("none of its instructions was judged", file=file.path, hint=hint)
    if unknown:
        notes.append(f"{unknown} of {len(held)} instructions judged are not in {file.path}")
    if other:
        notes.append(
            f"{other} of {len(held)} answers judged as {file.generator}'s are others than those in"
            f" {file.path}: what was judged counts"
        )
    return found


@dataclass(frozen=True)
class Replay:
    """One model's verdicts, scored again.

    avg_length: characters of its answers, without fraction; counts: its tokens; dummy: how often,
    in percent, a judge prefers it that only counts unique tokens; longer, near: share of answers
    longer than the reference's, and of about its length; all None without the answers. controlled:
    length-controlled win rate (value, low, high) of our joint fit, in percent; published: that of
    AlpacaEval's, whose coefficients and penalty it holds.
    """

    annotations: Annotations
    tallied: Tallied
    avg_length: int | None
    counts: Counts | None
    dummy: float | None
    longer: float | None
    near: float | None
    controlled: tuple[float, float, float] | None
    published: Published | None
    notes: list[str]

    def facts(self) -> dict[str, Any]:
        """The JSON object that stands for it."""
        told, fit = self.tallied, self.published
        ours = self.controlled or (None, None, None)
        value = ours[0] if fit is None else 100 * fit.win_rate
        return {
            "model": self.annotations.b,
            "reference": self.annotations.a,
            "judge": self.annotations.judge,
            **{name: getattr(told, name) for name in told.__slots__},
            "avg_length": self.avg_length,
            "lc_win_rate": value,
            "lc_fit": None if value is None else "joint" if fit is None else "published",
            "lc_joint": dict(zip(("win_rate", "low", "high"), ours, strict=True)),
            "tokens": self.counts and self.counts.tokens,
            "unique_tokens": self.counts and self.counts.unique,
            "dummy_win_rate": self.dummy,
            "longer": self.longer,
            "near": self.near,
            "notes": self.notes,
        }


def replay(
    annotations: Sequence[Annotations],
    outputs: Mapping[str, Outputs],
    reference: Outputs | None = None,
    gamed: Gamed | None = None,
    split: Split = words,
) -> list[Replay]:
    """Score released verdicts again, the best model first.

    outputs: files of answers by the model's name, used where the annotations hold no answers and
    compared with them where they do; reference: the same of the reference; gamed: what the
    published length-controlled fit needs. Length is controlled over all files of one judge and
    reference together. Raises UserError for a model that is there twice with one judge.
    """
    names = Counter((one.judge, one.a, one.b) for one in annotations)
    for (judge, _, model), count in names.items():
        if count > 1:
            raise UserError(f"{count} annotation files judge {model} by {judge}", hint="give one")
    texts = [texts_of(one, outputs.get(one.b), reference) for one in annotations]
    controlled = _controlled(annotations, texts)
    found = [
        _replay(one, texts[place], controlled[place], gamed, split)
        for place, one in enumerate(annotations)
    ]
    return sorted(found, key=lambda one: -one.tallied.win_rate)


def _replay(
    annotations: Annotations,
    texts: Texts,
    controlled: tuple[tuple[float, float, float], float] | None,
    gamed: Gamed | None,
    split: Split,
) -> Replay:
    try:
        told = tallied([row.preference for row in annotations.rows])
    except UserError as error:
        raise UserError(error.message, file=annotations.path) from None
    notes = list(texts.notes)
    answers = [text for text in texts.b if text is not None]
    pairs = texts.pairs()
    whole = len(pairs) == len(annotations.rows)
    fit = None
    if gamed is not None and whole:
        fit = _published(annotations, pairs, gamed)
    elif not whole and pairs:
        ours = "" if gamed is None else ", by our fit: the published one needs them all"
        notes.append(f"length is controlled over the {len(pairs)} rows with both answers{ours}")
    sizes = [len(b) - len(a) for a, b in pairs]
    span, scale = controlled or (None, 1.0)
    return Replay(
        annotations,
        told,
        int(fmean(map(len, answers))) if answers else None,
        counts(answers, split) if answers else None,
        100 * dummy_win_rate(pairs, split) if pairs else None,
        fmean(size > 0 for size in sizes) if pairs else None,
        fmean(abs(math.tanh(size / scale)) < NEAR for size in sizes) if span else None,
        span,
        fit,
        notes,
    )


def _published(
    annotations: Annotations, pairs: Sequence[tuple[str, str]], gamed: Gamed
) -> Published:
    """AlpacaEval's own fit; it knows an instruction by the number of its row."""
    rows = range(len(annotations.rows))
    unknown = [row for row in rows if row not in gamed.of_row]
    if unknown:
        said = f"has {len(unknown)} rows whose difficulty is not known, the first is {unknown[0]}"
        hint = "the published fit is for the 805 instructions of AlpacaEval only"
        raise UserError(said, file=annotations.path, hint=hint)
    wins = [math.nan if row.preference is None else row.preference - 1 for row in annotations.rows]
    longer = np.array([len(a) - len(b) for a, b in pairs], dtype=float)
    return published(wins, longer, np.array([gamed.of_row[row] for row in rows]), gamed)


def _controlled(
    annotations: Sequence[Annotations], texts: Sequence[Texts]
) -> list[tuple[tuple[float, float, float], float] | None]:
    """((value, low, high) in percent, scale in characters) of each, fitted with those beside it."""
    found: list[tuple[tuple[float, float, float], float] | None] = [None] * len(annotations)
    for group in dict.fromkeys((one.judge, one.a) for one in annotations):
        places = [
            place for place, one in enumerate(annotations)
            if (one.judge, one.a) == group and _verdicts(one, texts[place])
        ]  # fmt: skip
        if not places:
            continue
        tables = [_verdicts(annotations[place], texts[place]) for place in places]
        fit, scale = _joint(tables)
        for place, estimate in zip(places, fit.win_rates, strict=True):
            span = (100 * estimate.value, 100 * estimate.low, 100 * estimate.high)
            found[place] = span, scale
    return found


Verdict = tuple[float, int, int]
"""Preference in 0..1 or nan, and characters of A's and B's answer."""


def _verdicts(annotations: Annotations, texts: Texts) -> dict[tuple[str, int], Verdict]:
    """By instruction, and how often it was asked before, what length control needs to know."""
    found: dict[tuple[str, int], Verdict] = {}
    turn: Counter[str] = Counter()
    for row, a, b in zip(annotations.rows, texts.a, texts.b, strict=True):
        key = (row.instruction, turn[row.instruction])
        turn[row.instruction] += 1
        if a is not None and b is not None:
            wins = math.nan if row.preference is None else row.preference - 1
            found[key] = wins, len(a), len(b)
    known = any(not math.isnan(wins) for wins, _, _ in found.values())
    return found if known else {}


def _joint(tables: Sequence[dict[tuple[str, int], Verdict]]) -> tuple[Joint, float]:
    """Our fit of models that were judged on (some of) the same instructions, and its scale."""
    items = list(dict.fromkeys(key for table in tables for key in table))
    wins = np.full((len(tables), len(items)), math.nan)
    sizes = np.zeros_like(wins)
    for place, table in enumerate(tables):
        for column, key in enumerate(items):
            if key in table:
                said, a, b = table[key]
                wins[place, column], sizes[place, column] = said, b - a
    scale = float(median(a for table in tables for _, a, _ in table.values())) or 1.0
    return joint(wins, sizes, scale), scale


def read_leaderboard(path: Path) -> dict[str, Row]:
    """The rows of a leaderboard by model, each cell as printed.

    Raises UserError for a file whose first column has a name, or that has no win rates.
    """
    rows = read_csv(path)
    _, header = next(rows, (0, []))
    if not header or "win_rate" not in header:
        raise UserError("is no column of it", file=path, line=1, field="win_rate")
    found: dict[str, Row] = {}
    for line, cells in rows:
        if len(cells) != len(header):
            said = f"has {len(cells)} columns, the first line {len(header)}"
            raise UserError(said, file=path, line=line)
        row = dict(zip(header[1:], cells[1:], strict=True))
        for column in (*COMPARED, CONTROLLED):
            if row.get(column) and not _is_number(row[column]):
                raise UserError(f"'{row[column]}' is no number", file=path, line=line, field=column)
        found[cells[0]] = row
    return found


def compared(one: Replay, printed: Row) -> dict[str, bool]:
    """For each column of a leaderboard that is filled in, whether ours is the same when printed."""
    facts = one.facts()
    columns = [column for column in COMPARED if printed.get(column)]
    return {column: same(printed[column], facts[COMPARED[column]]) for column in columns}


ROUNDING = 1e-15  # relative: the last of 17 digits is noise, on a leaderboard as here


def same(printed: str, ours: float | None) -> bool:
    """Whether a number is the printed one, rounded to its last digit."""
    if ours is None:
        return False
    half = 0.5 * 10.0 ** -len(printed.partition(".")[2])
    return abs(float(printed) - ours) <= max(half * (1 + 1e-9), ROUNDING * abs(ours))


def points(
    replays: Sequence[Replay],
    outputs: Mapping[str, Outputs],
    board: Mapping[str, Row],
    split: Split = words,
) -> list[Point]:
    """Mean unique tokens and win rate of the models replayed, and of others on the leaderboard.

    outputs: files of answers by the model's name; of one that was not replayed the leaderboard says
    the win rate, and its interval is 1.96 of the standard errors printed there. The reference is
    left out: that it wins half of the time against itself is no verdict.
    """
    found = [
        Point(
            one.annotations.b,
            one.counts.unique,
            one.tallied.win_rate,
            one.tallied.low,
            one.tallied.high,
        )
        for one in replays
        if one.counts
    ]
    known = {name for one in replays for name in (one.annotations.a, one.annotations.b)}
    for name, file in outputs.items():
        if name in known or not board.get(name, {}).get("win_rate"):
            continue
        rate = float(board[name]["win_rate"])
        half = 1.96 * float(board[name].get("standard_error") or 0)
        unique = counts([row.output for row in file.rows], split).unique
        low, high = max(0.0, rate - half), min(100.0, rate + half)
        found.append(Point(name, unique, rate, low, high, printed=True))
    return found


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
