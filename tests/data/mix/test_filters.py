"""Filters: each lets through what it says, and names the reason for the rest."""

from pathlib import Path
from typing import Any

import pytest

from cameleer.chat.conversation import Conversation, Message
from cameleer.core.errors import UserError
from cameleer.core.files import write_jsonl
from cameleer.data.mix.filters import Filters, Sieve, read_ids


def chat(*texts: str, id: str = "1", source: str = "s") -> Conversation:
    roles = ("user", "assistant")
    turns = tuple(Message(roles[n % 2], text) for n, text in enumerate(texts))
    return Conversation(id, source, turns)


def reasons(*conversations: Conversation, tokens: int = 7, **fields: Any) -> list[str | None]:
    sieve = Sieve(Filters(**fields), "part")
    return [sieve.reason(one, tokens) for one in conversations]


def test_nothing_is_held_back_by_no_filter() -> None:
    assert reasons(chat(""), chat("a", "b")) == [None, None]


@pytest.mark.parametrize(("field", "size"), [("turns", 3), ("characters", 5), ("tokens", 7)])
def test_bounds_hold_what_they_name(field: str, size: int) -> None:
    one = chat("ab", "c", "de")
    assert reasons(one, **{f"min_{field}": size, f"max_{field}": size}) == [None]
    assert reasons(one, **{f"min_{field}": size + 1}) == [f"under {size + 1} {field}"]
    assert reasons(one, **{f"max_{field}": size - 1}) == [f"over {size - 1} {field}"]


def test_duplicates_are_the_same_letter_for_letter() -> None:
    first, same = chat("a b", "c", id="1"), chat(" a b\n", "c", id="2", source="t")
    other, joined, cased = chat("a c", "b"), chat("a bc"), chat("A b", "c")
    found = reasons(first, same, other, joined, cased, first, drop_duplicates="exact")
    assert found == [None, "duplicate", None, None, None, "duplicate"]


def test_the_role_is_part_of_what_is_the_same() -> None:
    asked, said = chat("a"), Conversation("1", "s", (Message("assistant", "a"),))
    assert reasons(asked, said, drop_duplicates="exact") == [None, None]


def test_what_another_filter_held_back_makes_no_duplicate() -> None:
    sieve = Sieve(Filters(max_tokens=5, drop_duplicates="exact"), "part")
    assert sieve.reason(chat("a"), 6) == "over 5 tokens"
    assert sieve.reason(chat("a"), 5) is None


def test_a_file_of_ids(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("\n 4 \nx y\n", encoding="utf-8")
    held = [chat("a", id="4"), chat("a", id="x y", source="t"), chat("a", id="5")]
    assert reasons(*held, drop=path) == ["in the file of ids to drop"] * 2 + [None]
    sieve = Sieve(Filters(drop=path), "part")
    assert sieve.not_met() == 2
    sieve.reason(held[0], 0)
    assert sieve.not_met() == 1


def test_a_file_of_matches_means_the_source_as_well(tmp_path: Path) -> None:
    path = tmp_path / "matches.jsonl"
    rows = [
        {"item": "gsm/1", "source": "s", "conversation": "4", "kind": "exact"},
        {"id": 5, "source": "t"},
        {"id": "6"},
        {"group": 0, "kept": {"id": "7"}, "members": [{"id": "8", "source": "s"}, {"id": "9"}]},
    ]
    write_jsonl(path, rows)
    assert list(read_ids(path)) == [("s", "4"), ("t", "5"), (None, "6"), ("s", "8"), (None, "9")]
    held = [chat("a", id="4"), chat("a", id="5"), chat("a", id="6")]
    assert [reason is None for reason in reasons(*held, drop=path)] == [False, True, False]


@pytest.mark.parametrize(("text", "says"), [("{", "broken JSON"), ('{"a": 1}', "no conversation")])
def test_mistakes_in_a_file_of_ids(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "ids.txt"
    path.write_text(f"1\n{text}\n")
    with pytest.raises(UserError, match=says) as caught:
        Sieve(Filters(drop=path), "part")
    assert caught.value.line == 2
