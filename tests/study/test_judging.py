"""Judges that a study declares: asked once for each model, shown in the report, stopping nobody."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.results.judgements import read_judgements
from cameleer.study.plan.asked import LIKELY
from cameleer.study.plan.planned import StudyPlan
from cameleer.study.run import run_study
from cameleer.study.status import grid_of, status
from cameleer.study.study import load_study
from tests.engines.api_server import ApiServer, Body, api_server, chat

Declare = Callable[..., Path]
ALPACA = {"benchmark": "alpaca_eval", "max_new_tokens": 12}
ASKED = 8


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """A judge that finds the answer shown first better."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with api_server() as running:
        running.rule = lambda _endpoint, _body: first()
        yield running


def first() -> Body:
    return chat("Verdict: A")


def judge(name: str, url: str, cache: Path, **more: Any) -> dict[str, Any]:
    engine = {"engine": "openai", "cache": str(cache), "wait": 0.01, "tries": 1}
    model = f"openai:camel@{url}"
    told = {"name": name, "judge": "verdict", "model": model, "engine": engine}
    return {**told, "against": "text_davinci_003", **more}


def with_instructions(file: Path, folder: Path) -> None:
    """Put a few instructions of AlpacaEval's form into the study's own data."""
    status(load_study(file), folder)  # makes the data
    rows = [
        {"instruction": f"Say {n}.", "output": f"Well: {n}.", "generator": "text_davinci_003",
         "dataset": "koala"}
        for n in range(ASKED)
    ]  # fmt: skip
    place = folder / "data/eval/alpaca_eval/results/text_davinci_003/model_outputs.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(rows))


@pytest.mark.slow
def test_every_model_is_judged_once_and_a_judge_that_fails_stops_nobody(
    declare: Declare, server: ApiServer, tmp_path: Path
) -> None:
    folder, cache = tmp_path / "run", tmp_path / "cache"
    small = {"mixtures": [{"name": "cot", "parts": [{"source": "cot"}]}]}
    plain = declare(**small)
    with_instructions(plain, folder)
    judges = [
        judge("gone", "http://127.0.0.1:9", cache),
        judge("camel", server.url, cache),
        judge("inside", server.url, cache, against="random"),
    ]
    file = declare(**small, benchmarks=["mmlu:0-shot", ALPACA], judges=judges)
    facts = StudyPlan(grid_of(load_study(file), folder)).facts()
    planned = {one["judge"]: one for one in facts["judges"]}
    assert (planned["camel"]["models"], planned["camel"]["requests"]) == (2, 2 * ASKED)
    assert (planned["inside"]["models"], planned["inside"]["requests"]) == (1, ASKED)
    with pytest.raises(UserError) as error:
        run_study(load_study(file), folder)
    assert "2 of 5 judgings failed, first random--gone" in str(error.value)
    page = (folder / "report/report.html").read_text()
    assert "Not judged: random--gone" in page
    assert "Benchmarks, judges and people" in page
    assert f"Judges were asked {3 * ASKED} times, at no price that is known." in page
    assert (folder / "report/figures/unique-tokens-camel.svg").is_file()
    found = json.loads((folder / "study.json").read_text())
    names = [Path(one["folder"]).name.rpartition("-")[0] for one in found["judgings"]]
    assert names == ["random--camel", "random--cot--s42--camel", "random--cot--s42--inside"]
    for one in found["judgings"]:
        rows = read_judgements(folder / one["folder"])
        assert len(rows) == ASKED
    rows = read_judgements(folder / found["judgings"][2]["folder"])
    assert {(one.who, one.a, one.b) for one in rows} == {("inside", "random", "random--cot--s42")}
    asked = len(server.asked)
    assert 0 < asked <= 3 * ASKED
    states = {row["model"]: row["evals"] for row in status(load_study(file), folder)["models"]}
    assert states["random"]["inside"] == "–"
    assert states["random"]["gone"] == "begun"
    assert 0 <= float(states["random--cot--s42"]["camel"]) <= 1
    with_two = declare(**small, benchmarks=["mmlu:0-shot", ALPACA], judges=judges[1:])
    page = run_study(load_study(with_two), folder).read_text()
    assert len(server.asked) == asked
    assert "Not judged" not in page
    assert "camel" in page


def test_what_a_judge_will_cost_is_planned_before_anyone_has_answered(
    declare: Declare, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    small = {"mixtures": [{"name": "cot", "parts": [{"source": "cot"}]}]}
    with_instructions(declare(**small), folder)
    prices = {"engine": "openai", "price_in": 10, "price_out": 0}
    told = {"name": "camel", "judge": "verdict", "model": "openai:camel@http://127.0.0.1:9"}
    judges = [{**told, "engine": prices, "against": "text_davinci_003", "both_orders": True}]
    file = declare(**small, benchmarks=["mmlu:0-shot", ALPACA], judges=judges)
    facts = StudyPlan(grid_of(load_study(file), folder)).facts()
    (row,) = facts["judges"]
    assert (row["comparisons"], row["requests"]) == (2 * ASKED, 4 * ASKED)
    asked = [one for one in facts["answers"] if "judge" in one]
    # One answer is that of the reference, the other taken to have LIKELY tokens.
    assert all(one["prompt_tokens"] > 2 * ASKED * LIKELY for one in asked)
    tokens = sum(one["prompt_tokens"] for one in asked)
    assert row["dollars"] == pytest.approx(10 * tokens / 1e6, rel=0.01)
    assert facts["left"]["requests"] == 4 * ASKED
    assert facts["unknown"] == ["how fast its server answers"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"judge": "nobody"}, "unknown judge 'nobody'"),
        ({"benchmark": "gsm:cot"}, "gsm:cot is scored: there is nothing to judge"),
        ({"benchmark": "human"}, "'camel' judges human"),
        ({"engine": {"engine": "openai", "trys": 3}}, "unknown option of openai 'trys'"),
        ({"agains": "x"}, "did you mean 'against'?"),
    ],
)
def test_what_cannot_be_judged_is_told_when_the_study_is_read(
    declare: Declare, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    own = judge("camel", "http://127.0.0.1:9", tmp_path, **changes)
    with pytest.raises(UserError) as error:
        load_study(declare(benchmarks=["mmlu:0-shot", ALPACA], judges=[own]))
    assert said in str(error.value)


def test_two_judges_of_one_name_are_told(declare: Declare, tmp_path: Path) -> None:
    own = judge("camel", "http://127.0.0.1:9", tmp_path)
    with pytest.raises(UserError) as error:
        load_study(declare(benchmarks=[ALPACA], judges=[own, own]))
    assert "'camel' stands twice in 'judges'" in str(error.value)
