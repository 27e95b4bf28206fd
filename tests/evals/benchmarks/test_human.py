"""The human evaluation's prompts, against the two files that its instructions came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cameleer.core.errors import UserError
from cameleer.evals.asking import prompts
from cameleer.evals.benchmark import Ask
from cameleer.evals.benchmarks import human

ROWS = [
    {"id": "vicuna_3", "prompt": "Why?\n"},
    {"id": "user_oriented_task_1", "prompt": "Mend this:\n\nI has.\n"},
    {"id": "vicuna_3", "prompt": "Why?\n"},
]


def write(folder: Path, rows: list[dict[str, str]]) -> Path:
    (folder / human.NATIVE[0]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_every_instruction_is_asked_once(tmp_path: Path) -> None:
    items = human.items(Ask(write(tmp_path, ROWS), "greedy"))
    assert [(item.key, item.group) for item in items] == [
        ("human/vicuna_3", "vicuna"),
        ("human/user_oriented_task_1", "self-instruct"),
    ]
    paper = list(prompts("human", tmp_path, "paper"))[1]["prompt"]
    assert paper == "<|user|>\nMend this:\n\nI has.\n\n<|assistant|>\n"
    fixed = list(prompts("human", tmp_path))[1]["prompt"]
    assert fixed == "<|user|>\nMend this:\n\nI has.\n<|assistant|>\n"


def test_two_texts_of_one_name_are_an_error(tmp_path: Path) -> None:
    write(tmp_path, [*ROWS, {"id": "vicuna_3", "prompt": "How?\n"}])
    with pytest.raises(UserError, match="jsonl:4: 'vicuna_3' was another text"):
        human.items(Ask(tmp_path, "greedy"))


@pytest.mark.real_data
def test_all_real_prompts_are_those_of_the_paper(real_data: Path) -> None:
    """Restated from the original files; the paper's code made the prompts from these."""
    folder, expected = real_data / "eval" / "human_eval", {}
    for line in (folder / "user_oriented_instructions.jsonl").open():
        row = json.loads(line)
        given = row["instances"][0]["input"]
        text = row["instruction"].strip() + (f"\n\n{given.strip()}\n" if given else "\n")
        expected[f"human/{row['id']}"] = text
    for line in (folder / "question.jsonl").open():
        row = json.loads(line)
        expected[f"human/vicuna_{row['question_id']}"] = row["text"].strip() + "\n"
    assert len(expected) == 332
    assert all(len(text.split(" ")) <= 2048 for text in expected.values())  # else left out
    found = {row["item"]: row["prompt"] for row in prompts("human", folder, "paper")}
    assert found == {key: f"<|user|>\n{text}\n<|assistant|>\n" for key, text in expected.items()}
    plain = {row["item"]: row["prompt"] for row in prompts("human", folder, "paper", "plain")}
    assert plain == expected
