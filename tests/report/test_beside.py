"""The paper's models beside a study's: which are shown, where they come from, and when none are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cameleer.report.analysis import analyse
from cameleer.report.beside import beside_table, paper_setting
from cameleer.report.facts import Table
from cameleer.report.page import write_report
from cameleer.results.published.rows import published
from cameleer.results.store import read_study

Make = Callable[..., Path]
HEADING = "Beside the paper's models"


def table_of(folder: Path) -> Table:
    found = beside_table(analyse(read_study(folder)))
    assert found is not None
    return found


def declare(folder: Path, **study: Any) -> Path:
    """Put into study.json what a study's file would have declared."""
    path = folder / "study.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "study": study}))
    return folder


def shown(folder: Path) -> str:
    return write_report(folder, folder / "report").read_text(encoding="utf-8")


@pytest.fixture
def small(make_study: Make, tmp_path: Path) -> Path:
    return make_study(tmp_path / "study", mixtures=["flan"], n=40)


def test_own_models_come_first_then_the_papers(small: Path) -> None:
    table = table_of(small)
    assert table.head == ["model", "from", "mmlu:0-shot", "gsm:cot", "tydiqa:gold"]
    assert [row[:2] for row in table.rows[:3]] == [
        ["smollm2-135m, untuned", "this study"],
        ["flan", "this study"],
        ["LLaMA 13B", "published, table 3"],
    ]
    samples = small / "cells/smollm2-135m/flan-1/gsm-cot/samples.jsonl"
    scores = [json.loads(line)["score"] for line in samples.read_text().splitlines()]
    assert table.rows[1][3] == f"{100 * sum(scores) / 40:.1f} (40)"


def test_published_cells_are_as_printed(small: Path) -> None:
    rows = {row[0]: row[1:] for row in table_of(small).rows}
    assert rows["Tülu 13B"] == ["published, table 3", "49.3", "40.5", "45.6"]
    assert rows["Tülu 65B"] == ["published, table 5", "59.2", "–", "–"]
    assert rows["ChatGPT"] == ["published, table 5", "67.9", "76.0", "51.9"]
    assert len(rows) == 2 + 15 + 8


def test_other_publications_only_where_the_paper_has_nothing(
    make_study: Make, tmp_path: Path
) -> None:
    asked = ("gsm:cot-200", "codex_humaneval:pass@1")
    folder = make_study(tmp_path / "study", mixtures=["flan"], benchmarks=asked, n=40)
    rows = [row for row in table_of(folder).rows if row[0] == "Tülu 7B"]
    assert rows == [["Tülu 7B", "published, model card", "27.0", "17.5"]]
    chat = next(row for row in table_of(folder).rows if row[0] == "ChatGPT")
    assert chat[2:] == ["76.0", "–"]


def test_no_benchmark_of_the_paper_no_table(make_study: Make, tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study", mixtures=["flan"], benchmarks=("own:cot",), n=40)
    assert beside_table(analyse(read_study(folder))) is None
    assert HEADING not in shown(folder)


def test_several_bases_are_told_apart_and_nothing_is_there_twice(
    make_study: Make, tmp_path: Path
) -> None:
    folder = make_study(tmp_path / "study", mixtures=["flan"], bases=("a", "b"), n=40)
    rows = table_of(folder).rows
    assert [row[0] for row in rows[:4]] == ["a, untuned", "a: flan", "b, untuned", "b: flan"]
    assert len({tuple(row[:2]) for row in rows}) == len(rows)


def test_the_page_says_what_they_are(small: Path) -> None:
    text = " ".join(shown(small).split())
    section = re.search(r'<section id="beside">.*?</section>', text)
    assert section
    assert "not measured here" in section[0]
    assert "Nothing is tested between them and this study" in section[0]
    assert "better" not in section[0]


def test_what_the_page_says_of_others_is_so() -> None:
    own = {row.benchmark for row in published() if row.model in ("GPT-4", "Davinci-003")}
    assert own == {"average"}


def test_a_study_may_leave_them_out(small: Path) -> None:
    assert HEADING in shown(declare(small, published=True, miniature=None, data=None))
    assert HEADING not in shown(declare(small, published=False))


@pytest.mark.parametrize("way", ["declared", "folder"])
def test_generated_questions_have_none_beside(small: Path, tmp_path: Path, way: str) -> None:
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "manifest.json").write_text('{"kind": "miniature"}')
    declared = {"miniature": {"seed": 7}} if way == "declared" else {"data": f"{tmp_path}/world"}
    page = shown(declare(small, **declared))
    assert HEADING not in page
    assert "The questions are generated" in page


@pytest.mark.parametrize(
    ("label", "setting"),
    [
        ("mmlu:0-shot", "mmlu:0-shot"),
        ("mmlu:5-shot-100", "mmlu:5-shot"),
        ("bbh:cot-40", "bbh:cot"),
        ("tydiqa:api-gold-20", "tydiqa:gold"),
        ("codex_humaneval:api-pass@10", "codex_humaneval:pass@10"),
        ("toxigen:generation-500", "toxigen:generation"),
    ],
)
def test_subsets_stand_under_their_setting(label: str, setting: str) -> None:
    assert paper_setting(label) == setting
