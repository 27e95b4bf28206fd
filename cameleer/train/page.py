"""A page about training runs, finished or not: pictures over the steps, and what manifests say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cameleer
from cameleer.core.artifact import MANIFEST
from cameleer.core.drawing import STYLE
from cameleer.core.errors import UserError
from cameleer.core.files import read_json
from cameleer.core.jsonl import read_jsonl
from cameleer.core.page import page_template
from cameleer.core.text import visible
from cameleer.train.drawings import loss_drawing, pace_drawings, source_drawing

METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Run:
    """A run's folder as it is now.

    rows: of metrics.jsonl; manifest: empty while it goes on; stopped: folders of steps that stopped
    it, see cameleer.train.watch.
    """

    name: str
    rows: list[dict[str, Any]]
    manifest: dict[str, Any]
    stopped: list[Path]


def read_run(folder: Path) -> Run:
    """Raises UserError for a folder that no training has written to."""
    lies = home(folder)
    rows = [row for _, row in read_jsonl(lies / METRICS, lambda _: None)]  # the last may be torn
    if not any("loss" in row for row in rows):
        raise UserError("has taken no step yet", file=folder, hint="wait for its first step")
    manifest = read_json(lies / MANIFEST) if (lies / MANIFEST).is_file() else {}
    stopped = sorted(folder.absolute().with_name(f"{folder.name}.stopped").glob("step-*"))
    return Run(folder.absolute().name, rows, manifest, stopped)


def home(folder: Path) -> Path:
    """Where the files of the run lie: in its folder, or beside it while it goes on."""
    folder = folder.absolute()
    for one in (folder, folder.with_name(f".{folder.name}.partial")):
        if (one / METRICS).is_file():
            return one
    raise UserError(
        "holds no training run", file=folder, hint="give the folder that train run -o named"
    )


def training_page(folders: Sequence[Path]) -> str:
    """One self-contained HTML page about some runs, side by side."""
    runs = [read_run(folder) for folder in folders]
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    rows = {name: run.rows for name, run in zip(names, runs, strict=True)}
    page = page_template(Path(__file__).with_name("page.html.jinja"), visible=visible, plain=plain)
    return page.render(  # type: ignore[no-any-return]
        version=cameleer.__version__,
        style=STYLE,
        title=", ".join(names) if len(names) < 4 else f"{len(names)} runs",
        wide=[one for one in (loss_drawing(rows), source_drawing(rows)) if one],
        small=pace_drawings(rows),
        runs=list(zip(names, runs, strict=True)),
        facts=_table(runs, "outcome"),
        settings=_table(runs, "config"),
    )


def _table(runs: Sequence[Run], part: str) -> list[tuple[str, list[Any], bool]]:
    """(name, value in each run, whether they differ) of what manifests say, nested values left
    out; a run without a manifest says nothing."""
    values = [
        {key: value for key, value in run.manifest.get(part, {}).items() if _flat(value)}
        for run in runs
    ]
    keys = list(dict.fromkeys(key for one in values for key in one))
    rows = [(key, [one.get(key) for one in values]) for key in keys]
    return [(key, own, any(value != own[0] for value in own)) for key, own in rows]


def _flat(value: Any) -> bool:
    return not isinstance(value, dict | list)


def plain(value: Any) -> str:
    """A value as people write it."""
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return visible(str(value).lower() if isinstance(value, bool) else value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
