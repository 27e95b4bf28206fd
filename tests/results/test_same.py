"""Two runs of a study side by side: alike but for times, and what is told where they are not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cameleer.cli import main
from cameleer.results.same import compare

Change = Callable[[dict[str, Any]], None]


def write(path: Path, rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = rows if path.suffix == ".jsonl" else [rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in lines))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two models, of which one was trained; one benchmark of three items; one judging of two."""
    folder = tmp_path / "here"
    cells = []
    for name, mixture in (("base", None), ("tuned", "cot")):
        place = folder / "eval" / name
        rows = [
            {"item": f"gsm/{n}", "outputs": ["4"], "score": 1.0, "seconds": n} for n in range(3)
        ]
        write(place / "samples.jsonl", rows)
        write(place / "scores.json", {"value": 1.0, "n": 3, "seconds": 3.5})
        write(place / "manifest.json", {"seconds": 4})
        cell = {"base": "m", "mixture": mixture, "seed": mixture and 1, "mix": None}
        train = "train/tuned" if mixture else None
        cells.append({**cell, "train": train, "evals": {"gsm:cot": f"eval/{name}"}})
    write(folder / "train/tuned/manifest.json", {"outcome": {"final_loss": 0.5}})
    (folder / "train/tuned/model.safetensors").write_bytes(b"weights")
    said = [{"item": n, "preference": 1, "seconds": 0.1 * n} for n in range(2)]
    write(folder / "judge/x/judgements.jsonl", said)
    write(folder / "judge/x/result.json", {"judge": "j", "a": "base", "b": "tuned"})
    write(folder / "judge/x/manifest.json", {})
    index = {
        "name": "s",
        "bases": [{"name": "m"}],
        "mixtures": [{"name": "cot"}],
        "benchmarks": ["gsm:cot"],
        "cells": cells,
        "judgings": [{"folder": "judge/x"}],
    }
    write(folder / "study.json", index)
    return folder


def other(study: Path) -> Path:
    return Path(shutil.copytree(study, study.with_name("there")))


def edited(path: Path, change: Change) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows[-1])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_times_alone_differ(study: Path) -> None:
    there = other(study)
    for name in ("eval/base/samples.jsonl", "eval/base/scores.json", "judge/x/judgements.jsonl"):
        edited(there / name, lambda row: row.update(seconds=99))
    found = compare(study, there)
    assert (found.models, found.evaluations, found.items, found.judgements) == (1, 2, 6, 2)
    assert found.differences == []


@pytest.mark.parametrize(
    ("name", "change", "where", "how"),
    [
        (
            "eval/base/samples.jsonl",
            lambda row: row.update(outputs=["5"]),
            "m · untuned, gsm:cot",
            "1 of 3 answers differ, first gsm/2",
        ),
        (
            "eval/tuned/scores.json",
            lambda row: row.update(value=0.9),
            "m · cot, seed 1, gsm:cot",
            "scores differ (1.0, 0.9)",
        ),
        (
            "judge/x/judgements.jsonl",
            lambda row: row.update(preference=2),
            "judging j: tuned against base",
            "1 of 2 judgements differ, first 1",
        ),
    ],
)
def test_what_differs_is_told(study: Path, name: str, change: Change, where: str, how: str) -> None:
    there = other(study)
    edited(there / name, change)
    assert [(one.where, one.how) for one in compare(study, there).differences] == [(where, how)]


def test_weights_that_differ(study: Path) -> None:
    there = other(study)
    (there / "train/tuned/model.safetensors").write_bytes(b"Weights")
    (difference,) = compare(study, there).differences
    assert difference.where == "m · cot, seed 1, training"
    assert difference.how == "weights differ (final loss 0.5, 0.5)"


def test_what_one_lacks(study: Path) -> None:
    there = other(study)
    shutil.rmtree(there / "eval/tuned")
    shutil.rmtree(there / "judge")
    told = [(one.where, one.how) for one in compare(study, there).differences]
    lacks = "is not finished in the second"
    label = "m · cot, seed 1, gsm:cot"
    assert told == [(label, lacks), ("judging j: tuned against base", lacks)]
    index = json.loads((there / "study.json").read_text())
    index["cells"].pop()
    write(there / "study.json", index)
    assert compare(study, there).differences[0].how == "is in the first alone"
    assert compare(there, study).differences[0].how == "is in the second alone"


def test_the_verb(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = other(study)
    for code, difference in ((0, 0), (2, 1)):
        if difference:
            edited(there / "eval/base/samples.jsonl", lambda row: row.update(score=0.0))
        with pytest.raises(SystemExit) as ended:
            main(["study", "same", str(study), str(there), "--json"])
        assert ended.value.code == code
        told = json.loads(capsys.readouterr().out)
        assert told["same"] is not bool(difference)
        assert (told["items"], len(told["differences"])) == (6, difference)
