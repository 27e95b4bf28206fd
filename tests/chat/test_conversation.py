"""Conversation files: what is read, and where each mistake is said to be."""

from pathlib import Path

import pytest

from cameleer.chat.conversation import Conversation, Message, read_conversations
from cameleer.core.errors import UserError

GOOD = '{"id": "a", "source": "s", "messages": [{"role": "user", "content": "x"}]}\n'


def read(path: Path, text: str) -> list[Conversation]:
    file = path / "c.jsonl"
    file.write_text(text, encoding="utf-8")
    return list(read_conversations(file))


def test_a_conversation_comes_back_as_it_was_written(tmp_path: Path) -> None:
    [one] = read(tmp_path, GOOD)
    assert one == Conversation("a", "s", (Message("user", "x"),))
    assert one.to_row()["messages"] == [{"role": "user", "content": "x"}]


def test_tulu_files_name_their_dataset(tmp_path: Path) -> None:
    [one] = read(tmp_path, GOOD.replace("source", "dataset"))
    assert one.source == "s"


@pytest.mark.parametrize("identity", ["", '"id": null, '])
def test_without_an_id_the_line_serves(tmp_path: Path, identity: str) -> None:
    read_ = read(tmp_path, "\n" + GOOD.replace('"id": "a", ', identity) * 2)
    assert [one.id for one in read_] == ["1", "2"]


@pytest.mark.parametrize(
    ("row", "field", "says"),
    [
        ('{"id": 1}', "messages", "missing"),
        ('{"messages": []}', "messages", "empty"),
        ('{"messages": ["x"]}', "messages.0", "not an object"),
        ('{"messages": [{"role": "bot", "content": "x"}]}', "messages.0.role", "'bot'"),
        ('{"messages": [{"role": "user"}]}', "messages.0.content", "not text"),
        ('{"messages": [{"role": "user", "content": 1}]}', "messages.0.content", "not text"),
        (
            '{"messages": [{"role": "user", "content": "\\ud83d"}]}',
            "messages.0.content",
            "surrogate",
        ),
        ("{", None, "broken JSON"),
        ("[]", None, "not a JSON object"),
    ],
)
def test_mistakes_name_line_and_field(
    tmp_path: Path, row: str, field: str | None, says: str
) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, GOOD + row + "\n")
    assert (caught.value.line, caught.value.field) == (2, field)
    assert caught.value.file == tmp_path / "c.jsonl"
    assert says in str(caught.value)
