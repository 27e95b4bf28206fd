"""Unnatural Instructions: every instance of every line, and what becomes of constraints."""

import json
from pathlib import Path
from typing import Any

import pytest

from cameleer.chat.conversation import Conversation
from cameleer.chat.render import Rule
from cameleer.core.errors import UserError
from cameleer.data.convert import convert


def instance(text: str, constraints: Any, output: str) -> dict[str, Any]:
    return {
        "instruction_with_input": f"… {text}",
        "input": text,
        "constraints": constraints,
        "output": output,
    }


ROWS = [
    {
        "instruction": "Say whether the animal has humps.",
        "instances": [
            instance("A dromedary.", "Answer with 'Yes' or 'No'.", "Yes"),
            instance("A donkey.", "NONE.", "No"),
        ],
    },
    {"instruction": "Name the capital.", "instances": [instance("Mali", None, "Bamako")]},
    {"instruction": "Add them.", "instances": [instance("2 and 3", " None ", "5\n")]},
]


def read(root: Path, rule: Rule = "fixed", **more: Any) -> tuple[list[Conversation], Any]:
    stream, counts = convert("unnatural_instructions", root, rule, **more)
    return list(stream), counts


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """One template in place of a drawn one."""
    monkeypatch.setattr(
        "cameleer.data.nested.instruct", lambda job, draw, i, c, o: (f"{i}\n\n{c}\n\n", o.strip())
    )


def write(folder: Path, rows: list[Any]) -> Path:
    file = folder / "core_data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


HUMPS = "Say whether the animal has humps."


@pytest.mark.usefixtures("plain")
def test_golden_by_both_rules(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    paper, counts = read(tmp_path, "paper")
    name = "unnatural_instructions"
    assert [(one.id, *(turn.content for turn in one.messages)) for one in paper] == [
        (f"{name}_0", f"{HUMPS}\nAnswer with 'Yes' or 'No'.\n\nA dromedary.\n\n", "Yes"),
        (f"{name}_0.1", f"{HUMPS}\n\nA donkey.\n\n", "No"),
        (f"{name}_1", "Name the capital.\n\nMali\n\n", "Bamako"),
        (f"{name}_2", "Add them.\n None \n\n2 and 3\n\n", "5"),
    ]
    assert counts == {"read": 4, "kept": 4, "records": 3, "with constraints": 2}
    fixed, counts = read(tmp_path)
    assert [(one.id, *(turn.content for turn in one.messages)) for one in fixed] == [
        (f"{name}_0", f"{HUMPS}\nAnswer with 'Yes' or 'No'.\n\nA dromedary.", "Yes"),
        (f"{name}_0.1", f"{HUMPS}\n\nA donkey.", "No"),
        (f"{name}_1", "Name the capital.\n\nMali", "Bamako"),
        (f"{name}_2", "Add them.\n\n2 and 3", "5"),
    ]
    assert counts == {"read": 4, "kept": 4, "records": 3, "with constraints": 1}


@pytest.mark.parametrize(
    ("constraints", "paper", "fixed"),
    [
        ("", False, False),
        ("none", False, False),
        ("NoNe.", False, False),
        ("\n", True, False),
        ("none ", True, False),
        ("None of the words may be repeated.", True, True),
    ],
)
def test_constraints(tmp_path: Path, constraints: str, paper: bool, fixed: bool) -> None:
    write(tmp_path, [{"instruction": "i", "instances": [instance("x", constraints, "y")]}])
    assert read(tmp_path, "paper")[1]["with constraints"] == paper
    assert read(tmp_path)[1]["with constraints"] == fixed


@pytest.mark.parametrize(
    ("broken", "field"),
    [
        ({"input": "x", "output": "y"}, "instances.0.constraints"),
        (instance("x", ["none"], "y"), "instances.0.constraints"),
        ({**instance("x", "", "y"), "output": None}, "instances.0.output"),
        (None, "instances.0"),
    ],
)
@pytest.mark.parametrize("rule", ["paper", "fixed"])
def test_broken_instances(tmp_path: Path, rule: Rule, broken: Any, field: str) -> None:
    file = write(tmp_path, [*ROWS, {"instruction": "i", "instances": [broken]}])
    bad: list[UserError] = []
    found, counts = read(tmp_path, rule, on_bad=bad.append)
    assert len(found) == 4
    assert (counts["read"], counts["dropped: bad record"]) == (5, 1)
    assert [(one.file, one.line, one.field) for one in bad] == [(file, 4, field)]


def test_the_releases_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "core_data.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"core_data\.zip: is packed \(unpack it"):
        read(tmp_path)


@pytest.mark.real_data
def test_real_records(real_data: Path) -> None:
    """700 lines of one instance each; the copy has no constraints and no empty texts."""
    file = real_data / "instruct/unnatural_instructions/core_data.jsonl"
    rows = [json.loads(line) for line in file.read_text().strip().split("\n")]
    for rule in ("paper", "fixed"):
        found, counts = read(real_data, rule)
        assert len(found) == counts["records"] == len(rows) == 700
        assert counts["with constraints"] == 0
        for number, (one, row) in enumerate(zip(found, rows, strict=True)):
            assert one.id == f"unnatural_instructions_{number}"
            assert row["instruction"].strip() in one.messages[0].content
            assert row["instances"][0]["input"].strip() in one.messages[0].content
            assert one.messages[1].content.strip() == row["instances"][0]["output"].strip()
