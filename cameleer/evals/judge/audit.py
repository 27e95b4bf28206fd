"""Auditing judges: what sways them, and whether they agree with people, each other and themselves.

Published annotation files can be audited as well as our own judgements, and the labels of people
are put through the same, since what people prefer is what a judge's taste has to be held against.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cameleer.core.errors import UserError
from cameleer.evals.judge.biases import (
    Doubling,
    Orders,
    Sides,
    Step,
    Texts,
    Verdict,
    both_orders,
    by_length,
    doubling,
    first_shown,
    keyed,
    lists,
    lists_as_published,
    longer,
    preferring,
    prefers,
    repeats,
    side,
    verdicts,
)
from cameleer.evals.judge.leaderboard import Standing, leaderboard
from cameleer.evals.judge.outputs import Annotations, Outputs, pair_outputs, read_annotations
from cameleer.results.agreement import Agreement, Ratings, alpha, exact, kappa, preference_ratings
from cameleer.results.judgements import FILE, Pair, pairs, read_judgements, tally
from cameleer.results.powered import Opinion, Where, by_judge, opinion
from cameleer.results.records import Judgement
from cameleer.results.stats import Estimate, Paired, mean_interval, paired
from cameleer.results.unique_tokens import Split, words

ANNOTATIONS = "annotations.json"  # beside the judgements of a judge of ours: the texts


@dataclass(frozen=True, slots=True)
class Trait:
    """A preference for answers that have more of something.

    share: how often that answer wins, where one has it and one wins. against_people: the same
    less how often people prefer it, on the items on which both prefer one; None without them.
    """

    share: Estimate
    against_people: Paired | None


@dataclass(frozen=True, slots=True)
class Own:
    """A judge on the answers of its own model.

    model: its name among those judged; share: the judge's mean preference for it; others: that of
    `by` ("people" or "other judges") on the same items; found: the judge's less theirs.
    """

    model: str
    by: str
    share: Estimate
    others: Estimate
    found: Paired


@dataclass(frozen=True, slots=True)
class Audit:
    """What is known of one judge; None stands where its verdicts cannot tell.

    judgements: how many there are; silent: those without a verdict; ties: verdicts for neither;
    items, pairs: different ones. first: mean preference for the answer shown first; orders: what
    turning the order does; longer, lists: what the longer answer, the one with a list, has from
    it, lists_as_published by AlpacaEval's rule; doubling: odds of an answer twice as long;
    by_length: how often the longer one wins by how much longer it is; repeats: how often it says
    the same twice; own: of its own model; win_rates: of each pair's second model.
    """

    judge: str
    judgements: int
    silent: int
    ties: int
    items: int
    pairs: int
    first: Estimate | None
    orders: Orders | None
    longer: Trait | None
    lists: Trait | None
    lists_as_published: Trait | None
    doubling: Doubling | None
    by_length: list[Step]
    repeats: Estimate | None
    own: Own | None
    win_rates: dict[str, Estimate]


@dataclass(frozen=True, slots=True)
class Spread:
    """How far judges agree with each other, on what several of them judged; n in each measure.

    win_rates: of a pair of models, the lowest and the highest that a judge gives.
    """

    exact: Agreement
    kappa: Agreement
    alpha: Agreement
    win_rates: dict[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class People:
    """Labels that judges are held against: labellers, and how far they agree among themselves."""

    audit: Audit
    labellers: int
    exact: Agreement
    kappa: Agreement
    alpha: Agreement


@dataclass(frozen=True, slots=True)
class Report:
    """All judges, the labels, and what could not be told and why."""

    judges: list[Audit]
    people: People | None
    leaderboard: list[Standing]
    spread: Spread | None
    notes: list[str] = field(default_factory=list)


def audit(
    judgements: Sequence[Judgement],
    texts: Texts,
    labels: Sequence[Judgement] = (),
    own: Mapping[str, str] | None = None,
    tokens: Split = words,
) -> Report:
    """Audit every judge in `judgements`, told by `who`.

    texts: the answers, as far as they are known; labels: of people, or of whom you trust; own: by
    judge, what its model is called among those judged, where that is not what its name ends with.
    tokens: what the dummy counts. Raises UserError for no judgements, or labels of nothing that was
    judged.
    """
    if not judgements:
        raise UserError("no judgements to audit")
    judges = by_judge(judgements)
    told = opinion(labels)
    if labels and not told.shares.keys() & opinion(judgements).shares.keys():
        raise UserError(
            "people labelled nothing that was judged: no item and pair of models is in both",
            hint="item keys and names of models must be the same in both files",
        )
    sides = {"longer": longer(texts), "lists": lists(texts), "published": lists_as_published(texts)}
    models = {judge: _own_model(judge, given, own) for judge, given in judges.items()}
    found = [
        _audit(judge, given, texts, sides, told, _own(judge, models[judge], told, judges))
        for judge, given in judges.items()
    ]
    board = leaderboard(judges, told, texts, tokens) if labels else []
    people = _people(labels, texts, sides) if labels else None
    report = Report(found, people, board, _spread(judges) if len(judges) > 1 else None)
    report.notes.extend(_notes(judgements, texts, labels, report))
    report.notes.extend(
        f"{one.judge} judged its own model {models[one.judge]}, but nobody else did"
        for one in found
        if models[one.judge] and not one.own
    )
    return report


def _audit(
    judge: str,
    judgements: Sequence[Judgement],
    texts: Texts,
    sides: Mapping[str, Sides],
    people: Opinion,
    own: Own | None,
) -> Audit:
    given = verdicts(judgements)
    shares = opinion(judgements).shares
    traits = {name: _trait(given, shares, trait, people) for name, trait in sides.items()}
    return Audit(
        judge,
        len(judgements),
        len(judgements) - len(given),
        sum(not one.winner for one in given),
        len({one.item for one in judgements}),
        len(pairs(judgements)),
        first_shown(given),
        both_orders(given),
        traits["longer"],
        traits["lists"],
        traits["published"],
        doubling(given, texts),
        by_length(given, texts),
        repeats(given),
        own,
        _win_rates(judgements),
    )


def _trait(
    given: Sequence[Verdict], shares: Mapping[Where, float], sides: Sides, people: Opinion
) -> Trait | None:
    share = prefers(given, sides)
    if share is None:
        return None
    both = _decided(shares) & _decided(people.shares) & sides.keys()
    ours, theirs = (
        preferring({where: said[where] for where in both}, sides)
        for said in (shares, people.shares)
    )
    return Trait(share, paired(theirs, ours) if ours.scores else None)


def _decided(shares: Mapping[Where, float]) -> set[Where]:
    return {where for where, share in shares.items() if side(share)}


def _win_rates(judgements: Sequence[Judgement]) -> dict[str, Estimate]:
    """Of "A / B", how often B wins."""
    return {
        f"{a} / {b}": tally(given).win_rate
        for (a, b), given in pairs(judgements).items()
        if any(one.preference is not None for one in given)
    }


def _own_model(
    judge: str, judgements: Sequence[Judgement], own: Mapping[str, str] | None
) -> str | None:
    """What the judge's own model is called among those it judged; None where it is not there."""
    models = {name for one in judgements for name in (one.a, one.b)}
    named = (own or {}).get(judge)
    if named is not None and named not in models:
        known = ", ".join(sorted(models))
        raise UserError(f"'{judge}' judged no model '{named}'", field="own", hint=f"known: {known}")
    return named or next((m for m in (judge, judge.rpartition("/")[2]) if m in models), None)


