"""Tasks of lm-eval through our engines, beside lm-eval's own model: the same numbers."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.core.files import read_json
from cameleer.core.jsonl import read_jsonl
from cameleer.engines.engine import Request
from cameleer.evals.asking import EvalSpec
from cameleer.evals.benchmark import benchmark_named
from cameleer.evals.reconcile import reconcile
from cameleer.evals.runner import eval_stage, evaluate
from cameleer.results.records import Answer

HOMES = {"camel": "desert", "penguin": "ice", "whale": "sea", "frog": "pond", "bee": "hive"}
COMMON = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
"""
TASKS = {
    "tiny_choice": """
output_type: multiple_choice
fewshot_split: test
num_fewshot: 1
doc_to_text: "Where does the {{animal}} live?"
doc_to_choice: "{{homes}}"
doc_to_target: gold
metric_list: [{metric: acc}, {metric: acc_norm}, {metric: mcc}]
""",
    "tiny_written": """
output_type: generate_until
doc_to_text: "Where does the {{animal}} live?"
doc_to_target: "{{homes[gold]}}"
generation_kwargs: {until: [" ", "e"], max_gen_toks: 12}
filter_list:
  - {name: strict, filter: [{function: take_first}]}
  - {name: lower, filter: [{function: lowercase}, {function: take_first}]}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
""",
    "tiny_last": """
output_type: loglikelihood
doc_to_text: "The {{animal}} lives in the "
doc_to_target: "{{homes[gold]}}"
metric_list: [{metric: acc}, {metric: perplexity}]
""",
    "tiny_whole": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "The {{animal}} lives in the {{homes[gold]}}. {{homes}}"
metric_list: [{metric: bits_per_byte}, {metric: word_perplexity}]
""",
}


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A folder of four tasks, one of each kind that lm-eval knows, and a group."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    folder = tmp_path / "tasks"
    folder.mkdir()
    homes = list(HOMES.values())
    rows = [
        {"animal": animal, "homes": homes[i:] + homes[:i], "gold": (n - i) % len(homes)}
        for n, animal in enumerate(HOMES)
        for i in range(2)
    ]
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in TASKS.items():
        (folder / f"{name}.yaml").write_text(COMMON.format(name=name, data=data) + text)
    group = "group: tiny\ntask: [tiny_choice, tiny_last]\n"
    group += "aggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
    (folder / "tiny.yaml").write_text(group)
    return folder


def run(
    task: str,
    tasks: Path,
    model: Path,
    out: Path,
    make: Callable[[Any], Any] = lambda engine: engine,
    **how: Any,
) -> Path:
    from cameleer.engines.transformers import TransformersEngine

    spec = EvalSpec(benchmark=f"lm_eval:{task}", **how)
    stage = eval_stage(spec, {"model": "tiny"}, tasks, out / task)
    engine = lambda: make(TransformersEngine(model, {"model": "tiny"}, precision="fp32"))  # noqa: E731
    return evaluate(spec, engine, tasks, stage)


def theirs(names: list[str], tasks: Path, model: Path, **how: Any) -> Any:
    """What lm-eval itself says of a model."""
    from_here = importlib.import_module
    peer = from_here("lm_eval.models.huggingface").HFLM(
        str(model), device="cpu", dtype="float32", batch_size=2
    )
    manager = from_here("lm_eval.tasks").TaskManager(
        include_path=str(tasks), include_defaults=False
    )
    return from_here("lm_eval").simple_evaluate(
        peer, tasks=names, task_manager=manager, bootstrap_iters=0, **how
    )


@pytest.mark.slow
def test_numbers_equal_those_of_lm_evals_own_model(
    tasks: Path, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    model = tiny_model("llama")
    told = theirs(list(TASKS), tasks, model)
    for name in TASKS:
        scores = read_json(run(name, tasks, model, tmp_path) / "scores.json")
        assert scores["metrics"], name
        for metric, found in scores["metrics"].items():
            assert found["value"] == pytest.approx(told["results"][name][metric], rel=1e-4), metric
            assert found["low"] <= found["value"] <= found["high"]
            assert found["n"] == 10
        rows = {row["item"]: row for _, row in read_jsonl(tmp_path / name / "samples.jsonl")}
        for one in told["samples"][name]:
            row = rows[f"lm_eval/{name}/{one['doc_id']}"]
            assert row["prompt"] == one["arguments"][0][0]
            assert row["group"] == ""


@pytest.mark.slow
def test_a_group_has_lm_evals_mean_and_its_tasks_as_groups(
    tasks: Path, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    model = tiny_model("llama")
    scores = read_json(run("tiny", tasks, model, tmp_path) / "scores.json")
    told = theirs(["tiny"], tasks, model)["results"]
    assert scores["value"] == pytest.approx(told["tiny"]["acc,none"])
    assert scores["groups"]["tiny_last"]["value"] == pytest.approx(told["tiny_last"]["acc,none"])
    assert scores["n"] == 20


class Mortal:
    """An engine that answers two batches, of which it lives to see so many."""

    def __init__(self, engine: Any, lives: int) -> None:
        self.engine, self.lives = engine, lives
        self.identity, self.tokenizer = engine.identity, engine.tokenizer
        self.count_tokens, self.cut = engine.count_tokens, engine.cut

    def batches(self, requests: list[Request]) -> list[list[Request]]:
        ordered = [request for batch in self.engine.batches(requests) for request in batch]
        return [ordered[:5], ordered[5:]]

    def answer(self, batch: list[Request]) -> list[Answer]:
        if not self.lives:
            raise KeyboardInterrupt
        self.lives -= 1
        (known,) = self.engine.batches(batch)
        answers = {one.item: one for one in self.engine.answer(known)}
        return [answers[request.key] for request in batch]


@pytest.mark.slow
def test_what_was_answered_is_not_asked_again(
    tasks: Path, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    model = tiny_model("llama")
    with pytest.raises(KeyboardInterrupt):
        run("tiny_written", tasks, model, tmp_path, lambda engine: Mortal(engine, 1))
    cut = run("tiny_written", tasks, model, tmp_path, lambda engine: Mortal(engine, 1))
    whole = run("tiny_written", tasks, model, tmp_path / "again", lambda engine: Mortal(engine, 2))
    rows = [[row for _, row in read_jsonl(one / "samples.jsonl")] for one in (cut, whole)]
    for row in (*rows[0], *rows[1]):
        del row["seconds"]
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_a_limit_draws_documents_by_row_and_reconciles_with_lm_evals_log(
    tasks: Path, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    model = tiny_model("llama")
    ours = run("tiny_choice", tasks, model, tmp_path, limit=4)
    rows = [row["item"] for _, row in read_jsonl(ours / "samples.jsonl")]
    drawn = [int(item.rpartition("/")[2]) for item in rows]
    assert len(drawn) == 4
    told = theirs(["tiny_choice"], tasks, model, samples={"tiny_choice": drawn})
    tracker = importlib.import_module("lm_eval.loggers").EvaluationTracker(
        output_path=str(tmp_path / "log")
    )
    tracker.general_config_tracker.model_name_sanitized = "tiny"
    tracker.date_id = "now"
    tracker.save_results_samples("tiny_choice", told["samples"]["tiny_choice"])
    found = reconcile(ours, tmp_path / "log" / "tiny" / "samples_tiny_choice_now.jsonl")
    assert found.counts()["matched"] == 4
    assert found.counts()["same_prompt"] == 4
    assert found.counts()["flips"] == {}


def test_unknown_tasks_and_no_task_are_said_in_one_line(tasks: Path, tmp_path: Path) -> None:
    spec = EvalSpec(benchmark="lm_eval:tiny_hole")
    with pytest.raises(UserError, match=r"did you mean 'tiny_whole'"):
        eval_stage(spec, {}, tasks, tmp_path / "out")
    with pytest.raises(UserError, match="wants the name of a task"):
        _ = benchmark_named("lm_eval").setting


def test_a_task_of_ones_own_is_told_by_its_files(tasks: Path, tmp_path: Path) -> None:
    spec = EvalSpec(benchmark="lm_eval:tiny_last")
    before = eval_stage(spec, {}, tasks, tmp_path / "out").inputs
    assert {"lm_eval", "rows.jsonl", "tiny_last.yaml"} <= before.keys()
    with (tasks / "rows.jsonl").open("a") as file:
        file.write(json.dumps({"animal": "ant", "homes": ["hill", "sea"], "gold": 0}) + "\n")
    assert eval_stage(spec, {}, tasks, tmp_path / "out").inputs != before
