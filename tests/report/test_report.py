"""The report against an independent reading of the samples, and as a page that stands alone."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from cameleer.report.analysis import analyse, contest, unbeaten
from cameleer.report.facts import data_table, notes_of_all, trouble_table
from cameleer.report.figures import curve
from cameleer.report.page import write_report
from cameleer.report.words import answer, headlines, p_value, points, signed
from cameleer.results.store import read_study
from tests.report.conftest import SANDBOX
from tests.report.parsed import Page, require_alone, require_outline, require_well_formed

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def report(study_folder: Path) -> Path:
    return write_report(study_folder, study_folder / "report")


@pytest.fixture(scope="module")
def page(report: Path) -> Page:
    return Page(report.read_text(encoding="utf-8"))


def scores_on_disk(study: Path, mixture: str, benchmark: str) -> dict[str, float]:
    where = "untuned" if mixture == "" else f"{mixture}-1"
    path = study / "cells" / "smollm2-135m" / where / benchmark.replace(":", "-") / "samples.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {row["item"]: row["score"] for row in rows}


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open() as handle:
        return list(csv.DictReader(handle))


def test_table_and_differences_are_those_of_the_samples(report: Path, study_folder: Path) -> None:
    table = {row["mixture"]: row for row in read_csv(report.with_name("tables") / "scores.csv")}
    rows = read_csv(report.with_name("tables") / "differences.csv")
    assert len(table) == 7
    assert len(rows) == 6 * 3 + 6
    for mixture, row in table.items():
        means = []
        for name in ("mmlu:0-shot", "gsm:cot", "tydiqa:gold"):
            scores = scores_on_disk(study_folder, mixture, name)
            means.append(sum(scores.values()) / len(scores))
            assert float(row[name]) == pytest.approx(means[-1])
            assert int(row[f"{name} n"]) == len(scores)
        assert float(row["average"]) == pytest.approx(sum(means) / 3)
    for row in rows:
        if row["benchmark"] == "average":
            continue
        base = scores_on_disk(study_folder, "", row["benchmark"])
        tuned = scores_on_disk(study_folder, row["mixture"], row["benchmark"])
        moved = [tuned[key] - base[key] for key in base]
        assert float(row["difference"]) == pytest.approx(sum(moved) / len(moved))
        assert int(row["better"]) == sum(one > 0 for one in moved)
        assert int(row["worse"]) == sum(one < 0 for one in moved)


def test_the_page_shows_the_numbers_of_the_table(report: Path) -> None:
    html = report.read_text()
    shown = re.findall(r'class="value"[^>]*>([^<]+)<', html)
    expected = [
        f"{100 * float(row[name]):.1f}"
        for row in read_csv(report.with_name("tables") / "scores.csv")
        for name in ("mmlu:0-shot", "gsm:cot", "tydiqa:gold", "average")
    ]
    assert shown == expected


def test_every_value_links_to_samples_that_are_there(page: Page, report: Path) -> None:
    links = [attrs["href"] for tag, attrs in page.elements if tag == "a"]
    files = [link for link in links if link and not link.startswith("#")]
    assert sum(link.endswith("samples.jsonl") for link in files) == 7 * 3
    flips = [link for link in files if link.startswith("items/") and "second=" in link]
    # From the scores, and from what was forgotten.
    assert len(flips) == 2 * len(set(flips)) == 2 * 6 * 3
    assert all((report.parent / unquote(link.partition("#")[0])).is_file() for link in files)


def test_nothing_outside_the_page_is_asked_for(report: Path) -> None:
    require_alone(report.read_text())


def test_model_text_is_shown_and_never_obeyed(page: Page, report: Path) -> None:
    assert 'alert("x")' in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "camels <small>" in page.text
    assert "<script" not in report.read_text().lower()


def test_the_page_is_well_formed_and_accessible(page: Page, report: Path) -> None:
    require_well_formed(report.read_text())
    require_outline(report.read_text())
    pictures = [attrs for _, attrs in page.elements if attrs.get("role") == "img"]
    assert len([attrs for attrs in pictures if attrs.get("class") == "card"]) == 4


def test_answers_are_the_same_items_for_all_models_and_drawn_by_seed(
    report: Path, study_folder: Path, tmp_path: Path
) -> None:
    html = report.read_text()
    for name in ("mmlu", "gsm", "tydiqa"):
        assert len(re.findall(rf"<code>{name}/[^<]*</code></a></h4>", html)) == 5
    assert html.count('class="reply"') == 3 * 5 * 7
    # Apart from its relative links, the page is the same wherever it is written.
    again = write_report(study_folder, study_folder / "again").read_text()
    assert again == html


def test_only_what_differs_is_called_different(study_folder: Path) -> None:
    analysis = analyse(read_study(study_folder))
    verdicts = {(one.mixture, one.benchmark): one.verdict for one in analysis.differences}
    assert verdicts["flan", "mmlu:0-shot"] == "better"
    assert verdicts["code", "mmlu:0-shot"] == "worse"
    assert verdicts["dolly", "mmlu:0-shot"] == "no detectable difference"
    text = " ".join(answer(analysis))
    assert headlines(analysis) == [
        "flan is detectably better than the untuned base on average. flan is detectably the best. "
        "code is detectably worse."
    ]
    assert "flan has the best average over 3 benchmarks" in text
    assert "No single data set is best" not in text  # nothing beats flan detectably anywhere
    assert unbeaten(analysis.matrices[0]) == ["flan"]


def test_no_single_best_is_said_where_each_is_beaten(make_study: Make, tmp_path: Path) -> None:
    study = make_study(tmp_path, mixtures=("flan", "oasst"), benchmarks=("mmlu", "gsm"))
    for mixture, right in (("flan", "mmlu"), ("oasst", "gsm")):
        for name in ("mmlu", "gsm"):
            rewrite(tmp_path / f"cells/smollm2-135m/{mixture}-1/{name}", float(name == right))
    analysis = analyse(read_study(study))
    assert unbeaten(analysis.matrices[0]) == []
    text = " ".join(answer(analysis))
    assert "No single data set is best" in text
    assert headlines(analysis)[0].endswith("Which is best is not sure.")
    found = contest(analysis.matrices[0])
    assert found is not None
    assert found.p > 0.05
    assert "It is not detectably better than the next best" in text


def rewrite(folder: Path, score: float) -> None:
    """Give all samples of an evaluation one score."""
    path = folder / "samples.jsonl"
    rows = [json.loads(line) | {"score": score} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = json.loads((folder / "scores.json").read_text()) | {"value": score}
    (folder / "scores.json").write_text(json.dumps(scores))


def test_unfinished_and_failed_cells_are_missing_never_zero(
    make_study: Make, tmp_path: Path
) -> None:
    study = make_study(tmp_path, mixtures=("flan", "dolly", "code"), n=40)
    (tmp_path / "cells/smollm2-135m/dolly-1/gsm-cot/manifest.json").unlink()
    record = json.loads((tmp_path / "study.json").read_text())
    record["cells"][3] |= {"evals": {}, "train": None, "failed": "out of <memory>"}
    (tmp_path / "study.json").write_text(json.dumps(record))
    out = tmp_path / "report"
    text = Page(write_report(study, out).read_text()).text
    table = {row["mixture"]: row for row in read_csv(out / "tables/scores.csv")}
    assert table["dolly"]["gsm:cot"] == table["dolly"]["average"] == table["code"]["gsm:cot"] == ""
    assert table["dolly"]["mmlu:0-shot"] != ""
    assert "Unfinished: smollm2-135m · dolly, seed 1: gsm:cot." in text
    assert "Failed: smollm2-135m · code, seed 1: out of <memory>" in text
    assert "Not finished, and left out above: dolly on gsm:cot; code on" in text
    assert "| code | – | – | – | – |" in (out / "tables/scores.md").read_text()


def test_a_study_with_nothing_evaluated_still_has_a_page(make_study: Make, tmp_path: Path) -> None:
    study = make_study(tmp_path, mixtures=("flan",), n=5)
    for manifest in tmp_path.glob("cells/**/manifest.json"):
        manifest.unlink()
    text = Page(write_report(study, tmp_path / "report").read_text()).text
    assert "No mixture on smollm2-135m has been evaluated on every benchmark yet." in text


def test_scores_that_are_not_their_samples_are_warned_of(make_study: Make, tmp_path: Path) -> None:
    study = make_study(tmp_path, mixtures=("flan",), n=20)
    path = tmp_path / "cells/smollm2-135m/flan-1/gsm-cot/scores.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"value": 0.99}))
    assert "scores.json says 0.99" in Page(write_report(study, tmp_path / "out").read_text()).text


def test_other_items_are_warned_of_and_not_compared(make_study: Make, tmp_path: Path) -> None:
    study = make_study(tmp_path, mixtures=("flan",), n=20)
    path = tmp_path / "cells/smollm2-135m/flan-1/gsm-cot/samples.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[:-3]) + "\n")
    analysis = analyse(read_study(study))
    assert ("flan", "gsm:cot") not in {(one.mixture, one.benchmark) for one in analysis.differences}
    assert any("3 items are in one of the two runs only" in text for text in analysis.warnings)


def restate(study: Path, label: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change scores.json of one benchmark in every evaluation of a study."""
    for path in study.glob(f"cells/**/{label.replace(':', '-')}/scores.json"):
        scores = json.loads(path.read_text())
        change(scores)
        path.write_text(json.dumps(scores))


