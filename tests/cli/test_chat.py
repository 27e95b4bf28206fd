"""`cameleer chat` as a command: lines in and out, its page, what it refuses."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from cameleer.chat.conversation import read_conversations
from cameleer.cli import main
from cameleer.human import serving

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
        (["--page", "--port", "99999"], "65535"),
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


def test_a_page_at_an_address_that_is_told(
    run: Run, tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []

    def serve(app: Any, listening: Any, ending: Callable[[], None]) -> None:
        """In place of a server: one look at the page, then Ctrl-C."""
        assert listening.getsockname()[0] == "127.0.0.1"
        shown.append((TestClient(app, base_url="http://127.0.0.1:1"), ending))

    monkeypatch.setattr(serving, "serve", serve)
    votes = tmp_path / "votes.jsonl"
    two = (tiny_model("llama"), "--compare", tiny_model("qwen2"), "--votes", votes)
    code, out, said = run("", *two, "--template", "tulu", "--page", "--json")
    assert code == 0, said
    address = json.loads(out)["address"]
    [(client, _)] = shown
    path = "/" + address.split("/", 3)[3]
    assert len(path) > 30
    assert "Two models" in client.get(path).text
    assert client.get("/").status_code == 404
    assert address in said
    assert "no votes" in said
