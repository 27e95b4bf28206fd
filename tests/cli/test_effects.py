"""`study effects` from the command line: a table, JSON, and what cannot be told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cameleer.cli import main
from cameleer.core.artifact import file_facts, seal
from cameleer.core.files import write_json
from tests.results.on_disk import study

Call = Callable[..., tuple[int, str, str]]
SCORES = {
    None: [[0.0] * 12],
    "x (full)": [[1.0] * 12],
    "y (full)": [[0.0] * 11 + [1.0]],
    "x (lora)": [[0.0] * 12],
    "y (lora)": [[0.0] * 12],
}


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Run the verb; returns its exit code, stdout and stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["study", "effects", *map(str, words)])
        said = capfd.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return run


def test_each_way_has_a_table_its_best_mixture_and_what_must_be_known(
    call: Call, tmp_path: Path
) -> None:
    folder = study(tmp_path / "s", SCORES, ("full", "lora"), lower=False)
    code, out, err = call(folder)
    assert code == 0
    full, lora = out.split("b, lora")
    assert "+100.0" in full
    assert "better" in full
    assert "better" not in lora
    assert "x + y is predicted best, but not surely better than x (full)" in full
    assert err.count("include what tuning on anything does") == 2


def test_json_holds_all_of_it_in_scores_from_0_to_1(call: Call, tmp_path: Path) -> None:
    folder = study(tmp_path / "s", SCORES, ("full", "lora"), lower=False)
    code, out, _ = call(folder, "--json", "--by", "presence")
    said = json.loads(out)
    assert code == 0
    assert said["by"] == "presence"
    full, lora = said["attributions"]
    assert (full["base"], full["way"], lora["way"]) == ("b", "full", "lora")
    values = [(row["source"], row["value"], row["clear"]) for row in full["effects"]]
    assert values == [("x", pytest.approx(1.0), True), ("y", pytest.approx(1 / 12), False)]
    assert full["best"][0]["sources"] == ["x", "y"]


def test_one_mixture_of_two_sources_is_a_mistake_of_one_line(call: Call, tmp_path: Path) -> None:
    folder = study(tmp_path / "s", {None: [[0.0] * 4], "x": [[1.0] * 4]})
    record = json.loads((folder / "study.json").read_text())
    record["mixtures"][0]["sources"] = {"x": 10, "y": 10}
    (folder / "study.json").write_text(json.dumps(record))
    code, out, err = call(folder)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "1 for 2 sources; train each source alone" in err


def test_samples_that_were_edited_since_are_not_explained(call: Call, tmp_path: Path) -> None:
    folder = study(tmp_path / "s", SCORES, ("full", "lora"), lower=False)
    samples = folder / "x (full)-0" / "samples.jsonl"
    manifest = {"kind": "eval", "files": {samples.name: file_facts(samples)}}
    write_json(samples.with_name("manifest.json"), {**manifest, "seal": seal(manifest)})
    assert call(folder)[0] == 0
    samples.write_text(samples.read_text().replace('"score": 1.0', '"score": 0.0'))
    code, out, err = call(folder)
    assert (code, out) == (2, "")
    assert "samples.jsonl" in err


def test_a_folder_has_its_own_place(call: Call, tmp_path: Path) -> None:
    folder = study(tmp_path / "s", SCORES, ("full", "lora"), lower=False)
    code, out, err = call(folder, "-o", tmp_path / "elsewhere")
    assert (code, out) == (2, "")
    assert "go with a study's file" in err