def test_where_lower_is_better_the_lowest_leads_and_a_fall_is_a_gain(
    make_study: Make, tmp_path: Path
) -> None:
    study = make_study(tmp_path, mixtures=["flan", "dolly"], benchmarks=["mmlu:0-shot", "gsm:cot"])
    restate(study, "mmlu:0-shot", lambda scores: scores.update(lower_is_better=True))
    analysis = analyse(read_study(study))
    matrix = analysis.matrices[0]
    base, flan, dolly = (row.scores["mmlu:0-shot"] for row in matrix.rows)
    assert base
    assert flan
    assert dolly
    assert flan.estimate.value > dolly.estimate.value
    leader = matrix.leader("mmlu:0-shot")
    assert leader
    assert leader.mixture == "dolly"
    assert not flan.best
    (fell,) = [
        d for d in analysis.differences if (d.mixture, d.benchmark) == ("flan", "mmlu:0-shot")
    ]
    assert fell.paired.difference > 0.1
    assert (fell.verdict, fell.items_worse) == ("worse", fell.paired.better)
    average = matrix.rows[1].scores["average"]
    gsm = matrix.rows[1].scores["gsm:cot"]
    assert average
    assert gsm
    assert average.estimate.value == pytest.approx(
        (1 - flan.estimate.value + gsm.estimate.value) / 2
    )
    html = write_report(study, tmp_path / "report").read_text()
    assert 'title="lower is better">↓' in html
    assert "▼ +" in (tmp_path / "report/tables/scores.md").read_text()


