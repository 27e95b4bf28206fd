"""A mixture that holds a benchmark's items is found out, and one that does not is not accused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from cameleer.report.analysis import BETTER, NO_DIFFERENCE, analyse
from cameleer.report.page import write_report
from cameleer.report.touched import NONE_LEFT, Touching, touching
from cameleer.report.touched_shown import content, headlines, sentences, sheet
from cameleer.results.store import read_study

Make = Callable[..., Path]
BENCHMARKS = ("mmlu:0-shot", "gsm:cot")
N = 300
LEAKED = frozenset(f"gsm/{row}" for row in range(0, N, 3))


def samples(study: Path, mixture: str, benchmark: str) -> Path:
    where = f"{mixture}-1" if mixture else "untuned"
    return study / f"cells/smollm2-135m/{where}/{benchmark.replace(':', '-')}/samples.jsonl"


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def write(file: Path, found: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in found))


def learn(study: Path, mixture: str, benchmark: str, items: Collection[str]) -> None:
    """The model knows some items by heart, and does as its base on all others."""
    base = {row["item"]: row["score"] for row in rows(samples(study, "", benchmark))}
    file = samples(study, mixture, benchmark)
    changed = [
        row | {"score": 1.0 if row["item"] in items else base[row["item"]]} for row in rows(file)
    ]
    write(file, changed)
    scores = file.with_name("scores.json")
    mean = sum(row["score"] for row in changed) / len(changed)
    scores.write_text(json.dumps(json.loads(scores.read_text()) | {"value": mean}))


def label(study: Path, mixture: str, items: Collection[str], but: str = "none") -> None:
    """Say which items a mixture touches, of all that are asked but those of one benchmark."""
    folder = study / "touched" / mixture
    asked = [row["item"] for name in BENCHMARKS for row in rows(samples(study, "", name))]
    labels = [
        {"item": item, "touched": item in items, "kind": "exact" if item in items else None,
         "answer_seen": True if item in items else None}
        for item in asked if not item.startswith(but)
    ]  # fmt: skip
    write(folder / "labels.jsonl", labels)
    (folder / "matches.html").write_text("matches")
    (folder / "manifest.json").write_text("{}")
    index = json.loads((study / "study.json").read_text())
    for one in index["mixtures"]:
        if one["name"] == mixture:
            one["touched"] = f"touched/{mixture}"
    (study / "study.json").write_text(json.dumps(index))


@pytest.fixture
def study(make_study: Make, tmp_path: Path) -> Path:
    """Two mixtures; what `dolly` gained, it gained on the items that it holds."""
    folder = make_study(tmp_path, mixtures=("dolly", "code"), benchmarks=BENCHMARKS, n=N)
    learn(folder, "dolly", "gsm:cot", LEAKED)
    learn(folder, "dolly", "mmlu:0-shot", ())
    learn(folder, "code", "gsm:cot", ())
    label(folder, "dolly", LEAKED)
    label(folder, "code", ())
    return folder


def told(study: Path) -> Touching:
    return touching(analyse(read_study(study)))


def test_a_leak_is_found_and_its_gain_is_not_taken_for_skill(study: Path) -> None:
    found = told(study)
    leak, average = found.found
    assert (leak.whole.mixture, leak.whole.benchmark) == ("dolly", "gsm:cot")
    assert (average.whole.mixture, average.whole.benchmark) == ("dolly", "average")
    assert (leak.whole.verdict, leak.verdict) == (BETTER, NO_DIFFERENCE)
    assert (leak.asked, leak.touched, leak.answered) == (N, len(LEAKED), len(LEAKED))
    base = {row["item"]: row["score"] for row in rows(samples(study, "", "gsm:cot"))}
    known = sum(base[item] for item in LEAKED) / len(LEAKED)
    assert leak.split.touched
    assert leak.split.clean
    assert leak.split.excess
    assert leak.split.touched.base.value == pytest.approx(known)
    assert leak.split.touched.tuned.value == pytest.approx(1)
    assert leak.split.clean.moved.n == N - len(LEAKED)
    assert leak.split.clean.moved.difference == 0
    assert leak.split.excess.value == pytest.approx(1 - known)
    (said, _) = sentences(found)
    assert said.startswith("Seen before: on smollm2-135m, dolly touches 100 of the 300 items of")
    assert "detectably better than the base (+" in said
    assert "over the clean ones not detectably different from the base (0.0, " in said
    assert "gained on the touched ones is detectably larger (+" in said
    said = headlines(analyse(read_study(study)), found)[0]
    assert said == "But what dolly gained is not detectable without items seen before."


def test_who_holds_nothing_is_not_accused(study: Path, tmp_path: Path) -> None:
    label(study, "dolly", ())
    analysis = analyse(read_study(study))
    found = touching(analysis)
    assert not found.found
    assert not sentences(found)
    assert not headlines(analysis, found)
    shown = content(analysis, found, tmp_path)
    assert shown["said"] == [
        "Of the items that were asked none was found in any of these mixtures."
    ]
    assert [row[1:] for row in shown["overview"].rows] == [["0 of 300", "0 of 300"]] * 2
    assert shown["pages"] == []
    assert not any(table.rows for table in shown["tables"])


def test_page_and_files_say_the_same(study: Path) -> None:
    page = write_report(study, study / "report").read_text()
    assert "Seen before: on smollm2-135m, dolly touches 100" in page
    assert "Items that were asked stand in dolly." in page
    assert 'href="../touched/dolly/matches.html"' in page
    assert "100 exact; 100 answers" in page
    with (study / "report/tables/touched.csv").open(newline="") as handle:
        table = {(row["mixture"], row["benchmark"]): row for row in csv.DictReader(handle)}
    assert len(table) == 2 * 3
    leak = table["dolly", "gsm:cot"]
    assert (leak["touched"], leak["asked"], leak["kinds"]) == ("100", "300", "exact 100")
    assert float(leak["touched tuned"]) == pytest.approx(1)
    assert float(leak["clean difference"]) == 0
    assert float(leak["excess"]) == pytest.approx(
        float(leak["touched difference"]) - float(leak["clean difference"])
    )
    assert (leak["verdict"], leak["verdict clean"]) == (BETTER, NO_DIFFERENCE)
    assert {row["touched"] for key, row in table.items() if key[0] == "code"} == {"0"}
    assert "dolly" in (study / "report/tables/touched.md").read_text()


@pytest.mark.parametrize("few", [1, 5, N])
def test_few_items_and_all_items(study: Path, few: int) -> None:
    touched = sorted(LEAKED)[:few] if few < N else {f"gsm/{row}" for row in range(N)}
    label(study, "dolly", touched)
    found = told(study)
    leak = found.found[0]
    assert leak.touched == few
    assert leak.p_holm is None
    said = " ".join(sentences(found))
    if few == N:
        assert leak.verdict == NONE_LEFT
        assert "touches 300 of the 300 items of gsm:cot" in said
        assert "none is left that could tell" in said
    else:
        assert leak.verdict == BETTER  # most of the leak is not labelled
        assert said == ""
    analysis = analyse(read_study(study))
    assert len(sheet(analysis, found).rows) == 6


def test_where_lower_is_better_a_fall_is_a_gain(study: Path) -> None:
    for mixture in ("", "dolly", "code"):
        file = samples(study, mixture, "gsm:cot")
        write(file, [row | {"score": 1 - row["score"]} for row in rows(file)])
        scores = file.with_name("scores.json")
        turned = json.loads(scores.read_text()) | {"lower_is_better": True}
        scores.write_text(json.dumps(turned | {"value": 1 - turned["value"]}))
    leak = told(study).found[0]
    assert (leak.whole.verdict, leak.verdict) == (BETTER, NO_DIFFERENCE)
    said = sentences(told(study))[0]
    assert "detectably better than the base (−" in said
    assert "gained on the touched ones is detectably larger (−" in said


def test_answers_without_scores_have_their_items_counted(study: Path, tmp_path: Path) -> None:
    for mixture in ("", "dolly", "code"):
        scores = samples(study, mixture, "gsm:cot").with_name("scores.json")
        written = {k: v for k, v in json.loads(scores.read_text()).items() if k != "value"}
        scores.write_text(json.dumps(written))
    analysis = analyse(read_study(study))
    found = touching(analysis)
    assert found.unscored == {"gsm:cot": {"dolly": len(LEAKED)}}
    said = content(analysis, found, tmp_path)["said"]
    assert "Of gsm:cot, which has no scores to split, items stand: 100 in dolly." in said


def test_what_was_not_looked_for_is_said(study: Path, make_study: Make, tmp_path: Path) -> None:
    for mixture, items in (("dolly", LEAKED), ("code", frozenset[str]())):
        label(study, mixture, items, but="mmlu")
    analysis = analyse(read_study(study))
    found = touching(analysis)
    assert [one.whole.benchmark for one in found.found] == ["gsm:cot"]  # and no average
    assert (
        "Items of mmlu:0-shot were not looked for" in content(analysis, found, tmp_path)["said"][1]
    )
    never = make_study(tmp_path / "never", mixtures=("dolly",), benchmarks=BENCHMARKS, n=30)
    analysis = analyse(read_study(never))
    found = touching(analysis)
    assert found.compared == []
    (said,) = content(analysis, found, tmp_path)["said"]
    assert said.startswith("Nothing was looked for in dolly: ")
    page = write_report(never, never / "report").read_text()
    assert "Nothing was looked for in dolly" in page
