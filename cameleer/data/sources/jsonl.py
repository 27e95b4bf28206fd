"""Your own conversations, in files of any name: JSON lines, or JSON files that are one array.

Origin: you. Licence: yours. A record is read by the keys that it has, the first of these that fits:
`messages` (or `conversations`, `conversation`), a list of turns, each `role` and `content` or
ShareGPT's `from` and `value`; or `prompt` with `completion` or `response`, each a text or a list of
turns. A text `system` goes before them. Roles are user (also human), assistant (also gpt, chatgpt,
model, bot) and system. Files may be packed with gzip.

`id` and `source` (or `dataset`) are kept, whole-number ids as text; without them they are
`<file>_<number>` and the file's name. An id that was there before gets a number, counted.

Rule `paper` leaves texts as they are. Rule `fixed` strips them, cuts empty system messages and
whatever follows the last answer, and drops conversations without an answer or with an empty
message; all of it counted.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cameleer.chat.conversation import Message
from cameleer.data.encode import Row, dialogue
from cameleer.data.own import NATIVE, own_name, own_rows
from cameleer.data.source import Card, Convert, Made

CARD = Card(
    title="Your conversations (JSON)",
    origin="",
    licence="",
    citation="",
    native=NATIVE,
    any_file=True,
)

LISTS = ("messages", "conversations", "conversation")
ANSWERS = ("completion", "response")
ROLES = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "system": "system",
}


def convert(job: Convert) -> Iterator[Made]:
    """The conversations by file name, in the files' order."""

    def make(row: Row) -> Iterator[Made]:
        identity, source = own_name(job, row)
        yield dialogue(job, identity, source, _messages(job, row))

    return own_rows(job, CARD).each(make)


def _messages(job: Convert, row: Row) -> list[Message]:
    there = row.values.keys()
    before = [Message("system", row.text(job, "system"))] if row.values.get("system") else []
    for field in LISTS:
        if field in there:
            return before + _turns(job, row, field)
    answer = next((field for field in ANSWERS if field in there), None)
    if "prompt" in there and answer:
        return before + _said(job, row, "prompt", "user") + _said(job, row, answer, "assistant")
    hint = "`cameleer data convert alpaca` reads instruction, input and output"
    wanted = "messages, conversations, or prompt with completion"
    raise row.error(f"has none of {wanted}", hint=hint if "instruction" in there else None)


def _said(job: Convert, row: Row, field: str, role: str) -> list[Message]:
    if isinstance(row.values[field], list):
        return _turns(job, row, field)
    return [Message(role, row.text(job, field))]


def _turns(job: Convert, row: Row, field: str) -> list[Message]:
    turns = row.values[field]
    if not isinstance(turns, list):
        raise row.error("is not a list", field)
    return [_turn(job, row, turn, f"{field}.{place}") for place, turn in enumerate(turns)]


def _turn(job: Convert, row: Row, turn: Any, field: str) -> Message:
    if not isinstance(turn, dict):
        raise row.error("is not an object", field)
    who, what = ("role", "content") if "role" in turn else ("from", "value")
    speaker, text = turn.get(who), turn.get(what)
    role = ROLES.get(speaker.lower()) if isinstance(speaker, str) else None
    if role is None:
        known = f"known are {', '.join(ROLES)}"
        raise row.error(f"unknown role {speaker!r:.40}", f"{field}.{who}", known)
    if not isinstance(text, str):
        raise row.error("is missing or not text", f"{field}.{what}")
    return Message(role, replace(row, values=turn).text(job, what))
