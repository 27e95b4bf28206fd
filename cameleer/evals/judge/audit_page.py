"""An audit of judges as tables, for a terminal and for a page with its pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import cameleer
from cameleer.core.drawing import INK, LINES, STYLE, Drawing, line_styles, svg
from cameleer.core.files import replacing
from cameleer.core.page import page_template
from cameleer.evals.judge.audit import Audit, Report, Trait
from cameleer.evals.judge.leaderboard import Standing
from cameleer.results.agreement import Agreement
from cameleer.results.stats import Estimate, Paired

NONE = "–"
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Table:
    """A table: what it says in a sentence, its columns, and a row for each judge."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)


def share(found: Estimate | None) -> str:
    """A share in percent with its interval."""
    if found is None:
        return NONE
    return f"{100 * found.value:.1f} ({100 * found.low:.1f}–{100 * found.high:.1f})"


def coefficient(found: Agreement) -> str:
    """A coefficient with its interval, as far as they are defined."""
    if found.value is None:
        return NONE
    limits = "" if found.low is None else f" ({_signed(found.low)} to {_signed(found.high)})"
    return f"{_signed(found.value)}{limits}"


def difference(found: Paired | None) -> str:
    """A difference in points with its interval."""
    if found is None:
        return NONE
    parts = (f"{100 * value:+.1f}" for value in (found.difference, found.low, found.high))
    return "{} ({} to {})".format(*parts).replace("-", "−")


def p_value(p: float | None) -> str:
    """As many digits as carry meaning."""
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _signed(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def tables(report: Report) -> list[Table]:
    """All that there is to show: columns in which nobody has anything are left out."""
    found = [_leaderboard(report), _order(report), _traits(report), _own(report), _spread(report)]
    return [_lean(table) for table in found if table and table.rows]


def _lean(table: Table) -> Table:
    told = [
        any(row[at] not in (NONE, "") for row in table.rows) for at in range(len(table.columns))
    ]
    columns, *rows = (
        [cell for cell, kept in zip(row, told, strict=True) if kept]
        for row in (table.columns, *table.rows)
    )
    return Table(table.title, columns, rows, table.notes)


def _leaderboard(report: Report) -> Table | None:
    """Judges and dummies by how far they agree with the labels."""
    columns = ["judge", "labelled", "right, %", "ahead of", "by points", "p", "beats them all",
               "kappa", "alpha"]  # fmt: skip
    rows = [_standing(row) for row in report.leaderboard]
    notes = [
        "right: sides with the label where that is no draw; a draw or silence of the judge counts "
        "half. ahead of: the dummy that it is least ahead of. p: that it is no better than every "
        "dummy, after Holm's correction over judges.",
    ]
    if report.people:
        people = report.people
        notes.append(_among(people.labellers, people.exact, people.kappa, people.alpha))
    return Table("Agreement with the labels", columns, rows, notes)


def _among(count: int, exact: Agreement, kappa: Agreement, alpha: Agreement) -> str:
    if exact.value is None:
        return f"{count} gave labels; no item has two labels, so that their agreement is not known."
    return (
        f"{count} gave labels; two of them said the same of {100 * exact.value:.1f} % "
        f"({exact.n} items), kappa {coefficient(kappa)}, alpha {coefficient(alpha)}."
    )


def _standing(row: Standing) -> list[str]:
    hardest = row.hardest
    return [
        f"{row.judge} (dummy)" if row.is_dummy else row.judge,
        str(row.n) + (f", {row.silent} silent" if row.silent else ""),
        share(row.accuracy),
        hardest.dummy if hardest else "",
        difference(hardest.found) if hardest else "",
        "" if row.p is None else p_value(row.p),
        "" if row.p is None else "yes" if row.beats else "not shown",
        coefficient(row.kappa),
        coefficient(row.alpha),
    ]


def _audits(report: Report) -> list[Audit]:
    return [*report.judges, *([report.people.audit] if report.people else [])]


def _order(report: Report) -> Table:
    """Whether the place of an answer matters, and whether a verdict stands."""
    columns = [
        "judge", "judgements", "no verdict", "ties", "first shown wins, %", "turned, flips, %",
        "to the first shown", "to the second", "says the same twice, %",
    ]  # fmt: skip
    rows = [
        [
            one.judge,
            str(one.judgements),
            str(one.silent),
            str(one.ties),
            share(one.first),
            share(one.orders.flips if one.orders else None),
            share(one.orders.to_first if one.orders else None),
            share(one.orders.to_second if one.orders else None),
            share(one.repeats),
        ]
        for one in _audits(report)
    ]
    return Table("Order and consistency", columns, rows)


def _traits(report: Report) -> Table:
    """What the longer answer has from being longer, and a list from being one."""
    columns = [
        "judge", "longer wins, %", "more than people", "odds where twice as long", "a list wins, %",
        "more than people", "by AlpacaEval's rule, %",
    ]  # fmt: skip
    rows = []
    for one in _audits(report):
        odds = one.doubling
        rows.append(
            [
                one.judge,
                *_trait(one.longer),
                NONE if odds is None else f"× {odds.odds:.2f} ({odds.low:.2f}–{odds.high:.2f})",
                *_trait(one.lists),
                _trait(one.lists_as_published)[0],
            ]
        )
    notes = [
        "longer: by more than 30 characters, draws left out. more than people: in points, on the "
        "items that both judged. odds: within pairs of models, so that models which are better and "
        "longer do not make them. a list: two lines or more with a bullet or number.",
    ]
    shown = [row for row in rows if any(cell != NONE for cell in row[1:])]
    return Table("Length and lists", columns, shown, notes)


def _trait(found: Trait | None) -> tuple[str, str]:
    return (share(found.share), difference(found.against_people)) if found else (NONE, NONE)


def _own(report: Report) -> Table:
    """Judges on the answers of their own model."""
    rows = []
    for one in report.judges:
        if own := one.own:
            rows.append(
                [one.judge, own.model, str(own.found.n), share(own.share), share(own.others),
                 own.by, difference(own.found), p_value(own.found.p)]
            )  # fmt: skip
    columns = ["judge", "own model", "items", "prefers it, %", "others, %", "who", "by points", "p"]
    return Table("Self-preference", columns, rows)


def _spread(report: Report) -> Table | None:
    """How far judges agree with each other."""
    if report.spread is None:
        return None
    spread = report.spread
    rows = [
        [pair, f"{100 * low:.1f}", f"{100 * high:.1f}", f"{100 * (high - low):.1f}"]
        for pair, (low, high) in spread.win_rates.items()
    ]
    agreed = "" if spread.exact.value is None else f"{100 * spread.exact.value:.1f} %"
    notes = [
        f"Two judges say the same of {agreed} ({spread.exact.n} items); kappa "
        f"{coefficient(spread.kappa)}, alpha {coefficient(spread.alpha)}."
    ]
    columns = ["A / B", "lowest win rate of B, %", "highest", "apart"]
    return Table("Between judges", columns, rows, notes)


def write_page(report: Report, out: Path) -> None:
    """Write the audit as one HTML page that needs nothing else."""
    drawings = [drawing for drawing in (_lanes(report), _curve(report)) if drawing]
    shown = page_template(HERE / "audit.html.jinja")
    html = shown.render(
        report=report,
        tables=tables(report),
        drawings=drawings,
        style=STYLE,
        version=cameleer.__version__,
    )
    with replacing(out) as handle:
        handle.write(html)


def _curve(report: Report) -> Drawing | None:
    """How often the longer answer wins, by how much longer it is."""
    import altair as alt

    audits = [one for one in _audits(report) if one.by_length]
    if not audits:
        return None
    names = [one.judge for one in audits]
    ends = sorted({(step.low, step.high) for one in audits for step in one.by_length})
    order = [_ratio(*end) for end in ends]
    rows = [
        {
            "judge": one.judge,
            "ratio": _ratio(step.low, step.high),
            "share": 100 * step.share.value,
            "low": 100 * step.share.low,
            "high": 100 * step.share.high,
        }
        for one in audits
        for step in one.by_length
    ]
    colours, _ = line_styles(names)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("ratio:N", sort=order, title="how many times as long as the other answer",
                axis=alt.Axis(labelAngle=0)),
        color=alt.Color("judge:N", scale=alt.Scale(domain=names, range=colours), title=None),
        xOffset=alt.XOffset("judge:N", scale=alt.Scale(domain=names)),
    )  # fmt: skip
    y = alt.Y("share:Q", title="the longer answer wins (%)", scale=alt.Scale(domain=[0, 100]))
    shape = alt.Shape("judge:N", scale=alt.Scale(domain=names), title=None)
    even = alt.Chart(alt.Data(values=[{"share": 50}])).mark_rule(color=INK, strokeDash=[2, 3])
    chart = alt.layer(
        even.encode(y="share:Q"),
        base.mark_rule(strokeWidth=1.5).encode(y="low:Q", y2="high:Q"),
        base.mark_point(filled=True, size=50, opacity=1).encode(y=y, shape=shape),
    ).properties(width=600, height=260)
    said = "; ".join(f"{row['judge']} {row['ratio']} {row['share']:.0f} %" for row in rows)
    return Drawing(
        svg(chart, "length"),
        f"How often the longer answer wins, by how much longer it is: {said}.",
        "How often the longer answer wins, draws half, with 95 % intervals. Flat at 50: length "
        "does not matter. Models that are better and longer lift it too: see the odds.",
    )


