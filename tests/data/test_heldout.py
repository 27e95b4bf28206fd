"""Held-out conversations: how many, always the same ones, and nothing like them trained on."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cameleer.chat.conversation import Conversation, Message, read_conversations
from cameleer.core.errors import UserError
from cameleer.core.files import write_jsonl
from cameleer.data.heldout import LEFT_OUT, HeldOut, hold_out, opening


def chat(identity: str, asked: str, answer: str = "Yes.", source: str = "a") -> Conversation:
    turns = (Message("user", asked), Message("assistant", answer))
    return Conversation(identity, source, turns)


def split(folder: Path, rows: Sequence[Conversation], **settings: object) -> HeldOut:
    folder.mkdir(exist_ok=True)
    data = folder / "data.jsonl"
    write_jsonl(data, [row.to_row() for row in rows])
    return hold_out(data, folder / "parts", **settings)  # type: ignore[arg-type]


def ids(file: Path) -> list[str]:
    return [one.id for one in read_conversations(file)]


MANY = [chat(f"c{n}", f"What is {n} times {n}?", source="ab"[n % 5 == 0]) for n in range(100)]


@pytest.mark.parametrize(
    ("settings", "held"),
    [
        ({"fraction": 0.1}, {"a": 8, "b": 2}),
        ({"fraction": 0.001}, {"a": 1, "b": 1}),
        ({"conversations": 7}, {"a": 7, "b": 7}),
        ({"conversations": 30}, {"a": 30, "b": 10}),  # half of them at most
    ],
)
def test_how_many(tmp_path: Path, settings: dict[str, float], held: dict[str, int]) -> None:
    found = split(tmp_path, MANY, **settings)
    assert Counter(one.source for one in read_conversations(found.validation)) == held
    assert {name: found.counts[f"validated: {name}"] for name in held} == held
    trained, tried = ids(found.train), ids(found.validation)
    assert sorted(trained + tried) == sorted(one.id for one in MANY)
    assert found.counts[LEFT_OUT] == 0
    assert tried == [one.id for one in MANY if one.id in set(tried)]  # in the file's order


def test_always_the_same_ones(tmp_path: Path) -> None:
    """From run to run, and whatever else is in the data; only their number hangs on that."""
    alone = set(ids(split(tmp_path / "1", MANY, conversations=9).validation))
    more = [chat(f"d{n}", f"Name {n} camels.", source="d") for n in range(50)]
    mixed = split(tmp_path / "2", [*reversed(MANY), *more], conversations=9)
    assert alone < set(ids(mixed.validation))


def plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


texts = st.sampled_from(
    ["Where?", "where", "Who is it?", "WHO, is it", "Why", "How?", "2+2", "2 2"]
)


@given(
    st.lists(st.tuples(texts, texts, st.sampled_from("abc")), min_size=1, max_size=40),
    st.one_of(
        st.fixed_dictionaries({"fraction": st.floats(0.01, 0.5)}),
        st.fixed_dictionaries({"conversations": st.integers(1, 5)}),
    ),
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_trained_on_opens_like_what_is_held_out(
    tmp_path: Path, made: list[tuple[str, str, str]], how: dict[str, float]
) -> None:
    rows = [chat(str(n), asked, answer, source) for n, (asked, answer, source) in enumerate(made)]
    (tmp_path / "parts" / "counts.json").unlink(missing_ok=True)
    try:
        found = split(tmp_path, rows, **how)
    except UserError:
        return  # too small to hold out any of it
    trained, tried = (
        [one.messages for one in read_conversations(file)]
        for file in (found.train, found.validation)
    )
    assert not {plain(one[0].content) for one in trained} & {plain(one[0].content) for one in tried}
    assert len(tried) == len({tuple(turn.content for turn in one) for one in tried})
    assert found.counts.total() == len(rows)
    total = Counter(source for source, _ in {(one.source, one.messages) for one in rows})
    for source, number in Counter(
        one.source for one in read_conversations(found.validation)
    ).items():
        asked = how.get("conversations") or max(1, round(how["fraction"] * total[source]))
        assert number <= min(asked, total[source] // 2)


def test_what_opens_alike() -> None:
    same = [
        chat("1", "Name a camel."),
        chat("2", "name a CAMEL", "Bactrian."),
        chat("3", "Task: Name a camel.\n\nAnswer:"),  # one of the paper's templates
        Conversation(
            "4", "b", (Message("system", "Be kind."), *chat("", "Name a camel!").messages)
        ),
        Conversation("5", "b", (*chat("", "Name a camel.").messages, Message("user", "More."))),
    ]
    assert len({opening(one) for one in same}) == 1
    others = [
        chat("6", "Name a horse."),
        chat("7", "？？"),
        chat("8", "!!"),
        Conversation("9", "b", (Message("assistant", "Name a camel."),) * 2),
    ]
    assert len({opening(one) for one in [same[0], *others]}) == 5


def test_copies_and_siblings_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = [chat(f"{n}{letter}", f"Say {n}.") for n in range(40) for letter in "xy"]
    found = split(tmp_path, twice, conversations=6)
    tried = ids(found.validation)
    assert len(tried) == len({one[:-1] for one in tried}) == 6  # copies count once
    assert found.counts[LEFT_OUT] == 6
    assert len(ids(found.train)) == 80 - 12
    found.say()
    said = "of 80 conversations 6 held out for validation, 6 left out that open like one of those"
    assert said in capsys.readouterr().err


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    write_jsonl(own, [chat("v", "what is 3 times 3", "9").to_row()])
    found = split(tmp_path, MANY, given=own)
    assert found.validation == own
    assert set(ids(found.train)) == {one.id for one in MANY} - {"c3"}
    assert found.counts[LEFT_OUT] == 1


def test_what_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is too small to hold out any of it"):
        split(tmp_path / "1", [chat("1", "Where?"), chat("2", "Where?")], fraction=0.5)
    own = tmp_path / "own.jsonl"
    write_jsonl(own, [one.to_row() for one in MANY])
    with pytest.raises(UserError, match="holds nothing that may be trained on"):
        split(tmp_path / "2", MANY[:5], given=own)


def test_taken_up_only_if_whole(tmp_path: Path) -> None:
    first = split(tmp_path, MANY, conversations=3)
    stamp = first.train.stat().st_mtime_ns
    again = hold_out(tmp_path / "data.jsonl", tmp_path / "parts", conversations=3)
    assert (again, again.train.stat().st_mtime_ns) == (first, stamp)
    (tmp_path / "parts" / "counts.json").unlink()  # as a kill leaves it
    first.train.write_text("half a li")
    again = hold_out(tmp_path / "data.jsonl", tmp_path / "parts", conversations=3)
    assert again == first
    assert json.loads(again.train.read_text().splitlines()[0])["id"]
