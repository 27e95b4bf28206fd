"""Results that were edited or lost, and names that nobody knows: one line, exit 2, nothing lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cameleer.cli import main
from cameleer.core.files import read_json, write_json

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Give a command line: (exit code, stderr)."""

    def give(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(map(str, arguments)))
        return int(ended.value.code or 0), capsys.readouterr().err

    return give


@pytest.fixture
def study(small_study: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(small_study, tmp_path / "study"))


def edited(file: Path) -> None:
    """One character of the file is another one; its size stays."""
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)


def files_of(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    "name", ["eval/m-gsm/samples.jsonl", "mix/m/conversations.jsonl", "train/m/config.json"]
)
def test_a_result_that_was_edited_is_said(study: Path, tmp_path: Path, run: Run, name: str) -> None:
    edited(study / name)
    before = files_of(study)
    code, said = run("study", "report", study)
    assert code == 2
    told = f"error: {study / name}: was changed after the work was finished (put it back, or remove"
    assert said.startswith(told)
    assert said.count("\n") == 1
    code, said = run("release", "bundle", study, "-o", tmp_path / "out.tar")
    assert code == 2
    assert name in said
    assert files_of(study) == before
    assert not (tmp_path / "out.tar").exists()


def test_a_result_that_is_lost_is_said(study: Path, tmp_path: Path, run: Run) -> None:
    (study / "eval/m-gsm/scores.json").unlink()
    code, said = run("study", "report", study)
    assert code == 2
    assert "eval/m-gsm/scores.json: is missing, and was there when the work was finished" in said
    code, said = run("release", "bundle", study, "-o", tmp_path / "out.tar")
    assert (code, "eval/m-gsm/scores.json" in said) == (2, True)


def test_a_manifest_that_was_edited_is_said(study: Path, run: Run) -> None:
    manifest = study / "train/m/manifest.json"
    facts = read_json(manifest)
    facts["outcome"]["final_loss"] = 0.1
    write_json(manifest, facts)
    code, said = run("study", "report", study)
    assert code == 2
    assert f"{manifest}: was changed after the work was finished" in said


def test_weights_of_the_same_size_are_told_apart_by_who_reads_them(
    study: Path, tmp_path: Path, run: Run
) -> None:
    """A report does not read gigabytes for each table; what leaves the house is hashed whole."""
    edited(study / "train/m/model.safetensors")
    code, said = run("release", "bundle", study, "-o", tmp_path / "out.tar")
    assert code == 2
    assert "train/m/model.safetensors: is not as its stage wrote it" in said
    code, said = run("release", "push", study / "train/m", "me/m")
    assert code == 2
    assert "model.safetensors: was changed after the work was finished" in said
    assert run("study", "report", study)[0] == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"mixtures": [{"name": "m", "parts": [{"source": "cott"}]}]},
            "field 'mixtures.0.parts.0.source': unknown source 'cott' (did you mean 'cot'?",
        ),
        ({"benchmarks": ["gsn:cot"]}, "field 'benchmarks.0': unknown benchmark 'gsn'"),
        ({"benchmarks": ["gsm:cut"]}, "field 'benchmarks.0': unknown setting of gsm 'cut'"),
        (
            {"bases": [{"name": "b", "model": "embedded:smol"}]},
            "field 'bases.0.model': unknown embedded model 'smol'",
        ),
        (
            {"mixtures": [{"name": "m", "parts": [{"mix": "tulu9"}]}]},
            "unknown mixture 'tulu9' (did you mean 'tulu'?",
        ),
        ({"bases": [{"name": "b", "model": "/nowhere/llama"}]}, "no model '/nowhere/llama'"),
    ],
)
def test_a_study_with_an_unknown_name(
    tmp_path: Path, run: Run, change: dict[str, Any], told: str
) -> None:
    study = {
        "name": "s",
        "miniature": {"cot": 10, "gsm": 5},
        "bases": [{"name": "b", "model": "org/base"}],
        "mixtures": [{"name": "m", "parts": [{"source": "cot"}]}],
        "benchmarks": ["gsm:cot"],
    }
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump({**study, **change}, sort_keys=False))
    code, said = run("study", "run", file, "-o", tmp_path / "out")
    assert code == 2
    assert told in said
    assert said.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "out/train").exists()