def _own(
    judge: str,
    model: str | None,
    people: Opinion,
    judges: Mapping[str, Sequence[Judgement]],
) -> Own | None:
    """The judge on its own model, beside people, or beside the other judges where none labelled."""
    if model is None:
        return None
    ours = _for(model, opinion(judges[judge]))
    rest = opinion(one for who, given in judges.items() if who != judge for one in given)
    for by, said in (("people", people), ("other judges", rest)):
        theirs = _for(model, said)
        both = sorted(ours.keys() & theirs.keys())
        if both:
            mine, other = (keyed({where: of[where] for where in both}) for of in (ours, theirs))
            items = [where[0] for where in both]
            share, others = (
                mean_interval([of[where] for where in both], clusters=items)
                for of in (ours, theirs)
            )
            return Own(model, by, share, others, paired(other, mine))
    return None


def _for(model: str, said: Opinion) -> dict[Where, float]:
    """Mean preference for a model wherever it is judged against another."""
    return {
        where: share if where[2] == model else 1 - share
        for where, share in said.shares.items()
        if model in where[1:] and where[1] != where[2]
    }


def _people(labels: Sequence[Judgement], texts: Texts, sides: Mapping[str, Sides]) -> People:
    """The labels as if one judge had given them, and how far labellers agree."""
    ratings = preference_ratings(labels)
    nobody = Opinion({}, {})
    return People(
        _audit("people", labels, texts, sides, nobody, None),
        len({one.who for one in labels}),
        exact(ratings),
        kappa(ratings),
        alpha(ratings),
    )


