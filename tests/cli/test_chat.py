"""`cameleer chat`: lines in and out, its commands, votes that are Judgements."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cameleer.chat.conversation import read_conversations
from cameleer.cli import chatting, main
from cameleer.cli.votes import Votes
from cameleer.core.errors import UserError
from cameleer.engines.talk import Spoken
from cameleer.results.judgements import read_judgements
from cameleer.results.records import Judgement

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`cameleer chat …` with these lines on stdin."""

    def one(lines: str, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        with pytest.raises(SystemExit) as ended:
            main(["chat", *map(str, arguments)])
        return int(ended.value.code or 0), *capsys.readouterr()

    return one


def test_lines_in_lines_out(run: Run, tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    saved = tmp_path / "chat.jsonl"
    lines = f"Where?\n\n//no command\n/save {saved}\n/reset\nWhy?\n"
    how = ("--template", "tulu", "--max-new-tokens", 6, "--precision", "fp32")
    code, out, said = run(lines, tiny_model("llama"), *how, "--json")
    assert code == 0, said
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["message"] for row in rows] == ["Where?", "/no command", "Why?"]
    assert all(row["prompt_tokens"] < rows[1]["prompt_tokens"] for row in (rows[0], rows[2]))
    assert "the answer is cut off" in said
    [conversation] = read_conversations(saved)
    said_then = [one.content for one in conversation.messages if one.role == "assistant"]
    assert said_then == [row["text"] for row in rows[:2]]

    code, plain, _ = run(lines.replace(f"/save {saved}\n", ""), tiny_model("llama"), *how)
    assert plain.removesuffix("\n").split("\n") == [
        row["text"].replace("\n", "\\n") for row in rows
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--votes", "v.jsonl"], "second model"),
        (["--compare", "other"], "need a terminal"),
        (["--compare", "other", "--votes", "v.jsonl", "--json"], "need a terminal"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_loaded(
    run: Run, arguments: list[str], said: str
) -> None:
    code, out, line = run("Hi\n", "nowhere", *arguments)
    assert (code, out, line.count("\n")) == (2, "", 1)
    assert said in line


class Parrot:
    """A talk whose model says what it hears."""

    def __init__(self, name: str) -> None:
        self.name, self.system, self.last, self.dropped = name, "", "", 0
        self.messages: list[Any] = []

    def ask(self, text: str, hear: Callable[[str], None] | None = None) -> Spoken:
        from cameleer.chat.conversation import Message

        answer = f"{self.name} heard {text}"
        if hear is not None:
            hear(answer[:5])
        self.last = text
        self.messages += [Message("user", text), Message("assistant", answer)]
        return Spoken(answer, "stop")

    def reset(self) -> None:
        self.messages = []


@pytest.mark.parametrize("width", [60, 120])
def test_votes_are_blind_and_become_judgements(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Votes(tmp_path / "votes.jsonl", "left", "right", "me", seed=1)
    sides = [chatting.Side(name, Parrot(name)) for name in ("left", "right")]  # type: ignore[arg-type]
    terminal = chatting.Terminal(chatting.Chat(sides), kept)
    lines = [
        "one",
        "what?",
        "a it is shorter",
        "/reset",
        "two",
        "B",
        "three",
        "tie",
        "four",
        "skip",
    ]
    given = iter(lines)

    def typed(prompt: str) -> str:
        try:
            return next(given)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", typed)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(Votes, "b_first", lambda self, chat: chat % 2 == 1)
    terminal.run()
    found = read_judgements(tmp_path / "votes.jsonl")
    out = capsys.readouterr().out
    # The first chat shows the second model first, the second chat the first one.
    assert [one.b_first for one in found] == [True, False, False, False]
    assert [one.preference for one in found] == [2, 2, 1.5, None]
    assert (found[0].comment, found[3].note) == ("it is shorter", "skipped")
    assert len({one.item for one in found}) == 4
    assert {(one.a, one.b, one.who, one.kind) for one in found} == {
        ("left", "right", "me", "human")
    }
    assert out.index("right heard one") < out.index("left heard one") or width == 120
    assert "left 0, right 2, ties 1, skipped 1" in out
    chats = [json.loads(line) for line in (tmp_path / "votes.chats.jsonl").read_text().splitlines()]
    assert [row["item"] for row in chats] == [one.item for one in found]
    assert chats[0]["b"] == {"model": "right", "prompt": "one", "answer": "right heard one"}


def test_a_file_that_holds_no_votes_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_text('{"item": "a"}\n')
    with pytest.raises(UserError, match="missing"):
        Votes(path, "a", "b", "me", 1)
    with pytest.raises(UserError, match="between two models"):
        Votes(tmp_path / "new.jsonl", "a", "a", "me", 1)
    assert path.read_text() == '{"item": "a"}\n'


def test_who_stands_first_is_drawn_for_each_chat(tmp_path: Path) -> None:
    kept = Votes(tmp_path / "v.jsonl", "a", "b", "me", 1)
    drawn = [kept.b_first(chat) for chat in range(200)]
    assert drawn == [kept.b_first(chat) for chat in range(200)]
    assert 60 < sum(drawn) < 140


def test_votes_are_appended(tmp_path: Path) -> None:
    kept = Votes(tmp_path / "v.jsonl", "a", "b", "me", 1)
    assert kept.tally() == "no votes"
    first: Judgement = kept.add("1.1", "a", True, 1.234, {})
    assert (first.preference, first.seconds) == (2.0, 1.2)
    Votes(tmp_path / "v.jsonl", "a", "b", "me", 1).add("1.1", "b", True, 1, {})
    assert [one.preference for one in read_judgements(tmp_path / "v.jsonl")] == [2.0, 1.0]
