"""The report: one HTML page that needs nothing else, and its tables and figures as files.

REPORT/report.html  the page
REPORT/tables/      Markdown, LaTeX and CSV (see tables)
REPORT/figures/     SVG and PNG
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cameleer
from cameleer.core.drawing import Drawing, png
from cameleer.core.files import replacing
from cameleer.core.page import page_template
from cameleer.report import effects_shown, facts, figures, forgotten, touched_shown, words
from cameleer.report.analysis import AVERAGE, Analysis, Score, analyse
from cameleer.report.answers import questions
from cameleer.report.beside import beside_table
from cameleer.report.opinions_page import study_content
from cameleer.report.tables import analysis_sheets, write_tables
from cameleer.report.touched import touching
from cameleer.results.attribution import attributions
from cameleer.results.judged import Judged
from cameleer.results.store import Study, read_study

HERE = Path(__file__).parent


def write_report(
    study_folder: Path,
    out: Path,
    judged: Judged | None = None,
    same: Mapping[str, str] | None = None,
) -> Path:
    """Write report.html, and below `out` the tables and figures.

    judged: what judges and people said of the study's models, besides its own judges; same: the
    study's names of models that they called otherwise. Returns the page. Of the study its results
    are read only, so it can be written while the study still runs: what is not finished shows as
    missing. Raises UserError where the results are broken.
    """
    analysis = analyse(read_study(study_folder))
    told = attributions(analysis.study)
    effects = effects_shown.shown(told)
    seen = touching(analysis)
    sheets = [effects_shown.sheet(told), touched_shown.sheet(analysis, seen)]
    write_tables([*analysis_sheets(analysis), *sheets], out / "tables")
    drawn = _figures(analysis)
    _write_figures({**drawn, **effects_shown.figures(effects)}, out / "figures")
    page = out / "report.html"
    shown = page_template(
        HERE / "page.html.jinja",
        points=words.points,
        signed=words.signed,
        interval=words.interval,
    )
    judged = _all_judged(analysis.study, judged)
    joined = study_content(analysis, judged, same or {}) if judged.judgements else None
    content = _content(analysis, out)
    content["answer"] += [*touched_shown.sentences(seen), *effects_shown.in_words(told)]
    content["touched"] = touched_shown.content(analysis, seen, out)
    html = shown.render(**content, figures=drawn, effects=effects, joined=joined)
    with replacing(page) as handle:
        handle.write(html)
    return page


def _content(analysis: Analysis, out: Path) -> dict[str, Any]:
    """All that the template shows."""
    study = analysis.study
    return {
        "study": study,
        "version": cameleer.__version__,
        "style": (HERE / "page.css").read_text(encoding="utf-8"),
        "answer": words.answer(analysis),
        "matrices": analysis.matrices,
        "AVERAGE": AVERAGE,
        "missing": words.MISSING,
        "link": lambda score: _link(score, out),
        "trace": lambda score: _trace(score, out),
        "beside": beside_table(analysis) if study.published and not study.generated else None,
        "differences": facts.difference_table(analysis),
        "forgotten": forgotten.shown(analysis, out),
        "powers": facts.power_table(analysis),
        "data": facts.data_table(study),
        "questions": [
            (matrix, name, questions(matrix, name))
            for matrix in analysis.matrices
            for name in matrix.benchmarks
        ],
        "groups": [table for matrix in analysis.matrices for table in facts.group_tables(matrix)],
        "totals": facts.totals(study),
        "training": facts.training_table(study),
        "evaluations": facts.evaluation_table(study, out),
        "software": facts.software_table(study),
        "warnings": facts.warnings(analysis),
        "trouble": facts.trouble_table(study),
        "command": f"cameleer study report {facts.relative(study.folder, out)}",
    }


def _all_judged(study: Study, given: Judged | None) -> Judged:
    """What the study's own judges say, and what was given."""
    judged = Judged()
    for folder in study.judgings:
        judged.add(Judged.read(folder))
    if given:
        judged.add(given)
    return judged


def _figures(analysis: Analysis) -> dict[str, Drawing]:
    """The drawings by the names of their files."""
    bases = figures.unlike([matrix.base for matrix in analysis.matrices])
    drawn: dict[str, Drawing | None] = {}
    for matrix in analysis.matrices:
        cells = [cell for cell in analysis.study.cells if cell.base == matrix.base]
        end = f"-{bases[matrix.base]}" if len(bases) > 1 else ""
        drawn[f"differences{end}"] = figures.heat_map(matrix, f"differences{end}")
        drawn[f"scores{end}"] = figures.bars(matrix, f"scores{end}")
        drawn[f"losses{end}"] = figures.curves(cells, matrix.base, f"losses{end}")
    return {name: drawing for name, drawing in drawn.items() if drawing}


def _write_figures(drawn: Mapping[str, Drawing], folder: Path) -> None:
    for name, drawing in drawn.items():
        with replacing(folder / f"{name}.svg") as handle:
            handle.write(drawing.svg)
        with replacing(folder / f"{name}.png", "wb") as handle:
            handle.write(png(drawing.svg))


def _link(score: Score, out: Path) -> str:
    """Address of a score's samples, relative to the page; an average has none of its own."""
    if not score.runs:
        return ""
    return quote(facts.relative(score.runs[0].folder / "samples.jsonl", out))


def _trace(score: Score, out: Path) -> str:
    """Where a score's samples are, in words."""
    folders = ", ".join(facts.relative(run.folder, out) for run in score.runs)
    return f"{score.estimate.n:,} items, samples in {folders}"
