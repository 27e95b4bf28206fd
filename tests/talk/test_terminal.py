"""A chat at the terminal: what is typed, who is shown where, votes that are Judgements."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.results.judgements import read_judgements
from cameleer.talk.terminal import Terminal
from cameleer.talk.votes import Votes
from tests.talk.speakers import chat, speakers

Type = Callable[..., None]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Type:
    """Has these lines typed, one after the other; an exception is raised, as Ctrl-C raises it."""

    def these(*lines: Any) -> None:
        given = iter(lines)

        def line(prompt: str) -> str:
            one = next(given, EOFError())
            if isinstance(one, BaseException):
                raise one
            return str(one)

        monkeypatch.setattr("builtins.input", line)

    return these


@pytest.mark.parametrize("width", [60, 120])
def test_votes_are_blind_and_become_judgements(
    width: int,
    tmp_path: Path,
    typed: Type,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    votes = tmp_path / "votes.jsonl"
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(Votes, "b_first", lambda self, number: number % 2 == 1)
    first, second = ("one", "what?", "a it is shorter"), ("two", "B", "three", "tie")
    typed(*first, "/reset", *second, "four", "skip", "five", "bad", "six", KeyboardInterrupt())
    Terminal(chat(("left", "right"), votes)).run()
    found = read_judgements(votes)
    out = capsys.readouterr().out
    # The first chat shows the second model first, the second chat the first one.
    assert [one.b_first for one in found] == [True] + [False] * 5
    assert [one.preference for one in found] == [2, 2, 1.5, None, 1.5, None]
    assert [one.acceptable for one in found] == [(None, None)] * 4 + [(False, False), (None, None)]
    assert [one.note for one in found] == ["", "", "", "skipped", "", "skipped"]
    assert found[0].comment == "it is shorter"
    assert len({one.item for one in found}) == 6
    assert {(one.a, one.b, one.who, one.kind) for one in found} == {
        ("left", "right", "me", "human")
    }
    assert out.index("model 1 heard one") < out.index("model 0 heard one") or width == 120
    before, _, told = out.rpartition("votes for")
    assert "left" not in before
    assert "left 0, right 2, ties 1, both bad 1, skipped 2" in told
    rows = [json.loads(line) for line in (tmp_path / "votes.chats.jsonl").read_text().splitlines()]
    assert [row["item"] for row in rows] == [one.item for one in found]
    assert rows[0]["b"]["model"] == "right"
    assert rows[0]["b"]["answer"] == "model 1 heard one"
    assert rows[0]["b"]["prompt"].endswith("one\n<|assistant|>\n")
    assert rows[0]["b"]["temperature"] == 0.7


def test_many_lines_are_one_message(typed: Type) -> None:
    """Pasted at once, or continued by a backslash."""
    typed("def f():\n    return 1\nWhy?", "a\\", "b", "   ", "//no command")
    talked = chat(("one",))
    Terminal(talked).run()
    asked = [one.content for one in talked.sides[0].talk.messages if one.role == "user"]
    assert asked == ["def f():\n    return 1\nWhy?", "a\nb", "/no command"]


def test_mistakes_are_told_and_the_chat_goes_on(
    typed: Type, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = tmp_path / "no" / "\0"
    typed("/sytem x", "/temperature hot", "/temperature 0", f"/save {missing}", "Hi", "/quit", "no")
    talked = chat(("one",))
    Terminal(talked).run()
    told = capsys.readouterr()
    assert "unknown command '/sytem' (did you mean '/system'?" in told.err
    assert "'hot' is no temperature" in told.err
    assert "temperature 0\n" in told.out
    assert "model 0 heard Hi" in told.out
    assert speakers(talked)[0].asked[0].temperature == 0
    assert len(talked.sides[0].talk.messages) == 2


def test_ctrl_c_stops_an_answer_and_nothing_else(
    typed: Type, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    talked = chat(votes=tmp_path / "votes.jsonl")
    one = speakers(talked)[0]
    stopped = iter([True])

    def tell(written: str) -> None:
        one.hear(written)
        if next(stopped, False):
            raise KeyboardInterrupt

    one.tell = tell
    typed(KeyboardInterrupt(), "Hi", "Again", "a")
    Terminal(talked).run()
    told = capsys.readouterr()
    assert "/quit or Ctrl-D leaves" in told.out
    assert "no vote, as an answer was stopped" in told.out
    assert [len(side.talk.messages) for side in talked.sides] == [4, 4]
    assert talked.sides[0].talk.messages[1].content == "model"
    assert len(read_judgements(tmp_path / "votes.jsonl")) == 1


def test_a_turn_is_all_models_or_nobodys(typed: Type, capsys: pytest.CaptureFixture[str]) -> None:
    talked = chat()

    def fail(prompt: str) -> str:
        raise UserError("the server is gone")

    speakers(talked)[1].say = fail
    typed("Hi")
    Terminal(talked).run()
    assert [side.talk.messages for side in talked.sides] == [[], []]
    assert "error: the server is gone" in capsys.readouterr().err
