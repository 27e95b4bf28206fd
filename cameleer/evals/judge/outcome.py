"""What a judging comes to: one verdict for each item, rates with intervals, and what was lost."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from statistics import fmean, median
from typing import Any

from cameleer.evals.judge.outputs import Pair
from cameleer.results.judgements import TIE, tally
from cameleer.results.length_control import joint
from cameleer.results.records import Judgement
from cameleer.results.stats import mean_interval

SAME_TEXT = "the answers are the same text"
EXAMPLES = 3  # replies without a verdict that are shown
FEW = 20  # verdicts, with less of which no length is controlled for


def by_item(judgements: Sequence[Judgement]) -> list[Judgement]:
    """One judgement for each item: the mean of both orders, where both have a verdict."""
    found: dict[str, list[Judgement]] = defaultdict(list)
    for one in judgements:
        found[one.item].append(one)
    return [_together(own) for own in found.values()]


def _together(own: list[Judgement]) -> Judgement:
    said = [one.preference for one in own]
    if len(own) == 1:
        return own[0]
    known = [value for value in said if value is not None]
    whole = fmean(known) if len(known) == len(said) else None
    lacking = next((one.note for one in own if one.preference is None), "")
    return replace(own[0], preference=whole, b_first=None, note=lacking)


def annotation_rows(judgements: Sequence[Judgement], pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """The judgements in AlpacaEval's form, one to an item (see `by_item`)."""
    shown: dict[str, list[Judgement]] = defaultdict(list)
    for one in judgements:
        shown[one.item].append(one)
    texts = {pair.item: pair for pair in pairs}
    return [_annotation(one, shown[one.item], texts[one.item]) for one in by_item(judgements)]


def _annotation(one: Judgement, shown: Sequence[Judgement], pair: Pair) -> dict[str, Any]:
    said = [each.said for each in shown]
    return {
        "instruction": pair.instruction,
        "output_1": pair.a,
        "generator_1": one.a,
        "dataset": pair.dataset,
        "output_2": pair.b,
        "generator_2": one.b,
        "annotator": one.who,
        "preference": one.preference,
        "price_per_example": sum(each.price or 0.0 for each in shown),
        "time_per_example": sum(each.seconds or 0.0 for each in shown),
        "raw_completion": said[0] if len(said) == 1 else said,
    }


def rates(judgements: Sequence[Judgement], pairs: Sequence[Pair]) -> dict[str, Any]:
    """The part of result.json that judgements tell; rates lie in 0..1, and are B's against A.

    Judgements of both orders are taken together first.
    """
    items = by_item(judgements)
    texts = {pair.item: pair for pair in pairs}
    return {
        "pairs": len(pairs),
        **_win_rates(items),
        "length_controlled": _length_controlled(items, texts),
        "no_verdict": sum(one.preference is None for one in items),
        "unread": _unread(judgements),
        "first_preferred": _first_preferred(judgements),
        "both_orders": _both_orders(judgements),
        "mean_characters": {
            "a": fmean(len(pair.a) for pair in pairs),
            "b": fmean(len(pair.b) for pair in pairs),
        },
    }


def _win_rates(items: Sequence[Judgement]) -> dict[str, Any]:
    """Win rates with their intervals; None where the judge gave no verdict at all: ties of the
    same text, which nobody was asked about, say nothing alone."""
    judged = [one for one in items if one.note != SAME_TEXT]
    if judged and all(one.preference is None for one in judged):
        nothing: dict[str, Any] = dict.fromkeys(("win_rate", "discrete_win_rate", "standard_error"))
        return nothing | dict.fromkeys(("n", "wins", "ties", "losses"), 0)
    found = asdict(tally(items))
    del found["unknown"]
    return found


def _length_controlled(
    items: Sequence[Judgement], texts: Mapping[str, Pair]
) -> dict[str, Any] | None:
    """The win rate if both models' answers were of one length (see `length_control.joint`)."""
    given = [one for one in items if one.preference is not None]
    if len(given) < FEW:
        return None
    wins = [float(one.preference or TIE) - 1 for one in given]
    longer = [len(texts[one.item].b) - len(texts[one.item].a) for one in given]
    scale = max(1.0, median(len(texts[one.item].a) for one in items))
    return asdict(joint([wins], [longer], scale).win_rates[0])


def _unread(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Replies without a verdict: how many for which reason, and the first of them."""
    lost = [one for one in judgements if one.preference is None]
    return {
        "replies": len(lost),
        "reasons": dict(Counter(one.note for one in lost)),
        "examples": [{"item": one.item, "said": one.said} for one in lost[:EXAMPLES]],
    }


def _first_preferred(judgements: Sequence[Judgement]) -> dict[str, Any] | None:
    """How often the answer shown first is preferred, a tie being half: of a fair judge 0.5."""
    shown, items = [], []
    for one in judgements:
        if one.b_first is not None and one.preference is not None:
            side = one.preference - TIE if one.b_first else TIE - one.preference
            shown.append((side > 0) + 0.5 * (side == 0))
            items.append(one.item)
    return asdict(mean_interval(shown, clusters=items)) if shown else None


def _both_orders(judgements: Sequence[Judgement]) -> dict[str, Any] | None:
    """Of items with verdicts in both orders: how often the winner changes with the order; None
    where there are none.

    flips: another one wins. same: the same one wins, or neither both times. The others are a tie in
    one order only.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for one in judgements:
        if one.b_first is not None and one.preference is not None:
            found[one.item].append(one.preference - TIE)
    both = [own for own in found.values() if len(own) == 2]
    if not both:
        return None
    flips = [float(one * other < 0) for one, other in both]
    same = [float(one * other > 0 or one == other == 0) for one, other in both]
    rates = {"flips": asdict(mean_interval(flips)), "same": asdict(mean_interval(same))}
    return {"items": len(both), **rates}
