"""Table 1 of the paper for a file of conversations: how many, how long, how many rounds."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from cameleer.chat.conversation import Conversation, read_conversations
from cameleer.chat.render import BATCH
from cameleer.core.errors import UserError


def describe(path: Path, tokenizer: Any) -> dict[str, float]:
    """The paper's statistics of one file, streamed.

    instances: conversations; rounds: mean of messages / 2; prompt_tokens and completion_tokens:
    means over all user and all assistant messages, without special tokens (paper, Table 1; its
    lengths are in LLaMA tokens). A mean over no message is 0.
    """
    instances, messages = 0, 0
    tokens, texts = {"user": 0, "assistant": 0}, {"user": 0, "assistant": 0}
    stream = read_conversations(path)
    while batch := list(islice(stream, BATCH)):
        instances += len(batch)
        messages += sum(len(conversation.messages) for conversation in batch)
        for role in tokens:
            lengths = _lengths(batch, role, tokenizer)
            tokens[role] += sum(lengths)
            texts[role] += len(lengths)
    if not instances:
        raise UserError("holds no conversation", file=path)
    return {
        "instances": instances,
        "rounds": messages / instances / 2,
        "prompt_tokens": tokens["user"] / max(1, texts["user"]),
        "completion_tokens": tokens["assistant"] / max(1, texts["assistant"]),
    }


def _lengths(batch: list[Conversation], role: str, tokenizer: Any) -> list[int]:
    """Tokens of each message of a role."""
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
