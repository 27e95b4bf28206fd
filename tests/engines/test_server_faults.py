"""Answers of servers that look right and are not: odd counts, texts, numbers; and odd keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.engines.engine import Request, UnansweredError
from cameleer.engines.registry import choose
from cameleer.results.records import Answer
from tests.engines.api_server import ApiServer, api_server, chat, say

LETTERS = (" A", " B")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with api_server() as running:
        yield running


def ask(server: ApiServer, folder: Path, request: Request, **options: Any) -> list[Answer]:
    quick = {"wait": 0.01, "tries": 2, "timeout": 2.0, "cache": folder, **options}
    chosen = choose(f"openai:camel@{server.url}", None, quick)
    engine = chosen.open(chosen.identity())
    try:
        return [answer for batch in engine.batches([request]) for answer in engine.answer(batch)]
    finally:
        engine.close()  # type: ignore[attr-defined]


QUESTION = Request("item/0", "prompt 0", text="prompt 0", format="chat")
LETTER = Request("item/0", "prompt 0", choices=LETTERS, text="prompt 0", format="chat")


@pytest.mark.parametrize(
    ("told", "counts"),
    [
        ({"prompt_tokens": "10", "completion_tokens": "5"}, (0, 0)),
        ({"prompt_tokens": 10.0, "completion_tokens": 5.0}, (10, 5)),
        ({"prompt_tokens": -10, "completion_tokens": True}, (0, 0)),
        ({"prompt_tokens": float("inf"), "completion_tokens": float("nan")}, (0, 0)),
        (["10"], (0, 0)),
    ],
)
def test_counts_that_are_none(
    server: ApiServer, tmp_path: Path, told: Any, counts: tuple[int, int]
) -> None:
    server.rule = lambda _, body: chat("Yes", usage=told)
    [answer] = ask(server, tmp_path, QUESTION)
    assert (answer.outputs, answer.prompt_tokens, answer.new_tokens) == (["Yes"], *counts)
    priced = {"max_dollars": 1, "price_in": 1, "price_out": 1, "extra": {"seed": 2}}
    if counts == (0, 0):
        with pytest.raises(UserError, match="how many tokens"):
            ask(server, tmp_path, QUESTION, **priced)
    else:
        assert ask(server, tmp_path, QUESTION, **priced)[0].outputs == ["Yes"]


@pytest.mark.parametrize("content", [7, ["Yes"], [{"type": "text", "text": "Yes"}], {"a": 1}])
def test_a_text_that_is_none_is_no_answer(server: ApiServer, tmp_path: Path, content: Any) -> None:
    server.acts.append(say(chat(content)))
    assert ask(server, tmp_path, QUESTION)[0].outputs == ["heard prompt 0"]
    assert len(server.asked) == 2


def test_half_a_character_is_marked_and_kept(server: ApiServer, tmp_path: Path) -> None:
    """As JavaScript sends it when it cuts a text within an emoji; whole ones stay."""
    server.acts.append(say(json.dumps(chat("\U0001f42b is \ud83d"))))
    for _ in range(2):  # asked, then kept
        assert ask(server, tmp_path, QUESTION)[0].outputs == ["\U0001f42b is \ufffd"]
    assert len(server.asked) == 1


@pytest.mark.parametrize("value", ["-0.1", float("nan"), float("inf"), [1]])
def test_a_log_probability_that_is_none_is_no_answer(
    server: ApiServer, tmp_path: Path, value: Any
) -> None:
    top = [{"token": "A", "logprob": value}, {"token": "B", "logprob": -2.0}]
    reply = chat("A")
    reply["choices"][0]["logprobs"] = {"content": [{"top_logprobs": top}]}
    server.rule = lambda _, body: reply
    with pytest.raises(UnansweredError, match="not as the API has it"):
        ask(server, tmp_path, LETTER)


def test_what_cannot_be_is_not_chosen(server: ApiServer, tmp_path: Path) -> None:
    top = [{"token": "A", "logprob": float("-inf")}, {"token": "B", "logprob": -2.0}]
    reply = chat("B")
    reply["choices"][0]["logprobs"] = {"content": [{"top_logprobs": top}]}
    server.rule = lambda _, body: reply
    [answer] = ask(server, tmp_path, LETTER)
    assert answer.outputs == [" B"]


def test_a_key_with_a_line_break_or_odd_signs(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret\n")  # as `cat` of a file gives it
    ask(server, tmp_path, QUESTION)
    assert server.headers[0]["authorization"] == "Bearer sk-secret"
    for odd in ("sk-sec\nret", "sk-secr\u00e9t", "sk-\x07secret"):
        monkeypatch.setenv("OPENAI_API_KEY", odd)
        with pytest.raises(UserError, match="characters that no key has") as error:
            ask(server, tmp_path / "other", QUESTION)
        assert odd not in str(error.value)
