"""Cards of models and of mixtures: every number is the manifest's, and others can read them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cameleer.core.artifact import Stage
from cameleer.core.errors import UserError
from cameleer.core.files import read_json, write_json, write_jsonl
from cameleer.release.card import PARTS, data_card, kind_of, read_trained
from cameleer.release.licences import check, parts_of_mixture

Run = Callable[..., tuple[int, str, str]]
SCORES = {
    "benchmark": "gsm",
    "setting": "cot",
    "rule": "fixed",
    "format": "chat",
    "metric": "exact match",
    "lower_is_better": False,
    "value": 0.25,
    "low": 0.1,
    "high": 0.5,
    "n": 4,
}


def stage(kind: str, folder: Path, config: object, inputs: dict[str, str], outcome: object) -> str:
    made = Stage(kind, folder, config, inputs)
    made.run(lambda _: dict(outcome))  # type: ignore[call-overload]
    return made.fingerprint


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A base and a model tuned from it, with an evaluation each over the same four items."""
    root = tmp_path / "study"
    sources = {
        "dolly": {"taken": 3, "share": 0.75, "answer_share": 0.6, "licence": "CC BY-SA 3.0"},
        "cot": {"taken": 1, "share": 0.25, "answer_share": 0.4, "licence": "Apache-2.0"},
    }
    licences = {"CC BY-SA 3.0": "share-alike, attribution", "Apache-2.0": "attribution"}
    outcome = {"conversations": 4, "sources": sources, "licences": licences}
    data = stage("mix", root / "mix/m", {"seed": 7}, {"dolly/a.jsonl": "1" * 64}, outcome)
    rows = [{"id": "a", "source": "dolly", "messages": [{"role": "user", "content": "hi"}]}]
    write_jsonl(root / "mix/m/conversations.jsonl", rows)
    config = {"template": "tulu", "learning_rate": 2e-5, "lora": {"r": 8}, "seed": 1}
    counts = {"supervised: dolly": 90, "supervised: cot": 10}
    learned = {"steps": 3, "cut": 2, "dropped": 1, "counts": counts}
    inputs = {"model": "2" * 64, "data": data}
    model = stage("train", root / "train/m", config, inputs, learned)
    evals = {}
    for name, mark, score in (("base", "2" * 64, 0.0), ("m", model, 1.0)):
        folder = root / f"eval/{name}"
        engine = {"spec": {"limit": 4}, "engine": {"model": mark}}
        stage("eval", folder, engine, {}, {})
        write_json(folder / "scores.json", SCORES)
        samples = [{"item": f"gsm/{i}", "score": score if i == 0 else 0.0} for i in range(4)]
        write_jsonl(folder / "samples.jsonl", samples)
        evals[name] = {"gsm:cot": f"eval/{name}"}
    cells = [
        {"base": "smollm2-135m-instruct", "mixture": None, "evals": evals["base"]},
        {
            "base": "smollm2-135m-instruct",
            "mixture": "m",
            "seed": 1,
            "evals": evals["m"],
            "mix": "mix/m",
            "train": "train/m",
        },
    ]
    declared = {
        "name": "s",
        "bases": [{"name": "smollm2-135m-instruct", "about": "small."}],
        "mixtures": [{"name": "m"}],
        "benchmarks": ["gsm:cot"],
        "cells": cells,
    }
    write_json(root / "study.json", declared)
    return root


def front(path: Path) -> dict[str, Any]:
    """The front matter of a card."""
    head = path.read_text().split("---\n")[1]
    found = yaml.safe_load(head)
    assert isinstance(found, dict)
    return found


def test_a_models_card_in_a_study(study: Path, tmp_path: Path, run_release: Run) -> None:
    out = tmp_path / "card"
    given = ("--name", "camel", "--base", "org/base", "--json", "-o", str(out))
    code, said, _ = run_release("card", str(study / "train/m"), *given)
    assert code == 0
    assert json.loads(said)["licence"] == "CC BY-SA 3.0"
    head, text = front(out / "README.md"), (out / "README.md").read_text()
    assert head["base_model"] == "org/base"
    assert head["license"] == "cc-by-sa-3.0"
    assert head["datasets"] == ["databricks/databricks-dolly-15k"]
    assert head["tags"] == ["cameleer", "instruction-tuning", "lora"]
    (index,) = head["model-index"]
    (result,) = index["results"]
    assert result["dataset"]["type"] == "openai/gsm8k"
    (metric,) = result["metrics"]
    assert (metric["type"], metric["value"]) == ("exact_match", 25.0)
    assert metric["args"] == {"low": 10.0, "high": 50.0, "n": 4}
    assert "| dolly | 3 | 75.0 % | 60.0 % | 90.0 % | CC BY-SA 3.0 |" in text
    assert "25.0 [10.0 to 50.0] | +25.0 [" in text
    assert "no detectable difference" in text
    assert "org/base (small), fine-tuned on m, LoRA of rank 8, merged." in text
    assert "One seed" in text
    assert "2 conversations were cut at the length limit and 1 dropped." in text
    assert "Asked on a part of the items only: gsm:cot." in text
    assert "Not measured: toxigen, truthfulqa" in text


