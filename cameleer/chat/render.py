"""From conversations to token ids with the loss mask, in one tokenisation of the whole text.

Rule `fixed` (default): a token is supervised if it lies wholly inside an assistant's content or its
end token, told by the character offsets of that one tokenisation.

Rule `paper`: the mask as the paper's code made it (its section 3.2, `encode_with_messages_format`):
boundaries are token counts of tokenised prefixes, and the line break that follows the end token of
an assistant turn that is not the last is in the loss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from cameleer.chat.conversation import Conversation
from cameleer.chat.template import Template
from cameleer.core.errors import UserError

Rule = Literal["paper", "fixed"]
BATCH = 256  # conversations tokenised in one call: enough to use every core, little memory


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as tokens.

    ids: [tokens] token ids; supervised: [tokens] 1 where the token is in the loss, else 0.
    cut: tokens that did not fit into the limit.
    """

    id: str
    source: str
    ids: list[int]
    supervised: list[int]
    cut: int = 0


def render(
    conversations: Iterable[Conversation],
    tokenizer: Any,
    template: Template,
    *,
    max_tokens: int | None = None,
    rule: Rule = "fixed",
    counts: Counter[str] | None = None,
) -> Iterator[Rendered]:
    """Token ids and loss mask of each conversation, in order, streamed.

    max_tokens: longer conversations are cut there, as in the paper (its Appendix D).
    counts: if given, counts `read`, `kept`, `cut` (conversations), `cut_tokens`,
    `dropped_no_supervised` (nothing left to learn) and `straddling` (tokens that begin in the
    prompt and end in the answer, hence unsupervised).

    Raises UserError if the tokenizer has no end token, or does not keep it whole (thread #113).
    """
    counts = Counter() if counts is None else counts
    require_end_token(tokenizer)
    stream = iter(conversations)
    while batch := list(islice(stream, BATCH)):
        texts = [template.text(item.messages, tokenizer.eos_token) for item in batch]
        encoded = tokenizer(texts, return_offsets_mapping=True, verbose=False)
        for index, conversation in enumerate(batch):
            ids: list[int] = encoded["input_ids"][index]
            offsets = encoded["offset_mapping"][index]
            if rule == "fixed":
                supervised = _offset_mask(conversation, tokenizer, template, ids, offsets, counts)
            else:
                supervised = _prefix_mask(conversation, tokenizer, template, ids, max_tokens)
            counts["read"] += 1
            cut = max(0, len(ids) - max_tokens) if max_tokens else 0
            counts["cut"] += cut > 0
            counts["cut_tokens"] += cut
            if cut:
                ids, supervised = ids[:max_tokens], supervised[:max_tokens]
            if not any(supervised):
                counts["dropped_no_supervised"] += 1
                continue
            counts["kept"] += 1
            yield Rendered(conversation.id, conversation.source, ids, supervised, cut)


def require_end_token(tokenizer: Any) -> None:
    """Check that the tokenizer has an end-of-text token and reads its text as that one token."""
    eos = tokenizer.eos_token
    if eos is None:
        raise UserError(
            "the tokenizer has no end-of-text token", hint="set eos_token in its folder"
        )
    if not tokenizer.is_fast:
        raise UserError("the tokenizer gives no character offsets", hint="use a fast tokenizer")
    ids = tokenizer(f"a{eos}\n", add_special_tokens=False)["input_ids"]
    if tokenizer.eos_token_id not in ids:
        raise UserError(
            f"the tokenizer splits its own end token {eos!r}",
            hint="mark it as special in tokenizer_config.json",
        )


def _offset_mask(
    conversation: Conversation,
    tokenizer: Any,
    template: Template,
    ids: Sequence[int],
    offsets: Sequence[tuple[int, int]],
    counts: Counter[str],
) -> list[int]:
    """1 for each token whose characters all lie in a learned stretch of the text.

    Tokens that stand for no character are supervised only inside a stretch, where they are blanks
    that the tokenizer trims off its offsets; at an edge they are what it adds of its own.
    """
    supervised = [0] * len(ids)
    position, token = 0, 0
    for text, learned in template.segments(conversation.messages, tokenizer.eos_token):
        position, begin = position + len(text), position
        if not learned:
            continue
        while token < len(ids) and offsets[token][0] < begin:
            counts["straddling"] += offsets[token][1] > begin
            token += 1
        last = -1
        while token < len(ids) and offsets[token][0] < position:
            start, end = offsets[token]
            # A token that the tokenizer adds at the end of the text stands at (0, 0).
            if begin <= start and end <= position and (start < end or begin < start):
                supervised[token], last = 1, token
            token += 1
        if last < 0 or ids[last] != tokenizer.eos_token_id:
            raise UserError(
                f"the end token of an answer in conversation '{conversation.id}' was merged with "
                "its neighbours by the tokenizer",
                hint="mark the end token as special in tokenizer_config.json",
            )
    return supervised


def _prefix_mask(
    conversation: Conversation,
    tokenizer: Any,
    template: Template,
    ids: Sequence[int],
    max_tokens: int | None,
) -> list[int]:
    """The paper's mask: every message that is not the assistant's is masked between prefix lengths.

    Lengths are those of prefixes tokenised on their own and cut at the limit, so a boundary can be
    off by a token where the tokenizer joins characters across it.
    """
    messages, limit = conversation.messages, max_tokens or len(ids)

    def prefix_tokens(count: int, cue: bool) -> int:
        text = template.prefix(messages[:count], tokenizer.eos_token, cue=cue, strip=True)
        return min(len(tokenizer(text, verbose=False)["input_ids"]), limit)

    supervised = [1] * len(ids)
    for index, message in enumerate(messages):
        if message.role == "assistant":
            continue
        begin = prefix_tokens(index, False) if index else 0
        cue = index + 1 < len(messages) and messages[index + 1].role == "assistant"
        end = prefix_tokens(index + 1, cue)
        supervised[begin:end] = [0] * (min(end, len(ids)) - min(begin, len(ids)))
        if end >= limit:
            break
    return supervised
