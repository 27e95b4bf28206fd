"""What a study cost, under which licences its parts stand, and how to do it again."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cameleer.report.costs import cost_table, cost_words, costs, scientific, total
from cameleer.report.licences import licence_table, licence_words
from cameleer.report.page import write_report
from cameleer.report.reproduce import commands, input_table, stage_table, study_yaml
from cameleer.results.store import read_study
from tests.report.parsed import require_alone, require_well_formed

Make = Callable[..., Path]
DECLARED = {"name": "camels", "bases": [{"name": "b", "model": "org/b"}], "seeds": [1, 2]}


def change(path: Path, **told: Any) -> None:
    """Change fields of a JSON file, of `outcome` if that is given."""
    facts = json.loads(path.read_text())
    outcome = facts.get("outcome") | told.pop("outcome", {}) if "outcome" in facts else {}
    path.write_text(json.dumps({**facts, **({"outcome": outcome} if outcome else {}), **told}))


@pytest.fixture
def study(make_study: Make, tmp_path: Path) -> Path:
    """Two mixtures with a seed each, whose first has its licences, arithmetic and memory told."""
    folder = make_study(tmp_path, mixtures=("flan", "code"), benchmarks=("gsm:cot",), n=20)
    model = folder / "cells/smollm2-135m/flan-1/model"
    change(model / "manifest.json", outcome={"peak_memory_gib": 3.2,
                                             "planned": {"memory_gib": 3.0}})  # fmt: skip
    rows = [json.loads(line) for line in (model / "metrics.jsonl").read_text().splitlines()]
    lines = [json.dumps({**row, "flops": 10**12}) + "\n" for row in rows]
    (model / "metrics.jsonl").write_text("".join(lines))
    for name, licence, asks in (
        ("flan", "Apache-2.0", "attribution"),
        ("code", "CC BY-NC 4.0", "non-commercial use, attribution"),
    ):
        path = folder / f"mixes/{name}/manifest.json"
        sources = json.loads(path.read_text())["outcome"]["sources"]
        told = {source: {**facts, "licence": licence} for source, facts in sources.items()}
        change(path, outcome={"sources": told, "licences": {licence: asks}})
        change(path, inputs={f"{name}.jsonl": "a" * 64})
    change(folder / "study.json", declared=DECLARED, licences=[
        {"name": "smollm2-135m", "kind": "base", "licence": "Apache-2.0", "asks": "attribution"},
        {"name": "gsm:cot", "kind": "benchmark", "licence": "MIT", "asks": "attribution"},
    ])  # fmt: skip
    return folder


def test_costs_are_those_of_the_manifests(study: Path) -> None:
    found = costs(read_study(study))
    base, flan, code = found.values()
    assert (base.train_seconds, base.tokens, base.eval_seconds) == (None, None, 33.0)
    assert (flan.tokens, flan.flops, flan.memory) == (3_600_000, 120 * 10**12, 3.2)
    assert flan.planned_memory == 3.0
    assert code.flops is None
    assert flan.train_seconds == 75.0  # 120 steps of 0.6 s are less than the manifest's time
    of_all = total(found.values())
    assert (of_all.train_seconds, of_all.tokens, of_all.memory) == (150.0, 7_200_000, 3.2)
    assert of_all.new_tokens == 3 * 20 * 40
    assert of_all.requests is None


def test_a_resumed_training_counts_all_its_steps(study: Path) -> None:
    change(study / "cells/smollm2-135m/flan-1/model/manifest.json", seconds=5.0)
    found = costs(read_study(study))
    assert list(found.values())[1].train_seconds == pytest.approx(120 * 0.6)


@pytest.mark.parametrize(("value", "text"), [(1.23e15, "1.2e15"), (2.1e9, "2.1e9"), (None, "–")])
def test_a_large_number_is_short(value: float | None, text: str) -> None:
    assert scientific(value) == text


def test_an_hour_has_the_price_that_the_budget_says(study: Path) -> None:
    priced = DECLARED | {"budget": {"price_per_gpu_hour": 3.6}}
    change(study / "study.json", declared=priced | {"executor": {"gpus_per_stage": 2}})
    base, flan, _ = costs(read_study(study)).values()
    assert base.dollars == pytest.approx(33 / 1000 * 2)
    assert flan.dollars == pytest.approx((75 + 33) / 1000 * 2)
    table = cost_table(read_study(study))
    assert table.head[-1] == "devices"
    assert table.rows[-1][-1] == "$0.50"
    assert "At $3.60 an hour and device" in cost_words(read_study(study))[-1]


def test_what_judges_were_asked_and_charged(study: Path) -> None:
    for name, outcome in (
        ("one", {"b": "flan", "requests": 20, "dollars": 0.5}),
        ("two", {"b": "code", "requests": 10, "dollars": None}),
    ):
        folder = study / "judge" / name
        folder.mkdir(parents=True)
        (folder / "judgements.jsonl").write_text("")
        (folder / "manifest.json").write_text(json.dumps({"kind": "judge"}))
        (folder / "result.json").write_text(json.dumps(outcome))
    judgings = [{"folder": f"judge/{name}"} for name in ("one", "two")]
    change(study / "study.json", judgings=judgings)
    read = read_study(study)
    assert [(one.requests, one.judge_dollars) for one in costs(read).values()] == [
        (None, None),
        (20, 0.5),
        (10, None),
    ]
    assert cost_words(read)[-1] == "Judges were asked 30 times, for $0.50."


def test_what_nobody_has_is_no_column(make_study: Make, tmp_path: Path) -> None:
    table = cost_table(read_study(make_study(tmp_path, mixtures=("flan",), n=5)))
    assert not {"FLOPs", "peak GiB", "judge requests", "devices"} & set(table.head)


def test_licences_in_plain_words(study: Path) -> None:
    read = read_study(study)
    rows = {row[0]: row[1:] for row in licence_table(read).rows}
    assert rows["smollm2-135m"] == ["base", "Apache-2.0", "name the authors", ""]
    assert rows["flan_v2"] == ["data", "Apache-2.0", "name the authors", "flan"]
    assert rows["code_alpaca"][1:3] == ["CC BY-NC 4.0", "not for commercial use, name the authors"]
    assert rows["gsm:cot"][0] == "benchmark"
    (said,) = licence_words(read)
    assert said == (
        "Not for commercial use: what was trained on code, by the licence of code_alpaca."
    )


def test_a_base_without_a_licence_puts_all_in_doubt(study: Path) -> None:
    asks = "no permission is stated: ask, or leave the data out"
    base = {"name": "smollm2-135m", "kind": "base", "licence": "none stated", "asks": asks}
    change(study / "study.json", licences=[base])
    said = licence_words(read_study(study))
    assert any(text.startswith("In doubt: all models, as of smollm2-135m") for text in said)


def test_licences_that_were_not_recorded_are_said_to_be_unknown(
    make_study: Make, tmp_path: Path
) -> None:
    read = read_study(make_study(tmp_path, mixtures=("flan",), n=5))
    assert licence_table(read).rows == []
    assert licence_words(read) == [
        "Of the base no licence is recorded; the study's next run does that, and does nothing "
        "again that is done.",
        "Of the data none is recorded yet.",
    ]


def test_how_to_do_it_again(study: Path) -> None:
    read = read_study(study)
    assert yaml.safe_load(study_yaml(read)) == DECLARED
    assert commands(read)[0] == "pip install cameleer==0.1.0"
    assert "cameleer study run study.yaml -o 'runs/camels <small>'" in commands(read)
    assert ["flan.jsonl", "data", "a" * 64] in input_table(read).rows
    places = {row[0] for row in stage_table(read).rows}
    assert places == {
        *(f"cells/smollm2-135m/{name}/gsm-cot" for name in ("untuned", "flan-1", "code-1")),
        *(f"cells/smollm2-135m/{name}-1/model" for name in ("flan", "code")),
        *(f"mixes/{name}" for name in ("flan", "code")),
    }


def test_the_page_and_the_files_hold_all_of_it(study: Path, tmp_path: Path) -> None:
    page = write_report(study, tmp_path / "report")
    text = page.read_text()
    require_alone(text)
    require_well_formed(text)
    assert "Not for commercial use: what was trained on code" in text
    assert "1.2e14" in text
    assert yaml.safe_load((page.parent / "study.yaml").read_text()) == DECLARED
    with (page.parent / "tables/costs.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["tokens"] for row in rows] == ["", "3600000", "3600000", "7200000"]
    assert (page.parent / "tables/licences.tex").is_file()
