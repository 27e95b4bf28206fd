"""What a chat template is: how messages become text, and which stretches of it are learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cameleer.chat.conversation import Message
from cameleer.core.plugins import plugin

Segment = tuple[str, bool]
"""A stretch of text, and whether it is learned (is in the loss)."""


@dataclass(frozen=True)
class Template:
    """A chat format as data.

    headers: what opens a message of each role; `{eos}` in `footers` stands for the tokenizer's
    end-of-text token. A message is header + stripped content + footer; the assistant's content and
    end token are learned, nothing else.

    jinja: the same format for `tokenizer.chat_template`, so that others can use our checkpoints.
    """

    name: str
    headers: dict[str, str]
    footers: dict[str, str]
    jinja: str

    def segments(self, messages: Sequence[Message], eos: str) -> list[Segment]:
        """The conversation's text in stretches; white space at its very end is left out."""
        segments: list[Segment] = []
        for message in messages:
            header, content, footer = self._parts(message, eos)
            learned = message.role == "assistant"
            end = eos if learned and footer.startswith(eos) else ""
            segments.append((header, False))
            segments.append((content.strip() + end, learned))
            segments.append((footer[len(end) :], False))
        while segments and not segments[-1][0].strip():
            segments.pop()
        text, learned = segments[-1]
        segments[-1] = (text.rstrip(), learned)
        return segments

    def text(self, messages: Sequence[Message], eos: str) -> str:
        """The conversation's whole text."""
        return "".join(text for text, _ in self.segments(messages, eos))

    def prefix(
        self, messages: Sequence[Message], eos: str, *, cue: bool, strip: bool = False
    ) -> str:
        """The text of messages as it stands when more is to follow; with `cue`, an answer.

        strip: whether contents lose the white space around them. Prompts of benchmarks carry their
        own, so there it stays.
        """
        parts = [self._parts(message, eos) for message in messages]
        text = "".join(
            header + (content.strip() if strip else content) + footer
            for header, content, footer in parts
        )
        return text + self.headers["assistant"] if cue else text

    def continued(self, messages: Sequence[Message], eos: str) -> str:
        """A whole chat up to where its next answer begins, character by character as `text` has it
        of the chat with that answer."""
        return self.prefix(messages, eos, cue=True, strip=True)

    def opened(self, message: str, system: str = "") -> str:
        """A user's message, white space and all, up to where the answer to it begins; system: a
        message before it."""
        before = [Message("system", system)] if system else []
        # The end token closes an answer only, and there is none yet.
        return self.prefix([*before, Message("user", message)], "", cue=True)

    def _parts(self, message: Message, eos: str) -> tuple[str, str, str]:
        footer = self.footers[message.role].replace("{eos}", eos)
        return self.headers[message.role], message.content, footer


def template_named(name: str) -> Template:
    """A template by name; an unknown one is an error, never a fall-back to another."""
    template: Template = plugin("cameleer.chat.templates", "cameleer.templates", name).TEMPLATE
    return template
