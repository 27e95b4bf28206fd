"""Filters of a mixture's parts: which conversations are let through, and why others are not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from pydantic import PositiveInt, model_validator

from cameleer.chat.conversation import Conversation
from cameleer.core.config import Config
from cameleer.core.errors import UserError
from cameleer.core.files import read_text

UNITS = ("turns", "characters", "tokens")


class Filters(Config):
    """Which conversations are let through; every other one is counted by its reason.

    min_turns, max_turns: messages. min_characters, max_characters: of all messages together.
    min_tokens, max_tokens: of the whole conversation in its template, however long.
    drop_duplicates: `exact` lets the first through of conversations with the same messages, letter
    for letter. drop: file of the conversations to leave out, one a line: an id, or an object with
    `id` and `source`; or what `cameleer data overlap` writes: `matches.jsonl`, or the members of
    the groups of `duplicates.jsonl`.
    """

    min_turns: PositiveInt | None = None
    max_turns: PositiveInt | None = None
    min_characters: PositiveInt | None = None
    max_characters: PositiveInt | None = None
    min_tokens: PositiveInt | None = None
    max_tokens: PositiveInt | None = None
    drop_duplicates: Literal["exact"] | None = None
    drop: Path | None = None

    @model_validator(mode="after")
    def _bounds_leave_something(self) -> Filters:
        for unit in UNITS:
            low, high = getattr(self, f"min_{unit}"), getattr(self, f"max_{unit}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"min_{unit} is over max_{unit}: nothing would be left")
        return self

    @property
    def needs_tokens(self) -> bool:
        return self.min_tokens is not None or self.max_tokens is not None


class Sieve:
    """Filters at work. Parts that pass the same sieve are cleared of each other's duplicates.

    where: the part or mixture whose filters they are.
    """

    def __init__(self, filters: Filters, where: str) -> None:
        self.filters, self.where = filters, where
        limits = [
            (unit, getattr(filters, f"min_{unit}"), getattr(filters, f"max_{unit}"))
            for unit in UNITS
        ]
        self.limits = [one for one in limits if one[1:] != (None, None)]
        self.seen: set[bytes] = set()
        self.unwanted = dict.fromkeys(read_ids(filters.drop), False) if filters.drop else {}

    def reason(self, conversation: Conversation, tokens: int) -> str | None:
        """Why the conversation, of so many tokens, is not let through; None if it is."""
        if self._unwanted(conversation):
            return "in the file of ids to drop"
        for unit, low, high in self.limits:
            size = _size(conversation, unit, tokens)
            if low is not None and size < low:
                return f"under {low} {unit}"
            if high is not None and size > high:
                return f"over {high} {unit}"
        if self.filters.drop_duplicates and self._repeated(conversation):
            return "duplicate"
        return None

    def _unwanted(self, conversation: Conversation) -> bool:
        for key in ((conversation.source, conversation.id), (None, conversation.id)):
            if key in self.unwanted:
                self.unwanted[key] = True
                return True
        return False

    def _repeated(self, conversation: Conversation) -> bool:
        digest = content_digest(conversation)
        if digest in self.seen:
            return True
        self.seen.add(digest)
        return False

    def not_met(self) -> int:
        """How many of the ids to drop no conversation had."""
        return Counter(self.unwanted.values())[False]


def _size(conversation: Conversation, unit: str, tokens: int) -> int:
    if unit == "turns":
        return len(conversation.messages)
    if unit == "characters":
        return sum(len(message.content) for message in conversation.messages)
    return tokens


def content_digest(conversation: Conversation) -> bytes:
    """[16] the same for conversations with the same roles and texts, white space at ends aside."""
    digest = blake2b(digest_size=16)
    for message in conversation.messages:
        text = message.content.strip().encode()
        digest.update(f"{message.role} {len(text)} ".encode() + text)
    return digest.digest()


def read_ids(path: Path) -> Iterator[tuple[str | None, str]]:
    """(source or None, id) of each line that is not empty."""
    for number, line in enumerate(read_text(path).splitlines(), 1):
        text = line.strip()
        if not text.startswith("{"):
            if text:
                yield None, text
            continue
        try:
            row = json.loads(text)
        except ValueError:
            raise UserError("broken JSON", file=path, line=number) from None
        for one in row.get("members", [row]):
            identity, source = one.get("conversation", one.get("id")), one.get("source")
            if identity is None:
                raise UserError("names no conversation", file=path, line=number, field="id")
            yield None if source is None else str(source), str(identity)