@pytest.mark.parametrize("benchmarks", [["gsm:cot", "mmlu:0-shot", "tydiqa:gold"], ["gsm:cot"]])
def test_answers_that_are_only_written_are_said_to_have_no_score(
    benchmarks: list[str], make_study: Make, tmp_path: Path
) -> None:
    study = make_study(tmp_path, mixtures=["flan", "dolly"], benchmarks=benchmarks)
    restate(study, "gsm:cot", lambda scores: scores.pop("value"))
    page = write_report(study, tmp_path / "report").read_text()
    assert "gsm:cot has no score: its answers are for a judge or people" in page
    assert ("Nothing that was asked of" in page) == (len(benchmarks) == 1)
    (matrix,) = analyse(read_study(study)).matrices
    assert "gsm:cot" not in matrix.columns


def test_bases_and_seeds(make_study: Make, tmp_path: Path) -> None:
    study = make_study(tmp_path, mixtures=("flan", "code"), bases=("a", "b"), seeds=(1, 2, 3), n=30)
    html = write_report(study, tmp_path / "report").read_text()
    page = Page(html)
    assert html.count('class="matrix"') == 2
    assert "seeds ±" in html
    assert "one seed" not in page.text
    (row,) = [
        row
        for row in read_csv(tmp_path / "report/tables/scores.csv")
        if (row["base"], row["mixture"]) == ("a", "flan")
    ]
    means = []
    for seed in (1, 2, 3):
        path = tmp_path / f"cells/a/flan-{seed}/gsm-cot/samples.jsonl"
        scores = [json.loads(line)["score"] for line in path.read_text().splitlines()]
        means.append(sum(scores) / len(scores))
    assert float(row["gsm:cot"]) == pytest.approx(sum(means) / 3)
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (points(0.4567), "45.7"),
        (signed(0.0312), "+3.1"),
        (signed(-0.0312), "−3.1"),
        (signed(-0.0001), "0.0"),
        (p_value(0.0002), "< 0.001"),
        (p_value(0.0312), "0.031"),
        (p_value(0.5), "0.50"),
    ],
)
def test_numbers_as_people_read_them(shown: str, text: str) -> None:
    assert shown == text


