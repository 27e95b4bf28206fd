"""Effects on the page and in files: the same numbers, marked where clear, or why there are none."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from cameleer.report import effects_shown
from cameleer.report.page import write_report
from cameleer.results.attribution import attributions
from cameleer.results.store import read_study
from tests.report.parsed import Page
from tests.results.on_disk import study

N = 40
HALF = [float(n % 2) for n in range(N)]
SCORES = {
    None: [HALF],
    "x": [[1.0] * N],
    "y": [[0.0] * N],
    "z": [[*HALF[:-2], 1.0, 1.0]],
}
"""By hand: x adds 50 points, y takes 50, z adds 1 of 40 items, 2.5."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study(tmp_path_factory.mktemp("effects") / "s", SCORES, lower=False)


def test_signs_and_marks_are_those_of_the_scores(folder: Path) -> None:
    (one,) = effects_shown.shown(attributions(read_study(folder)))
    assert one.columns == ["t"]
    cells = {source: (cells[0].verdict, cells[0].value) for source, cells in one.rows}
    assert cells == {
        "x": ("better", "+50.0"),
        "y": ("worse", "−50.0"),
        "z": (effects_shown.UNCLEAR, "+2.5"),
    }
    assert one.figure is not None
    assert "y on t −50.0" in one.figure.alternative
    assert one.best[0][1].startswith("x + z is predicted best, but not surely better than x")
    assert "Predicted: 102.5" in one.best[0][1]


def test_the_answer_names_the_largest_clear_effect(folder: Path) -> None:
    (said,) = effects_shown.in_words(attributions(read_study(folder)))
    assert "the largest effect that is clear of chance is that of x on t, +50.0 points" in said
    assert "2 of 3 effects are clear" in said
    assert "On t: x + z is predicted best" in said


def test_nothing_clear_is_said_so(tmp_path: Path) -> None:
    folder = study(tmp_path / "s", {None: [HALF], "x": [[*HALF[:-1], 0.0]]}, lower=False)
    (said,) = effects_shown.in_words(attributions(read_study(folder)))
    assert "none of the 1 effects of a source on a benchmark is clear of chance" in said


def test_page_files_and_answer_tell_the_same(folder: Path) -> None:
    page = write_report(folder, folder / "report")
    text = " ".join(Page(page.read_text(encoding="utf-8")).text.split())
    assert "▲ +50.0" in text
    assert "▼ −50.0" in text
    assert text.index("Source by source") < text.index("What each data set did")
    with (page.parent / "tables/effects.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    values = {row["source"]: float(row["value"]) for row in rows}
    assert values == pytest.approx({"x": 0.5, "y": -0.5, "z": 0.025})
    assert [row["clear"] for row in rows] == ["True", "True", "False"]
    assert "| x | ▲ +50.0 [" in (page.parent / "tables/effects.md").read_text()
    drawn = page.parent / "figures/effects.svg"
    assert drawn.read_text() in page.read_text(encoding="utf-8")
    assert drawn.with_suffix(".png").stat().st_size > 1000


def test_where_effects_cannot_be_told_a_sentence_says_why(tmp_path: Path) -> None:
    folder = study(tmp_path / "s", {None: [HALF], "x (full)": [HALF], "x (lora)": [[]]},
                   ("full", "lora"), lower=False)  # fmt: skip
    html = write_report(folder, folder / "report").read_text(encoding="utf-8")
    text = " ".join(Page(html).text.split())
    assert "b, lora The effects of single sources cannot be told: no tuned model of 'b' is" in text
    assert len(re.findall(r"Effects of each source in points", html)) == 1
    assert "Source by source (b, full)" in text
