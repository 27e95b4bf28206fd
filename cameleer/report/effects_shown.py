"""What each data set did, as a reader sees it: effects in a figure and a table, and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from cameleer.core.drawing import INK, Drawing, svg
from cameleer.report.analysis import BETTER, WORSE
from cameleer.report.facts import Table
from cameleer.report.figures import unlike
from cameleer.report.tables import Sheet
from cameleer.report.words import MARKS, interval, p_is, points, signed
from cameleer.results.attribution import CLEAR, Told, effect_rows
from cameleer.results.effects import AVERAGE, Attribution, Best, Effect

UNCLEAR = "not clear"
CLEARLY = "▲ helps, ▼ harms where clear of chance"
SHAPES = {BETTER: "triangle-up", WORSE: "triangle-down", UNCLEAR: "circle"}
COLOURS = {BETTER: "#3b6fa0", WORSE: "#c2570c", UNCLEAR: "#8a8a8a"}


@dataclass(frozen=True)
class Cell:
    """An effect of the table: in points, what Holm's correction leaves of it, and its interval."""

    verdict: str
    value: str
    interval: str
    p: str


@dataclass(frozen=True)
class Shown:
    """One base and way of training: all of it, or `why` there is nothing. name: of the figure."""

    title: str
    name: str
    why: str
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]
    figure: Drawing | None
    best: list[tuple[str, str]]
    notes: Sequence[str]


def shown(told: Sequence[Told]) -> list[Shown]:
    """What the page shows of each base and way."""
    names = unlike([one.title for one in told])
    several = len(told) > 1
    return [_shown(one, f"effects-{names[one.title]}" if several else "effects") for one in told]


def figures(effects: Sequence[Shown]) -> dict[str, Drawing]:
    """The drawings by the names of their files."""
    return {one.name: one.figure for one in effects if one.figure}


def _shown(told: Told, name: str) -> Shown:
    found = told.found
    if found is None:
        return Shown(told.title, name, told.why, [], [], None, [], [])
    columns = _columns(found)
    rows = [
        (source, [_cell(one) for one in found.effects if one.source == source])
        for source in found.sources
    ]
    best = [(one.benchmark, _predicted(one)) for one in found.best]
    return Shown(
        told.title, name, "", columns, rows, figure(told.title, found, name), best, found.notes
    )


def _columns(found: Attribution) -> list[str]:
    """The benchmarks, and the average if there are several."""
    return list(dict.fromkeys(one.benchmark for one in found.effects))


def verdict(effect: Effect) -> str:
    """Whether an effect is one after Holm's correction, and which way."""
    if effect.p_holm >= CLEAR:
        return UNCLEAR
    return BETTER if effect.value > 0 else WORSE


def _cell(effect: Effect) -> Cell:
    return Cell(verdict(effect), signed(effect.value), interval(effect), p_is(effect.p_holm))


def _predicted(best: Best) -> str:
    """The word, and in numbers what is predicted and gained."""
    low, high = max(0.0, best.low), min(1.0, best.high)
    score = f"Predicted: {points(best.value)} ({points(low)} to {points(high)})"
    gain = f"{signed(best.gain)}, {signed(best.gain_low)} to {signed(best.gain_high)}"
    over = f"; over {best.against} {gain}" if best.gain else ""
    return f"{best.word} {score}{over}."


def in_words(told: Sequence[Told]) -> list[str]:
    """The answer in words: a paragraph for each base and way whose effects are known."""
    several = len(told) > 1
    return [_in_words(one.found, f" ({one.title})" if several else "") for one in told if one.found]


def _in_words(found: Attribution, whose: str) -> str:
    single = [one for one in found.effects if one.benchmark != AVERAGE]
    clear = [one for one in single if verdict(one) != UNCLEAR]
    last = found.best[-1]
    where = "On average" if last.benchmark == AVERAGE else f"On {last.benchmark}"
    best = f"{where}: {last.word}"
    if not clear:
        return (
            f"Source by source{whose}: none of the {len(single)} effects of a source on a "
            f"benchmark is clear of chance. {best}"
        )
    one = max(clear, key=lambda effect: abs(effect.value))
    return (
        f"Source by source{whose}: the largest effect that is clear of chance is that of "
        f"{one.source} on {one.benchmark}, {signed(one.value)} points ({interval(one)}; adjusted "
        f"{p_is(one.p_holm)}); {len(clear)} of {len(single)} effects are clear. {best}"
    )


