"""What a table of human ratings comes to: verdicts, acceptance and agreement, by one of two rules.

`paper` does what the paper's script did (paper section 6; its compute_metrics.py): of one rater's
rows for one instance the newest counts, even if it holds no answer; verdicts and acceptance are
those of an item's first row by time, agreement is that of its first two; wins are told by looking
for a model's name in a phrase, which counts a win of "tulu-65B" for "tulu" as well. `fixed` uses
every rater's newest answer, each item weighing the same, and knows models by their whole name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from cameleer.core.errors import UserError
from cameleer.human.released import Rated
from cameleer.results.agreement import (
    GRADED,
    Agreement,
    acceptance_ratings,
    measures,
    preference_ratings,
    tie_discounted,
    with_others,
)
from cameleer.results.judgements import TIE, Pair, acceptance, is_repeat, level, pairs, shares
from cameleer.results.records import Judgement, Rule
from cameleer.results.stats import Estimate, mean_interval
from cameleer.results.strength import Accepted, Effect, Strengths, accepted, strengths


@dataclass(frozen=True, slots=True)
class Compared:
    """One pair of models.

    items: that were rated; multiple: by several raters; judgements: those that agreement is told
    from. verdicts: share of each of five (see `results.judgements.SHARES`), and of a_wins, ties,
    b_wins. acceptance: by model. agreement: by the name of the measure (see MEASURES).
    """

    a: str
    b: str
    items: int
    multiple: int
    judgements: int
    verdicts: dict[str, Estimate]
    acceptance: dict[str, Estimate]
    agreement: dict[str, Agreement]


@dataclass(frozen=True, slots=True)
class Pooled:
    """All pairs together; an item is one item of one pair."""

    items: int
    multiple: int
    judgements: int
    acceptance: dict[str, Estimate]
    agreement: dict[str, Agreement]


@dataclass(frozen=True, slots=True)
class Rater:
    """One rater. acceptance: share of answers accepted; strictness: log odds of refusing what the
    average rater accepts; ties: share of verdicts that are ties; tie_tendency: log odds of a tie
    where the average rater sees none; first: share of verdicts for the answer shown first, ties
    half; with_others: how often another rater of the same item gave the same verdict, and the same
    acceptability; with_self: how often the verdict on a hidden repeat was the one before."""

    name: str
    judgements: int
    acceptance: Estimate | None
    strictness: Effect | None
    ties: Estimate | None
    tie_tendency: Effect | None
    first: Estimate | None
    verdict_with_others: Estimate | None
    acceptance_with_others: Estimate | None
    verdict_with_self: Estimate | None


@dataclass(frozen=True, slots=True)
class Report:
    """All of it. counts: rows read, superseded, without answers, …; adjusted: acceptance with
    raters' strictness taken out; notes: what a reader should know."""

    rule: Rule
    counts: dict[str, int]
    pairs: list[Compared]
    pooled: Pooled
    adjusted: dict[str, Estimate]
    strengths: Strengths | None
    raters: list[Rater]
    notes: list[str]


MEASURES = {
    "acceptance": "share of answers on whose acceptability two raters agree",
    "acceptance_kappa": "Cohen's kappa of it",
    "acceptance_alpha": "Krippendorff's alpha of it",
    "acceptance_ac1": "Gwet's AC1 of it",
    "strict": "share of items on whose winner, or tie, two raters agree",
    "tie_discounted": "the same, where a tie against a win counts half",
    "preference_kappa": "Cohen's kappa of winner or tie",
    "preference_alpha": "Krippendorff's alpha of it",
    "preference_ac1": "Gwet's AC1 of it",
    "graded_alpha": "Krippendorff's ordinal alpha of all five verdicts",
    "graded_ac2": "Gwet's AC2 of all five, quadratic weights",
}


