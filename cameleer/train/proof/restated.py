"""What `train proof` compares training with: text, mask and weights, restated without its code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cameleer.chat.conversation import Conversation
from cameleer.train.config import Reduction


@dataclass(frozen=True)
class Restated:
    """A conversation, and what it is as text and tokens by the restatement.

    ids: [tokens]; learned: [tokens] whether it is in the loss; answers: texts that are learned.
    """

    conversation: Conversation
    text: str
    ids: list[int]
    learned: list[bool]
    answers: list[str]

    @property
    def tokens(self) -> int:
        return len(self.ids)

    def to_row(self) -> dict[str, Any]:
        return self.conversation.to_row()


def restated(conversation: Conversation, tokenizer: Any, jinja: str) -> Restated:
    """The conversation as the template's Jinja text; what is learned ends where a turn's text ends.

    An answer that the text does not have there is not learned, so that the mask will differ.
    """
    turns = [{"role": m.role, "content": m.content} for m in conversation.messages]

    def upto(number: int) -> str:
        text: str = tokenizer.apply_chat_template(
            turns[:number], chat_template=jinja, tokenize=False
        )
        return text.rstrip()

    text, spans, answers = upto(len(turns)), [], []
    for number, message in enumerate(conversation.messages, 1):
        if message.role == "assistant":
            answers.append(message.content.strip() + tokenizer.eos_token)
            end = len(upto(number))
            if text[:end].endswith(answers[-1]):
                spans.append((end - len(answers[-1]), end))
    encoded = tokenizer(text, return_offsets_mapping=True)
    learned = [
        any(begin <= at and to <= end for begin, end in spans) and at < to
        for at, to in encoded["offset_mapping"]
    ]
    learned[0] = False
    return Restated(conversation, text, encoded["input_ids"], learned, answers)


def weights_by_hand(
    rows: Sequence[Sequence[int]], counts: Sequence[int], reduction: Reduction
) -> dict[int, float]:
    """What a supervised token of each conversation weighs; rows: conversations of micro-batches."""
    weights = {}
    for row in rows:
        for index in row:
            if reduction == "token":
                weights[index] = 1 / sum(counts)
            elif reduction == "conversation":
                weights[index] = 1 / len(counts) / counts[index]
            else:
                weights[index] = 1 / len(rows) / sum(counts[other] for other in row)
    return weights


def stretches(ids: Sequence[int], mask: Sequence[bool]) -> list[list[int]]:
    """The tokens of each unbroken stretch that is learned."""
    found: list[list[int]] = []
    before = False
    for token, learned in zip(ids, mask, strict=True):
        if learned and not before:
            found.append([])
        if learned:
            found[-1].append(token)
        before = learned
    return found
