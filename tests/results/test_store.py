"""Reading a study's folder: what is there, what is not finished, what is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.results.records import Answer, Sample, Score
from cameleer.results.store import Evaluation, read_study


def make(folder: Path, **changes: Any) -> Path:
    cell = {"base": "b", "mixture": None, "seed": None, "train": None, "mix": None}
    study = {
        "name": "s",
        "about": "",
        "started": "",
        "bases": [{"name": "b", "about": ""}],
        "mixtures": [{"name": "m", "sources": {"dolly": 3}}],
        "benchmarks": ["gsm:cot"],
        "cells": [cell | {"evals": {"gsm:cot": "e"}, "failed": None}],
    } | changes
    folder.mkdir(exist_ok=True)
    (folder / "study.json").write_text(json.dumps(study))
    return folder


def make_eval(folder: Path, scores: list[float], **told: Any) -> None:
    folder.mkdir()
    (folder / "scores.json").write_text(json.dumps({"value": sum(scores) / len(scores)} | told))
    (folder / "manifest.json").write_text("{}")
    answer = Answer("", ["o"], [], ["stop"], 1, 1, 0.1)
    rows = [
        Sample(f"gsm/{i}", "", "p", "t", answer, Score(score, ["x"])).to_row()
        for i, score in enumerate(scores)
    ]
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_items_are_the_scores_of_the_samples(tmp_path: Path) -> None:
    study = make(tmp_path / "s")
    make_eval(study / "e", [1.0, 0.5])
    run = read_study(study).cells[0].evals["gsm:cot"]
    assert run.items.scores == {"gsm/0": 1.0, "gsm/1": 0.5}
    assert run.samples({"gsm/1"})["gsm/1"]["score"] == 0.5


def test_items_know_weights_clusters_and_strata(tmp_path: Path) -> None:
    answer = Answer("", ["o"], [], ["stop"], 1, 1, 0.1)
    rows = [
        Sample("a/0", "a", "p", "t", answer, Score(1.0, ["x"]), "c1", 1.5).to_row(),
        Sample("b/0", "b", "p", "t", answer, Score(0.5, ["x"]), "", 0.5).to_row(),
    ]
    make_eval(tmp_path / "e", [0.0], macro=True, lower_is_better=True)
    samples = tmp_path / "e" / "samples.jsonl"
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = Evaluation(tmp_path / "e")
    assert run.items.weights == {"a/0": 1.5, "b/0": 0.5}
    assert run.items.clusters == {"a/0": "c1", "b/0": ""}
    assert run.items.strata == {"a/0": "a", "b/0": "b"}
    assert run.items.mean == 0.875
    assert run.items_upward.mean == 0.125
    assert run.items_upward.scores == {"a/0": 0.0, "b/0": 0.5}


def test_answers_that_are_only_written_have_no_score(tmp_path: Path) -> None:
    make_eval(tmp_path / "e", [1.0])
    assert Evaluation(tmp_path / "e").scored
    (tmp_path / "e" / "scores.json").write_text('{"n": 1}')
    assert not Evaluation(tmp_path / "e").scored


def test_what_is_not_finished_is_not_there(tmp_path: Path) -> None:
    study = make(tmp_path / "s")
    assert read_study(study).cells[0].evals == {}
    make_eval(study / "e", [1.0])
    (study / "e" / "manifest.json").unlink()
    assert read_study(study).cells[0].evals == {}


def test_no_study_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no study here"):
        read_study(tmp_path)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    study = make(tmp_path / "s", cells=[{"mixture": "m"}])
    with pytest.raises(UserError, match="field 'base': is missing"):
        read_study(study)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"item": "gsm/0", "score": 1}', "twice"),
        ('{"item": "gsm/9", "score": 7}', "field 'score'"),
        ('{"score": 1}', "field 'item'"),
        ('{"item": "gsm/9", "score": 1, "weight": -1}', "field 'weight'"),
        ('{"item": ', "broken JSON"),
    ],
)
def test_broken_samples_name_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    make_eval(tmp_path / "e", [1.0])
    samples = tmp_path / "e" / "samples.jsonl"
    samples.write_text(samples.read_text() + line + "\n")
    with pytest.raises(UserError, match=f"samples.jsonl:2.*{message}"):
        _ = Evaluation(tmp_path / "e").items
