"""Chats: prompts are token by token those of training, answers can be heard, stopped and undone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cameleer.chat.conversation import Conversation, Message
from cameleer.chat.own import OwnTemplate
from cameleer.chat.render import render
from cameleer.chat.templates.tulu import TEMPLATE
from cameleer.core.errors import UserError
from cameleer.engines.engine import Request
from cameleer.engines.openai import Options, make
from cameleer.engines.talk import STOPPED, Sampling, Talk, template_of
from cameleer.engines.transformers import TransformersEngine
from tests.engines.api_server import api_server

MESSAGES = (
    Message("system", "You know camels. "),
    Message("user", "Where does the camel live?"),
    Message("assistant", " In the desert,\nof course. "),
    Message("user", "\nIs there water?"),
    Message("assistant", "Little."),
)


@pytest.fixture(scope="module")
def engine(tiny_model: Callable[[str], Path]) -> TransformersEngine:
    return TransformersEngine(tiny_model("llama"), {"model": "llama"}, precision="fp32")


def talk(engine: Any, **how: Any) -> Talk:
    return Talk(engine, TEMPLATE, Sampling(**{"temperature": 0.0, "max_new_tokens": 8} | how))


def told(tokenizer: Any, template: Any) -> Talk:
    """A chat of MESSAGES but for the last two, on an engine that is nothing but its tokenizer."""
    found = Talk(SimpleNamespace(tokenizer=tokenizer), template, Sampling(), MESSAGES[0].content)
    found.messages = list(MESSAGES[1:3])
    return found


@pytest.mark.parametrize("own", [False, True], ids=["tulu", "own"])
def test_a_prompt_is_what_training_renders(tiny_tokenizer: Any, own: bool) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = TEMPLATE.jinja
    whole = Conversation("1", "own", MESSAGES)
    [rendered] = render([whole], tokenizer, TEMPLATE)
    last = len(rendered.ids) - 1 - rendered.supervised[::-1].index(0)  # the cue's last token
    ids = told(tokenizer, OwnTemplate(tokenizer) if own else TEMPLATE).ids(MESSAGES[3].content)
    assert ids == rendered.ids[: last + 1]
    assert 0 < sum(rendered.supervised[: last + 1]) < sum(rendered.supervised)


@pytest.mark.embedded
def test_a_prompt_is_that_of_the_models_own_template(tokenizer: Any) -> None:
    chat = told(tokenizer, OwnTemplate(tokenizer))
    rows = [{"role": one.role, "content": one.content} for one in MESSAGES[:4]]
    wanted = tokenizer.apply_chat_template(rows, add_generation_prompt=True)["input_ids"]
    assert chat.ids(MESSAGES[3].content) == wanted


def test_answers_are_heard_as_they_grow_and_are_those_of_an_evaluation(
    engine: TransformersEngine,
) -> None:
    heard: list[str] = []
    chat = talk(engine, temperature=1.0)
    spoken = chat.ask("Where?", heard.append)
    assert len(heard) > 1
    assert heard[-1] == spoken.text
    [batch] = engine.batches([Request("chat/1", chat.last, max_new_tokens=8, temperature=1.0)])
    assert engine.hear is None
    assert engine.answer(batch)[0].outputs == [spoken.text]
    assert [one.role for one in chat.messages] == ["user", "assistant"]
    again = chat.ask("Where?")
    assert again.prompt_tokens == len(engine.tokenizer(chat.last)["input_ids"])
    assert chat.last.count("Where?") == 2


def test_ctrl_c_keeps_what_was_said(engine: TransformersEngine) -> None:
    chat = talk(engine)

    def stop(written: str) -> None:
        if written:
            raise KeyboardInterrupt

    spoken = chat.ask("Where?", stop)
    assert (spoken.finish, bool(spoken.text)) == (STOPPED, True)
    assert chat.messages[-1] == Message("assistant", spoken.text)
    assert chat.ask("And?").finish != STOPPED
    assert chat.undo()
    assert chat.undo()
    assert not chat.undo()


def test_a_full_context_drops_the_oldest_and_says_so(engine: TransformersEngine) -> None:
    chat = talk(engine)
    dropped = [chat.ask("Where does the camel live? In the desert." * 2).dropped for _ in range(9)]
    assert chat.dropped == sum(dropped) > 0
    assert len(chat.messages) == 18
    assert engine.room is not None
    assert len(chat.ids()) <= engine.room
    kept = list(chat.messages), chat.dropped
    with pytest.raises(UserError, match="leave no room for an answer in a context of 256"):
        chat.ask("Where does the camel live? " * 99)
    assert (chat.messages, chat.dropped) == kept


def test_a_server_gets_the_whole_chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with api_server() as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        engine = make(f"served@{url}", Options(cache=tmp_path), {})
        chat = Talk(engine, template_of(None, engine, served=True), Sampling(), "Be brief.")
        assert chat.ask("One").text == "heard One"
        assert chat.ask("Two").text == "heard Two"
        asked = [(one["role"], one["content"]) for one in server.asked[-1][2]["messages"]]
        with pytest.raises(UserError, match="tokenizer"):
            template_of("tulu", engine, served=True)
        engine.close()
    assert asked == [
        ("system", "Be brief."),
        ("user", "One"),
        ("assistant", "heard One"),
        ("user", "Two"),
    ]
