"""Baize: how a transcript is cut into turns, by both rules, and what a look-alike shows."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.chat.conversation import Conversation
from cameleer.chat.render import Rule
from cameleer.core.errors import UserError
from cameleer.data.convert import convert
from cameleer.data.encode import Row
from cameleer.data.source import Convert, Dropped
from cameleer.data.sources import baize

OPENING = "The conversation between human and AI assistant.\n"
FILES = [f"{topic}_chat_data.json" for topic in ("alpaca", "medical", "quora", "stackoverflow")]


def read(
    root: Path, rule: Rule = "fixed"
) -> tuple[list[Conversation], Counter[str], list[UserError]]:
    bad: list[UserError] = []
    stream, counts = convert("baize", root, rule, on_bad=bad.append)
    return list(stream), counts, bad


def record(transcript: str, opening: str = OPENING) -> dict[str, str]:
    """H and A stand for the markers."""
    marked = transcript.replace("H", "[|Human|]").replace("A", "[|AI|]")
    return {"topic": "camels", "input": opening + marked}


def write(root: Path, *records: Any, file: str = FILES[2]) -> Path:
    (root / file).write_text(json.dumps(list(records), indent=1))
    return root


def shown(found: list[Conversation]) -> list[str]:
    for one in found:
        assert [turn.role for turn in one.messages[::2]] == ["user"] * (len(one.messages) // 2)
        assert [turn.role for turn in one.messages[1::2]] == ["assistant"] * (
            len(one.messages) // 2
        )
    return ["/".join(turn.content for turn in one.messages) for one in found]


BAD = None


@pytest.mark.parametrize(
    ("transcript", "paper", "fixed", "cut"),
    [
        ("H q\nA a\nH ", "q/a", "q/a", 0),
        ("H q\nA a\nH r\nA b\nH ", "q/a/r/b", "q/a/r/b", 0),
        ("H q\nA a", "q/a", "q/a", 0),
        # rounds without an answer: skipped, or the end
        ("H q\nA a\nH r\n", "q/a", "q/a", 1),
        ("H q\nA a\nH r\nH s\nA b\nH ", "q/a/s/b", "q/a", 2),
        ("H r\nH s\nA b", "s/b", "", 0),
        # blank rounds are nothing to either
        ("H q\nA a\nH \nH s\nA b\nH ", "q/a/s/b", "q/a/s/b", 0),
        # empty sides
        ("H q\nA \nH r\nA b", "q//r/b", "", 0),
        ("H q\nA a\nH A b\nH s\nA c", "q/a//b/s/c", "q/a", 2),
        # two answers
        ("H q\nA a\nA b", BAD, "", 0),
        ("H q\nA a\nH r\nA b\nA c\nH s\nA d", BAD, "q/a", 2),
        ("A a", "", "", 0),
        ("", "", "", 0),
        ("H ", "", "", 0),
    ],
)
def test_turns(tmp_path: Path, transcript: str, paper: str | None, fixed: str, cut: int) -> None:
    write(tmp_path, record(transcript))
    found, counts, bad = read(tmp_path, "paper")
    assert shown(found) == ([paper] if paper else [])
    assert len(bad) == counts["dropped: bad record"] == (paper is BAD)
    found, counts, bad = read(tmp_path)
    assert shown(found) == ([fixed] if fixed else [])
    assert not bad
    assert counts["cut: rounds from the first broken one"] == cut
    assert counts["dropped: no question with an answer"] == (not fixed)


def test_golden(tmp_path: Path) -> None:
    two_rounds = (
        "[|Human|] Hump? \n[|AI|]\n Fat.\n\nNo water.\n[|Human|] Why?\n[|AI|] Heat.\n[|Human|] "
    )
    write(tmp_path, record("H do camels swim?\nA they can.\nH "), file=FILES[3])
    write(tmp_path, {"topic": "camels", "input": OPENING + two_rounds}, file=FILES[1])
    write(tmp_path, record("H spit?\nA it is cud.\nH "), record("H  "), file=FILES[0])
    found, counts, _ = read(tmp_path)
    assert {one.id: [turn.content for turn in one.messages] for one in found} == {
        "baize_0": ["spit?", "it is cud."],
        "baize_2": ["Hump?", "Fat.\n\nNo water.", "Why?", "Heat."],
        "baize_3": ["do camels swim?", "they can."],
    }
    assert read(tmp_path, "paper")[0] == found
    assert counts == {
        "read": 4,
        "kept": 3,
        "dropped: no question with an answer": 1,
        f"of {FILES[0]}": 2,
        f"of {FILES[1]}": 1,
        f"missing: {FILES[2]}": 1,
        f"of {FILES[3]}": 1,
    }


def test_what_does_not_open_as_baize_is_counted(tmp_path: Path) -> None:
    write(tmp_path, record("H q\nA a"), record("H q\nA a", "A chat:\n"), record("q", ""))
    assert read(tmp_path)[1]["not Baize's opening line"] == 2


@pytest.mark.parametrize("rule", ["paper", "fixed"])
@pytest.mark.parametrize(
    ("broken", "field"), [({"topic": "t"}, "input"), ({"input": ["x"]}, "input"), ("x", None)]
)
def test_broken_records(tmp_path: Path, rule: Rule, broken: Any, field: str | None) -> None:
    write(tmp_path, record("H q\nA a"), broken, record("H r\nA b"))
    found, counts, [error] = read(tmp_path, rule)
    assert [one.id for one in found] == ["baize_0", "baize_2"]
    assert counts["read"] == 3
    assert (error.file, error.line, error.field) == (tmp_path / FILES[2], 6, field)


@given(st.lists(st.sampled_from(["[|Human|]", "[|AI|]", " ", "q", "\n"]), max_size=14))
def test_by_the_fixed_rule_every_turn_has_text_and_none_holds_a_marker(parts: list[str]) -> None:
    row = Row(Path("x"), 1, 0, {"input": "".join(parts)})
    [made] = baize._dialogue(Convert(Path(), "fixed"), row)
    if not isinstance(made, Dropped):
        assert all(turn.content and "[|" not in turn.content for turn in made.messages)
        assert len(made.messages) % 2 == 0


@pytest.mark.real_data
@pytest.mark.parametrize("rule", ["paper", "fixed"])
def test_a_look_alike_of_the_same_shape(real_data: Path, rule: Rule) -> None:
    """Korean self-chats of another project: 361 rounds in 150 records, and said not to be Baize."""
    folder = real_data / "instruct/baize/deepbot_ko"
    found, counts, bad = read(folder, rule)
    assert (len(found), bad) == (150, [])
    assert sum(len(one.messages) for one in found) == 2 * 361
    assert counts["not Baize's opening line"] == 150
    assert sum(n for key, n in counts.items() if key.startswith("missing")) == 3
    rows = json.loads((folder / FILES[2]).read_text())
    for row, one in zip(rows, found, strict=True):
        left = row["input"].split("[|Human|]", 1)[1]
        for turn in one.messages:
            assert turn.content in left
            left = left.split(turn.content, 1)[1]
        assert left.strip() == "[|Human|]"
