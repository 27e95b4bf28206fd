"""The Tülu format as text, by our segments and by the Jinja template that checkpoints carry."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.chat.conversation import Message
from cameleer.chat.template import template_named
from cameleer.core.errors import UserError

TULU = template_named("tulu")
CHAT = (
    Message("system", " Be kind.\n"),
    Message("user", "\n Hi "),
    Message("assistant", " Hello! "),
    Message("user", "Bye"),
    Message("assistant", "Bye bye"),
)
messages = st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.text(max_size=20)),
    min_size=1,
    max_size=6,
)


def jinja(turns: Any, cue: bool = False) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    chat = [{"role": turn.role, "content": turn.content} for turn in turns]
    [text], _ = render_jinja_template(
        [chat], chat_template=TULU.jinja, add_generation_prompt=cue, eos_token="</s>"
    )
    return str(text)


def test_text_of_a_conversation() -> None:
    assert TULU.text(CHAT, "</s>") == (
        "<|system|>\nBe kind.\n<|user|>\nHi\n<|assistant|>\nHello!</s>\n"
        "<|user|>\nBye\n<|assistant|>\nBye bye</s>"
    )


def test_learned_stretches() -> None:
    learned = [text for text, flag in TULU.segments(CHAT, "</s>") if flag]
    assert learned == ["Hello!</s>", "Bye bye</s>"]


def test_prompts_keep_the_white_space_of_a_benchmark() -> None:
    question = [Message("user", " 1 + 1? \n")]
    assert TULU.prefix(question, "</s>", cue=True) == "<|user|>\n 1 + 1? \n\n<|assistant|>\n"
    stripped = TULU.prefix(question, "</s>", cue=False, strip=True)
    assert stripped == "<|user|>\n1 + 1?\n"


@given(messages)
def test_text_is_stripped_and_ends_as_its_last_message(turns: list[Message]) -> None:
    text = TULU.text(turns, "</s>")
    assert text == text.strip()
    assert text == TULU.prefix(turns, "</s>", cue=False, strip=True).strip()


@given(messages)
def test_jinja_says_the_same(turns: list[Message]) -> None:
    assert jinja(turns).strip() == TULU.text(turns, "</s>")
    if turns[-1].role != "assistant":
        prompt = TULU.prefix(turns, "</s>", cue=True, strip=True)
        assert jinja(turns, cue=True) == prompt
    else:
        assert jinja(turns) == TULU.text(turns, "</s>")


def test_an_unknown_template_is_no_fall_back() -> None:
    with pytest.raises(UserError, match=r"did you mean 'tulu'\? known: .*\btulu\b"):
        template_named("tulo")
    with pytest.raises(UserError, match=r"unknown template 'nope' \(known: .*\btulu\b"):
        template_named("nope")
