"""Mixtures: what is taken, that seeds and parts do not disturb each other, and what is recorded."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from cameleer.chat.conversation import Conversation, Message, read_conversations
from cameleer.core.config import load_config
from cameleer.core.errors import UserError
from cameleer.core.files import read_json, write_jsonl
from cameleer.data.mixing import build, mix_stage
from cameleer.data.mixture import MixConfig, Part


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with 30 records of Alpaca and 20 of Dolly, and a file of 10 conversations."""
    folder = tmp_path / "data"
    for name in ("stanford_alpaca", "dolly"):
        (folder / "instruct" / name).mkdir(parents=True)
    rows = [{"instruction": f"i{n}", "input": "", "output": f"o{n}"} for n in range(30)]
    (folder / "instruct/stanford_alpaca/alpaca_data.json").write_text(json.dumps(rows))
    write_jsonl(
        folder / "instruct/dolly/databricks-dolly-15k.jsonl",
        ({"instruction": f"i{n}", "context": "", "response": "ab"} for n in range(20)),
    )
    turns = (Message("user", "q"), Message("assistant", "a")) * 2
    chats = (Conversation(str(n), "unnamed", turns).to_row() for n in range(10))
    write_jsonl(folder / "mine.jsonl", chats)
    return folder


def made(data: Path, folder: Path, *parts: Part, seed: int = 1) -> tuple[list[Any], dict[str, Any]]:
    config = MixConfig(name="m", about="test", seed=seed, parts=list(parts))
    stage = mix_stage(config, data, folder)
    assert build(config, data, stage) == folder
    outcome = read_json(folder / "manifest.json")["outcome"]
    return list(read_conversations(folder / "conversations.jsonl")), outcome


ALPACA = Part(source="stanford_alpaca", count=12)
DOLLY = Part(source="dolly", fraction=0.25)


def test_parts_are_taken_and_counted(data: Path, tmp_path: Path) -> None:
    mine = Part(file=data / "mine.jsonl")
    found, outcome = made(data, tmp_path / "mix", ALPACA, DOLLY, mine)
    assert outcome["conversations"] == len(found) == 12 + 5 + 10
    sources = outcome["sources"]
    assert [sources[name]["taken"] for name in ("stanford_alpaca", "dolly", "mine")] == [12, 5, 10]
    assert [one["read"] for one in sources.values()] == [30, 20, 10]
    assert [one["messages"] for one in sources.values()] == [24, 10, 40]
    assert sum(one["share"] for one in sources.values()) == pytest.approx(1)
    assert sum(one["answer_share"] for one in sources.values()) == pytest.approx(1)
    assert sources["mine"]["share"] == pytest.approx(10 / 27)
    letters = sum(len(one.messages[1].content) for one in found if one.source == "stanford_alpaca")
    assert sources["dolly"]["answer_share"] == pytest.approx(10 / (letters + 10 + 20))
    assert len({(one.source, one.id) for one in found}) == 27
    assert {one.source for one in found} == {"stanford_alpaca", "dolly", "mine"}
    names = [one.source for one in found]
    assert names != sorted(names)
    assert sorted(path.name for path in (tmp_path / "mix").iterdir()) == [
        "MIXTURE.md",
        "conversations.jsonl",
        "manifest.json",
    ]


def picks(found: list[Any], source: str) -> set[str]:
    return {one.id for one in found if one.source == source}


def test_a_further_part_changes_no_other_picks(data: Path, tmp_path: Path) -> None:
    alone = made(data, tmp_path / "a", ALPACA)[0]
    both = made(data, tmp_path / "b", DOLLY, ALPACA)[0]
    assert picks(alone, "stanford_alpaca") == picks(both, "stanford_alpaca")


def test_seeds_decide(data: Path, tmp_path: Path) -> None:
    one = made(data, tmp_path / "a", ALPACA)[0]
    same = made(data, tmp_path / "b", ALPACA)[0]
    other = made(data, tmp_path / "c", ALPACA, seed=2)[0]
    assert one == same
    assert picks(one, "stanford_alpaca") != picks(other, "stanford_alpaca")


def test_everything_in_another_order(data: Path, tmp_path: Path) -> None:
    found = made(data, tmp_path / "a", Part(source="stanford_alpaca"))[0]
    numbers = [int(one.id.rpartition("_")[2]) for one in found]
    assert numbers != sorted(numbers) == list(range(30))


def test_more_than_there_is(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"31 of 'stanford_alpaca' are asked for, it gives 30"):
        made(data, tmp_path / "mix", Part(source="stanford_alpaca", count=31))
    assert not (tmp_path / "mix").exists()


