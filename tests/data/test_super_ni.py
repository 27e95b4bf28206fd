"""SuperNI: sampling, the two forms of a prompt, the list of tasks, and tasks that are broken."""

import json
import random
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cameleer.chat.conversation import Conversation
from cameleer.chat.render import Rule
from cameleer.core.errors import UserError
from cameleer.core.unpack import unpack
from cameleer.data.convert import convert
from cameleer.data.encode import WITH_INPUT
from cameleer.data.sources import super_ni


def read(
    root: Path, rule: Rule = "fixed", seed: int = 42
) -> tuple[list[Conversation], Counter[str], list[UserError]]:
    bad: list[UserError] = []
    stream, counts = convert("super_ni", root, rule, seed, on_bad=bad.append)
    return list(stream), counts, bad


def texts(conversation: Conversation) -> list[str]:
    return [turn.content for turn in conversation.messages]


def instance(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"t-{number}",
        "input": f"How many? {number}",
        "output": [f"{number}."],
        **changes,
    }


def example(word: str) -> dict[str, str]:
    return {"input": f"Say {word} ", "output": f" {word}!", "explanation": "It says so."}


def task(*instances: Any, examples: Any = None, **changes: Any) -> dict[str, Any]:
    shown = [example("one"), example("two")] if examples is None else examples
    return {
        "Definition": [" Count the camels. "],
        "Positive Examples": shown,
        "Negative Examples": [example("wrong")],
        "Instances": list(instances),
        "Instance License": ["MIT"],
        **changes,
    }


