"""The one form that instruction data takes once it has left its source file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from cameleer.core.errors import UserError
from cameleer.core.jsonl import OnBad, read_jsonl

Role = Literal["system", "user", "assistant"]
ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: who speaks, and the text."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """A chat. `id` is unique within `source`; there is at least one message."""

    id: str
    source: str
    messages: tuple[Message, ...]

    def to_row(self) -> dict[str, Any]:
        """The JSON object that stands for it in a file."""
        messages = [{"role": turn.role, "content": turn.content} for turn in self.messages]
        return {"id": self.id, "source": self.source, "messages": messages}


def read_conversations(path: Path, on_bad: OnBad = None) -> Iterator[Conversation]:
    """Conversations of a JSONL file, streamed. `dataset` is read as `source` (Tülu's own files).

    Raises UserError with file, line and field for anything that is not a conversation, unless
    `on_bad` takes it.
    """
    for line, row in read_jsonl(path, on_bad):
        try:
            conversation = to_conversation(row, str(line - 1))
        except UserError as error:
            told = UserError(
                error.message, file=path, line=line, field=error.field, hint=error.hint
            )
            if on_bad is None:
                raise told from None
            on_bad(told)
        else:
            yield conversation


def to_conversation(row: dict[str, Any], default_id: str) -> Conversation:
    """A conversation from its JSON object; `default_id` serves where the row has no id."""
    turns = row.get("messages")
    if not isinstance(turns, list):
        raise UserError("is missing or not a list", field="messages")
    if not turns:
        raise UserError("is empty: a conversation has at least one message", field="messages")
    source = row.get("source") or row.get("dataset") or "unnamed"
    identity = row.get("id")
    messages = tuple(_to_message(turn, index) for index, turn in enumerate(turns))
    return Conversation(str(default_id if identity is None else identity), str(source), messages)


def is_conversation(row: dict[str, Any]) -> bool:
    """Whether a JSON object can be read as a conversation."""
    try:
        to_conversation(row, "")
    except UserError:
        return False
    return True


def _to_message(turn: Any, index: int) -> Message:
    if not isinstance(turn, dict):
        raise UserError("is not an object", field=f"messages.{index}")
    role, content = turn.get("role"), turn.get("content")
    if role not in ROLES:
        raise UserError(
            f"unknown role {role!r}",
            field=f"messages.{index}.role",
            hint=f"roles are {', '.join(ROLES)}",
        )
    if not isinstance(content, str):
        raise UserError("is missing or not text", field=f"messages.{index}.content")
    try:
        content.encode()
    except UnicodeEncodeError:
        raise UserError(
            "holds half of a surrogate pair, which is no character",
            field=f"messages.{index}.content",
            hint="write U+FFFD in its place",
        ) from None
    return Message(role, content)