def test_a_finished_mixture_is_left_alone(data: Path, tmp_path: Path) -> None:
    made(data, tmp_path / "mix", ALPACA)
    before = (tmp_path / "mix/conversations.jsonl").stat().st_mtime_ns
    made(data, tmp_path / "mix", ALPACA)
    assert (tmp_path / "mix/conversations.jsonl").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="holds another run"):
        made(data, tmp_path / "mix", ALPACA, DOLLY)


def test_what_a_killed_run_left_does_no_harm(data: Path, tmp_path: Path) -> None:
    config = MixConfig(name="m", seed=1, parts=[ALPACA])
    stage = mix_stage(config, data, tmp_path / "mix")
    stage.partial.mkdir()
    (stage.partial / "begun.json").write_text(json.dumps({"fingerprint": stage.fingerprint}))
    (stage.partial / "spool.jsonl").write_text('{"half')
    build(config, data, stage)
    whole = made(data, tmp_path / "other", ALPACA)[0]
    assert list(read_conversations(tmp_path / "mix/conversations.jsonl")) == whole


def test_fingerprint_is_of_contents_not_places(data: Path, tmp_path: Path) -> None:
    def mark(root: Path, part: Part, **change: Any) -> str:
        fields: dict[str, Any] = {"name": "m", "seed": 1, "parts": [part], **change}
        return mix_stage(MixConfig(**fields), root, tmp_path / "mix").fingerprint

    first = mark(data, ALPACA)
    moved = data.rename(tmp_path / "moved")
    elsewhere = Part.model_validate(
        {"source": "stanford_alpaca", "count": 12, "from": moved / "instruct/stanford_alpaca"}
    )
    assert mark(moved, ALPACA, about="words", name="n") == first
    assert mark(tmp_path, elsewhere) == first
    assert mark(moved, ALPACA, seed=2) != first
    assert mark(moved, Part(source="stanford_alpaca", count=12, rule="paper")) != first
    native = moved / "instruct/stanford_alpaca/alpaca_data.json"
    native.write_text(native.read_text().replace("o3", "x3"))
    assert mark(moved, ALPACA) != first


@pytest.mark.parametrize(
    ("yaml", "line", "says"),
    [
        ("name: m\nparts: []\n", 2, "at least 1"),
        ("name: m\nparts:\n- source: dolly\n  counts: 3\n", 4, "did you mean 'count'"),
        ("name: m\nparts:\n- source: dolly\n- count: 3\n", 4, "one of 'source', 'file' and 'mix'"),
        (
            "name: m\nparts:\n- source: dolly\n  count: 3\n  fraction: 0.5\n",
            3,
            "one of 'count', 'fraction'",
        ),
        ("name: m\nparts:\n- file: a\n  from: b\n", 3, "'from' goes with 'source'"),
        ("name: m\nparts:\n- file: a\n  rule: paper\n", 3, "'rule' goes with 'source'"),
        ("name: m\nparts:\n- source: dolly\n  fraction: 1.5\n", 4, "less than or equal to 1"),
        ("name: m\nparts:\n- source: dolly\n  count: 0\n", 4, "greater than 0"),
        ("name: m\nparts:\n- source: dolly\n- source: dolly\n", None, "2 parts are named 'dolly'"),
        ("name: m\nparts:\n- source: dolly\n  rule: new\n", 4, "'paper' or 'fixed'"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, yaml: str, line: int | None, says: str) -> None:
    path = tmp_path / "mix.yaml"
    path.write_text(yaml)
    with pytest.raises(UserError) as caught:
        load_config(path, MixConfig)
    assert says in str(caught.value)
    assert caught.value.line == line


def test_a_file_with_from(tmp_path: Path) -> None:
    path = tmp_path / "mix.yaml"
    path.write_text("name: m\nparts:\n- source: dolly\n  from: /x\n  count: 3\n")
    [part] = load_config(path, MixConfig).parts
    assert (part.folder, part.count, part.rule) == (Path("/x"), 3, None)


def test_inputs_are_named_by_part_and_file(data: Path, tmp_path: Path) -> None:
    config = MixConfig(name="m", parts=[ALPACA, Part(file=data / "mine.jsonl")])
    inputs = mix_stage(config, data, tmp_path / "mix").inputs
    assert list(inputs) == ["stanford_alpaca/alpaca_data.json", "mine/mine.jsonl"]
    native = (data / "instruct/stanford_alpaca/alpaca_data.json").read_bytes()
    assert inputs["stanford_alpaca/alpaca_data.json"] == hashlib.sha256(native).hexdigest()


def test_missing_inputs(data: Path, tmp_path: Path) -> None:
    for part, says in (
        (Part(source="dollie"), "did you mean 'dolly'"),
        (Part(file=tmp_path / "no.jsonl"), "no such file"),
        (Part(source="sharegpt"), "no file of 'sharegpt'"),
    ):
        with pytest.raises(UserError, match=says):
            made(data, tmp_path / "mix", part)
