"""What benchmarks, judges and people say, as tables, a picture, and disputes to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cameleer.core.drawing import INK, Drawing, svg
from cameleer.core.text import visible
from cameleer.report.answers import shortened
from cameleer.report.facts import Table
from cameleer.report.figures import unlike
from cameleer.report.opinions import capital, decimal, span, subject, titled
from cameleer.report.words import MISSING, counted, interval, points, signed
from cameleer.results.disputes import Dispute, Meeting
from cameleer.results.judged import Judged
from cameleer.results.measures import Measure
from cameleer.results.opinions import ALIKE, CONTRARY, Difference, Opinions, Pair
from cameleer.results.rankings import Correlation
from cameleer.results.records import Judgement
from cameleer.results.stats import Estimate
from cameleer.results.unique_tokens import WORDS_SAID, Point, counts, pearson, picture

SHOWN = 20  # disputes of one judge with people on a page
WORDED = {
    1.0: "prefers {a}",
    1.25: "slightly prefers {a}",
    1.5: "prefers neither",
    1.75: "slightly prefers {b}",
    2.0: "prefers {b}",
}


@dataclass(frozen=True)
class Cell:
    """What one measure says of one model; first: it ranks it first."""

    value: str
    interval: str = ""
    rank: str = ""
    first: bool = False


@dataclass(frozen=True)
class Verdict:
    """What one judge or person said of a dispute's two answers."""

    who: str
    said: str
    comment: str


@dataclass(frozen=True)
class Argument:
    """A dispute with its texts; None where a text is not at hand."""

    item: str
    prompt: str | None
    answers: list[tuple[str, str | None]]
    judge: list[Verdict]
    people: list[Verdict]
    summary: str


def columns(opinions: Opinions) -> list[tuple[str, str]]:
    """(heading, what is counted) of each column of the main table."""
    found = []
    for measure in opinions.measures:
        if measure.kind == "benchmarks":
            names = next(iter(measure.runs.values()))[0]
            found.append((titled(measure), f"average of {', '.join(names)}"))
            continue
        against = f"against {measure.hub}" if measure.hub else "against the others"
        kind = "judge, " if measure.kind == "judge" else ""
        found.append((titled(measure), f"{kind}win rate {against}"))
        if measure.adjusted:
            found.append((f"{titled(measure)}, lengths equal", "the same, were answers as long"))
    return found + ([("accepted", "by people")] if opinions.accepted else [])


def rows(opinions: Opinions) -> list[tuple[str, list[Cell]]]:
    """Each model with its cells, one for each column."""
    return [
        (model, [cell for one in opinions.measures for cell in _cells(one, model)]
         + ([_cell(opinions.accepted.get(model))] if opinions.accepted else []))
        for model in opinions.models
    ]  # fmt: skip


def _cells(measure: Measure, model: str) -> list[Cell]:
    hub, rank = model == measure.hub, measure.rank(model)
    own = Cell(points(0.5), "by definition") if hub else _cell(measure.estimates.get(model))
    if rank is not None:
        own = replace(own, rank=f"{rank} of {len(measure.runs)}", first=rank == 1)
    if not measure.adjusted:
        return [own]
    return [own, Cell(own.value, own.interval) if hub else _cell(measure.adjusted.get(model))]


def _cell(found: Estimate | None) -> Cell:
    return Cell(points(found.value), interval(found)) if found else Cell(MISSING)


def pair_table(opinions: Opinions) -> Table:
    """Every two models by every measure, those first on which measures contradict each other."""
    order = {CONTRARY: 0, ALIKE: 3}
    pairs = sorted(opinions.pairs, key=lambda one: order.get(one.verdict, 1 + one.same_sign))
    names = [measure.name for measure in opinions.measures]
    shown = [
        [
            f"{pair.first} against {pair.second}",
            *(_difference(pair.differences.get(name)) for name in names),
            _verdict(pair),
        ]
        for pair in pairs
    ]
    return Table(
        "Differences between models in points, 95 % intervals in brackets; ▲ and ▼ are detectable "
        "after Holm's correction over all of this table",
        ["models", *map(titled, opinions.measures), "together"],
        shown,
        ("together",),
    )