def write(root: Path, split: str = "xlingual", /, **tasks: Any) -> Path:
    """A release of these tasks; a string is what the file holds."""
    (root / "tasks").mkdir()
    (root / "splits" / split).mkdir(parents=True)
    (root / "splits" / split / "train_tasks.txt").write_text("".join(f"{t}\n" for t in tasks))
    for name, values in tasks.items():
        text = values if isinstance(values, str) else json.dumps(values, indent=4)
        (root / "tasks" / f"{name}.json").write_text(text)
    return root


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples of one zero-shot and two few-shot instances."""
    monkeypatch.setattr(super_ni, "ZERO_SHOT", 1)
    monkeypatch.setattr(super_ni, "FEW_SHOT", 2)


@pytest.mark.usefixtures("short")
def test_golden(tmp_path: Path) -> None:
    answers = ["Two humps. ", "Both."]
    asked = [
        instance(0, input="A dromedary\nwalks by. "),
        instance(1, input=" Two came.", output=answers),
        instance(2, input=""),
    ]
    write(tmp_path, task1_camels=task(*asked))
    template, _, _ = random.Random(42).choices(WITH_INPUT, [row[2] for row in WITH_INPUT])[0]
    shots = (
        "Count the camels.\n\nInput:\nSay one\nOutput:\none!\n\nInput:\nSay two\nOutput:\ntwo!\n\n"
    )
    expected = {
        "super_ni_t-0": [
            template.format(instruction="Count the camels.", input="A dromedary\nwalks by."),
            "0.",
        ],
        "super_ni_t-1": [f"{shots}Input:\nTwo came.\nOutput:\n", "Two humps."],
        "super_ni_t-2": [f"{shots}Input:\n\nOutput:\n", "2."],
    }
    paper, counts, _ = read(tmp_path, "paper")
    assert {one.id: texts(one) for one in paper} == expected
    assert counts["left out: answers after an instance's first"] == 1
    fixed = {one.id: texts(one) for one in read(tmp_path)[0]}
    assert fixed == {key: [text.strip() for text in pair] for key, pair in expected.items()}


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("rule", ["paper", "fixed"])
def test_draws_are_the_papers(tmp_path: Path, rule: Rule) -> None:
    """random.sample of the instances, then a template, then two examples for each few-shot one."""
    shown = [example(word) for word in ("one", "two", "three", "four")]
    write(tmp_path, task1=task(*map(instance, range(9)), examples=shown))
    draws = random.Random(7)
    sample = draws.sample(range(9), k=3)
    draws.choices(WITH_INPUT, [row[2] for row in WITH_INPUT])
    pairs = [draws.sample(["one", "two", "three", "four"], k=2) for _ in range(2)]
    found, counts, _ = read(tmp_path, rule, seed=7)
    assert [one.id for one in found] == [f"super_ni_t-{n}" for n in sample]
    for conversation, words in zip(found[1:], pairs, strict=True):
        lines = texts(conversation)[0].split("\n")
        assert [line for line in lines if "Say" in line] == [f"Say {word}" for word in words]
    assert (counts["read"], counts["kept"], counts["dropped: not in the sample"]) == (9, 3, 6)


@pytest.mark.usefixtures("short")
def test_an_example_never_is_the_instance_asked(tmp_path: Path) -> None:
    told = instance(1, input="Say two", output=["two!"])
    write(tmp_path, task1=task(instance(0), told))
    paper, fixed = (read(tmp_path, rule) for rule in ("paper", "fixed"))
    assert texts(paper[0][1])[0].count("Say two\n") == 2
    assert texts(fixed[0][1])[0].count("Say two\n") == 1
    assert fixed[1]["replaced: examples that are the instance asked"] == 1


def test_sixty_and_twenty(tmp_path: Path) -> None:
    write(tmp_path, large=task(*map(instance, range(100))), small=task(*map(instance, [200, 201])))
    found, counts, _ = read(tmp_path, "paper")
    few_shot = ["Say one" in texts(one)[0] for one in found]
    assert few_shot == [False] * 60 + [True] * 20 + [False] * 2
    assert counts["dropped: not in the sample"] == 20


def test_the_list_decides(tmp_path: Path) -> None:
    tasks = {name: task(instance(n)) for n, name in enumerate(("b", "x_mmmlu_y", "a"))}
    write(tmp_path, "default", **tasks)
    found, counts, _ = read(tmp_path)
    assert [one.id for one in found] == ["super_ni_t-0", "super_ni_t-2"]
    assert counts["left out: tasks of MMLU"] == 1
    assert counts["tasks of splits/default/train_tasks.txt"] == 2
    (tmp_path / "splits/xlingual").mkdir()
    (tmp_path / "splits/xlingual/train_tasks.txt").write_text("a\r\n\r\n")
    found, counts, _ = read(tmp_path)
    assert [one.id for one in found] == ["super_ni_t-2"]
    assert counts["tasks of splits/xlingual/train_tasks.txt"] == 1


def test_what_is_taken_out_of_the_archive_is_what_is_read(tmp_path: Path) -> None:
    archive, there = tmp_path / "master.zip", tmp_path / "there"
    with zipfile.ZipFile(archive, "w") as opened:
        for name, text in {
            "tasks/task1_camels.json": json.dumps(task(instance(0))),
            "tasks/README.md": "# Tasks",
            "splits/default/train_tasks.txt": "task2_other\n",
            "splits/xlingual/train_tasks.txt": "task1_camels\n",
            "splits/xlingual/test_tasks.txt": "task3\n",
            "src/task_list.json": "{}",
        }.items():
            opened.writestr(f"natural-instructions-master/{name}", text)
    for line in super_ni.CARD.downloads:
        unpack(archive, line.member or "", there / line.to)
    files = sorted(str(path.relative_to(there)) for path in there.rglob("*.*"))
    assert files == ["splits/xlingual/train_tasks.txt", "tasks/task1_camels.json"]
    assert [one.id for one in read(there)[0]] == ["super_ni_t-0"]


def test_tasks_without_a_list(tmp_path: Path) -> None:
    write(tmp_path, "default", task1_a=task(instance(0)))
    (tmp_path / "splits/default/train_tasks.txt").unlink()
    with pytest.raises(UserError, match=r"train_tasks\.txt: no such file"):
        read(tmp_path)


@pytest.mark.parametrize("rule", ["paper", "fixed"])
@pytest.mark.parametrize(
    ("broken", "field"),
    [
        (instance(1, id=None), "id"),
        (instance(1, input=7), "input"),
        (instance(1, output="text"), "output"),
        (instance(1, output=[]), "output"),
        (instance(1, output=[None]), "output.0"),
        (instance(0), "id"),
        (["list"], None),
        (None, None),
    ],
)
def test_a_broken_instance_goes_alone(tmp_path: Path, rule: Rule, broken: Any, field: Any) -> None:
    write(tmp_path, a=task(instance(0), broken, instance(2)))
    found, counts, [error] = read(tmp_path, rule)
    assert [one.id for one in found] == ["super_ni_t-0", "super_ni_t-2"]
    assert (counts["read"], counts["dropped: bad record"]) == (3, 1)
    lines = (tmp_path / "tasks/a.json").read_text().split("\n")
    starts = [n for n, line in enumerate(lines, 1) if line.startswith(" " * 8) and line[8] in "{[n"]
    after_the_list = [n for n in starts if n > lines.index('    "Instances": [')]
    assert (error.file, error.line, error.field) == (
        tmp_path / "tasks/a.json",
        after_the_list[1],
        field,
    )


def test_strict_stops_at_a_broken_instance(tmp_path: Path) -> None:
    write(tmp_path, a=task(instance(0)), b=task(instance(1), instance(2, id=2)))
    stream, _ = convert("super_ni", tmp_path, strict=True)
    assert next(stream).id == "super_ni_t-0"
    with pytest.raises(UserError, match=r"b\.json:\d+: field 'id'"):
        next(stream)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("examples", ["none", [1, example("two")], [{"input": "x"}]])
def test_broken_examples_cost_the_few_shot_instances_alone(tmp_path: Path, examples: Any) -> None:
    write(tmp_path, a=task(*map(instance, range(3)), examples=examples))
    found, counts, bad = read(tmp_path)
    assert [one.id for one in found] == ["super_ni_t-0"]
    assert counts["dropped: bad record"] == 2
    assert all(error.field and error.field.startswith("Positive Examples") for error in bad)


@pytest.mark.parametrize(
    "broken",
    [
        task(instance(0), Definition="text"),
        task(instance(0), Definition=[]),
        task(instance(0), Definition=[3]),
        task(Instances=3),
        [task(instance(0))],
        "{",
        '{"Definition": [, "Instances": [{}]}',
        "",
    ],
)
def test_a_broken_task_is_one_bad_record(tmp_path: Path, broken: Any) -> None:
    write(tmp_path, a=broken, b=task(instance(1)))
    found, counts, [error] = read(tmp_path)
    assert [one.id for one in found] == ["super_ni_t-1"]
    assert counts["read"] == 2
    assert error.file == tmp_path / "tasks/a.json"


def test_tasks_that_are_not_there(tmp_path: Path) -> None:
    write(tmp_path, a=task(instance(0)))
    list_of_tasks = tmp_path / "splits/xlingual/train_tasks.txt"
    list_of_tasks.write_text("a\nb\n../../etc/passwd\n" + 300 * "x" + "\n")
    found, counts, bad = read(tmp_path)
    assert len(found) == 1
    assert counts["dropped: bad record"] == 3
    places = [(tmp_path / "tasks/b.json", None), (list_of_tasks, 3), (list_of_tasks, 4)]
    assert [(error.file, error.line) for error in bad] == places


def test_json_that_breaks_within_the_instances(tmp_path: Path) -> None:
    text = json.dumps(task(*map(instance, range(4))), indent=4)
    cut = text[: text.index('"t-2"') + 3]  # the download ended there
    unquoted = text.replace('"t-1"', "t-1")
    joined = text.replace('"1."\n            ]\n        },', '"1."\n            ]\n        }')
    for number, (broken, kept, seen) in enumerate(
        [(cut, [0, 1], '"t-'), (unquoted, [0, 2, 3], "t-1"), (joined, [0, 1, 2, 3], '"1."')]
    ):
        root = tmp_path / str(number)
        root.mkdir()
        write(root, a=broken)
        found, counts, [error] = read(root)
        assert [one.id for one in found] == [f"super_ni_t-{n}" for n in kept]
        assert counts["read"] == len(kept) + (broken != joined)
        assert counts["passed over: text between records"] == (broken == joined)
        near = broken.split("\n")[(error.line or 0) - 4 :][:10]  # a record has its first line
        assert any(seen in line for line in near)


@pytest.mark.parametrize("rule", ["paper", "fixed"])
@pytest.mark.parametrize("breaks", [('"id"', "id"), ('"input"', '"in"')])
def test_a_broken_instance_changes_no_draw(
    tmp_path: Path, rule: Rule, breaks: tuple[str, str]
) -> None:
    shown = [example(word) for word in ("one", "two", "three", "four")]
    tasks = {name: task(*[instance(n, id=f"{name}{n}") for n in range(100)], examples=shown)
             for name in "ab"}  # fmt: skip
    write(tmp_path, **tasks)
    whole = {one.id: texts(one) for one in read(tmp_path, rule)[0]}
    path, compact = tmp_path / "tasks/a.json", json.dumps(tasks["a"])
    for number in range(0, 100, 9):
        text, key = json.dumps(instance(number, id=f"a{number}")), f"super_ni_a{number}"
        assert text in compact
        path.write_text(compact.replace(text, text.replace(*breaks)))
        found, counts, bad = read(tmp_path, rule)
        assert {one.id: texts(one) for one in found} == {k: v for k, v in whole.items() if k != key}
        unread = breaks[1] == "id"  # what can be read is looked at if it is in the sample
        assert counts["dropped: bad record"] == len(bad) == (unread or key in whole)
        assert counts["read"] == 200


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    write(tmp_path, a=task(instance(0), instance(1, input="caf?"), instance(2)))
    path = tmp_path / "tasks/a.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"caf?", b"caf\xe9"))
    found, _, [error] = read(tmp_path)
    assert [one.id for one in found] == ["super_ni_t-0", "super_ni_t-2"]
    assert "UTF-8" in error.message


@pytest.mark.real_data
@pytest.mark.parametrize("rule", ["paper", "fixed"])
def test_real_tasks(real_data: Path, rule: Rule) -> None:
    """Seven training tasks of 250 instances and one of 70; two test tasks are not listed."""
    found, counts, bad = read(real_data, rule)
    assert (counts["read"], counts["kept"], len(bad)) == (7 * 250 + 70, 7 * 80 + 70, 0)
    assert counts["left out: tasks of MMLU"] == 3
    prefixes = Counter(one.id.removeprefix("super_ni_").split("-")[0] for one in found)
    assert sorted(prefixes.values()) == [70] + [80] * 7
    assert not prefixes.keys() & {"task1344", "task828"}
    tasks = [json.loads(p.read_text()) for p in (real_data / "instruct/super_ni/tasks").iterdir()]
    asked = {f"super_ni_{row['id']}": (one, row) for one in tasks for row in one["Instances"]}
    for conversation in found:
        one, row = asked[conversation.id]
        prompt, completion = texts(conversation)
        assert one["Definition"][0].strip() in prompt
        assert row["input"].strip() in prompt
        assert completion.strip() == row["output"][0].strip()
        few_shot = sum(f"Input:\n{x['input'].strip()}\nOutput:\n{x['output'].strip()}\n" in prompt
                       for x in one["Positive Examples"])  # fmt: skip
        assert few_shot in (0, 2)