def report(rows: Sequence[Rated], rule: Rule = "fixed") -> Report:
    """What the rows of a table come to under a rule. Raises UserError if none holds an answer.

    Hidden repeats count for the raters' agreement with themselves only.
    """
    again = [row.judgement for row in rows if is_repeat(row.judgement)]
    rows = [row for row in rows if not is_repeat(row.judgement)]
    kept = _newest(rows, rule)
    given = [row.judgement for row in kept]
    if not any(row.answered for row in kept):
        raise UserError(f"no answer in {len(rows)} rows of ratings")
    by_pair = {pair: _chosen(own, rule) for pair, own in pairs(given).items()}
    effects = accepted(given)
    fitted = strengths(given) if any(one.preference is not None for one in given) else None
    notes = list(fitted.notes) if fitted else []
    blank = sum(not row.answered for row in kept)
    if blank:
        notes.append(f"{blank} rows that hold no answer count as answers that are not acceptable")
    if rule == "paper":
        notes += [
            f"'{short}' is part of the name '{long}', so that it also wins what that one wins"
            for pair in by_pair
            for short, long in (pair, pair[::-1])
            if short in long
        ]
    return Report(
        rule,
        {**_counts(rows, kept), "repeats": len(again)},
        [_compared(pair, chosen) for pair, chosen in by_pair.items()],
        _pooled(list(by_pair.values())),
        effects.models if effects else {},
        fitted,
        _raters(given, again, effects, fitted),
        notes,
    )


def _newest(rows: Sequence[Rated], rule: Rule) -> list[Rated]:
    """The rows that count, one for each rater and comparison, by time."""
    if rule == "paper":
        return _newest_of_paper(rows)
    last: dict[tuple[str, ...], Rated] = {}
    for row in sorted((row for row in rows if row.answered), key=_moment):
        one = row.judgement
        last[one.who, one.a, one.b, one.item] = row
    return sorted(last.values(), key=_moment)


def _newest_of_paper(rows: Sequence[Rated]) -> list[Rated]:
    """Of one rater's rows at the same second the first of the file counts, as in the script."""
    of_index: dict[str, list[Rated]] = {}
    for row in rows:
        of_index.setdefault(row.index, []).append(row)
    kept: list[Rated] = []
    for own in of_index.values():
        newest: dict[str, Rated] = {}
        for row in sorted(own, key=_moment, reverse=True):
            newest.setdefault(row.judgement.who, row)
        kept += newest.values()
    return sorted(kept, key=_moment)


def _moment(row: Rated) -> datetime:
    return row.moment or datetime.min


