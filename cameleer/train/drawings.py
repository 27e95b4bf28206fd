"""Pictures of training runs: losses, rates, norms, speed and memory over the steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from cameleer.core.drawing import INK, Drawing, line_styles, svg

POINTS = 240  # of a line; longer runs are taken together in stretches of equally many steps
WIDTH, HEIGHT = 400, 150
ACROSS = 4  # panels of sources in a row

Row = Mapping[str, Any]
Runs = Mapping[str, Sequence[Row]]
"""Rows of metrics.jsonl by the name of the run."""


def loss_drawing(runs: Runs) -> Drawing:
    """Training and validation loss, a colour for each run."""
    points = [point for name, rows in runs.items() for point in losses(rows, name, "")]
    last = "; ".join(f"{name}: {_ends(rows)}" for name, rows in runs.items())
    tried = " Dots with 95 % intervals: on conversations that were held out, as it went."
    return Drawing(
        svg(_losses(points, list(runs)).properties(width=2 * WIDTH, height=240), "loss"),
        f"Lines of loss by step. {last}.",
        "Loss per supervised token, in nats."
        + (tried if any("tried" in point for point in points) else ""),
    )


def source_drawing(runs: Runs) -> Drawing | None:
    """The same for each source; None where there is but one."""
    sources = list(
        dict.fromkeys(
            key.removeprefix("loss/")
            for rows in runs.values()
            for row in rows
            for key in [*row, *(f"loss/{name}" for name in _tried(row).get("sources", ()))]
            if key.startswith("loss/")
        )
    )
    if len(sources) < 2:
        return None
    points = [
        {**point, "source": source}
        for name, rows in runs.items()
        for source in sources
        for point in losses(rows, name, f"/{source}")
    ]
    chart = (
        _losses(points, list(runs))
        .properties(width=WIDTH / 2 - 20, height=110)
        .facet(facet=_facet(sources), columns=ACROSS)
        .resolve_scale(y="independent")
    )
    return Drawing(
        svg(chart, "sources"),
        f"Lines of loss by step for each of {len(sources)} sources.",
        "The same by source, each on a scale of its own. A step in which a source has few tokens "
        "says little of it.",
    )


def pace_drawings(runs: Runs) -> list[Drawing]:
    """Learning rate, gradient norm, speed, share of the peak, and memory."""
    kinds: list[tuple[str, str, Callable[[Sequence[float]], float]]] = [
        ("learning_rate", "learning rate", fmean),
        ("grad_norm", "gradient norm, before clipping", max),
        ("tokens_per_second", "tokens per second", fmean),
        ("mfu", "share of the device's peak (MFU)", fmean),
        ("memory_gib", "memory held, GiB", max),
    ]
    made = []
    for key, title, taken in kinds:
        points = [
            {
                "run": name,
                "step": stretch[-1]["step"],
                "value": taken([row[key] for row in stretch]),
            }
            for name, rows in runs.items()
            for stretch in stretches([row for row in rows if key in row])
        ]
        if points:
            made.append(_pace(points, list(runs), key, title))
    return made


def losses(rows: Sequence[Row], run: str, of: str) -> list[dict[str, Any]]:
    """Points of one line; of: "" for the loss of all, "/SOURCE" for that of a source."""
    trained = [row for row in rows if f"loss{of}" in row]
    points: list[dict[str, Any]] = []
    for stretch in stretches(trained):
        counts = [row[f"supervised_tokens{of}"] for row in stretch]
        each = zip(stretch, counts, strict=True)
        loss = sum(row[f"loss{of}"] * count for row, count in each) / sum(counts)
        points.append({"run": run, "step": stretch[-1]["step"], "loss": loss})
    for row in rows:
        facts = _tried(row).get("sources", {}).get(of[1:]) if of else _tried(row)
        if facts:
            keys = {"tried": "loss", "low": "low", "high": "high"}
            points.append(
                {"run": run, "step": row["step"], **{to: facts[key] for to, key in keys.items()}}
            )
    return points


def _tried(row: Row) -> Mapping[str, Any]:
    found: Mapping[str, Any] = row.get("validation", {})
    return found


def stretches(rows: Sequence[Row]) -> list[Sequence[Row]]:
    """The rows, at most POINTS, or stretches of as many each."""
    size = max(1, -(-len(rows) // POINTS))
    return [rows[begin : begin + size] for begin in range(0, len(rows), size)]


def _ends(rows: Sequence[Row]) -> str:
    trained = [row["loss"] for row in rows if "loss" in row]
    tried = [row["validation"]["loss"] for row in rows if "validation" in row]
    said = [f"training from {trained[0]:.3f} to {trained[-1]:.3f}"] if trained else []
    said += [f"validation from {tried[0]:.3f} to {tried[-1]:.3f}"] if tried else []
    return ", ".join(said) or "no step yet"


def _losses(points: list[dict[str, Any]], names: list[str]) -> Any:
    import altair as alt

    base = alt.Chart(alt.Data(values=points)).encode(x=_steps(alt), color=_colour(alt, names))
    y = alt.Y("loss:Q", title=None, scale=alt.Scale(zero=False))
    trained = base.transform_filter("isValid(datum.loss)").mark_line(strokeWidth=1.4)
    tried = base.transform_filter("isValid(datum.tried)")
    return alt.layer(
        trained.encode(y=y, strokeDash=_dash(alt, names)),
        tried.transform_filter("isValid(datum.low)")
        .mark_rule(opacity=0.6)
        .encode(y=alt.Y("low:Q", title=None), y2="high:Q"),
        tried.mark_point(filled=True, size=34, stroke=INK, strokeWidth=0.6).encode(
            y=alt.Y("tried:Q", title=None)
        ),
    )


def _pace(points: list[dict[str, Any]], names: list[str], key: str, title: str) -> Drawing:
    import altair as alt

    form = {"mfu": "%", "learning_rate": ".1~e"}.get(key, "~s")
    chart = (
        alt.Chart(alt.Data(values=points))
        .mark_line(strokeWidth=1.4)
        .encode(
            x=_steps(alt),
            y=alt.Y("value:Q", title=None, axis=alt.Axis(format=form, tickCount=4)),
            color=_colour(alt, names),
            strokeDash=_dash(alt, names),
        )
        .properties(width=WIDTH, height=HEIGHT, title=title)
    )
    last = {point["run"]: point["value"] for point in points}
    said = ", ".join(f"{name} ends at {value:.4g}" for name, value in last.items())
    return Drawing(svg(chart, key.replace("_", "-")), f"Lines of {title} by step: {said}.", "")


def _steps(alt: Any) -> Any:
    scale = alt.Scale(nice=False)
    return alt.X(
        "step:Q", title="step", scale=scale, axis=alt.Axis(format="~s", tickCount=5, grid=False)
    )


def _legend(alt: Any, names: list[str]) -> Any:
    if len(names) < 2:
        return None
    return alt.Legend(title=None, orient="bottom", columns=3, labelLimit=260, symbolSize=300,
                      symbolType="stroke")  # fmt: skip


def _colour(alt: Any, names: list[str]) -> Any:
    colours, _ = line_styles(names)
    scale = alt.Scale(domain=names, range=colours)
    return alt.Color("run:N", scale=scale, legend=_legend(alt, names))


def _dash(alt: Any, names: list[str]) -> Any:
    _, dashes = line_styles(names)
    scale = alt.Scale(domain=names, range=dashes)
    return alt.StrokeDash("run:N", scale=scale, legend=_legend(alt, names))


def _facet(sources: list[str]) -> Any:
    import altair as alt

    return alt.Facet("source:N", sort=sources, title=None)
