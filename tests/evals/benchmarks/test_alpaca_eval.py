"""AlpacaEval's prompts against the instructions themselves, and the file that a judge reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cameleer.core.errors import UserError
from cameleer.evals.asking import prompts
from cameleer.evals.benchmark import Ask, benchmark_named
from cameleer.evals.benchmarks import alpaca_eval
from cameleer.evals.recorded import grade

ROWS = [
    {"dataset": "koala", "instruction": " Name a camel.\n", "output": "x", "generator": "g"},
    {"dataset": "oasst", "instruction": "Why?", "output": "y", "generator": "g"},
]


def write(folder: Path, rows: object) -> Path:
    path = folder / alpaca_eval.NATIVE[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    return folder


def test_prompts(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    paper = [row["prompt"] for row in prompts("alpaca_eval", tmp_path, "paper")]
    assert paper == [
        "<|user|>\n Name a camel.\n\n<|assistant|>\n",
        "<|user|>\nWhy?\n<|assistant|>\n",
    ]
    assert next(prompts("alpaca_eval", tmp_path))["prompt"] == (
        "<|user|>\nName a camel.\n<|assistant|>\n"
    )
    plain = [row["prompt"] for row in prompts("alpaca_eval", tmp_path, "paper", "plain")]
    assert plain == [row["instruction"] for row in ROWS]


def test_a_judge_finds_the_instruction_as_it_was(tmp_path: Path) -> None:
    items = alpaca_eval.items(Ask(write(tmp_path, ROWS), "greedy"))
    assert [item.meta["instruction"] for item in items] == [row["instruction"] for row in ROWS]
    assert [item.group for item in items] == ["koala", "oasst"]
    assert [item.key for item in items] == ["alpaca_eval/0", "alpaca_eval/1"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [({}, "not a list of records"), ([ROWS[0], {"dataset": "a"}], "field 'instruction'.*record 1")],
)
def test_broken_files_are_named(tmp_path: Path, rows: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        alpaca_eval.items(Ask(write(tmp_path, rows), "greedy"))


def test_recorded_answers_have_no_score(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="alpaca_eval has no score"):
        list(grade("alpaca_eval", tmp_path / "in.jsonl", write(tmp_path, ROWS)))


@pytest.mark.real_data
def test_all_real_prompts_are_those_of_the_paper(real_data: Path) -> None:
    data = real_data / "eval"
    native = json.loads((data / "alpaca_eval" / alpaca_eval.NATIVE[0]).read_text())
    expected = [f"<|user|>\n{row['instruction']}\n<|assistant|>\n" for row in native]
    assert [row["prompt"] for row in prompts("alpaca_eval", data, "paper")] == expected
    assert len(expected) == 805
    fixed = [row["prompt"] for row in prompts("alpaca_eval", data)]
    assert sum(a != b for a, b in zip(fixed, expected, strict=True)) == 5
    assert benchmark_named("alpaca_eval").setting.max_new_tokens == 8192