def _difference(one: Difference | None) -> str:
    if one is None:
        return MISSING
    moved = one.paired.difference
    mark = "" if not one.detectable else "▲ " if moved > 0 else "▼ "
    return f"{mark}{signed(moved)} ({interval(one.paired)})"


def _verdict(pair: Pair) -> str:
    if pair.verdict == CONTRARY:
        return "contrary"
    if pair.verdict == ALIKE:
        return "same order"
    return "same order, not all sure" if pair.same_sign else "open"


def alike_table(opinions: Opinions) -> Table:
    """The rank correlations of every two measures."""
    shown = [
        [f"{one.first} and {one.second}", str(one.n), _correlation(one.kendall),
         _correlation(one.spearman)]
        for one in opinions.alike
    ]  # fmt: skip
    head = ["rankings", "models", "Kendall's τ", "Spearman's ρ"]
    return Table("How alike they rank the models, with 95 % intervals", head, shown)


def _correlation(one: Correlation | None) -> str:
    return MISSING if one is None else f"{decimal(one.value)} ({span(one)})"


def meeting_table(opinions: Opinions) -> Table:
    """Each judge beside people on the comparisons that both judged."""
    shown = [
        [one.judge, f"{one.items:,}", f"{one.same:,}", f"{one.opposite:,}",
         f"{one.items - one.same - one.opposite:,}", _percent(one.agreement)]
        for one in opinions.meetings
    ]  # fmt: skip
    head = ["judge", "comparisons", "same answer", "opposite answers", "neither for one or both"]
    return Table("Judges and people on the same comparisons", [*head, "agreement"], shown)


def _percent(one: Estimate | None) -> str:
    return MISSING if one is None else f"{points(one.value)} ({interval(one)})"


def arguments(opinions: Opinions, judged: Judged) -> list[tuple[Meeting, list[Argument]]]:
    """For each judge the disputes with people that a page shows, with their texts."""
    return [
        (one, [_argument(dispute, opinions, judged) for dispute in one.disputes[:SHOWN]])
        for one in opinions.meetings
    ]


def _argument(one: Dispute, opinions: Opinions, judged: Judged) -> Argument:
    names = [opinions.models_of.get(name, name) for name in (one.a, one.b)]
    texts = [judged.outputs.get((one.item, name)) for name in (one.a, one.b)]
    prompt = judged.prompts.get(one.item)
    by_judge, by_people = (names[mean > 1.5] for mean in (one.judged, one.rated))
    return Argument(
        item=one.item,
        prompt=None if prompt is None else _shown(prompt),
        answers=[(name, None if text is None else _shown(text))
                 for name, text in zip(names, texts, strict=True)],
        judge=[_verdict_of(said, names) for said in one.judge],
        people=[_verdict_of(said, names) for said in one.people],
        summary=f"judge: {by_judge}, people: {by_people}",
    )  # fmt: skip


def _shown(text: str) -> str:
    return visible(shortened(text, ""))


def _verdict_of(one: Judgement, names: Sequence[str]) -> Verdict:
    assert one.preference is not None
    a, b = names
    worded = WORDED.get(one.preference)
    said = (
        worded.format(a=a, b=b)
        if worded
        else f"prefers {b if one.preference > 1.5 else a} "
        f"({points(max(one.preference - 1, 2 - one.preference))} %)"
    )
    accepted = [
        f"{name} {'acceptable' if good else 'not acceptable'}"
        for name, good in zip(names, one.acceptable, strict=True)
        if good is not None
    ]
    if one.b_first is not None:  # comments speak of the first and the second answer
        accepted.append(f"{b if one.b_first else a} stood first")
    words = one.comment or one.said
    return Verdict(one.who, "; ".join([said, *accepted]), _shown(words) if words else "")


def dots(opinions: Opinions, name: str) -> Drawing | None:
    """Every model by every measure: a dot with its interval and its rank, a panel for each."""
    import altair as alt

    panels: list[Any] = []
    said: list[str] = []
    for measure in opinions.measures:
        points_of = [_point(measure, model) for model in opinions.models if model in measure.runs]
        line = 50 if measure.kind != "benchmarks" else None
        title = "average of benchmarks" if line is None else f"win rate, {titled(measure)}"
        panels.append(_panel(alt, points_of, opinions.models, title, line, not panels))
        ranked = [f"{model} {points(measure.value(model) or 0)}" for model in measure.ranking]
        said.append(f"{title}: {', '.join(ranked)}")
    if not panels:
        return None
    chart = alt.concat(*panels, columns=3, spacing=18)
    return Drawing(
        svg(chart, name),
        f"Dots with intervals, from the best down. {'; '.join(said)}.",
        "Each model by benchmarks, judges and people, in points with 95 % intervals; numbers are "
        "ranks. Models stand in the order of the first panel. The dashed line is a win rate of "
        "one half.",
    )


