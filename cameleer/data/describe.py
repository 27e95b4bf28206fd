"""Table 1 of the paper for a file of conversations: how many, how long, how many rounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from cameleer.chat.conversation import Conversation, read_conversations
from cameleer.chat.render import BATCH
from cameleer.core.console import progress
from cameleer.core.errors import UserError
from cameleer.data.source import all_sources

TABLE = ("instances", "rounds", "prompt_tokens", "completion_tokens")


def describe(path: Path, tokenizer: Any) -> dict[str, Any]:
    """The paper's statistics of one file, streamed.

    instances: conversations; rounds: mean of messages / 2; prompt_tokens and completion_tokens:
    means over all user and all assistant messages, without special tokens (paper, Table 1; its
    lengths are in LLaMA tokens). A mean over no message is 0. source: that of all conversations, or
    None if they have several; paper: the same statistics as the paper states them, or None.
    """
    instances, messages = 0, 0
    tokens, texts = {"user": 0, "assistant": 0}, {"user": 0, "assistant": 0}
    sources: Counter[str] = Counter()
    for batch in batches(path):
        instances += len(batch)
        messages += sum(len(conversation.messages) for conversation in batch)
        sources.update(conversation.source for conversation in batch)
        for role in tokens:
            lengths = token_counts(batch, role, tokenizer)
            tokens[role] += sum(lengths)
            texts[role] += len(lengths)
    if not instances:
        raise UserError("holds no conversation", file=path)
    return {
        "instances": instances,
        "rounds": messages / instances / 2,
        "prompt_tokens": tokens["user"] / max(1, texts["user"]),
        "completion_tokens": tokens["assistant"] / max(1, texts["assistant"]),
        **paper_beside(sources),
    }


def batches(path: Path) -> Iterator[list[Conversation]]:
    """The file's conversations, streamed in batches, with a progress bar."""
    stream = read_conversations(path)
    with progress(f"reading {path.name}", _lines(path)) as ticker:
        while batch := list(islice(stream, BATCH)):
            yield batch
            ticker.advance(len(batch))


def _lines(path: Path) -> int:
    """Lines of a file, for the progress bar; a file that cannot be read is told by its reader."""
    if not path.is_file():
        return 0
    with path.open("rb") as handle:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: handle.read(1 << 20), b""))


def paper_beside(sources: Counter[str]) -> dict[str, Any]:
    """`source`, if there is one only, and the `paper`'s own row of Table 1, if it has one."""
    source = next(iter(sources)) if len(sources) == 1 else None
    known = all_sources().get(source) if source else None
    paper = (
        {name: getattr(known.CARD, name) for name in TABLE}
        if known and known.CARD.instances
        else None
    )
    return {"source": source, "paper": paper}


def beside_paper(row: dict[str, Any]) -> dict[str, Any]:
    """A row of Table 1 as people read it: "1,996 / 52,002" where the paper has a number too."""
    shown = {"file": row["file"]} if "file" in row else {}
    for name in TABLE:
        form = "{:,}" if name == "instances" else "{:.1f}"
        values = [row[name], *([row["paper"][name]] if row["paper"] else [])]
        shown[name] = " / ".join(form.format(value) for value in values)
    return shown


def token_counts(batch: list[Conversation], role: str, tokenizer: Any) -> list[int]:
    """Tokens of each message of a role, without special tokens."""
    contents = [
        message.content
        for conversation in batch
        for message in conversation.messages
        if message.role == role
    ]
    if not contents:
        return []
    encoded = tokenizer(
        contents, add_special_tokens=False, return_attention_mask=False, verbose=False
    )
    return [len(ids) for ids in encoded["input_ids"]]