def _counts(rows: Sequence[Rated], kept: Sequence[Rated]) -> dict[str, int]:
    silent = sum(not row.answered for row in rows)
    silent_kept = sum(not row.answered for row in kept)
    told = Counter(row.judgement.quality for row in rows)
    return {
        "rows": len(rows),
        "without_answers": silent,
        "superseded": len(rows) - len(kept) - silent + silent_kept,
        "kept": len(kept),
        "raters": len({row.judgement.who for row in kept}),
        "called_invalid": told["invalid"],
        "called_too_hard": told["too_hard"],
    }


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Which judgements of a pair count for what, under a rule."""

    rule: Rule
    answers: list[Judgement]
    verdicts: list[Judgement]
    rated_answers: list[Judgement]
    rated_verdicts: list[Judgement]


def _chosen(given: Sequence[Judgement], rule: Rule) -> _Chosen:
    told = [one for one in given if one.preference is not None]
    if rule == "fixed":
        return _Chosen(rule, list(given), told, list(given), told)
    first = [_refused_if_silent(one) for one in _firsts(given, 1)]
    return _Chosen(rule, first, _firsts(told, 1), _firsts(given, 2), _firsts(told, 2))


def _firsts(given: Sequence[Judgement], most: int) -> list[Judgement]:
    """The first so many of each item."""
    times: Counter[str] = Counter()
    found = []
    for one in given:
        times[one.item] += 1
        if times[one.item] <= most:
            found.append(one)
    return found


def _refused_if_silent(one: Judgement) -> Judgement:
    return replace(one, acceptable=(bool(one.acceptable[0]), bool(one.acceptable[1])))


def _compared(pair: Pair, chosen: _Chosen) -> Compared:
    even = chosen.rule == "fixed"
    verdicts = shares(chosen.verdicts, even_items=even)
    if chosen.rule == "paper":
        verdicts |= _wins_by_phrase(pair, chosen.verdicts)
    return Compared(
        *pair,
        *_sizes([chosen]),
        verdicts,
        acceptance(chosen.answers, even_items=even),
        _agreement([chosen]),
    )


def _pooled(all_chosen: Sequence[_Chosen]) -> Pooled:
    answers = [one for chosen in all_chosen for one in chosen.answers]
    even = all_chosen[0].rule == "fixed"
    accepted_by_model = dict(sorted(acceptance(answers, even_items=even).items()))
    return Pooled(*_sizes(all_chosen), accepted_by_model, _agreement(all_chosen))


def _sizes(all_chosen: Sequence[_Chosen]) -> tuple[int, int, int]:
    """(items, those with several ratings, judgements that count for agreement)."""
    times = Counter((one.a, one.b, one.item) for part in all_chosen for one in part.rated_answers)
    return len(times), sum(count > 1 for count in times.values()), times.total()


def _agreement(all_chosen: Sequence[_Chosen]) -> dict[str, Agreement]:
    paper = all_chosen[0].rule == "paper"
    answers = [one for chosen in all_chosen for one in chosen.rated_answers]
    verdicts = [one for chosen in all_chosen for one in chosen.rated_verdicts]
    winners = preference_ratings(map(_winner_by_phrase, verdicts) if paper else verdicts)
    accepting = measures(acceptance_ratings(answers, unanswered=paper))
    winning = measures(winners)
    graded = measures(preference_ratings(verdicts, 5), GRADED)
    return {
        "acceptance": accepting.pop("exact"),
        **{f"acceptance_{name}": found for name, found in accepting.items()},
        "strict": winning.pop("exact"),
        "tie_discounted": tie_discounted(winners),
        **{f"preference_{name}": found for name, found in winning.items()},
        "graded_alpha": graded["alpha_ordinal"],
        "graded_ac2": graded["ac2"],
    }


def _phrase(one: Judgement) -> str:
    """What the paper's script makes of a verdict, to look for models' names in it."""
    at = level(one.preference or TIE)
    if at == 2:
        return "tie"
    how = "clearly" if at in (0, 4) else "slightly"
    return f"{one.a if at < 2 else one.b} is {how} better"


def _wins_by_phrase(pair: Pair, verdicts: Sequence[Judgement]) -> dict[str, Estimate]:
    phrases = [_phrase(one) for one in verdicts]
    return {
        name: mean_interval([float(model in phrase) for phrase in phrases])
        for name, model in zip(("a_wins", "b_wins"), pair, strict=True)
        if phrases
    }


def _winner_by_phrase(one: Judgement) -> Judgement:
    phrase = _phrase(one)
    return one if phrase == "tie" else replace(one, preference=1.0 if one.a in phrase else 2.0)


def _raters(
    given: Sequence[Judgement],
    again: Sequence[Judgement],
    effects: Accepted | None,
    fitted: Strengths | None,
) -> list[Rater]:
    """Every rater, the strictest first."""
    same_verdict = with_others(preference_ratings(given))
    same_acceptance = with_others(acceptance_ratings(given))
    strictness = effects.strictness if effects else {}
    tendency = fitted.raters if fitted else {}
    own: dict[str, list[Judgement]] = {}
    for one in given:
        own.setdefault(one.who, []).append(one)
    found = []
    for name, theirs in own.items():
        told = [one for one in theirs if one.preference is not None]
        answers = [(one, side) for one in theirs for side in one.acceptable if side is not None]
        found.append(
            Rater(
                name,
                len(theirs),
                _share([(one, float(side)) for one, side in answers]),
                strictness.get(name),
                _share([(one, float(one.preference == TIE)) for one in told]),
                tendency.get(name),
                _share([(one, _for_first(one)) for one in told if one.b_first is not None]),
                same_verdict.get(name),
                same_acceptance.get(name),
                _share(_as_before(theirs, [one for one in again if one.who == name])),
            )
        )
    return sorted(found, key=lambda one: -one.strictness.value if one.strictness else 0.0)


def _as_before(
    before: Sequence[Judgement], again: Sequence[Judgement]
) -> list[tuple[Judgement, float]]:
    """Whether each repeat has the verdict of the rating that it repeats: A, neither or B."""
    told = {(one.a, one.b, one.item): one.preference for one in before}
    return [
        (
            one,
            float((one.preference > TIE) - (one.preference < TIE) == (first > TIE) - (first < TIE)),
        )
        for one in again
        if (first := told.get((one.a, one.b, one.item))) and one.preference
    ]


def _share(values: Sequence[tuple[Judgement, float]]) -> Estimate | None:
    """The mean of one value for each judgement, or none."""
    if not values:
        return None
    numbers, items = [value for _, value in values], [one.item for one, _ in values]
    return mean_interval(numbers, clusters=items)


def _for_first(one: Judgement) -> float:
    """1 for a verdict for the answer shown first, 1/2 for a tie."""
    lean = (one.preference or TIE) - TIE
    return 0.5 if not lean else float((lean > 0) == one.b_first)
