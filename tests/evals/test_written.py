"""Answers that are only written: no score, their lengths, and the file for a judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cameleer.engines.engine import Request
from cameleer.evals.asking import EvalSpec
from cameleer.evals.runner import eval_stage, evaluate
from cameleer.evals.written import lengths
from cameleer.results.records import Answer
from tests.stand_in import StandIn


class Parrot(StandIn):
    """Says the message again, twice if two samples are asked for."""

    def one(self, request: Request, mates: int) -> Answer:
        assert request.clip
        outputs = [f"{request.text} {n}" for n in range(request.samples)]
        ends = ["length"] * request.samples
        return Answer(request.key, outputs, [], ends, 5, 8 * request.samples, 0.1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [{"id": f"vicuna_{n}", "prompt": f"Say {n}, say {n}.\n"} for n in range(3)]
    file = tmp_path / "eval_instances_tulu_1.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def run(data: Path, to: Path, **how: Any) -> Path:
    stage = eval_stage(EvalSpec(benchmark="human", **how), Parrot().identity, data, to)
    return evaluate(EvalSpec(benchmark="human", **how), Parrot, data, stage)


def test_samples_and_scores_hold_no_value(data: Path, tmp_path: Path) -> None:
    folder = run(data, tmp_path / "out")
    rows = [json.loads(line) for line in (folder / "samples.jsonl").open()]
    assert [(row["score"], row["extracted"], row["outputs"]) for row in rows] == [
        (None, [], [f"Say {n}, say {n}. 0"]) for n in range(3)
    ]
    scores = json.loads((folder / "scores.json").read_text())
    assert not scores.keys() & {"value", "low", "high"}
    assert (scores["n"], scores["metric"], scores["finish"]) == (3, "", {"length": 3})
    assert scores["groups"] == {"vicuna": {"n": 3}}
    # Say 1, say 1. 0 -> Say, 1, ",", say, 1, ".", 0; two of them twice, of "0" three times.
    assert scores["lengths"]["words"] == 7
    assert scores["lengths"]["unique_words"] == pytest.approx((5 + 6 + 6) / 3)
    assert scores["lengths"]["characters"] == len("Say 1, say 1. 0")
    assert (scores["lengths"]["tokens"], scores["lengths"]["empty"]) == (8, 0)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["outcome"] == {"metric": "", "n": 3}


def test_outputs_are_in_the_form_of_alpaca_eval(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(data, tmp_path / "out", samples=2)
    assert json.loads((folder / "outputs.json").read_text()) == [
        {
            "dataset": "vicuna",
            "instruction": f"Say {n}, say {n}.",
            "output": f"Say {n}, say {n}. 0",
            "generator": "parrot",
        }
        for n in range(3)
    ]
    assert "holds the first output" in capsys.readouterr().err


def test_empty_outputs_are_counted() -> None:
    rows = [{"outputs": ["", " \n"], "new_tokens": 3}, {"outputs": ["a a"], "new_tokens": 3}]
    assert lengths(rows) == {
        "characters": 5 / 3,
        "words": 2 / 3,
        "unique_words": 1 / 3,
        "tokens": 2.0,
        "empty": 2,
    }
