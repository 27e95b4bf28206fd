"""How many different tokens answers have, and how win rates go with that.

Judges prefer models whose answers have more unique tokens: the paper finds a correlation of 0.96
over its models of 13B (arXiv 2306.04751, section 5, figure 2), and that a dummy judge which prefers
the answer with more unique tokens ranks models nearly as GPT-4 does (appendix H).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import permutations
from statistics import fmean
from typing import Any

from cameleer.core.drawing import INK, LINES, Drawing, svg

Split = Callable[[str], Sequence[Hashable]]
"""The tokens of a text."""

WORDS = re.compile(r"\w+|[^\w\s]")
WORDS_SAID = "runs of letters and digits, and single marks"
EXACT = 8  # so many models have few enough orders to count them all


def words(text: str) -> list[str]:
    """Runs of letters and digits, and single marks: the same for every model, white space none."""
    return WORDS.findall(text)


@dataclass(frozen=True, slots=True)
class Counts:
    """Means over a model's answers: tokens, and different ones within an answer."""

    tokens: float
    unique: float


def counts(texts: Sequence[str], split: Split = words) -> Counts:
    """Mean number of tokens and of unique tokens of texts, of which there is at least one."""
    found = [split(text) for text in texts]
    return Counts(fmean(map(len, found)), fmean(len(set(tokens)) for tokens in found))


def dummy_win_rate(pairs: Sequence[tuple[str, str]], split: Split = words) -> float:
    """How often, 0..1, B has more unique tokens than A, over pairs (A, B); draws are half."""
    points = []
    for a, b in pairs:
        first, second = len(set(split(a))), len(set(split(b)))
        points.append(0.5 if first == second else float(second > first))
    return fmean(points)


@dataclass(frozen=True, slots=True)
class Correlation:
    """Pearson's r of n points with its interval, and a two-sided p.

    exact: p counts the orders of the n points; else it is that of Student's t test.
    """

    r: float
    low: float
    high: float
    n: int
    p: float
    exact: bool


def pearson(x: Sequence[float], y: Sequence[float], level: float = 0.95) -> Correlation | None:
    """Pearson's correlation; None for fewer than 4 points, or where one side does not vary.

    The interval is Fisher's (1921): atanh(r) is taken as normal with variance 1 / (n - 3), which
    for a handful of points is rough, and wrong where they are not drawn at random, as models that
    somebody chose are not. p for up to `EXACT` points is the share of all orders of y whose r is at
    least as far from 0, which assumes nothing of how they are spread.
    """
    import numpy as np
    from scipy.special import ndtri, stdtr

    n = len(x)
    if n < 4 or len(set(x)) == 1 or len(set(y)) == 1:
        return None
    first, second = (np.asarray(side) - np.mean(side) for side in (x, y))
    size = math.sqrt(float(first @ first) * float(second @ second))
    r = max(-1.0, min(1.0, float(first @ second) / size))
    centre = math.atanh(max(-1 + 1e-15, min(1 - 1e-15, r)))
    half = float(ndtri(0.5 + level / 2)) / math.sqrt(n - 3)
    low, high = math.tanh(centre - half), math.tanh(centre + half)
    if n <= EXACT:
        orders = second[np.array(list(permutations(range(n))))] @ first
        p = float((np.abs(orders) >= abs(r) * size * (1 - 1e-9)).mean())
        return Correlation(r, low, high, n, p, exact=True)
    t = abs(r) * math.sqrt((n - 2) / max(1e-300, 1 - r * r))
    return Correlation(r, low, high, n, 2 * float(stdtr(n - 2, -t)), exact=False)


@dataclass(frozen=True, slots=True)
class Point:
    """A model in the picture: its mean unique tokens and win rate in percent, with its interval.

    printed: the win rate is a leaderboard's, not counted here.
    """

    model: str
    unique: float
    win_rate: float
    low: float
    high: float
    printed: bool = False


SOURCES = ("win rate counted here", "win rate of the leaderboard")


def picture(
    points: Sequence[Point], found: Correlation | None, tokens: str, name: str = "unique-tokens"
) -> Drawing:
    """Win rate against mean unique tokens, one point a model; tokens: what counts as one; name: of
    the drawing, where a page holds several."""
    import altair as alt

    rows = [
        {
            "model": point.model,
            "unique": point.unique,
            "win_rate": point.win_rate,
            "low": point.low,
            "high": point.high,
            "source": SOURCES[point.printed],
        }
        for point in points
    ]
    right = max((point.unique for point in points), default=1.0)
    base = alt.Chart(alt.Data(values=rows))
    x = alt.X("unique:Q", title="average number of unique tokens in an answer",
              scale=alt.Scale(domain=[0, right * 1.25], nice=False))  # fmt: skip
    y = alt.Y("win_rate:Q", title="win rate (%)", scale=alt.Scale(domain=[0, 100]))
    layers: list[Any] = [
        base.mark_rule(color=INK, strokeWidth=1).encode(x=x, y="low:Q", y2="high:Q"),
        base.mark_point(filled=True, size=60, opacity=1).encode(x=x, y=y, **_kinds(alt, points)),
        *_labels(alt, rows, x),
    ]
    lines = [said_of(found), f"Tokens are {tokens}."]
    said = " ".join(lines)
    chart = alt.layer(*layers).properties(width=520, height=320, title=alt.Title(lines))
    told = ", ".join(f"{p.model} {p.unique:.0f} and {p.win_rate:.1f} %" for p in points)
    return Drawing(
        svg(chart, name),
        f"Points of average unique tokens and win rate: {told}. {said}",
        f"Win rate against average unique tokens, with 95 % intervals of win rates. {said}",
    )


def _kinds(alt: Any, points: Sequence[Point]) -> dict[str, Any]:
    """Shape and colour of a point by where its win rate is from; told where there are two."""
    shapes = alt.Scale(domain=SOURCES, range=["circle", "diamond"])
    colours = alt.Scale(domain=SOURCES, range=[LINES[0], LINES[1]])
    legend = alt.Undefined if any(point.printed for point in points) else None
    return {
        "shape": alt.Shape("source:N", scale=shapes, title=None, legend=legend),
        "color": alt.Color("source:N", scale=colours, title=None, legend=legend),
    }


def said_of(found: Correlation | None) -> str:
    """A correlation in a sentence."""
    if found is None:
        return "Too few models for a correlation."
    rough = ", rough for so few" if found.n < 10 else ""
    how = "over all orders" if found.exact else "t test"
    p = "p < 0.001" if found.p < 0.001 else f"p = {found.p:.3f}"
    span = f"[{found.low:.2f}, {found.high:.2f}]"
    return f"Pearson's r {found.r:.2f} {span}{rough}, {p} ({how}), {found.n} models."


def _labels(alt: Any, rows: list[dict[str, Any]], x: Any) -> list[Any]:
    """Names right of the points, moved down where the one above would be written over."""
    marks: list[Any] = []
    placed: list[tuple[float, float]] = []
    across = max(row["unique"] for row in rows) / 4  # about as wide as a name
    for row in sorted(rows, key=lambda row: -row["win_rate"]):
        above = [at for unique, at in placed if abs(unique - row["unique"]) < across]
        at = min([row["win_rate"], *(height - 5 for height in above)])
        placed.append((row["unique"], at))
        data = alt.Chart(alt.Data(values=[row | {"at": at}]))
        label = data.mark_text(align="left", dx=8, fontSize=12, color=INK)
        marks.append(label.encode(x=x, y=alt.Y("at:Q"), text="model:N"))
    return marks
