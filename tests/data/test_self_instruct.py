"""Self-Instruct: the 82K file by both rules, the seed tasks where only they are there."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cameleer.chat.conversation import Conversation
from cameleer.chat.render import Rule
from cameleer.core.errors import UserError
from cameleer.data.convert import convert
from cameleer.data.encode import instruct

GENERATED, SEEDS = "all_instances_82K.jsonl", "seed_tasks.jsonl"
ROWS = [
    {"instruction": "Name a desert.", "input": "", "output": "The Gobi."},
    {"instruction": "Translate to Spanish.\n", "input": " camel ", "output": " camello\n"},
    {"instruction": "Count the humps.", "input": "dromedary", "output": ""},
]
TASKS: list[dict[str, Any]] = [
    {
        "id": "seed_task_0",
        "name": "opposites",
        "instruction": "Give the opposite.",
        "instances": [{"input": "dry", "output": "wet"}, {"input": "hot", "output": "cold"}],
        "is_classification": False,
    },
    {"id": "seed_task_1", "instruction": "Tell a joke.", "instances": []},
    {"id": "seed_task_2", "instruction": " ", "instances": [{"input": "x", "output": "y"}]},
]


def write(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(root: Path, rule: Rule = "fixed", **more: Any) -> tuple[list[Conversation], Counter[str]]:
    stream, counts = convert("self_instruct", root, rule, **more)
    return list(stream), counts


def told(found: list[Conversation]) -> list[tuple[str, ...]]:
    return [(one.id, *(turn.content for turn in one.messages)) for one in found]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first template of each kind in place of a drawn one."""
    for module in ("encode", "nested"):
        monkeypatch.setattr(
            f"cameleer.data.{module}.instruct",
            lambda job, draw, i, c, o: (
                f"{i.strip()}\n\n" + (f"{c.strip()}\n\n" if c else ""),
                o.strip(),
            ),
        )


@pytest.mark.usefixtures("plain")
def test_golden_by_both_rules(tmp_path: Path) -> None:
    write(tmp_path / GENERATED, ROWS)
    write(tmp_path / SEEDS, TASKS)
    paper, counts = read(tmp_path, "paper")
    assert told(paper) == [
        ("self_instruct_0", "Name a desert.\n\n", "The Gobi."),
        ("self_instruct_1", "Translate to Spanish.\n\ncamel\n\n", "camello"),
        ("self_instruct_2", "Count the humps.\n\ndromedary\n\n", ""),
    ]
    assert counts == {"read": 3, "kept": 3, f"of {GENERATED}": 3}
    fixed, counts = read(tmp_path)
    assert told(fixed) == [
        ("self_instruct_0", "Name a desert.", "The Gobi."),
        ("self_instruct_1", "Translate to Spanish.\n\ncamel", "camello"),
    ]
    assert counts == {"read": 3, "kept": 2, "dropped: empty answer": 1, f"of {GENERATED}": 3}


@pytest.mark.usefixtures("plain")
def test_seed_tasks_are_read_where_only_they_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / SEEDS, TASKS)
    fixed, counts = read(tmp_path)
    assert told(fixed) == [
        ("self_instruct_0", "Give the opposite.\n\ndry", "wet"),
        ("self_instruct_0.1", "Give the opposite.\n\nhot", "cold"),
    ]
    dropped = {"dropped: no instance": 1, "dropped: empty question": 1}
    assert counts == {"read": 4, "kept": 2, **dropped, f"of {SEEDS}": 3}
    assert "the seed tasks are read" in capsys.readouterr().err
    with pytest.raises(UserError, match=f"{GENERATED}: no such file"):
        read(tmp_path, "paper")


@pytest.mark.parametrize(
    ("task", "field"),
    [
        ({"instances": []}, "instruction"),
        ({"instruction": ["i"], "instances": []}, "instruction"),
        ({"instruction": "i"}, "instances"),
        ({"instruction": "i", "instances": {"input": "x"}}, "instances"),
        ({"instruction": "i", "instances": ["x"]}, "instances.0"),
        ({"instruction": "i", "instances": [{"output": "y"}]}, "instances.0.input"),
        (
            {
                "instruction": "i",
                "instances": [*TASKS[0]["instances"], {"input": "x", "output": 3}],
            },
            "instances.2.output",
        ),
    ],
)
def test_a_broken_task_goes_whole_and_alone(tmp_path: Path, task: Any, field: str) -> None:
    write(tmp_path / SEEDS, [TASKS[0], task, TASKS[0]])
    bad: list[UserError] = []
    found, counts = read(tmp_path, on_bad=bad.append)
    assert [one.id.rpartition("_")[2] for one in found] == ["0", "0.1", "2", "2.1"]
    assert counts["dropped: bad record"] == 1
    assert counts["read"] == 5
    assert [(one.file, one.line, one.field) for one in bad] == [(tmp_path / SEEDS, 2, field)]
    with pytest.raises(UserError, match="2"):
        read(tmp_path, strict=True)


def test_one_template_is_drawn_for_each_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []

    def draw(*given: Any) -> tuple[str, str]:
        drawn.append(given)
        return instruct(*given)

    monkeypatch.setattr("cameleer.data.nested.instruct", draw)
    write(tmp_path / SEEDS, TASKS)
    read(tmp_path)
    stream = random.Random(42)
    numbers = [stream.random() for _ in range(4)]
    # The task without an instance takes a draw as well.
    assert [given[1] for given in drawn] == [numbers[0], numbers[1], numbers[3]]
    assert [given[2:] for given in drawn] == [
        ("Give the opposite.", "dry", "wet"),
        ("Give the opposite.", "hot", "cold"),
        (" ", "x", "y"),
    ]


@pytest.mark.real_data
def test_the_real_seed_tasks(real_data: Path) -> None:
    """175 tasks of one instance each, none of them with an empty text."""
    file = real_data / "instruct/self_instruct" / SEEDS
    tasks = [json.loads(line) for line in file.read_text().strip().split("\n")]
    found, counts = read(real_data)
    assert len(found) == counts[f"of {SEEDS}"] == len(tasks) == 175
    for one, task in zip(found, tasks, strict=True):
        [instance] = task["instances"]
        assert task["instruction"].strip() in one.messages[0].content
        assert instance["input"].strip() in one.messages[0].content
        assert one.messages[1].content == instance["output"].strip()
