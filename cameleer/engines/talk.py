"""A chat with a model: its messages, the exact prompt of each turn, and what no longer fits."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from cameleer.chat.conversation import Message
from cameleer.chat.own import OWN, OwnTemplate
from cameleer.chat.template import template_named
from cameleer.core.errors import UserError
from cameleer.engines.engine import CONTEXT, TOO_LONG, Engine, Request

STOPPED = "stopped"  # how an answer ends that the user has stopped
SHARE = 4  # at least a quarter of the context is kept free for the answer, or max_new_tokens

ENDINGS = {
    "length": "the answer is cut off: it has reached --max-new-tokens",
    CONTEXT: "the answer is cut off: the context is full",
    STOPPED: "stopped",
}
"""What is said of an answer that did not end by itself."""


class Continues(Protocol):
    """A chat template, as far as a chat needs it."""

    def continued(self, messages: Sequence[Message], eos: str) -> str:
        """A whole chat up to where its next answer begins; eos: the end-of-text token."""


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn; see Request."""

    temperature: float = 0.7
    top_p: float = 1.0
    max_new_tokens: int = 512
    seed: int = 42


@dataclass(frozen=True, slots=True)
class Spoken:
    """An answer. finish: as of Answer, or STOPPED; dropped: exchanges that were left out of the
    prompt from this turn on, as the context is full."""

    text: str
    finish: str
    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds: float = 0.0
    dropped: int = 0


def template_of(name: str | None, engine: Engine, *, served: bool) -> Continues | None:
    """The template that a name stands for, without one the model's own; None if a server puts it.

    served: whether a server answers. Raises UserError where there is no such template, or where it
    cannot be put for want of a tokenizer.
    """
    tokenizer = getattr(engine, "tokenizer", None)
    completions = getattr(getattr(engine, "options", None), "api", None) == "completions"
    if served and name is None and not completions:
        return None
    if tokenizer is None:
        raise UserError(
            "to put a template here, the tokenizer of the server's model is needed",
            hint="--engine-option tokenizer=FOLDER; or leave out --template and api=completions: "
            "the server then puts its own",
        )
    return OwnTemplate(tokenizer) if name in (None, OWN) else template_named(str(name))


class Talk:
    """A chat with one model.

    messages: all of it; dropped: so many exchanges at its beginning are not sent any more; last:
    the prompt of the last answer, to the letter.
    """

    def __init__(
        self, engine: Engine, template: Continues | None, how: Sampling, system: str = ""
    ) -> None:
        """template: None for a server that has its own."""
        self.engine, self.template, self.how, self.system = engine, template, how, system
        self.tokenizer = getattr(engine, "tokenizer", None)
        self.room: int | None = getattr(engine, "room", None)
        self.streams = hasattr(engine, "hear")
        self.messages: list[Message] = []
        self.dropped = self.turn = 0
        self.last = ""

    def sent(self, text: str | None = None) -> list[Message]:
        """The messages that the next answer is to: the system message and what fits; then text."""
        system = [Message("system", self.system)] if self.system else []
        last = [] if text is None else [Message("user", text)]
        return [*system, *self.messages[2 * self.dropped :], *last]

    def prompt(self, text: str | None = None) -> str:
        """The exact text that the model goes on from; a server's is its messages as JSON."""
        messages = self.sent(text)
        if not messages or self.template is None:
            rows = [{"role": one.role, "content": one.content} for one in messages]
            return json.dumps(rows, ensure_ascii=False, indent=1) if rows else ""
        eos = getattr(self.tokenizer, "eos_token", None) or ""
        return self.template.continued(messages, eos)

    def ids(self, text: str | None = None) -> list[int]:
        """Token ids of the prompt, as a local engine makes them of it."""
        if self.tokenizer is None:
            return []
        found: list[int] = self.tokenizer(self.prompt(text), verbose=False)["input_ids"]
        return found

    def ask(self, text: str, hear: Callable[[str], None] | None = None) -> Spoken:
        """The answer to a message; both are then part of the chat.

        hear: is told of the answer while it is written, as far as it is written, if `streams`.
        Ctrl-C stops the answer, of which stays what was said; if nothing was, neither does the
        message. Raises UserError, and keeps the chat as it was, for a message that does not fit
        alone and for all that an engine raises.
        """
        dropped, before = self.dropped, self.turn
        self.turn += 1  # another draw, should the same be asked again
        try:
            spoken = self._fitting(text, hear)
        except BaseException:
            self.dropped, self.turn = dropped, before
            raise
        if spoken.text or spoken.finish != STOPPED:
            self.messages += [Message("user", text), Message("assistant", spoken.text)]
        return spoken

    def undo(self) -> bool:
        """Take back the last message and its answer; False if there is none."""
        self.messages, found = self.messages[:-2], bool(self.messages)
        self.dropped = min(self.dropped, len(self.messages) // 2)
        return found

    def reset(self) -> None:
        """Begin anew; the system message stays."""
        self.messages, self.dropped = [], 0

    def _fitting(self, text: str, hear: Callable[[str], None] | None) -> Spoken:
        """The answer to a message, after as much of the chat as fits."""
        dropped = self.dropped
        while self._full(text) and self._droppable():
            self.dropped += 1
        while True:
            spoken = self._answered(text, hear)
            if spoken.finish != TOO_LONG:
                return replace(spoken, dropped=self.dropped - dropped)
            if not self._droppable():
                size = spoken.prompt_tokens or len(self.ids(text))
                said = f"{size} tokens leave no room for an answer"
                raise UserError(
                    f"{said} in a context of {self.room}" if self.room else said,
                    hint="write less, or a shorter system message",
                )
            self.dropped += 1

    def _full(self, text: str) -> bool:
        """Whether the prompt leaves too little room for an answer."""
        if self.room is None or self.tokenizer is None:
            return False
        free = min(self.how.max_new_tokens, self.room // SHARE)
        return len(self.ids(text)) + free > self.room

    def _droppable(self) -> bool:
        return 2 * self.dropped < len(self.messages)

    def _answered(self, text: str, hear: Callable[[str], None] | None) -> Spoken:
        """What the engine answers, or what it has said until Ctrl-C."""
        so_far = ""

        def heard(written: str) -> None:
            nonlocal so_far
            so_far = written
            if hear is not None:
                hear(written)

        engine: Any = self.engine
        self.last = self.prompt(text)
        if self.streams:
            engine.hear = heard
        try:
            [batch] = engine.batches([self._request(text)])
            [answer] = engine.answer(batch)
        except KeyboardInterrupt:
            return Spoken(so_far.rstrip("\ufffd"), STOPPED)
        finally:
            if self.streams:
                engine.hear = None
        counts = answer.prompt_tokens, answer.new_tokens, answer.seconds
        return Spoken(answer.outputs[0], answer.finish[0], *counts)

    def _request(self, text: str) -> Request:
        served = self.template is None
        return Request(
            key=f"chat/{self.turn}",
            prompt=self.last,
            max_new_tokens=self.how.max_new_tokens,
            temperature=self.how.temperature,
            top_p=self.how.top_p,
            seed=self.how.seed,
            format="chat" if served else "plain",
            messages=tuple((one.role, one.content) for one in self.sent(text)) if served else (),
        )
