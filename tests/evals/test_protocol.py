"""The string around an item: the chat format's, or none."""

from __future__ import annotations

from dataclasses import replace

from cameleer.chat.template import template_named
from cameleer.evals.protocol import prompt_of


def test_chat_and_plain() -> None:
    tulu = template_named("tulu")
    assert prompt_of(" Q? \n", "A:", "chat", tulu) == "<|user|>\n Q? \n\n<|assistant|>\nA:"
    assert prompt_of(" Q? \n", "A:", "plain", tulu) == " Q? \nA:"
    assert prompt_of("Q?", "", "chat", tulu) == "<|user|>\nQ?\n<|assistant|>\n"


def test_a_cue_is_set_off_where_the_template_does_not() -> None:
    tulu = template_named("tulu")
    tight = replace(tulu, headers=tulu.headers | {"assistant": "BOT:"})
    assert prompt_of("Q?", "A:", "chat", tight) == "<|user|>\nQ?\nBOT: A:"
    assert prompt_of("Q?", "", "chat", tight) == "<|user|>\nQ?\nBOT:"
