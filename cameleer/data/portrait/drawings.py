"""The portrait's figures: how long texts are, how much is learned, what a limit cuts."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from math import log2, sqrt
from typing import Any

from cameleer.core.drawing import INK, LINES, Drawing, line_styles, svg
from cameleer.data.portrait.findings import NAMED
from cameleer.data.portrait.survey import LIMITS, Survey, quantiles

KINDS = {"prompt": "user message", "completion": "answer", "conversation": "whole conversation"}
BINS = 2  # to each doubling of the length
WIDTH = 220
MANY = 4  # files up to which lines can be told apart


def length_drawing(surveys: Sequence[Survey], names: Sequence[str]) -> Drawing:
    """How long prompts, answers and conversations are: a row for each file, a panel per kind."""
    import altair as alt

    rows: list[dict[str, Any]] = []
    for survey, name in zip(surveys, names, strict=True):
        for kind, title in KINDS.items():
            [middle] = quantiles(survey.lengths[kind], [0.5])
            place = {"file": name, "kind": title}
            rows += [{**place, **row} for row in histogram(survey.lengths[kind])]
            rows.append({**place, "median": max(1, middle)})
    top = max((row["high"] for row in rows if "high" in row), default=2)
    ticks = [4**power for power in range(12) if 4**power <= top]
    x = alt.X("middle:Q", title="tokens", scale=alt.Scale(type="log", base=2, domain=[1, top]),
              axis=alt.Axis(values=ticks, format=",", labelOverlap=True))  # fmt: skip
    y = alt.Y("share:Q", title=None, axis=None)
    data = alt.Chart(alt.Data(values=rows))
    areas = data.mark_area(interpolate="monotone", line=True, color=LINES[0], fillOpacity=0.3)
    rules = data.mark_rule(color=LINES[1], strokeWidth=2).encode(x="median:Q")
    header = alt.Header(labelAngle=0, labelAlign="left", labelLimit=150)
    chart = (
        alt.layer(areas.encode(x=x, y=y), rules)
        .properties(width=WIDTH, height=max(30, 120 // len(names)))
        .facet(
            row=alt.Row("file:N", sort=list(names), title=None, header=header),
            column=alt.Column("kind:N", sort=list(KINDS.values()), title=None),
            spacing=6,
        )
        .resolve_scale(y="independent")
    )
    said = "; ".join(
        f"{name}: "
        + ", ".join(
            f"{title} {middle:,} (9 of 10 up to {most:,})"
            for kind, title in KINDS.items()
            for middle, most in [quantiles(survey.lengths[kind], [0.5, 0.9])]
        )
        for survey, name in zip(surveys, names, strict=True)
    )
    return Drawing(
        svg(chart, "lengths"),
        f"How often each length occurs. Medians in tokens: {said}.",
        "Lengths in tokens, on a scale that doubles; each panel to its own height, the upright is "
        "the median. Single messages are counted without special tokens, conversations with all of "
        "the template.",
    )


def histogram(counts: Counter[int]) -> list[dict[str, float]]:
    """How dense lengths are: `share` of all per doubling of the length, `low` <= length < `high`.

    Bins grow by a constant ratio and hold at least one whole number; first bin to last.
    """
    edges = sorted({round(2 ** (step / BINS)) for step in range(BINS * 31)})
    bins: Counter[int] = Counter()
    for length, times in counts.items():
        bins[bisect_right(edges, max(1, length)) - 1] += times
    total = bins.total()
    return [
        {
            "low": edges[one],
            "middle": sqrt(edges[one] * edges[one + 1]),
            "high": edges[one + 1],
            "share": bins[one] / total / log2(edges[one + 1] / edges[one]),
        }
        for one in (range(min(bins), max(bins) + 1) if bins else ())
    ]


def cut_drawing(surveys: Sequence[Survey], names: Sequence[str]) -> Drawing:
    """What is lost at each limit: conversations that are cut, learned tokens that are gone."""
    panels = {"conversations": "conversations cut", "learned": "learned tokens lost"}
    rows = [
        {"file": name, "panel": title, "limit": limit, "lost": lost, "text": f"{lost:.1%}"}
        for survey, name in zip(surveys, names, strict=True)
        for kind, title in panels.items()
        for limit, lost in zip(LIMITS, lost_shares(survey, kind), strict=True)
    ]
    draw = _cut_lines if len(names) <= MANY else _cut_map
    at = LIMITS.index(NAMED)
    said = "; ".join(
        f"{name}: {lost_shares(survey, 'conversations')[at]:.1%} of conversations cut, "
        f"{lost_shares(survey, 'learned')[at]:.1%} of learned tokens lost"
        for survey, name in zip(surveys, names, strict=True)
    )
    return Drawing(
        svg(draw(rows, list(names), list(panels.values())), "cut"),
        f"What each limit cuts. At {NAMED:,} tokens: {said}.",
        f"What is lost when longer conversations are cut at a limit. The paper's is {NAMED:,} "
        "tokens up to 13B, and 1,024 above.",
    )


def _cut_lines(rows: list[dict[str, Any]], names: list[str], panels: list[str]) -> Any:
    """A line for each file: for few files."""
    import altair as alt

    colours, dashes = line_styles(names)
    legend = None
    if len(names) > 1:
        legend = alt.Legend(title=None, orient="bottom", columns=4, labelLimit=220,
                            symbolSize=300, symbolType="stroke")  # fmt: skip
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("limit:Q", title="limit in tokens", axis=alt.Axis(values=LIMITS, format=","),
                scale=alt.Scale(type="log", base=2, domain=[LIMITS[0], LIMITS[-1]])),
    )  # fmt: skip
    lines = base.mark_line(strokeWidth=1.8, point=alt.OverlayMarkDef(size=22)).encode(
        y=alt.Y("lost:Q", title="share lost", axis=alt.Axis(format="%", tickCount=5)),
        color=alt.Color("file:N", scale=alt.Scale(domain=names, range=colours), legend=legend),
        strokeDash=alt.StrokeDash("file:N", scale=alt.Scale(domain=names, range=dashes),
                                  legend=legend),
    )  # fmt: skip
    rule = base.transform_filter(f"datum.limit == {NAMED}").mark_rule(
        color=INK, strokeDash=[3, 3], strokeWidth=1
    )
    return (
        alt.layer(lines, rule)
        .properties(width=int(1.6 * WIDTH), height=170)
        .facet(column=alt.Column("panel:N", sort=panels, title=None))
    )


def _cut_map(rows: list[dict[str, Any]], names: list[str], panels: list[str]) -> Any:
    """A row of numbers for each file, darker where more is lost: for many files."""
    import altair as alt

    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("limit:O", title="limit in tokens", axis=alt.Axis(labelAngle=0, format=",")),
        y=alt.Y("file:N", sort=names, title=None, axis=alt.Axis(labelLimit=150)),
    )
    scale = alt.Scale(domain=[0, 1], range=["#f7f7f7", "#e08214"])
    cells = base.mark_rect().encode(color=alt.Color("lost:Q", scale=scale, legend=None))
    texts = base.mark_text(fontSize=11, color="#000000").encode(text="text:N")
    return (
        alt.layer(cells, texts)
        .properties(width=46 * len(LIMITS), height=20 * len(names))
        .facet(facet=alt.Facet("panel:N", sort=panels, title=None), columns=1)
    )


def lost_shares(survey: Survey, kind: str) -> list[float]:
    """Share of the conversations ("conversations", "emptied") or tokens lost at each of LIMITS."""
    if kind in ("conversations", "emptied"):
        whole = survey.lengths["conversation"].total()
    else:
        which = "learned" if kind == "learned" else "conversation"
        whole = sum(n * times for n, times in survey.lengths[which].items())
    return [float(lost) / max(1, whole) for lost in survey.cut[kind]] or [0.0] * len(LIMITS)