def figure(title: str, found: Attribution, name: str) -> Drawing:
    """Effects with intervals around a line at zero, a panel for each benchmark."""
    import altair as alt

    rows = [
        {
            "source": one.source,
            "benchmark": one.benchmark,
            "verdict": verdict(one),
            "value": _within(one.value),
            "low": _within(one.low),
            "high": _within(one.high),
        }
        for one in found.effects
    ]
    reach = [_within(end) for one in found.effects for end in (one.low, one.high)]
    columns = _columns(found)
    across = 4 if len(columns) == 4 else 3
    by_column = [[row for row in rows if row["benchmark"] == column] for column in columns]
    panels = [
        _panel(alt, own, found.sources, (min(reach), max(reach)), first=index % across == 0)
        for index, own in enumerate(by_column)
    ]
    said = "; ".join(
        f"{one.source} on {one.benchmark} {signed(one.value)} ({interval(one)}), {verdict(one)}"
        for one in found.effects
    )
    return Drawing(
        svg(alt.concat(*panels, columns=across, spacing=18), name),
        f"Effects of each source in points, with intervals: {said}.",
        f"What all of each source adds to a score, in points with 95 % intervals, {title}. "
        "The line marks no effect. Triangles, up or down: clear of chance after Holm's correction.",
    )


def _within(share: float) -> float:
    """In points, no further out than scores can be apart."""
    return max(-100.0, min(100.0, 100 * share))


def _panel(
    alt: Any, rows: list[dict[str, Any]], order: Sequence[str], reach: Sequence[float], first: bool
) -> Any:
    axis = alt.Axis(labels=first, ticks=False, domain=False, labelLimit=160, labelPadding=5)
    y = alt.Y("source:N", sort=list(order), title=None, axis=axis)
    scale = alt.Scale(domain=list(reach), zero=True, nice=True)
    low, value = (
        alt.X(f"{field}:Q", title=None, scale=scale, axis=alt.Axis(tickCount=5))
        for field in ("low", "value")
    )
    colours = alt.Scale(domain=list(COLOURS), range=list(COLOURS.values()))
    shapes = alt.Scale(domain=list(SHAPES), range=list(SHAPES.values()))
    colour = alt.Color("verdict:N", scale=colours, legend=None)
    shape = alt.Shape("verdict:N", scale=shapes, legend=None)
    data = alt.Chart(alt.Data(values=rows))
    nothing = alt.Chart(alt.Data(values=[{"value": 0}]))
    layers = [
        nothing.mark_rule(color=INK, strokeDash=[3, 3]).encode(x="value:Q"),
        data.mark_rule(strokeWidth=1.6).encode(x=low, x2="high:Q", y=y, color=colour),
        data.mark_point(filled=True, size=60, opacity=1).encode(
            x=value, y=y, color=colour, shape=shape
        ),
    ]
    title = alt.Title(rows[0]["benchmark"], fontWeight="bold")
    return alt.layer(*layers).properties(width=185, height=24 * len(order), title=title)


def sheet(told: Sequence[Told]) -> Sheet:
    """The effects as files; in the CSV in 0..1, upward where lower is better."""
    rows = [
        {"base": one.base, "way": one.way, **row}
        for one in told
        if one.found
        for row in effect_rows(one.found)
    ]
    head = ["base", "way", *(field.name for field in fields(Effect)), "clear"]
    tables = [_table(one.title, one.found) for one in told if one.found]
    return Sheet("effects", tables, head, [[row[name] for name in head] for row in rows])


def _table(title: str, found: Attribution) -> Table:
    rows = [
        [
            source,
            *(
                f"{MARKS.get(verdict(one), '')}{signed(one.value)} [{interval(one)}]"
                for one in found.effects
                if one.source == source
            ),
        ]
        for source in found.sources
    ]
    about = "what all of a source adds to a score, in points, 95 % intervals in brackets"
    return Table(f"{title}: {about} ({CLEARLY})", ["source", *_columns(found)], rows)
