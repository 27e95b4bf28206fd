"""Chats with stand-ins for models, which write what a test tells them, and their page, served."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cameleer.chat.templates.tulu import TEMPLATE
from cameleer.engines.engine import Hear, Request
from cameleer.engines.talk import Sampling, Talk
from cameleer.results.records import Answer
from cameleer.talk.chat import Chat, Side
from cameleer.talk.page import page_app
from cameleer.talk.shared import SharedChat
from cameleer.talk.votes import Votes
from tests.asgi import in_thread
from tests.stand_in import StandIn

NAMES = ("gpt-zebra", "camel-quagga")
TOKEN = "the-token"


class Speaker(StandIn):
    """An engine that writes word by word what `say` answers to a prompt.

    gate: is waited for after the first word. asked: what was.
    """

    def __init__(self, say: Callable[[str], str]) -> None:
        super().__init__()
        self.say = say
        self.gate: threading.Event | None = None
        self.hear: Hear | None = None
        self.asked: list[Request] = []

    def answer(self, batch: Sequence[Request]) -> list[Answer]:
        [request] = batch
        self.asked.append(request)
        whole = self.say(request.prompt)
        words = whole.split(" ")
        for number in range(len(words)):
            self.tell(" ".join(words[: number + 1]))
            while self.gate is not None and not self.gate.wait(0.01):
                self.tell(" ".join(words[: number + 1]))
        return [Answer(request.key, [whole], [], ["stop"], 10, len(words), 0.1)]

    def tell(self, written: str) -> None:
        if self.hear is not None:
            self.hear(written)


def said_last(prompt: str) -> str:
    """The user's last message in a prompt of our template."""
    return prompt.rpartition("<|user|>\n")[2].partition("\n<|assistant|>")[0]


def chat(names: Sequence[str] = NAMES, votes: Path | None = None, say: Any = None) -> Chat:
    """A chat with models that answer their number and what they hear, or what `say` answers."""
    sides = []
    for number, name in enumerate(names):

        def answer(prompt: str, number: int = number) -> str:
            return f"model {number} heard {said_last(prompt)}"

        talk = Talk(Speaker(say or answer), TEMPLATE, Sampling())
        sides.append(Side(name, talk))
    kept = Votes(votes, names[0], names[1], "me", 1) if votes else None
    return Chat(sides, kept)


def speakers(of: Chat) -> list[Any]:
    """The engines of a chat."""
    return [side.talk.engine for side in of.sides]


@contextmanager
def page(of: Chat) -> Iterator[str]:
    """The address of a chat's page, served in a thread."""
    shared = SharedChat(of)
    with in_thread(page_app(shared, TOKEN), shared.end) as address:
        yield f"{address}/{TOKEN}/"
