"""The portrait's figures: how long texts are, how much is learned, what a limit cuts."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from math import log2, sqrt
from typing import Any

from cameleer.core.drawing import INK, Drawing, line_styles, svg
from cameleer.data.findings import NAMED
from cameleer.data.survey import LIMITS, Survey, quantiles

KINDS = {"prompt": "user message", "completion": "answer", "conversation": "whole conversation"}
BINS = 2  # to each doubling of the length
WIDTH = 250


def length_drawing(surveys: Sequence[Survey], names: Sequence[str]) -> Drawing:
    """How long prompts, answers and conversations are: a panel for each kind, a line per file."""
    import altair as alt

    rows: list[dict[str, Any]] = []
    for survey, name in zip(surveys, names, strict=True):
        for kind, title in KINDS.items():
            rows += [
                {"file": name, "kind": title, **row} for row in histogram(survey.lengths[kind])
            ]
    colours, dashes = line_styles(list(names))
    top = max((row["high"] for row in rows), default=2)
    ticks = [4**power for power in range(12) if 4**power <= top * 2]
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_line(strokeWidth=1.8, interpolate="monotone")
        .encode(
            x=alt.X("middle:Q", title="tokens", scale=alt.Scale(type="log", base=2),
                    axis=alt.Axis(values=ticks, format=",")),
            y=alt.Y("share:Q", title="share per doubling", axis=alt.Axis(format="%", tickCount=4)),
            color=alt.Color("file:N", scale=alt.Scale(domain=list(names), range=colours),
                            legend=_legend(alt, names)),
            strokeDash=alt.StrokeDash("file:N", scale=alt.Scale(domain=list(names), range=dashes),
                                      legend=_legend(alt, names)),
        )
        .properties(width=WIDTH, height=150)
        .facet(column=alt.Column("kind:N", sort=list(KINDS.values()), title=None))
    )  # fmt: skip
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
        f"Lines of how often each length occurs. Medians in tokens: {said}.",
        "Lengths in tokens, on a scale that doubles: the area under a line is 1. Single "
        "messages are counted without special tokens, conversations with all of the template.",
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
    import altair as alt

    panels = {"conversations": "conversations cut", "learned": "learned tokens lost"}
    rows = [
        {"file": name, "panel": title, "limit": limit, "lost": lost}
        for survey, name in zip(surveys, names, strict=True)
        for kind, title in panels.items()
        for limit, lost in zip(LIMITS, lost_shares(survey, kind), strict=True)
    ]
    colours, dashes = line_styles(list(names))
    domain = [LIMITS[0], LIMITS[-1]]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("limit:Q", title="limit in tokens", axis=alt.Axis(values=LIMITS, format=","),
                scale=alt.Scale(type="log", base=2, domain=domain)),
    )  # fmt: skip
    lines = base.mark_line(strokeWidth=1.8, point=alt.OverlayMarkDef(size=22)).encode(
        y=alt.Y("lost:Q", title="share lost", axis=alt.Axis(format="%", tickCount=5)),
        color=alt.Color("file:N", scale=alt.Scale(domain=list(names), range=colours),
                        legend=_legend(alt, names)),
        strokeDash=alt.StrokeDash("file:N", scale=alt.Scale(domain=list(names), range=dashes),
                                  legend=_legend(alt, names)),
    )  # fmt: skip
    rule = base.transform_filter(f"datum.limit == {NAMED}").mark_rule(
        color=INK, strokeDash=[3, 3], strokeWidth=1
    )
    chart = (
        alt.layer(lines, rule)
        .properties(width=int(1.5 * WIDTH), height=170)
        .facet(column=alt.Column("panel:N", sort=list(panels.values()), title=None))
    )
    at = LIMITS.index(NAMED)
    said = "; ".join(
        f"{name}: {lost_shares(survey, 'conversations')[at]:.1%} of conversations cut, "
        f"{lost_shares(survey, 'learned')[at]:.1%} of learned tokens lost"
        for survey, name in zip(surveys, names, strict=True)
    )
    return Drawing(
        svg(chart, "cut"),
        f"Lines of what each limit cuts. At {NAMED:,} tokens: {said}.",
        f"What is lost when longer conversations are cut. The dashed upright marks {NAMED:,}, the "
        "paper's limit up to 13B (1,024 above).",
    )


def lost_shares(survey: Survey, kind: str) -> list[float]:
    """Share of the conversations ("conversations", "emptied") or tokens lost at each of LIMITS."""
    if kind in ("conversations", "emptied"):
        whole = survey.lengths["conversation"].total()
    else:
        which = "learned" if kind == "learned" else "conversation"
        whole = sum(n * times for n, times in survey.lengths[which].items())
    return [float(lost) / max(1, whole) for lost in survey.cut[kind]] or [0.0] * len(LIMITS)


def _legend(alt: Any, names: Sequence[str]) -> Any:
    if len(names) == 1:
        return None
    return alt.Legend(
        title=None, orient="bottom", columns=4, labelLimit=220, symbolSize=300, symbolType="stroke"
    )