def _spread(judges: Mapping[str, Sequence[Judgement]]) -> Spread | None:
    """How far judges agree; None where no two of them judged the same."""
    shares = {judge: opinion(given).shares for judge, given in judges.items()}
    ratings = Ratings.of(
        (
            ("\0".join(where), judge, side(share))
            for judge, said in shares.items()
            for where, share in said.items()
        ),
        (-1, 0, 1),
        {"\0".join(where): where[0] for said in shares.values() for where in said},
    )
    if not ratings.several.any():
        return None
    rates: dict[Pair, list[float]] = {}
    for given in judges.values():
        for (a, b), own in pairs(given).items():
            if any(one.preference is not None for one in own):
                rate = tally(own).win_rate.value
                first, second = sorted((a, b))
                rates.setdefault((first, second), []).append(rate if a == first else 1 - rate)
    spans = {
        f"{a} / {b}": (min(found), max(found)) for (a, b), found in rates.items() if len(found) > 1
    }
    return Spread(exact(ratings), kappa(ratings), alpha(ratings), spans)


def _notes(
    judgements: Sequence[Judgement], texts: Texts, labels: Sequence[Judgement], report: Report
) -> list[str]:
    """What could not be counted, and why."""
    told = [one for one in judgements if one.preference is not None]
    unordered = sum(one.b_first is None for one in told)
    places = {(one.item, min(one.a, one.b), max(one.a, one.b)) for one in judgements}
    textless = len(places - texts.keys())
    silent = len(judgements) - len(told)
    said = {
        f"{silent} of {len(judgements)} judgements have no verdict": silent,
        f"the order shown is not known of {unordered} of {len(told)} verdicts": unordered,
        f"the texts are not known of {textless} of {len(places)} pairs of answers, so that they do "
        "not count for length and lists (give them by --outputs)": textless,
    }
    notes = [text for text, count in said.items() if count]
    missing = {audit.judge for audit in report.judges} - {row.judge for row in report.leaderboard}
    if labels and missing:
        notes.append(f"no labelled item was judged by {', '.join(sorted(missing))}")
    return notes


@dataclass
class Heard:
    """Judgements read from files, and the texts that they are about, as far as these are known."""

    judgements: list[Judgement] = field(default_factory=list)
    texts: dict[Where, tuple[str, str]] = field(default_factory=dict)

    def tell(self, item: str, a: str, b: str, text_a: str | None, text_b: str | None) -> None:
        """Take in two answers."""
        if text_a is not None and text_b is not None:
            turned = a > b
            where = (item, b, a) if turned else (item, a, b)
            self.texts[where] = (text_b, text_a) if turned else (text_a, text_b)


def hear(paths: Iterable[Path], outputs: Sequence[Outputs] = ()) -> Heard:
    """Read judgements: AlpacaEval's annotations (.json), JSON lines of ours, or a folder of either.

    outputs: answers of models, for judgements that come without texts; items are matched by the
    key that they have among the answers of A. Raises UserError for files that hold none.
    """
    heard = Heard()
    for path in paths:
        ours = (path / FILE).is_file() or not (path / ANNOTATIONS).is_file()
        file = path / ANNOTATIONS if path.is_dir() and not ours else path
        if file.suffix == ".json" and not file.is_dir():
            released = read_annotations(file)
            heard.judgements += released.judgements()
            _hear_texts(heard, released, [row.item for row in released.rows])
            continue
        given = read_judgements(path)
        heard.judgements += given
        if given and (path / ANNOTATIONS).is_file():
            items = list(dict.fromkeys(one.item for one in given))  # one annotation to each
            _hear_texts(heard, read_annotations(path / ANNOTATIONS), items)
    by_name = {one.generator: one for one in outputs}
    for a, b in pairs(heard.judgements):
        if a in by_name and b in by_name:
            for pair in pair_outputs(by_name[a], by_name[b]).pairs:
                heard.tell(pair.item, a, b, pair.a, pair.b)
    return heard


def _hear_texts(heard: Heard, released: Annotations, items: Sequence[str]) -> None:
    """Take in the texts of annotations, whose items are these."""
    if len(items) != len(released.rows):
        raise UserError(
            f"holds {len(released.rows)} annotations, its folder judgements of {len(items)} items",
            file=released.path,
            hint="they are not of one run",
        )
    for item, row in zip(items, released.rows, strict=True):
        heard.tell(item, released.a, released.b, row.a, row.b)
