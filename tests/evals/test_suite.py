"""Suites against the paper's own averages, and averages of what is not all there."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import pytest

from cameleer.core.errors import UserError
from cameleer.evals.suite import Suite, averages, named_suites, suite_named
from cameleer.results.stats import mean_interval
from cameleer.results.store import Evaluation

V2 = [
    "mmlu:0-shot",
    "gsm:cot",
    "bbh:cot",
    "tydiqa:gold",
    "codex_humaneval:pass@10",
    "alpaca_eval:greedy",
]
TABLE_3 = """
49.7 4.0 4.5 50.2 12.9 4.2 = 20.9
44.2 40.0 41.9 47.8 23.7 6.0 = 33.9
50.6 20.0 40.8 47.2 16.8 3.2 = 29.8
45.6 18.0 28.4 46.5 31.0 13.7 = 30.5
43.3 15.0 39.6 33.4 31.9 58.1 = 36.9
30.4 11.0 30.7 41.3 12.5 5.0 = 21.8
46.4 8.0 33.7 40.9 23.9 8.4 = 26.9
45.0 9.5 36.6 31.1 29.9 21.9 = 29.0
42.5 13.5 35.6 38.9 34.2 15.8 = 30.1
46.9 16.5 38.8 23.5 36.6 63.1 = 37.6
43.7 10.0 38.7 33.6 28.7 21.9 = 29.4
49.3 27.0 40.4 30.5 34.1 70.5 = 42.0
50.2 38.5 39.6 47.0 25.0 35.0 = 39.2
49.3 40.5 43.3 45.6 35.9 56.5 = 45.2
"""
"""The paper's table 3, in the order of V2, and its average."""

V1 = [
    *("mmlu:0-shot", "mmlu:5-shot", "gsm:direct", "gsm:cot", "bbh:direct", "bbh:cot"),
    *("tydiqa:gold", "tydiqa:closed", "codex_humaneval:pass@1", "codex_humaneval:pass@10"),
    "alpaca_eval:greedy",
]
CARDS = """
44.5 47.0 6.0 27.0 38.1 39.2 45.7 7.7 17.5 27.8 48.3 = 33.1
57.7 58.4 6.0 51.0 45.8 48.7 58.2 12.3 25.4 46.0 63.5 = 44.7
34.1 34.6 3.5 15.5 31.3 27.8 33.4 3.8 14.3 21.4 9.2 = 19.8
46.2 45.7 5.0 7.5 37.6 32.8 39.3 9.1 13.9 24.8 10.9 = 23.6
"""
"""Model cards of June 2023 (Tülu 7B, 30B, Pythia, Unnatural 13B), in the order of V1."""

CASES = [("camels", "average v2", V2, row) for row in TABLE_3.strip().splitlines()]
CASES += [
    (suite, "average v1", V1, row)
    for suite in ("camels", "camels-v1")
    for row in CARDS.strip().splitlines()
]


@pytest.mark.parametrize(("suite", "name", "columns", "row"), CASES)
def test_averages_are_those_of_the_paper(
    suite: str, name: str, columns: list[str], row: str
) -> None:
    cells, printed = row.split(" = ")
    values = dict(zip(columns, map(float, cells.split()), strict=True))
    tasks = suite_named(suite).averages[name]
    mean = fmean(fmean(values[label] for label in task) for task in tasks)
    # Of rounded cells the mean is known to 0.05 on either side; the printed one, too.
    assert mean == pytest.approx(float(printed), abs=0.1)
    alone = sum(values.values()) / len(values)  # the plain mean, which v1 is not
    assert (mean == pytest.approx(alone)) == (name == "average v2")


def evaluation(folder: Path, scores: dict[str, float], **more: object) -> Evaluation:
    folder.mkdir(parents=True)
    rows = [{"item": key, "score": score, "group": ""} for key, score in scores.items()]
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    value = sum(scores.values()) / len(scores)
    (folder / "scores.json").write_text(json.dumps({"value": value, **more}))
    return Evaluation(folder)


def written(folder: Path) -> Evaluation:
    folder.mkdir(parents=True)
    (folder / "scores.json").write_text('{"n": 3}')
    return Evaluation(folder)


SUITE = Suite.model_validate(
    {
        "benchmarks": ["gsm:direct", "gsm:cot", "mmlu", "alpaca_eval"],
        "averages": {
            "pair": [["gsm:direct", "gsm:cot"], "mmlu"],
            "all": ["gsm", "mmlu", "alpaca_eval"],
        },
    }
)


def runs(tmp_path: Path) -> dict[str, Evaluation]:
    direct = {"a": 0.0, "b": 1.0, "c": 0.0, "d": 0.0}
    cot = {"a": 1.0, "b": 1.0, "c": 0.0, "d": 1.0}
    return {
        "gsm:direct": evaluation(tmp_path / "direct", direct),
        "gsm:cot": evaluation(tmp_path / "cot", cot),
        "mmlu:0-shot": evaluation(tmp_path / "mmlu", {"x": 1.0, "y": 0.0}),
        "alpaca_eval:greedy": written(tmp_path / "alpaca"),
    }


