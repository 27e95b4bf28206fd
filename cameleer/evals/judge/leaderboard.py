"""Judges ranked by how far they agree with your own labels, beside dummies that any should beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cameleer.evals.judge.biases import Texts, Verdict, keyed, side, verdicts
from cameleer.results.agreement import Agreement, Ratings, alpha, exact, kappa
from cameleer.results.powered import Opinion, Where, opinion
from cameleer.results.records import Judgement
from cameleer.results.stats import Estimate, Items, Paired, holm, mean_interval, paired
from cameleer.results.unique_tokens import Split, words

LONGER, UNIQUE, FIRST = "always longer", "more unique tokens", "always first"
DETECTABLE = 0.05

Shares = Mapping[Where, float]
"""Preference in 0..1 for the second of the two models, who stand in the order of their names."""


@dataclass(frozen=True, slots=True)
class Against:
    """A judge beside a dummy, on the labelled items that both have something to say of.

    dummy: which; accuracy: the dummy's; found: how much oftener the judge is right.
    """

    dummy: str
    accuracy: Estimate
    found: Paired


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a judge, or a dummy, agrees with the labels.

    n: labelled items (of a pair of models) that it was asked about; silent: on how many it has no
    verdict. accuracy: how often it sides with the labels where these are no draw, where its own
    draw or silence counts half; None where all labels are draws. exact, kappa, alpha: of verdicts
    for the one, the other or neither. against: each dummy; p: that it is no better than the best of
    them, after Holm's correction over judges; None for a dummy, or where there is none to beat.
    """

    judge: str
    is_dummy: bool
    n: int
    silent: int
    accuracy: Estimate | None
    exact: Agreement
    kappa: Agreement
    alpha: Agreement
    against: tuple[Against, ...] = ()
    p: float | None = None

    @property
    def beats(self) -> bool:
        """Whether it is shown to be better than every dummy."""
        return self.p is not None and self.p < DETECTABLE

    @property
    def hardest(self) -> Against | None:
        """The dummy that it is least ahead of."""
        return min(self.against, key=lambda one: one.found.difference, default=None)


def leaderboard(
    judges: Mapping[str, Sequence[Judgement]],
    labels: Opinion,
    texts: Texts,
    tokens: Split = words,
) -> list[Standing]:
    """Judges by accuracy on the labels, among the dummies that they must beat; best first.

    Dummies say that the longer answer is better (in characters), the one with more unique tokens,
    or the one that the judge in question was shown first. A judge is tested against each of them
    on the items that both know (`stats.paired`, the pairs of models of an item as a cluster). That
    it is better than all of them is claimed by the largest of these p, which needs no correction
    (Berger, Technometrics 24, 1982), and after Holm's over the judges. A judge of no labelled item
    is left out.
    """
    fixed = dummies(texts, tokens)
    ranked = []
    for name, judgements in judges.items():
        known, asked = opinion(judgements).shares, _asked(judgements)
        if not asked & labels.shares.keys():
            continue
        standing = _standing(name, {where: known.get(where, 0.5) for where in asked}, labels)
        silent = len((asked - known.keys()) & labels.shares.keys())
        rivals = fixed | {FIRST: always_first(verdicts(judgements))}
        ranked.append(replace(standing, silent=silent, against=_all_against(known, rivals, labels)))
    tested = [row for row in ranked if row.against]
    adjusted = dict(
        zip((row.judge for row in tested), holm([_p(row) for row in tested]), strict=True)
    )
    ranked = [replace(row, p=adjusted.get(row.judge)) for row in ranked]
    for name, shares in fixed.items():
        if shares.keys() & labels.shares.keys():
            ranked.append(replace(_standing(name, shares, labels), is_dummy=True))
    return sorted(ranked, key=lambda row: -row.accuracy.value if row.accuracy else 0.0)


def dummies(texts: Texts, tokens: Split = words) -> dict[str, Shares]:
    """What those say that look at one number of each answer only."""
    longer = {where: _larger(len(a), len(b)) for where, (a, b) in texts.items()}
    unique = {
        where: _larger(len(set(tokens(a))), len(set(tokens(b)))) for where, (a, b) in texts.items()
    }
    return {LONGER: longer, UNIQUE: unique}


def always_first(given: Sequence[Verdict]) -> Shares:
    """What a judge would say that always takes the answer shown first, in this one's place; shown
    in both orders that is neither."""
    shown: dict[Where, list[bool]] = {}
    for one in given:
        if one.second_first is not None:
            shown.setdefault(one.where, []).append(one.second_first)
    return {where: sum(found) / len(found) for where, found in shown.items()}


def _larger(a: int, b: int) -> float:
    return 0.5 if a == b else float(b > a)


def _asked(judgements: Sequence[Judgement]) -> set[Where]:
    """What a judge was asked about, whether or not it had a verdict."""
    return {(one.item, min(one.a, one.b), max(one.a, one.b)) for one in judgements}


def right(shares: Shares, labels: Opinion) -> Items:
    """1 for each item on which both are for the same answer, 0.5 where shares are for neither;
    items whose label is a draw are left out."""
    told = {where: side(label) for where, label in labels.shares.items() if where in shares}
    return keyed(
        {where: (1 + label * side(shares[where])) / 2 for where, label in told.items() if label}
    )


def _standing(name: str, shares: Shares, labels: Opinion) -> Standing:
    """A judge or dummy that has this to say; silence is to be counted as 0.5 before."""
    both = [where for where in shares if where in labels.shares]
    names = {where: "\0".join(where) for where in both}
    ratings = Ratings.of(
        (
            (names[where], who, side(said[where]))
            for where in both
            for who, said in (("judge", shares), ("labels", labels.shares))
        ),
        (-1, 0, 1),
        {names[where]: where[0] for where in both},
    )
    scores = right(shares, labels)
    return Standing(
        name,
        False,
        len(both),
        0,
        _mean(scores) if scores.scores else None,
        exact(ratings),
        kappa(ratings),
        alpha(ratings),
    )


def _mean(items: Items) -> Estimate:
    return mean_interval(
        list(items.scores.values()), clusters=[items.clusters[key] for key in items.scores]
    )


def _all_against(
    known: Shares, rivals: Mapping[str, Shares], labels: Opinion
) -> tuple[Against, ...]:
    """A judge beside each dummy with which it shares an item whose label is no draw."""
    found = []
    for name, shares in rivals.items():
        both = known.keys() & shares.keys()
        own, other = (
            right({where: said[where] for where in both}, labels) for said in (known, shares)
        )
        if own.scores:
            found.append(Against(name, _mean(other), paired(other, own)))
    return tuple(found)


def _p(row: Standing) -> float:
    """That a judge is no better than the best of its dummies."""
    return max(one.found.p if one.found.difference > 0 else 1.0 for one in row.against)
