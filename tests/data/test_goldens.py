"""Three records of each of the oldest sources, and by hand what they are as conversations.

With seed 42 the first three templates drawn are those with index 7, 0 and 1 of the paper's lists
(`random.Random(42).choices` with weights 0.2, 0.1, 0.1, ten times 0.05, 0.1).
"""

import json
from pathlib import Path
from typing import Any

import pytest

from cameleer.data.convert import convert

Turns = list[tuple[str, str]]

RECORDS = [
    {
        "instruction": "Name the largest of these animals.",
        "input": "camel, cat, ant",
        "output": "Of the three, the camel is the largest.",
    },
    {
        "instruction": "Why do camels have humps?\n",
        "input": "",
        "output": "A hump stores fat, which is used up\nwhen there is little to eat.\n",
    },
    {
        "instruction": "Translate the sentence into German.",
        "input": " The well is deep. ",
        "output": "Der Brunnen ist tief.",
    },
]
PAPER: list[Turns] = [
    [
        (
            "user",
            "Task: Name the largest of these animals.\nInput: camel, cat, ant\nOutput:",
        ),
        ("assistant", "Of the three, the camel is the largest."),
    ],
    [
        ("user", "Why do camels have humps?\n\n"),
        ("assistant", "A hump stores fat, which is used up\nwhen there is little to eat."),
    ],
    [
        ("user", "Translate the sentence into German.\nThe well is deep.\n\n"),
        ("assistant", "Der Brunnen ist tief."),
    ],
]
DOLLY = ("instruction", "context", "response")
FILES = {
    "stanford_alpaca": "alpaca_data.json",
    "gpt4_alpaca": "alpaca_gpt4_data.json",
    "code_alpaca": "code_alpaca_20k.json",
    "dolly": "databricks-dolly-15k.jsonl",
}


def converted(name: str, folder: Path, rule: Any) -> tuple[list[str], list[Turns]]:
    stream, counts = convert(name, folder, rule)
    found = list(stream)
    assert (counts["read"], counts["kept"]) == (3, 3)
    turns = [[(turn.role, turn.content) for turn in one.messages] for one in found]
    return [one.id for one in found], turns


@pytest.mark.parametrize(("name", "file"), FILES.items())
def test_instructions(tmp_path: Path, name: str, file: str) -> None:
    if name == "dolly":
        rows = [
            dict(zip(DOLLY, row.values(), strict=True)) | {"category": "open_qa"} for row in RECORDS
        ]
        (tmp_path / file).write_text("\n".join(map(json.dumps, rows)))
    else:
        (tmp_path / file).write_text(json.dumps(RECORDS, indent=4))
    ids, paper = converted(name, tmp_path, "paper")
    assert ids == [f"{name}_0", f"{name}_1", f"{name}_2"]
    assert paper == PAPER
    ids, fixed = converted(name, tmp_path, "fixed")
    assert ids == [f"{name}_0", f"{name}_1", f"{name}_2"]
    assert fixed == [[(role, text.strip()) for role, text in turns] for turns in PAPER]


def test_cot(tmp_path: Path) -> None:
    zero = {"inputs": "Can a camel fly? Let's think step by step", "targets": "No wings. So no."}
    few = {"inputs": "Q: 2 and 3?\nA: 5.\n\nQ: 4 and 5?\nA:", "targets": "4 and 5 make 9."}
    (tmp_path / "cot_zsopt.jsonl").write_text(json.dumps(zero))
    (tmp_path / "cot_fsopt.jsonl").write_text(json.dumps(few))
    (tmp_path / "creak_train.tsv").write_text("Is sand wet?\\nyes or no\tno\tSand is dry.\n")
    stream, _ = convert("cot", tmp_path, "paper")
    assert [[(turn.role, turn.content) for turn in one.messages] for one in stream] == [
        [
            ("user", "Can a camel fly? Let's think step by step\n"),
            ("assistant", "No wings. So no."),
        ],
        [
            ("user", "Q: 2 and 3?\nA: 5.\n\nQ: 4 and 5?\nA:"),
            ("assistant", "4 and 5 make 9."),
        ],
    ]
    ids, fixed = converted("cot", tmp_path, "fixed")
    assert ids == ["cot_0", "cot_1", "cot_2"]
    assert fixed[0][0] == ("user", "Can a camel fly? Let's think step by step")
    assert fixed[2] == [
        ("user", "Is sand wet?\nyes or no"),
        ("assistant", "Sand is dry.\nSo the answer is no."),
    ]
