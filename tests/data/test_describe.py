"""Table 1 statistics against a restatement without batches."""

from pathlib import Path
from typing import Any

import pytest

from cameleer.chat.conversation import Conversation, Message, read_conversations
from cameleer.core.errors import UserError
from cameleer.core.files import write_jsonl
from cameleer.data.describe import describe


class Letters:
    """A tokenizer whose tokens are characters, with a start token unless told otherwise."""

    def __call__(self, texts: list[str], add_special_tokens: bool = True, **_: Any) -> Any:
        return {"input_ids": [[0] * (len(text) + add_special_tokens) for text in texts]}


def chat(*texts: str, system: bool = False) -> Conversation:
    roles = ["user", "assistant"] * 10
    roles = ["system", *roles] if system else roles
    turns = (Message(role, text) for role, text in zip(roles, texts, strict=False))
    return Conversation("i", "s", tuple(turns))


def test_means_are_over_messages(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    rows = [chat("abc", "a", "abcde", "ab"), chat("sys", "a", "abcdef", system=True)] * 300
    write_jsonl(path, (row.to_row() for row in rows))
    assert describe(path, Letters()) == {
        "instances": 600,
        "rounds": pytest.approx((4 + 3) / 2 / 2),
        "prompt_tokens": pytest.approx((3 + 5 + 1) / 3),
        "completion_tokens": pytest.approx((1 + 2 + 6) / 3),
        "source": "s",
        "paper": None,
    }


def test_the_papers_own_row_stands_beside_its_sources(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    rows = [chat("a", "b").to_row() | {"source": "dolly"} for _ in range(3)]
    write_jsonl(path, rows)
    assert describe(path, Letters())["paper"] == {
        "instances": 15011,
        "rounds": 1.0,
        "prompt_tokens": 118.1,
        "completion_tokens": 91.3,
    }
    write_jsonl(path, [*rows, rows[0] | {"source": "own"}])
    mixed = describe(path, Letters())
    assert (mixed["source"], mixed["paper"]) == (None, None)


def test_no_answers_and_no_conversations(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    write_jsonl(path, [chat("ab").to_row()])
    assert describe(path, Letters())["completion_tokens"] == 0
    path.write_text("\n")
    with pytest.raises(UserError, match="no conversation"):
        describe(path, Letters())


@pytest.mark.real_data
@pytest.mark.embedded
def test_real_sample(real_data: Path, tokenizer: Any) -> None:
    path = real_data / "instruct/tulu_v2_converted_sample/tulu_v2_converted_sample.jsonl"
    found = describe(path, tokenizer)
    turns = [turn for one in read_conversations(path) for turn in one.messages]
    for role, key in (("user", "prompt_tokens"), ("assistant", "completion_tokens")):
        lengths = [
            len(tokenizer.encode(turn.content, add_special_tokens=False))
            for turn in turns
            if turn.role == role
        ]
        assert found[key] == pytest.approx(sum(lengths) / len(lengths))
    assert found["instances"] == 200
    assert found["rounds"] == pytest.approx(len(turns) / 400)