def test_the_hub_reads_the_card(study: Path, tmp_path: Path, run_release: Run) -> None:
    hub = pytest.importorskip("huggingface_hub")
    assert run_release("card", str(study / "train/m"), "-o", str(tmp_path))[0] == 0
    (result,) = hub.ModelCard.load(tmp_path / "README.md").data.eval_results
    assert (result.metric_value, result.dataset_type) == (25.0, "openai/gsm8k")


def test_licences_that_contradict_are_told(study: Path, tmp_path: Path, run_release: Run) -> None:
    given = ("--licence", "Apache-2.0", "-o", str(tmp_path), "--json")
    code, said, err = run_release("card", str(study / "train/m"), *given)
    assert code == 0
    told = "CC BY-SA 3.0 of dolly is share-alike, and Apache-2.0 is another."
    assert json.loads(said)["problems"] == [told]
    assert told in err
    assert told in (tmp_path / "README.md").read_text()


def test_a_mixtures_card_and_croissant(study: Path, tmp_path: Path, run_release: Run) -> None:
    mix = study / "mix/m"
    assert run_release("card", str(mix), "-o", str(tmp_path), "--name", "two sources")[0] == 0
    assert front(tmp_path / "README.md")["size_categories"] == ["n<1K"]
    assert "| dolly | 3 | 75.0 % |" in (tmp_path / "README.md").read_text()
    facts = read_json(tmp_path / "croissant.json")
    assert facts["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert facts["name"] == "two-sources"
    (file,) = facts["distribution"]
    data = (mix / "conversations.jsonl").read_bytes()
    assert file["sha256"] == hashlib.sha256(data).hexdigest()
    assert file["contentSize"] == f"{len(data)} B"
    (records,) = facts["recordSet"]
    row = json.loads(data)
    assert {one["source"]["extract"]["column"] for one in records["field"]} == set(row)


def test_the_library_of_croissants_makers_reads_it(
    study: Path, tmp_path: Path, run_release: Run
) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    mix = study / "mix/m"
    assert run_release("card", str(mix), "-o", str(tmp_path), "--name", "two sources")[0] == 0
    shutil.copy(mix / "conversations.jsonl", tmp_path)
    read = mlcroissant.Dataset(jsonld=str(tmp_path / "croissant.json"))  # raises what is invalid
    (row,) = read.records("conversations")
    found = {name.rpartition("/")[2]: value for name, value in row.items()}
    assert (found["id"], found["source"]) == (b"a", b"dolly")
    assert (found["role"], found["content"]) == ([b"user"], [b"hi"])


def test_what_is_of_another_model_or_data_is_refused(study: Path) -> None:
    with pytest.raises(UserError, match="of another model"):
        read_trained(study / "train/m", evals=[study / "eval/base"])
    other = study / "mix/other"
    stage("mix", other, {"seed": 8}, {}, {})
    with pytest.raises(UserError, match="is not the data"):
        read_trained(study / "train/m", mix=other)
    with pytest.raises(UserError, match="no finished training and no mixture"):
        kind_of(study / "eval/m")


@pytest.mark.parametrize("option", ["--mix", "--evals"])
def test_a_file_where_a_folder_belongs_is_one_line(
    study: Path, option: str, run_release: Run
) -> None:
    rows = study / "mix/m/conversations.jsonl"
    for given in (rows, study, study / "nowhere"):
        code, _, err = run_release("card", str(study / "train/m"), option, str(given))
        assert (code, err.count("\n")) == (2, 1)
        assert f"{given}: field '{option}': is no folder of a finished" in err
    assert not (study / "train/m/README.md").exists()


def test_an_empty_licence_is_refused(study: Path, run_release: Run) -> None:
    for option in ("--licence", "--base-licence"):
        code, _, err = run_release("card", str(study / "train/m"), option, " ")
        assert (code, f"field '{option}': is empty" in err) == (2, True)


# ---- what no study tells


@pytest.fixture
def alone(study: Path, tmp_path: Path) -> Path:
    """The training outside of its study, with the adapters' own word on their base."""
    folder = Path(shutil.copytree(study / "train/m", tmp_path / "alone"))
    (folder / "adapter").mkdir()
    named = {"base_model_name_or_path": "embedded:smollm2-135m-instruct"}
    write_json(folder / "adapter/adapter_config.json", named)
    return folder


def told(run_release: Run, *given: str) -> dict[str, Any]:
    """What `release card --json` says."""
    code, said, err = run_release("card", *given, "--json")
    assert code == 0, err
    facts = json.loads(said)
    assert isinstance(facts, dict)
    return facts


def test_data_that_nobody_looked_at_are_a_doubt(alone: Path, study: Path, run_release: Run) -> None:
    base = ("--base", "org/b", "--base-licence", "Apache-2.0")
    facts = told(run_release, str(alone), *base)
    doubt = "the training data (data): licence not known: give `release card` --mix."
    assert (facts["licence"], facts["problems"]) == ("other", [doubt])
    assert ["the training data", "data", "not known"] in front(alone / "README.md")[PARTS]
    assert doubt in (alone / "README.md").read_text()
    code, _, err = run_release("push", str(alone), "me/x")
    assert (code, "1 doubts" in err) == (0, True)
    assert doubt.replace("`", "") in err.replace("`", "")
    facts = told(run_release, str(alone), *base, "--mix", str(study / "mix/m"))
    assert (facts["licence"], facts["problems"]) == ("CC BY-SA 3.0", [])


def test_an_embedded_bases_licence_is_known_by_each_of_its_names(
    alone: Path, study: Path, run_release: Run
) -> None:
    mix = ("--mix", str(study / "mix/m"))
    assert told(run_release, str(alone), *mix)["problems"] == []  # as the adapters call it
    assert "base_model" not in front(alone / "README.md")  # on the hub nothing is called so
    assert "embedded:smollm2-135m-instruct, fine-tuned on" in (alone / "README.md").read_text()
    shutil.rmtree(alone / "adapter")
    given = (*mix, "--base", "embedded:smollm2-135m-instruct")
    assert told(run_release, str(alone), *given)["problems"] == []
    doubts = told(run_release, str(alone), *mix, "--base", "org/b")["problems"]
    assert doubts == [
        "org/b (base): licence none stated: ask, or give `release card` --base-licence."
    ]


def test_a_folder_is_no_name_of_a_base(alone: Path, tmp_path: Path, run_release: Run) -> None:
    named = {"base_model_name_or_path": str(tmp_path / "llama")}
    write_json(alone / "adapter/adapter_config.json", named)
    told(run_release, str(alone))
    text = (alone / "README.md").read_text()
    assert str(tmp_path) not in text
    assert "base_model:" not in text


def test_a_card_of_merged_adapters(study: Path, tmp_path: Path, run_release: Run) -> None:
    folder = tmp_path / "merged"
    outcome = {"base": "org/base", "dtype": "bfloat16", "parameters": 7}
    inputs = {"base": "2" * 64, "adapter": "3" * 64}
    made = stage("merge", folder, {"dtype": "bfloat16"}, inputs, outcome)
    facts = told(run_release, str(folder))
    assert [one.split(":")[0] for one in facts["problems"]] == [
        "org/base (base)",
        "the training data (data)",
    ]
    assert run_release("push", str(folder), "me/x")[0] == 0
    write_json(
        study / "eval/m/manifest.json", {"config": {"engine": {"model": made}}, "outcome": {}}
    )
    given = ("--mix", str(study / "mix/m"), "--evals", str(study / "eval/m"))
    facts = told(run_release, str(folder), *given, "--base-licence", "Apache-2.0")
    assert (facts["licence"], facts["problems"]) == ("CC BY-SA 3.0", [])
    head, text = front(folder / "README.md"), (folder / "README.md").read_text()
    assert (head["base_model"], head["library_name"]) == ("org/base", "transformers")
    assert head["model-index"][0]["results"][0]["metrics"][0]["value"] == 25.0
    assert "org/base, fine-tuned on instruction data, LoRA, merged." in text
    assert "is said by who wrote the card, by no manifest" in text
    assert f"| merge, fingerprint | `{made}` |" in text


def test_a_weight_diffs_card_follows_the_tuned_models_own(
    study: Path, tmp_path: Path, run_release: Run
) -> None:
    folder = tmp_path / "diff"
    stage("diff", folder, {"format": 1}, {"raw": "2" * 64, "tuned": "4" * 64}, {"format": 1})
    assert len(told(run_release, str(folder))["problems"]) == 2
    given = ("--base", "org/base", "--base-licence", "Apache-2.0")
    told(run_release, str(study / "train/m"), *given, "-o", str(folder / "model"))
    facts = told(run_release, str(folder))
    assert (facts["licence"], facts["problems"]) == ("CC BY-SA 3.0", [])
    head, text = front(folder / "README.md"), (folder / "README.md").read_text()
    assert head["base_model"] == "org/base"
    assert "library_name" not in head  # nothing loads a difference
    assert "`cameleer release recover`" in text
    assert "[its own card](model/README.md)" in text
    assert run_release("push", str(folder), "me/x")[0] == 0
    (folder / "model/README.md").write_text("---\nlicences_of_base_and_data: 3\n---\n")
    code, _, err = run_release("card", str(folder))
    assert (code, "is no list of name, kind and licence" in err) == (2, True)


def test_text_of_others_stays_in_its_cell(study: Path) -> None:
    manifest = study / "mix/m/manifest.json"
    facts = read_json(manifest)
    facts["outcome"]["sources"]["dolly"]["licence"] = "x | <script>"
    write_json(manifest, facts)
    outcome = facts["outcome"]
    text = data_card(study / "mix/m", "t", check(parts_of_mixture(outcome), None, lambda _: ""))
    assert "x \\| &lt;script>" in text
    assert "<script>" not in text.split("---\n", 2)[2]
