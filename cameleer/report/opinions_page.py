"""The page on which benchmarks, judges and people stand side by side; it needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cameleer
from cameleer.core.drawing import Drawing
from cameleer.core.files import replacing
from cameleer.core.page import page_template
from cameleer.report.analysis import Analysis
from cameleer.report.opinions import answer
from cameleer.report.opinions_shown import (
    alike_table,
    arguments,
    columns,
    dots,
    meeting_table,
    notes,
    pair_table,
    rows,
    unique_tokens,
)
from cameleer.results.judged import Judged, model_name, study_names
from cameleer.results.opinions import Opinions, join
from cameleer.results.stats import Run

HERE = Path(__file__).parent
TITLE = "Benchmarks, judges and people"


def write_opinions(opinions: Opinions, judged: Judged, page: Path) -> Path:
    """Write the page of what `opinions` holds, with the texts that `judged` has; returns it."""
    shown = page_template(HERE / "opinions.html.jinja")
    html = shown.render(
        title=TITLE,
        version=cameleer.__version__,
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        joined=content(opinions, judged),
    )
    with replacing(page) as handle:
        handle.write(html)
    return page


def content(opinions: Opinions, judged: Judged) -> dict[str, Any]:
    """All that opinions_body.html.jinja shows, on this page or on a study's."""
    return {
        "answer": answer(opinions),
        "columns": columns(opinions),
        "rows": rows(opinions),
        "picture": dots(opinions, "opinions"),
        "unique": unique_tokens(opinions, judged),
        "alike": alike_table(opinions),
        "pairs": pair_table(opinions),
        "meetings": meeting_table(opinions),
        "arguments": arguments(opinions, judged),
        "notes": notes(opinions),
    }


def drawings(joined: Mapping[str, Any] | None) -> dict[str, Drawing]:
    """What is drawn of all this (see `content`), by the names of the files."""
    if joined is None:
        return {}
    return {**({"opinions": joined["picture"]} if joined["picture"] else {}), **joined["unique"]}


def study_content(analysis: Analysis, judged: Judged, same: Mapping[str, str]) -> dict[str, Any]:
    """The same of a study's models; same: its names of those that were called otherwise."""
    study = analysis.study
    known, models = study_names(study)
    told, strange = judged.named(known, same)
    for cell in study.cells:
        for run in cell.evals.values():
            if not run.scored:
                told.hear_evaluation(cell.label, run)
    opinions = join(_benchmark_runs(analysis), told.judgements, models, told.outputs)
    hubs = {measure.hub for measure in opinions.measures}
    opinions.warnings.extend(
        f"{name} was judged, and is no model of this study: it has no benchmarks here. If it goes "
        f"by another name there: --same '{name}=NAME'."
        for name in strange
        if name not in hubs
    )
    return content(opinions, told)


def _benchmark_runs(analysis: Analysis) -> dict[str, list[Run]]:
    """What every run of each model scored on the benchmarks, by the model's name."""
    study, found = analysis.study, {}
    for matrix in analysis.matrices:
        for row in matrix.rows:
            cells = study.of(matrix.base, row.mixture)
            if row.reference:
                cells = study.of(row.label, None)
            if matrix.benchmarks and matrix.runs[row.mixture] and cells:
                found[model_name(study, cells[0])] = matrix.runs[row.mixture]
    return found
