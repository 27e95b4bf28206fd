"""Licences as models and benchmarks state them, and a study's file as it was declared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from cameleer.report.reproduce import study_yaml
from cameleer.results.store import Study as Read
from cameleer.study.licences import licences, of_benchmark, of_model
from cameleer.study.study import load_study

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.yaml"))


@pytest.mark.parametrize(
    ("readme", "licence"),
    [
        ("---\nlicense: apache-2.0\ntags: [a]\n---\n# A model", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: llama2\n---\n", "llama2"),
        ("---\ntags: [a]\n---\n", "none stated"),
        ("---\nlicense: [\n---\n", "none stated"),
        ("# A model\n\nlicense: mit", "none stated"),
        (None, "none stated"),
    ],
)
def test_a_models_licence_is_that_of_its_card(
    readme: str | None, licence: str, tmp_path: Path
) -> None:
    if readme is not None:
        (tmp_path / "README.md").write_text(readme)
    assert of_model(tmp_path) == licence


def test_a_model_that_we_fetched_says_it_in_its_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"outcome": {"licence": "Apache-2.0"}}))
    assert of_model(tmp_path) == "Apache-2.0"


def test_a_benchmarks_licence_is_that_of_its_card() -> None:
    assert of_benchmark("gsm:cot") == "MIT"
    assert of_benchmark("alpaca_eval") == "CC BY-NC 4.0"


@pytest.mark.parametrize("file", STUDIES, ids=lambda path: path.stem)
def test_what_is_declared_is_the_study_again(file: Path, tmp_path: Path) -> None:
    study = load_study(file)
    declared = json.loads(json.dumps(study.model_dump(mode="json", exclude_unset=True)))
    read = Read(tmp_path, "x", "", "", {}, {}, [], [], declared=declared)
    (tmp_path / "study.yaml").write_text(study_yaml(read))
    assert load_study(tmp_path / "study.yaml") == study
    assert declared.keys() <= yaml.safe_load(file.read_text()).keys()


def test_what_licences_ask_is_told(tmp_path: Path) -> None:
    study = load_study(STUDIES[0])
    found = licences(study, {"a": tmp_path})
    assert found[0] == {
        "name": "a",
        "kind": "base",
        "licence": "none stated",
        "asks": "no permission is stated: ask, or leave the data out",
    }
    assert {one["kind"] for one in found[1:]} == {"benchmark"}
    assert next(one["asks"] for one in found if one["name"].startswith("gsm")) == "attribution"