def test_what_is_not_judged_yet_is_said(tmp_path: Path) -> None:
    pair, whole = averages(SUITE, runs(tmp_path))
    assert (pair.title, pair.missing) == ("pair", ())
    assert pair.estimate
    assert pair.estimate.value == pytest.approx(((1 / 4 + 3 / 4) / 2 + 1 / 2) / 2)
    assert pair.estimate.n == 6  # a task's items count once, whatever its settings
    assert whole.title == "all without alpaca_eval:greedy"
    assert whole.estimate
    assert whole.estimate.value == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_a_task_alone_has_the_interval_of_its_items_means(tmp_path: Path) -> None:
    there = runs(tmp_path)
    del there["mmlu:0-shot"]
    pair, _ = averages(SUITE, there)
    assert pair.title == "pair without mmlu:0-shot"
    interval = mean_interval([0.5, 1.0, 0.0, 0.5])
    assert pair.estimate
    assert (pair.estimate.low, pair.estimate.high) == pytest.approx((interval.low, interval.high))


def test_an_average_of_nothing_is_none(tmp_path: Path) -> None:
    pair, _ = averages(SUITE, {})
    assert pair.estimate is None
    assert set(pair.missing) == {"gsm:direct", "gsm:cot", "mmlu:0-shot"}


def test_settings_over_other_items_are_not_averaged(tmp_path: Path) -> None:
    there = runs(tmp_path) | {"gsm:cot": evaluation(tmp_path / "other", {"a": 1.0, "z": 0.0})}
    with pytest.raises(UserError, match="4 items were asked in one setting only"):
        list(averages(SUITE, there))


def test_lower_is_better_is_turned_round(tmp_path: Path) -> None:
    suite = Suite.model_validate({"benchmarks": ["gsm"], "averages": {"a": ["gsm"]}})
    run = evaluation(tmp_path / "run", {"a": 1.0, "b": 0.0, "c": 0.0}, lower_is_better=True)
    (average,) = averages(suite, {"gsm:cot": run})
    assert average.estimate
    assert average.estimate.value == pytest.approx(2 / 3)


def test_every_suite_that_comes_with_us_can_be_read() -> None:
    assert {"camels", "camels-v1", "mini"} <= set(named_suites())
    for name in named_suites():
        assert suite_named(name).about
    labels = {spec.benchmark for spec in suite_named("camels").benchmarks}
    assert labels >= {*V1, *V2, "toxigen:generation", "truthfulqa:generation"}


def test_benchmarks_can_be_left_out() -> None:
    kept = [spec.benchmark for spec in SUITE.without(["gsm:cot", "alpaca_eval"])]
    assert kept == ["gsm:direct", "mmlu"]
    with pytest.raises(UserError, match="gsn"):
        SUITE.without(["gsn"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("benchmarks: [gsm, 'gsm:cot']", "'gsm:cot' stands twice"),
        ("benchmarks: [gsm]\naverages: {a: [mmlu]}", "'mmlu:0-shot' is averaged, but not among"),
        ("benchmarks: [gsn]", "did you mean"),
        ("benchmarks: [gsm]\naverage: {}", "mine.yaml:2"),
    ],
)
def test_a_suite_of_ones_own_is_checked(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        suite_named(str(path))
    with pytest.raises(UserError, match="did you mean"):
        suite_named("camel")


@pytest.mark.real_data
def test_messages_to_api_models_are_those_of_the_paper(real_data: Path, tmp_path: Path) -> None:
    """Messages are the plain prompts, cue and all, of the paper's subsets; ToxiGen's are tasks."""
    import random

    from cameleer.engines.openai import Options, make
    from cameleer.evals.asking import prompts
    from cameleer.evals.benchmarks.gsm import exemplars
    from cameleer.evals.runner import _Run

    engine = make("m@http://127.0.0.1:9/v1", Options(api="chat", cache=tmp_path), {"model": "m"})
    specs = {spec.benchmark: spec for spec in suite_named("camels-api").benchmarks}

    def messages(label: str) -> list[str]:
        spec = specs[label].model_copy(update={"rule": "paper"})
        requests = _Run(spec, engine, real_data).requests
        assert not any(request.stop for request in requests)
        (sent,) = zip(*(engine._messages(request)["messages"] for request in requests), strict=True)
        assert {message["role"] for message in sent} == {"user"}
        return [message["content"] for message in sent]

    folder = real_data / "eval" / "gsm"
    questions = [json.loads(line)["question"].strip() for line in (folder / "test.jsonl").open()]
    prefix = "Answer the following questions.\n\n" + "".join(
        f"Question: {row['question']}\nAnswer: {row['cot_answer']}\n\n" for row in exemplars(folder)
    )
    sampled = random.Random(42).sample(questions, 200)
    assert messages("gsm:cot-200") == [f"{prefix}Question: {one}\nAnswer:" for one in sampled]
    for label, count in (("bbh:cot-40", 1080), ("bbh:direct-40", 1080), ("tydiqa:api-gold", 900)):
        plain = [row["prompt"] for row in prompts(label, real_data, "paper", "plain")]
        assert messages(label) == plain
        assert len(plain) == count
    toxic = messages("toxigen:generation-100")
    assert len(toxic) == 14 * 100
    assert all(message.startswith("Complete the following: - ") for message in toxic)
    mmlu = messages("mmlu:0-shot")
    assert len(mmlu) == 14_042
    assert all(message.endswith("\nAnswer:") for message in mmlu)