def _point(measure: Measure, model: str) -> dict[str, Any]:
    value = measure.value(model) or 0.0
    known = measure.estimates.get(model)
    low, high = (known.low, known.high) if known else (value, value)
    return {
        "model": model,
        "value": 100 * value,
        "low": 100 * low,
        "high": 100 * high,
        "rank": str(measure.rank(model)),
        "hub": known is None,
    }


def _panel(
    alt: Any,
    rows: list[dict[str, Any]],
    order: list[str],
    title: str,
    line: int | None,
    first: bool,
) -> Any:
    axis = alt.Axis(labels=first, ticks=False, domain=False, labelLimit=200, labelPadding=6)
    y = alt.Y("model:N", sort=order, title=None, axis=axis, scale=alt.Scale(domain=order))
    scale = alt.Scale(domain=[0, 100])
    x = alt.X("value:Q", title=None, scale=scale, axis=alt.Axis(tickCount=5, grid=True))
    data = alt.Chart(alt.Data(values=rows))
    fill = alt.condition("datum.hub", alt.value("#ffffff"), alt.value("#0072b2"))
    layers = [
        data.mark_rule(color=INK, strokeWidth=1.3).encode(
            x=alt.X("low:Q", scale=scale, title=None), x2="high:Q", y=y
        ),
        data.mark_point(filled=True, size=70, opacity=1, stroke="#0072b2", strokeWidth=1.5).encode(
            x=x, y=y, fill=fill
        ),
        data.mark_text(align="left", fontSize=12, color=INK, fontWeight="bold").encode(
            x=alt.value(206), y=y, text="rank:N"
        ),
    ]
    if line is not None:
        at = alt.Chart(alt.Data(values=[{"value": line}]))
        layers.insert(
            0, at.mark_rule(color=INK, strokeDash=[3, 3], opacity=0.6).encode(x="value:Q")
        )
    return alt.layer(*layers).properties(
        width=200, height=24 * len(order), title=alt.Title(title, fontWeight="bold")
    )


def unique_tokens(opinions: Opinions, judged: Judged) -> dict[str, Drawing]:
    """Win rate against unique tokens by the name of the drawing, one for each judge and for people,
    where the answers of two models or more are at hand.

    What all others stood against is left out: its win rate is one half by definition.
    """
    texts: dict[str, list[str]] = {}
    for (_, run), text in judged.outputs.items():
        texts.setdefault(opinions.models_of.get(run, run), []).append(text)
    judges = [measure for measure in opinions.measures if measure.kind != "benchmarks"]
    ends = unlike([measure.name for measure in judges])
    drawn = {}
    for measure in judges:
        points = [_token_point(model, texts[model], found)
                  for model, found in measure.estimates.items() if model in texts]  # fmt: skip
        if len(points) > 1:
            name = f"unique-tokens-{ends[measure.name]}"
            found = pearson([one.unique for one in points], [one.win_rate for one in points])
            one = picture(points, found, WORDS_SAID, name)
            drawn[name] = replace(one, caption=f"By {subject(measure)}. {one.caption}")
    return drawn


def _token_point(model: str, texts: Sequence[str], found: Estimate) -> Point:
    rate = (100 * found.value, 100 * found.low, 100 * found.high)
    return Point(model, counts(texts).unique, *rate)


def notes(opinions: Opinions) -> list[str]:
    """How the numbers came about, and what stands against them."""
    found = []
    for measure in opinions.measures:
        if measure.kind == "benchmarks":
            continue
        hub = f", all against {measure.hub}" if measure.hub else " of models against each other"
        text = f"{subject(measure)}: {counted(measure.judgements, 'judgement')}{hub}"
        if measure.unknown:
            text += f"; {measure.unknown:,} without a verdict, left out"
        found.append(f"{capital(text)}.")
    return [*found, *opinions.warnings]
