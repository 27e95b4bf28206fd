"""The statistics page tells the numbers that the code gives."""

from __future__ import annotations

from pathlib import Path

from cameleer.results.stats import mean_interval
from docs.figures import ITEMS, coverage_rows, smallest_rows

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/statistics.md").read_text(encoding="utf-8")


def test_the_smallest_differences() -> None:
    rows = smallest_rows()
    for n in ITEMS:
        points = " | ".join(f"{row['points']:.1f}" for row in rows if row["items"] == n)
        assert f"| {n:,} | {points} |" in PAGE


def test_what_the_figure_of_coverage_is_said_to_show() -> None:
    held: dict[str, list[float]] = {}
    for row in coverage_rows():
        held.setdefault(row["interval"], []).append(row["held"])
    ours, textbook = held.values()
    assert 92 <= min(ours) <= max(ours) <= 98
    assert min(textbook) < 70


def test_the_example_of_an_interval() -> None:
    found = mean_interval([1.0] * 16 + [0.0] * 8)
    said = f"{100 * found.value:.0f} points, and anything from {100 * found.low:.0f}"
    assert f"{said} to {100 * found.high:.0f}" in PAGE.replace("\n", " ")
