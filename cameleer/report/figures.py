"""The report's figures: inline SVG with a text alternative, drawn offline by Vega-Lite.

Colours hold for the colour-blind (blue and orange around a neutral middle; Okabe and Ito's set for
lines), and none carries meaning alone: values are written out, lines differ in dash as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from cameleer.core.drawing import DASHES, INK, LINES, Drawing, svg
from cameleer.report.analysis import Matrix
from cameleer.report.words import MARKS, signed
from cameleer.results.store import Cell

BARS = {"base": "#9a9a9a", "mixture": "#3b6fa0", "reference": "#b59a5b"}
POINTS_OF_A_CURVE = 120  # longer curves are averaged in stretches of equally many steps


def heat_map(matrix: Matrix, name: str) -> Drawing | None:
    """Difference of every mixture to the base on every benchmark and on average, in points."""
    import altair as alt

    rows: list[dict[str, Any]] = []
    for row in matrix.tuned:
        for column in matrix.columns:
            score = row.scores[column]
            if score is None or score.difference is None:
                continue
            moved, seen = score.difference.paired.difference, score.difference.verdict
            mark = f" {MARKS[seen]}".rstrip() if seen in MARKS else ""
            rows.append(
                {
                    "mixture": row.label,
                    "column": column,
                    "gain": 100 * score.difference.gain,
                    "text": signed(moved) + mark,
                }
            )
    if not rows:
        return None
    limit = max(5.0, *(abs(row["gain"]) for row in rows))
    ends = alt.Scale(domain=[-limit, 0, limit], range=["#e08214", "#f7f7f7", "#4a86c5"])
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("column:N", sort=matrix.columns, title=None, axis=_top_axis(alt)),
        y=alt.Y("mixture:N", sort=[row.label for row in matrix.tuned], title=None),
    )
    cells = base.mark_rect(stroke="white", strokeWidth=2).encode(
        color=alt.Color(
            "gain:Q", scale=ends, title="points", legend=alt.Legend(gradientLength=90, tickCount=3)
        )
    )
    texts = base.mark_text(fontSize=12, color=INK).encode(text="text:N")
    width = 84 * len(matrix.columns)
    chart = (cells + texts).properties(width=width, height=30 * len(matrix.tuned))
    said = "; ".join(f"{row['mixture']} on {row['column']} {row['text']}" for row in rows)
    return Drawing(
        svg(chart, name),
        f"Heat map of differences to the base in points: {said}.",
        f"Difference to the untuned base, in points, {matrix.base}. "
        "▲ and ▼ mark what is detectably better or worse.",
    )


def bars(matrix: Matrix, name: str) -> Drawing | None:
    """Score of every model on every benchmark with its interval, one panel for each benchmark."""
    import altair as alt

    panels: list[Any] = []
    said: list[str] = []
    order = [row.label for row in matrix.rows]
    across = 4 if len(matrix.columns) == 4 else 3
    for column in matrix.columns:
        rows = [
            {
                "model": row.label,
                "value": 100 * score.estimate.value,
                "low": 100 * score.estimate.low,
                "high": 100 * score.estimate.high,
                "kind": "reference" if row.reference else "mixture" if row.mixture else "base",
            }
            for row in matrix.rows
            if (score := row.scores[column])
        ]
        if not rows:
            continue
        panels.append(_panel(alt, rows, order, column, first=len(panels) % across == 0))
        said.append(f"{column}: " + ", ".join(f"{r['model']} {r['value']:.1f}" for r in rows))
    if not panels:
        return None
    chart = alt.concat(*panels, columns=across, spacing=18)
    return Drawing(
        svg(chart, name),
        f"Bars of scores with intervals. {'; '.join(said)}.",
        f"Scores with 95 % intervals, {matrix.base}. The line marks the untuned base.",
    )


def _panel(alt: Any, rows: list[dict[str, Any]], order: list[str], title: str, first: bool) -> Any:
    axis = alt.Axis(labels=first, ticks=False, domain=False, labelLimit=160, labelPadding=5)
    y = alt.Y("model:N", sort=order, title=None, axis=axis, scale=alt.Scale(domain=order))
    x = alt.X("value:Q", title=None, scale=alt.Scale(domain=[0, 100]), axis=alt.Axis(tickCount=5))
    colour = alt.Color(
        "kind:N", scale=alt.Scale(domain=list(BARS), range=list(BARS.values())), legend=None
    )
    data = alt.Chart(alt.Data(values=rows))
    layers = [
        data.mark_bar(height=9).encode(x=x, y=y, color=colour),
        data.mark_rule(color=INK, strokeWidth=1.3).encode(x="low:Q", x2="high:Q", y=y),
    ]
    base = [row for row in rows if row["kind"] == "base"]
    if base:
        line = alt.Chart(alt.Data(values=base)).mark_rule(color=INK, strokeDash=[3, 3])
        layers.append(line.encode(x="value:Q"))
    return alt.layer(*layers).properties(
        width=185, height=19 * len(order), title=alt.Title(title, fontWeight="bold")
    )


def curves(cells: Sequence[Cell], base: str, name: str) -> Drawing | None:
    """Training loss by supervised tokens seen, a line for each mixture, seeds laid over another."""
    import altair as alt

    rows: list[dict[str, Any]] = []
    for cell in cells:
        if cell.train is None or cell.mixture is None:
            continue
        run = f"{cell.mixture} {cell.seed}"
        for row in curve(cell.train.metrics):
            rows.append({"mixture": cell.mixture, "run": run, **row})
    if not rows:
        return None
    names = list(dict.fromkeys(row["mixture"] for row in rows))
    colours = [LINES[index % len(LINES)] for index in range(len(names))]
    dashes = [DASHES[index // len(LINES) % len(DASHES)] for index in range(len(names))]
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_line(strokeWidth=1.6)
        .encode(
            x=alt.X("tokens:Q", title="supervised tokens", axis=_counts(alt)),
            y=alt.Y("loss:Q", title="loss (nats per token)", scale=alt.Scale(zero=False)),
            detail="run:N",
            color=alt.Color("mixture:N", scale=alt.Scale(domain=names, range=colours), title=None),
            strokeDash=alt.StrokeDash(
                "mixture:N", scale=alt.Scale(domain=names, range=dashes), title=None
            ),
        )
        .properties(width=560, height=260)
    )
    last = {row["mixture"]: row["loss"] for row in rows}
    said = ", ".join(f"{mixture} ends at {loss:.2f}" for mixture, loss in last.items())
    return Drawing(
        svg(chart, name),
        f"Lines of training loss by supervised tokens: {said}.",
        f"Training loss by supervised tokens, {base}. Long runs are averaged in at most "
        f"{POINTS_OF_A_CURVE} stretches. Losses on different data are not comparable as such.",
    )


def curve(metrics: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Supervised tokens learned so far, and the loss per token since the point before.

    metrics: rows of metrics.jsonl, whose `supervised_tokens` are those of one step and whose `loss`
    is the mean over them.
    """
    rows = [
        (int(row["supervised_tokens"]), float(row["loss"]))
        for row in metrics
        if isinstance(row.get("loss"), int | float) and row.get("supervised_tokens")
    ]
    stretch = max(1, -(-len(rows) // POINTS_OF_A_CURVE))
    points, seen = [], 0
    for start in range(0, len(rows), stretch):
        part = rows[start : start + stretch]
        tokens = sum(count for count, _ in part)
        seen += tokens
        loss = sum(count * loss for count, loss in part) / tokens
        points.append({"tokens": float(seen), "loss": loss})
    return points


def unlike(names: Sequence[str]) -> dict[str, str]:
    """For each name one that a file may bear, no two the same."""
    found: dict[str, str] = {}
    for name in names:
        plain = own = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "model"
        number = 2
        while own in found.values():
            own, number = f"{plain}-{number}", number + 1
        found[name] = own
    return found


def _counts(alt: Any) -> Any:
    """An axis of counts: 0, 200k, 1M."""
    return alt.Axis(labelExpr="format(datum.value, '~s')", tickCount=6)


def _top_axis(alt: Any) -> Any:
    """An axis above, with labels that go on in a second line after a colon."""
    lines = "split(replace(datum.label, ':', ':|'), '|')"
    bare = {"labelAngle": 0, "ticks": False, "domain": False, "labelLimit": 110}
    return alt.Axis(orient="top", labelExpr=lines, labelPadding=18, **bare)
