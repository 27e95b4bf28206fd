"""The report: one HTML page that needs nothing else, and its tables and figures as files.

REPORT/report.html  the page
REPORT/items/       a page for each benchmark: every item, all models (see items)
REPORT/tables/      Markdown, LaTeX and CSV (see tables)
REPORT/figures/     SVG and PNG
REPORT/study.yaml   the study's file, to do it again
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cameleer
from cameleer.core.drawing import Drawing, png
from cameleer.core.files import replacing
from cameleer.core.page import page_template
from cameleer.report import (
    effects_shown,
    facts,
    figures,
    forgotten,
    reproduce,
    scale,
    touched_shown,
    words,
)
from cameleer.report.analysis import AVERAGE, Analysis, Matrix, Row, Score, analyse
from cameleer.report.answers import questions
from cameleer.report.beside import beside_table
from cameleer.report.costs import cost_sheet, cost_table, cost_words
from cameleer.report.items import ItemsPage, write_items
from cameleer.report.licences import licence_sheet, licence_table, licence_words
from cameleer.report.opinions_page import drawings, study_content
from cameleer.report.tables import Sheet, analysis_sheets, write_tables
from cameleer.report.touched import touching
from cameleer.results.attribution import attributions
from cameleer.results.judged import Judged
from cameleer.results.store import UNTUNED, Study, read_study

HERE = Path(__file__).parent


def write_report(
    study_folder: Path,
    out: Path,
    judged: Judged | None = None,
    same: Mapping[str, str] | None = None,
) -> Path:
    """Write the report into `out`; returns its page.

    judged: what judges and people said of the study's models, besides its own judges; same: the
    study's names of models that they called otherwise. Of the study its results are read only, so
    it can be written while the study still runs: what is not finished shows as missing. Raises
    UserError where the results are broken.
    """
    analysis = analyse(read_study(study_folder))
    parts = _parts(analysis, out, _all_judged(analysis.study, judged), same or {})
    written = write_tables(parts.sheets, out / "tables")
    _write_figures(parts.drawings, out / "figures")
    content = parts.content | {"written": written} | _ways_in(write_items(analysis.study, out))
    with replacing(out / reproduce.FILE) as handle:
        handle.write(content["yaml"])
    page = out / "report.html"
    with replacing(page) as handle:
        handle.write(_template().render(content))
    return page


@dataclass(frozen=True)
class Parts:
    """What a report is made of: what the page shows, and its tables and drawings as files."""

    content: dict[str, Any]
    sheets: list[Sheet]
    drawings: dict[str, Drawing]


def _parts(analysis: Analysis, out: Path, judged: Judged, same: Mapping[str, str]) -> Parts:
    study = analysis.study
    told, seen, grown = attributions(study), touching(analysis), scale.shown(analysis)
    effects, lost = effects_shown.shown(told), forgotten.shown(analysis, out)
    drawn = _figures(analysis)
    joined = study_content(analysis, judged, same) if judged.judgements else None
    content = _content(analysis, out)
    content["headlines"] += touched_shown.headlines(analysis, seen)
    content["answer"] += [*touched_shown.sentences(seen), *effects_shown.in_words(told)]
    content["touched"] = touched_shown.content(analysis, seen, out)
    content |= {"effects": effects, "scale": grown, "forgotten": lost}
    content |= {"figures": drawn, "joined": joined}
    sheets = [
        *analysis_sheets(analysis),
        effects_shown.sheet(told),
        grown.sheet,
        lost.sheet,
        touched_shown.sheet(analysis, seen),
        licence_sheet(study),
        cost_sheet(study),
    ]
    every = drawn | effects_shown.figures(effects) | grown.figures | drawings(joined)
    return Parts(content, sheets, every)


def _template() -> Any:
    return page_template(
        HERE / "page.html.jinja",
        points=words.points,
        signed=words.signed,
        interval=words.interval,
    )


def _ways_in(pages: Sequence[ItemsPage]) -> dict[str, Any]:
    """From the matrix to the pages of items: of a benchmark, and of what flips between models."""
    found = {(page.base, page.benchmark): page for page in pages}

    def flips(matrix: Matrix, row: Row, benchmark: str) -> str:
        page = found.get((matrix.base, benchmark))
        return page.flips(UNTUNED, row.label) if page else ""

    return {"items": pages, "items_of": found.get, "flips": flips}


def _content(analysis: Analysis, out: Path) -> dict[str, Any]:
    """All that the template shows."""
    study = analysis.study
    return {
        "study": study,
        "version": cameleer.__version__,
        "style": (HERE / "page.css").read_text(encoding="utf-8"),
        "headlines": words.headlines(analysis),
        "answer": words.answer(analysis),
        "matrices": analysis.matrices,
        "AVERAGE": AVERAGE,
        "missing": words.MISSING,
        "link": lambda score: _link(score, out),
        "trace": lambda score: _trace(score, out),
        "beside": beside_table(analysis) if study.published and not study.generated else None,
        "differences": facts.difference_table(analysis),
        "powers": facts.power_table(analysis),
        "data": facts.data_table(study),
        "questions": [
            (matrix, name, questions(matrix, name))
            for matrix in analysis.matrices
            for name in matrix.benchmarks
        ],
        "costs": cost_table(study),
        "costs_said": cost_words(study),
        "licences": licence_table(study),
        "licences_said": licence_words(study),
        "yaml": reproduce.study_yaml(study),
        "commands": reproduce.commands(study),
        "inputs": reproduce.input_table(study),
        "stages": reproduce.stage_table(study),
        "groups": [table for matrix in analysis.matrices for table in facts.group_tables(matrix)],
        "seeds": facts.seeds(study),
        "training": facts.training_table(study),
        "evaluations": facts.evaluation_table(study, out),
        "software": facts.software_table(study),
        "warnings": facts.warnings(analysis),
        "of_all": facts.notes_of_all(study),
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
