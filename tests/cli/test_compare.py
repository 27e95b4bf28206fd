"""`judge compare` and `study report --judgements`: what is gathered from where, and mistakes."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cameleer.cli import main
from cameleer.cli.compare import gather
from cameleer.human.accounts import add_rater
from cameleer.human.assignment import next_task
from cameleer.human.campaign import new_campaign
from cameleer.human.database import open_database
from cameleer.human.ratings import Rating, submit
from cameleer.results.judgements import to_row
from cameleer.results.opinions import join
from cameleer.results.records import Judgement

Call = Callable[..., tuple[int, str, str]]
TRUTH = {"good": 0.8, "poor": 0.3}


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Run a command; returns its exit code, stdout and stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        said = capfd.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return run


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def judged(folder: Path, model: str, who: str = "gpt", kind: str = "judge") -> Path:
    rng = random.Random(f"{model} {who}")
    rows = [
        Judgement(f"alpaca_eval/{n}", "ref", model, 1.0 + (rng.random() < TRUTH[model]), who, kind)  # type: ignore[arg-type]
        for n in range(60)
    ]
    return lines(folder / "judgements.jsonl", [to_row(one) for one in rows]).parent


def evaluated(folder: Path, name: str, right: int) -> Path:
    rows = [{"item": f"gsm/{n}", "group": "", "score": float(n < right), "outputs": [""]}
            for n in range(50)]  # fmt: skip
    lines(folder / name / "samples.jsonl", rows)
    scores = {
        "benchmark": name,
        "setting": "cot",
        "value": right / 50,
        "low": 0,
        "high": 1,
        "n": 50,
    }
    (folder / name / "scores.json").write_text(json.dumps(scores))
    (folder / name / "manifest.json").write_text(json.dumps({"config": {"engine": {"model": "m"}}}))
    return folder


@pytest.fixture
def places(tmp_path: Path) -> list[Path]:
    judges = [judged(tmp_path / f"judge-{model}", model) for model in TRUTH]
    people = [judged(tmp_path / f"people-{model}", model, "ann", "human") for model in TRUTH]
    return [*judges, *people]


def test_rankings_of_all_kinds_are_told_and_written(
    call: Call, places: list[Path], tmp_path: Path
) -> None:
    evals = [
        evaluated(tmp_path / "evals" / model, "gsm", int(50 * TRUTH[model])) for model in TRUTH
    ]
    given = [f"--evals={model}={folder}" for model, folder in zip(TRUTH, evals, strict=True)]
    page = tmp_path / "page.html"
    code, out, err = call("judge", "compare", *places, *given, "-o", page, "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert [one["name"] for one in facts["measures"]] == ["benchmarks", "gpt", "people"]
    assert facts["measures"][0]["models"]["good"]["value"] == pytest.approx(0.8)
    assert facts["measures"][1]["reference"] == "ref"
    assert facts["measures"][2]["ranking"] == ["good", "ref", "poor"]
    assert facts["meetings"][0]["items"] == 120
    assert facts["page"] == str(page)
    assert "Benchmarks, judges and people" in page.read_text()
    code, out, err = call("judge", "compare", *places, *given)
    assert code == 0, err
    assert "Benchmarks, the judge gpt and people rank good first." in out


def test_names_are_joined_and_those_without_evaluations_said(
    call: Call, places: list[Path], tmp_path: Path
) -> None:
    evals = evaluated(tmp_path / "evals", "gsm", 40)
    code, out, _ = call("judge", "compare", *places, f"--evals=best={evals}", "--same=good=best",
                        "--json")  # fmt: skip
    assert code == 0
    facts = json.loads(out)
    assert facts["measures"][1]["ranking"] == ["best", "ref", "poor"]
    assert facts["warnings"] == ["poor was judged, and --evals names no evaluations of it."]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--same", "god=poor"], "unknown judged model 'god' (did you mean 'good'?"),
        (["--same", "good"], "field '--same': 'good' is not NAME=VALUE"),
        (["--evals", "good"], "field '--evals': 'good' is not NAME=VALUE"),
        (["--evals", "good=nowhere"], "nowhere: no samples.jsonl here, nor below"),
        (["--answers", "good=nowhere.json"], "nowhere.json: no such file"),
        (["nowhere.jsonl"], "nowhere.jsonl: no such file"),
    ],
)
def test_mistakes_are_told_in_one_line(
    words: list[str], said: str, call: Call, places: list[Path]
) -> None:
    code, out, err = call("judge", "compare", places[0], *words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1


def test_a_broken_line_is_named(call: Call, places: list[Path]) -> None:
    file = places[0] / "judgements.jsonl"
    rows = file.read_text().splitlines()
    rows[2] = rows[2].replace('"preference": ', '"preference": 7')
    file.write_text("\n".join(rows))
    code, _, err = call("judge", "compare", places[0])
    assert code == 2
    assert f"{file}:3: field 'preference'" in err


def test_texts_are_found_beside_judgements(tmp_path: Path) -> None:
    folder = judged(tmp_path / "judge", "good")
    rows = [
        {"instruction": f"Q{n}", "output_1": f"ref {n}", "generator_1": "ref", "preference": 1,
         "output_2": f"good {n}", "generator_2": "good", "annotator": "gpt"}
        for n in range(60)
    ]  # fmt: skip
    (folder / "annotations.json").write_text(json.dumps(rows))
    found = gather([folder])
    assert len(found.judgements) == 60
    assert found.prompts["alpaca_eval/7"] == "Q7"
    assert found.outputs["alpaca_eval/7", "good"] == "good 7"
    assert found.outputs["alpaca_eval/7", "ref"] == "ref 7"
    (folder / "judgements.jsonl").unlink()
    assert len(gather([folder]).judgements) == 60  # a released folder has no more than that


def test_a_campaigns_texts_and_two_campaigns_annotators(tmp_path: Path) -> None:
    first = judged(tmp_path / "one", "good", "annotator-1", "human")
    second = judged(tmp_path / "two", "poor", "annotator-1", "human")
    (first / "campaign.json").write_text("{}")
    row = {"key": "alpaca_eval/3", "prompt": "Q", "a": "ref", "b": "good"}
    lines(first / "items.jsonl", [row | {"completion_a": "no", "completion_b": "yes"}])
    found = gather([first, second])
    assert found.outputs["alpaca_eval/3", "good"] == "yes"
    assert {one.who for one in found.judgements} == {"annotator-1", f"annotator-1 of {second}"}


def test_the_same_judgements_given_twice_count_once(
    places: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    found = gather([places[0], places[0] / "judgements.jsonl"])
    assert len(found.judgements) == 60
    assert "60 judgements were given before" in capfd.readouterr().err


def test_answers_are_shown_where_they_are_named(tmp_path: Path, places: list[Path]) -> None:
    rows = [{"instruction": f"Q{n}", "output": f"A{n}", "generator": "x"} for n in range(60)]
    (tmp_path / "outputs.json").write_text(json.dumps(rows))
    found = gather([places[0]], [f"good={tmp_path / 'outputs.json'}"])
    assert found.outputs["alpaca_eval/59", "good"] == "A59"


def test_a_campaign_and_a_judge_of_the_same_answers_meet(tmp_path: Path) -> None:
    """From the same two files: people, in the campaign's own database, and a judge's verdicts."""
    for model in ("ref", "good"):
        rows = [{"instruction": f"Q{n}", "output": f"{model} {n}", "generator": model}
                for n in range(12)]  # fmt: skip
        (tmp_path / f"{model}.json").write_text(json.dumps(rows))
    answers = {model: tmp_path / f"{model}.json" for model in ("ref", "good")}
    campaign = new_campaign(tmp_path / "campaign", answers, [("ref", "good")], repeats=2)
    database = open_database(campaign)
    ann = add_rater(database, "ann").id
    while task := next_task(database, campaign, ann):
        for_good = -2 if task.b_first else 2
        instance = campaign.instances[task.instance]
        said = Rating(True, True, for_good if instance.practice is None else 0, "good", "", 5.0)
        submit(database, ann, task.token, said, task.token)
    database.dispose()
    judge = judged(tmp_path / "judge", "good")
    found = gather([campaign.folder, judge])
    opinions = join({}, found.judgements, None, found.outputs)
    assert opinions.measure("people").value("good") == 1
    (met,) = opinions.meetings
    assert met.items == 12
    verdicts = [one.preference for one in found.judgements if one.kind == "judge"][:12]
    assert met.opposite == verdicts.count(1.0)
    assert found.outputs["alpaca_eval/3", "good"] == "good 3"
    assert opinions.warnings == ["2 times people judged a comparison again: the first time counts."]


JUDGED = ("text_davinci_001", "alpaca-7b", "vicuna-13b", "tulu-2-dpo-7b", "gpt4", "phi-2-sft")


@pytest.mark.real_data
def test_published_verdicts_are_a_judge_like_any_other(call: Call, real_data: Path) -> None:
    home = real_data / "eval" / "alpaca_eval"
    board = home / "leaderboards/data_AlpacaEval/alpaca_eval_gpt4_leaderboard.csv"
    with board.open() as handle:
        published = {row[""]: float(row["win_rate"]) for row in csv.DictReader(handle)}
    given = [home / "results" / model / "alpaca_eval_gpt4" for model in JUDGED]
    code, out, err = call("judge", "compare", *given, "--json")
    assert code == 0, err
    (measure,) = json.loads(out)["measures"]
    assert (measure["name"], measure["reference"]) == ("alpaca_eval_gpt4", "text_davinci_003")
    for model in JUDGED:
        assert 100 * measure["models"][model]["value"] == pytest.approx(published[model], abs=1e-9)
        assert model in measure["length_controlled"]
