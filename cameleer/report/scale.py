"""How scores grow with data and with the size of the model: drawn where a study has several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from cameleer.core.drawing import INK, Drawing, line_styles, svg
from cameleer.report.analysis import AVERAGE, LEVEL, Analysis, Matrix
from cameleer.report.facts import Table
from cameleer.report.figures import unlike
from cameleer.report.tables import Sheet
from cameleer.report.words import interval, p_is, p_value, points, signed
from cameleer.results.scaling import Curve, curves
from cameleer.results.stats import Estimate


@dataclass(frozen=True)
class Point:
    """A score on a benchmark, or on average, where its line has come to `x`."""

    line: str
    column: str
    x: float
    score: Estimate


@dataclass(frozen=True)
class Shown:
    """What the page says of growth: sentences, drawings by the names of their files, a table."""

    words: list[str]
    figures: dict[str, Drawing]
    table: Table
    sheet: Sheet


def shown(analysis: Analysis) -> Shown:
    """All that a study has to say: nothing where all is of one size."""
    found = curves(analysis.study)
    table = _table(found, len(analysis.matrices) > 1)
    words = list(map(_sentence, found))
    return Shown(words, _figures(analysis, found), table, _sheet(found, table))


def _figures(analysis: Analysis, found: Sequence[Curve]) -> dict[str, Drawing]:
    """By conversations and supervised tokens for each base; by parameters for all together."""
    drawn: dict[str, Drawing | None] = {}
    ends = unlike([matrix.base for matrix in analysis.matrices])
    for matrix in analysis.matrices:
        own = [curve for curve in found if curve.base == matrix.base]
        amounts: dict[str, Mapping[str, float]] = {
            "conversations": {name: size for one in own for name, size in one.sizes.items()},
            "supervised tokens": _tokens(analysis, matrix),
        }
        for what, of in amounts.items():
            name = f"growth-{what.replace(' ', '-')}" + f"-{ends[matrix.base]}" * (len(ends) > 1)
            caption = f"Scores by {what} learned, {matrix.base}, with 95 % intervals. "
            untuned = "The broken line is the untuned base."
            drawn[name] = lines(_by_amount(matrix, own, of), what, caption + untuned, name, matrix)
    caption = "Scores by the model's parameters with 95 % intervals, a line for each mixture."
    sizes = _by_parameters(analysis)
    drawn["growth-parameters"] = lines(sizes, "parameters", caption, "growth-parameters")
    return {name: drawing for name, drawing in drawn.items() if drawing}


def _tokens(analysis: Analysis, matrix: Matrix) -> dict[str, float]:
    """The supervised tokens that training learned from each mixture, over seeds on average."""
    found = {}
    for row in matrix.tuned:
        assert row.mixture is not None
        trains = [cell.train for cell in analysis.study.of(matrix.base, row.mixture) if cell.train]
        counts = [count for one in trains if (count := one.outcome.get("supervised_tokens"))]
        if counts:
            found[row.mixture] = mean(counts)
    return found


def _by_amount(matrix: Matrix, own: Sequence[Curve], amounts: Mapping[str, float]) -> list[Point]:
    rows = {row.mixture: row.scores for row in matrix.tuned}
    return [
        Point(_line(curve), column, amounts[name], score.estimate)
        for curve in own
        for name in curve.sizes
        for column in matrix.columns
        if name in amounts and (score := rows[name][column])
    ]


def _by_parameters(analysis: Analysis) -> list[Point]:
    sizes = analysis.study.parameters
    return [
        Point(row.label, column, sizes[matrix.base], score.estimate)
        for matrix in analysis.matrices
        for row in matrix.rows
        for column in matrix.columns
        if not row.reference and matrix.base in sizes and (score := row.scores[column])
    ]


def lines(
    found: Sequence[Point], what: str, caption: str, name: str, matrix: Matrix | None = None
) -> Drawing | None:
    """Scores with intervals along a logarithmic axis, a panel for each benchmark; None where there
    is but one size. matrix: whose untuned base is drawn across."""
    import altair as alt

    if len({point.x for point in found}) < 2:
        return None
    columns = list(dict.fromkeys(point.column for point in found))
    names = list(dict.fromkeys(point.line for point in found))
    panels = []
    for column in columns:
        own = [point for point in found if point.column == column]
        base = matrix.rows[0].scores[column] if matrix else None
        panels.append(_panel(alt, own, names, what, base.estimate.value if base else None))
    said = "; ".join(
        f"{point.line} on {point.column} at {point.x:,.0f} {points(point.score.value)}"
        for point in found
    )
    chart = alt.concat(*panels, columns=4 if len(columns) == 4 else 3, spacing=18)
    return Drawing(svg(chart, name), f"Lines of scores by {what}: {said}.", caption)


def _panel(
    alt: Any, found: Sequence[Point], names: list[str], what: str, untuned: float | None
) -> Any:
    rows = [
        {"line": one.line, "x": one.x, "value": 100 * one.score.value,
         "low": 100 * one.score.low, "high": 100 * one.score.high}
        for one in found
    ]  # fmt: skip
    colours, dashes = line_styles(names)
    there = sorted({one.x for one in found})
    axis = alt.Axis(labelExpr="format(datum.value, '.3~s')", values=there)
    x = alt.X("x:Q", title=what, scale=alt.Scale(type="log", nice=False, padding=12), axis=axis)
    score = alt.Scale(zero=False)
    value, low, middle = (
        alt.Y(f"{at}:Q", title=None, scale=score) for at in ("value", "low", "mean(value)")
    )
    legend = alt.Legend(orient="bottom", columns=3, labelLimit=220) if len(names) > 1 else None
    colour = alt.Color("line:N", title=None, legend=legend, scale=_scale(alt, names, colours))
    dash = alt.StrokeDash("line:N", title=None, legend=legend, scale=_scale(alt, names, dashes))
    data = alt.Chart(alt.Data(values=rows))
    layers = [
        data.mark_rule(opacity=0.5, strokeWidth=1.3).encode(x=x, y=low, y2="high:Q", color=colour),
        data.mark_line(strokeWidth=1.6).encode(x=x, y=middle, color=colour, strokeDash=dash),
        data.mark_point(filled=True, size=30, opacity=1).encode(x=x, y=value, color=colour),
    ]
    if untuned is not None:
        across = alt.Chart(alt.Data(values=[{"value": 100 * untuned}]))
        layers.append(across.mark_rule(color=INK, strokeDash=[3, 3]).encode(y=value))
    title = alt.Title(found[0].column, fontWeight="bold")
    return alt.layer(*layers).properties(width=185, height=150, title=title)


def _scale(alt: Any, names: list[str], styles: Sequence[Any]) -> Any:
    return alt.Scale(domain=names, range=list(styles))


def _line(curve: Curve) -> str:
    return f"{curve.name} ({curve.way})" if curve.way else curve.name


def _sentence(curve: Curve) -> str:
    """What doubling the data did, on average over benchmarks, or on the only one."""
    one = curve.growth[-1]
    where = "on average" if one.benchmark == AVERAGE else f"to {one.benchmark}"
    sizes = list(curve.sizes.values())
    clear = "" if one.p_holm < LEVEL else ", which is not clear of chance"
    luck = "" if one.luck else " The interval is for these very trainings, not for another seed."
    bent = [name for name, p in curve.straight.items() if p < LEVEL]
    curved = f" On {', '.join(bent)} not every doubling adds the same." if bent else ""
    return (
        f"On {curve.base}, each doubling of {_line(curve)} from {sizes[0]:,} to {sizes[-1]:,} "
        f"conversations adds {signed(one.value)} points {where} ({interval(one)}; adjusted "
        f"{p_is(one.p_holm)}){clear}.{luck}{curved}"
    )


def _table(found: Sequence[Curve], several: bool) -> Table:
    """What doubling adds to each benchmark."""
    rows = []
    for curve in found:
        sizes = list(curve.sizes.values())
        name = f"{curve.base}: {_line(curve)}" if several else _line(curve)
        for one in curve.growth:
            numbers = [signed(one.value), interval(one), p_value(one.p), p_value(one.p_holm)]
            rows.append([name, f"{sizes[0]:,} to {sizes[-1]:,}", one.benchmark, *numbers])
    head = ["data", "conversations", "benchmark", "per doubling", "95 % interval", "p", "p (Holm)"]
    return Table("What each doubling of the data adds, in points", head, rows, ("benchmark",))


def _sheet(found: Sequence[Curve], table: Table) -> Sheet:
    """The table as files; in the CSV in 0..1, upward where lower is better."""
    rows = [
        [curve.base, _line(curve), *list(curve.sizes.values())[:: len(curve.sizes) - 1],
         one.benchmark, one.value, one.low, one.high, one.p, one.p_holm, one.luck]
        for curve in found
        for one in curve.growth
    ]  # fmt: skip
    head = ["base", "data", "from", "to", "benchmark", "value", "low", "high", "p", "p_holm"]
    return Sheet("growth", [table], [*head, "luck"], rows)