def _ratio(low: float, high: float) -> str:
    return f"> {low:g}" if math.isinf(high) else f"{low:g}–{high:g}"


def _lanes(report: Report) -> Drawing | None:
    """How far judges and dummies agree with the labels, with intervals."""
    import altair as alt

    rows = [
        {
            "judge": row.judge,
            "what": "dummy" if row.is_dummy else "judge",
            "share": 100 * row.accuracy.value,
            "low": 100 * row.accuracy.low,
            "high": 100 * row.accuracy.high,
        }
        for row in report.leaderboard
        if row.accuracy
    ]
    if not rows:
        return None
    kinds = ["judge", "dummy"]
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("judge:N", sort=[row["judge"] for row in rows], title=None)
    )
    x = alt.X("share:Q", title="sides with the label (%)", scale=alt.Scale(domain=[0, 100]))
    chart = alt.layer(
        base.mark_rule(strokeWidth=1.5, color=INK).encode(x="low:Q", x2="high:Q"),
        base.mark_point(filled=True, size=70, opacity=1).encode(
            x=x,
            shape=alt.Shape("what:N", scale=alt.Scale(domain=kinds), title=None),
            color=alt.Color("what:N", scale=alt.Scale(domain=kinds, range=LINES[:2]), title=None),
        ),
    ).properties(width=520, height=34 * len(rows))
    said = "; ".join(f"{row['judge']} {row['share']:.1f} %" for row in rows)
    return Drawing(
        svg(chart, "board"),
        f"Agreement with the labels: {said}.",
        "How often each sides with the label, with 95 % intervals, which do not compare them: p in "
        "the table does, item by item.",
    )
