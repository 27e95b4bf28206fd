"""`cameleer eval run --suite`: a table with averages, one failure stops nothing else, mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cameleer.cli import main

SUITE = """
benchmarks:
  - {benchmark: mmlu:0-shot, limit: 6}
  - {benchmark: gsm:cot, limit: 2}
  - {benchmark: human, limit: 2, max_new_tokens: 4, rule: paper}
averages:
  average: [mmlu:0-shot, gsm:cot, human:greedy]
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Native files of three benchmarks; a row of GSM has no answer."""
    data = tmp_path_factory.mktemp("world")
    for split in ("dev", "test"):
        (data / "eval/mmlu" / split).mkdir(parents=True)
        lines = [f"Is {n} a camel?,yes,no,may be,never,{'ABCD'[n % 4]}\n" for n in range(8)]
        (data / f"eval/mmlu/{split}/zoo_{split}.csv").write_text("".join(lines))
    shown = {"question": "Q?", "cot_answer": "So the answer is 2.", "short_answer": "2"}
    files = {
        "gsm/exemplars.jsonl": [shown],
        "gsm/test.jsonl": [{"question": "Say 3?", "answer": "3"}],
        "human_eval/eval_instances_tulu_1.jsonl": [
            {"id": f"vicuna_{n}", "prompt": f"Say {n}.\n"} for n in range(3)
        ],
    }
    for name, rows in files.items():
        (data / "eval" / name).parent.mkdir(parents=True, exist_ok=True)
        (data / "eval" / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return data


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_model: Callable[[str], Path],
    world: Path,
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(SUITE)

    def one(*arguments: str) -> tuple[int, str, str]:
        start = ["eval", "run", str(tiny_model("llama")), "--data", str(world), "-o", "out"]
        with pytest.raises(SystemExit) as ended:
            main([*start, *arguments])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return one


def test_one_benchmark_that_fails_stops_no_other(run: Any, tmp_path: Path) -> None:
    code, out, err = run("--suite", "mine.yaml", "--json")
    facts = json.loads(out)
    assert code == 2
    assert list(facts["failed"]) == ["gsm:cot"]
    assert "test.jsonl:1: field 'answer'" in facts["failed"]["gsm:cot"]
    assert err.strip().splitlines()[-1].startswith("error: ")
    mmlu, human = facts["scores"]
    assert (mmlu["n"], human["n"]) == (6, 2)
    assert (mmlu["rule"], human["rule"]) == ("fixed", "paper")
    assert "value" not in human
    (average,) = facts["averages"]
    assert average["missing"] == ["gsm:cot", "human:greedy"]
    assert average["estimate"]["value"] == mmlu["value"]
    assert len(json.loads((tmp_path / "out/human/outputs.json").read_text())) == 2


def test_a_benchmark_without_data_is_told_first_and_stops_no_other(run: Any) -> None:
    code, out, err = run(
        "human", "tydiqa", "mmlu", "--limit", "2", "--max-new-tokens", "4", "--json"
    )
    facts = json.loads(out)
    assert code == 2
    assert [one["benchmark"] for one in facts["scores"]] == ["human", "mmlu"]
    assert list(facts["failed"]) == ["tydiqa:gold"]
    said = " ".join(err.split())
    assert "no file of 'tydiqa' here" in said
    assert said.index("the others are asked") < said.index("the whole set has 57")
    code, out, err = run("tydiqa", "toxigen")
    assert (code, out) == (2, "")
    assert err.count("no file of") == 1


def test_the_table_has_averages_and_dashes(run: Any) -> None:
    code, out, _ = run("--suite", "mine.yaml", "--without", "gsm", "--limit", "1")
    lines = [line.split("  ") for line in out.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert code == 0
    assert any(row[0] == "human:greedy" and row[-2:] == ["–", "–"] for row in cells if row)
    assert any(row[0].startswith("average without gsm:cot") for row in cells if row)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give either benchmarks or a suite"),
        (["mmlu", "--suite", "mini"], "give either benchmarks or a suite"),
        (["--suite", "camel"], "unknown suite 'camel' (did you mean 'camels'?"),
        (["--suite", "mine.yaml", "--without", "gsn"], "unknown benchmark of the suite 'gsn'"),
        (["mmlu", "mmlu:0-shot"], "'mmlu:0-shot' stands twice"),
        (["human", "--template", "own"], "no chat template of its own"),
        (["human", "--template", "tuluu"], "unknown template 'tuluu'"),
    ],
)
def test_mistakes_are_told_in_a_line(run: Any, arguments: list[str], said: str) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
