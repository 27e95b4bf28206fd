"""The texts of test sets: keys, order, answers, and bad rows told with their place."""

import json
import re
from pathlib import Path

import pytest

from cameleer.core.errors import UserError
from cameleer.evals.corpus import READERS, ItemText, texts

ITEMS = {
    "mmlu": 14042,
    "gsm": 1319,
    "bbh": 6511,
    "tydiqa": 5077,
    "codex_humaneval": 164,
    "truthfulqa": 817,
    "toxigen": 14000,
    "alpaca_eval": 805,
    "human": 332,
}
KEYS = {
    "mmlu": r"mmlu/[a-z_]+/\d+",
    "gsm": r"gsm/\d+",
    "bbh": r"bbh/[a-z_]+/\d+",
    "tydiqa": r"tydiqa/[a-z]+-.+",
    "codex_humaneval": r"codex_humaneval/\d+",
    "truthfulqa": r"truthfulqa/\d+",
    "toxigen": r"toxigen/[a-z_]+/\d+",
    "alpaca_eval": r"alpaca_eval/\d+",
    "human": r"human/(user_oriented_task|vicuna)_\d+",
}


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_a_reader_for_every_test_set() -> None:
    assert READERS.keys() == ITEMS.keys()
    with pytest.raises(UserError, match="did you mean 'mmlu'"):
        texts("mmul", None)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ITEMS)
def test_all_items_of_the_real_files(name: str, real_data: Path) -> None:
    found = texts(name, real_data)
    assert len(found) == ITEMS[name]
    assert len({one.item for one in found}) == len(found)
    assert all(re.fullmatch(KEYS[name], one.item) and one.question.strip() for one in found)
    assert found == texts(name, real_data)


@pytest.mark.real_data
def test_keys_are_those_of_results(real_data: Path) -> None:
    from cameleer.evals.benchmark import Ask, benchmark_named

    for name in ("mmlu", "gsm", "bbh", "tydiqa", "codex_humaneval"):
        one = benchmark_named(name)
        ask = Ask(one.folder(real_data), one.setting_name, grading=True)
        assert [item.key for item in one.module.items(ask)] == [
            text.item for text in texts(name, real_data)
        ]


def test_made_files(tmp_path: Path) -> None:
    question = "Which?\nOptions:\n(A) red\n(B) blue\n"
    write(
        tmp_path,
        "bbh/bbh/colours.json",
        json.dumps({"examples": [{"input": question, "target": "(B)"}] * 2}),
    )
    assert texts("bbh", tmp_path) == [
        ItemText(f"bbh/colours/{number}", question, ("blue",)) for number in (0, 1)
    ]
    header = "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
    write(tmp_path, "truthfulqa/TruthfulQA.csv", f"{header}A,B,Why?,So,So; Because,No,x\n")
    assert texts("truthfulqa", tmp_path) == [ItemText("truthfulqa/0", "Why?", ("So", "Because"))]
    write(tmp_path, "toxigen/hate_camels_1k.txt", "- one\\n- two\\n-\n")
    assert texts("toxigen", tmp_path) == [ItemText("toxigen/camels/0", "- one\n- two\n-")]
    judged = {"id": "vicuna_1", "prompt": "Why?", "completions": []}
    write(tmp_path, "human_eval/eval_instances_tulu_1.jsonl", (json.dumps(judged) + "\n") * 3)
    assert texts("human", tmp_path) == [ItemText("human/vicuna_1", "Why?")]


@pytest.mark.parametrize(
    ("name", "file", "text", "said"),
    [
        ("bbh", "bbh/bbh/a.json", '{"examples": [{"input": 1}]}', "record 0"),
        ("bbh", "bbh/bbh/a.json", '{"examples": 3}', "not a list"),
        ("truthfulqa", "truthfulqa/TruthfulQA.csv", "Question\nWhy?\n", "TruthfulQA.csv:2"),
        ("human", "human_eval/eval_instances_tulu_1.jsonl", '{"id": "a"}\n', "jsonl:1"),
        (
            "alpaca_eval",
            "alpaca_eval/results/text_davinci_003/model_outputs.json",
            '{"a": 1}',
            "not a list",
        ),
    ],
)
def test_bad_rows_are_told(name: str, file: str, text: str, said: str, tmp_path: Path) -> None:
    write(tmp_path, file, text)
    with pytest.raises(UserError, match=re.escape(said)):
        texts(name, tmp_path)
