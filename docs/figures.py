"""Draws the figures of docs/statistics.md into docs/assets: `python -m docs.figures`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt
from scipy.stats import binom

from cameleer.core.drawing import line_styles, svg
from cameleer.results.stats import mean_interval, smallest_effect

ASSETS = Path(__file__).parent / "assets"
ITEMS = (25, 50, 100, 200, 400, 800, 1600)
DIFFER = (0.05, 0.1, 0.2, 0.4)
SHARES = [step / 100 for step in range(2, 99)]
Z = 1.959964


def smallest_rows() -> list[dict[str, Any]]:
    """The smallest difference, in points, by items and by the share of them that differ."""
    return [
        {"items": n, "differ": f"{psi:.0%}", "points": 100 * smallest_effect(n, discordance=psi)}
        for psi in DIFFER
        for n in ITEMS
    ]


def coverage_rows(n: int = 50) -> list[dict[str, Any]]:
    """How often the intervals of n right-or-wrong items hold the truth, by the truth; in percent.

    Summed over all outcomes: ours, and the textbook's mean ± 1.96 standard errors.
    """
    ours = [mean_interval([1.0] * right + [0.0] * (n - right)) for right in range(n + 1)]
    halves = [Z * (right / n * (1 - right / n) / n) ** 0.5 for right in range(n + 1)]
    limits = {
        "ours (Wilson)": [(one.low, one.high) for one in ours],
        "mean ± 1.96 standard errors": [
            (right / n - half, right / n + half) for right, half in enumerate(halves)
        ],
    }
    return [
        {
            "truth": 100 * p,
            "interval": name,
            "held": 100 * sum(
                float(binom.pmf(right, n, p))
                for right, (low, high) in enumerate(found)
                if low <= p <= high
            ),
        }
        for name, found in limits.items()
        for p in SHARES
    ]  # fmt: skip


def lines(rows: list[dict[str, Any]], x: Any, y: Any, by: str, title: str) -> Any:
    """A chart of a line for each value of `by`, told apart by colour and dash."""
    names = list(dict.fromkeys(row[by] for row in rows))
    colours, dashes = line_styles(names)
    legend = alt.Legend(title=title, orient="top", symbolStrokeWidth=2)
    base = alt.Chart(alt.Data(values=rows), width=440, height=240).encode(x=x, y=y)
    return base.mark_line(strokeWidth=2).encode(
        color=alt.Color(
            f"{by}:N", scale=alt.Scale(domain=names, range=colours), sort=names, legend=legend
        ),
        strokeDash=alt.StrokeDash(f"{by}:N", scale=alt.Scale(domain=names, range=dashes)),
    )


def power() -> Any:
    """The smallest difference against the number of items."""
    axis = alt.Axis(values=list(ITEMS), title="items")
    x = alt.X("items:Q", scale=alt.Scale(type="log", domain=[ITEMS[0], ITEMS[-1]]), axis=axis)
    y = alt.Y("points:Q", title="smallest difference, points")
    return lines(smallest_rows(), x, y, "differ", "items that differ")


def coverage() -> Any:
    """How often intervals hold the truth, against the truth."""
    x = alt.X("truth:Q", title="the true score, %")
    y = alt.Y("held:Q", title="intervals that hold it, %", scale=alt.Scale(domain=[60, 100]))
    drawn = lines(coverage_rows(), x, y, "interval", "interval of 50 items")
    wanted = alt.Chart(alt.Data(values=[{"held": 95}])).mark_rule(color="#7d7d7d").encode(y=y)
    return alt.layer(wanted, drawn)


def main() -> None:
    """Write both."""
    for name, chart in {"power": power(), "coverage": coverage()}.items():
        (ASSETS / f"{name}.svg").write_text(svg(chart, name) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