def test_a_curve_counts_tokens_up_and_weighs_losses_by_them() -> None:
    rows = [{"supervised_tokens": 10, "loss": 2.0}, {"supervised_tokens": 30, "loss": 1.0}]
    assert curve(rows) == [{"tokens": 10, "loss": 2.0}, {"tokens": 40, "loss": 1.0}]
    long = curve(rows * 120)
    assert len(long) == 120
    assert long[-1] == {"tokens": 120 * 40, "loss": pytest.approx(50 / 40)}
    assert curve([{"step": 1}]) == []


def test_importing_the_report_loads_nothing_heavy() -> None:
    code = "import sys, cameleer.report.page; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"altair", "scipy", "torch", "vl_convert", "jinja2"} & set(done.stdout.split())


def test_why_conversations_were_left_out_stands_in_one_column(study_folder: Path) -> None:
    table = data_table(read_study(study_folder))
    assert table.head[-1] == "left out, cut or missing"
    assert {row[-1] for row in table.rows} == {"dropped: empty answer: 4"}
    assert not [name for name in table.head if name.startswith("dropped")]


def test_what_is_noted_of_every_item_is_said_once(study_folder: Path) -> None:
    """The sandbox of all is no trouble of each; answers that were not found are."""
    study = read_study(study_folder)
    assert notes_of_all(study) == {"gsm:cot": [SANDBOX]}
    table = trouble_table(study)
    assert {row[-1] for row in table.rows if row[1] != "gsm:cot"} == {"no answer found (7)"}
    assert not any("sandbox" in row[-1] for row in table.rows)
    scores = next(study_folder.glob("cells/**/gsm-cot/scores.json"))
    before = scores.read_text()
    try:
        scores.write_text(before.replace("seccomp", "none"))
        assert notes_of_all(read_study(study_folder)) == {}
        assert any("sandbox" in row[-1] for row in trouble_table(read_study(study_folder)).rows)
    finally:
        scores.write_text(before)


def test_data_csv_holds_every_source(report: Path) -> None:
    rows: list[dict[str, Any]] = read_csv(report.with_name("tables") / "data.csv")
    found = [row for row in rows if row["mixture"] == "human-mix"]
    assert [row["source"] for row in found] == ["flan_v2", "dolly", "oasst1"]
    assert [row["taken"] for row in found] == ["700", "600", "700"]
    assert [row["supervised_tokens"] for row in found] == ["42700", "36600", "42700"]
