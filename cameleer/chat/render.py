"""From conversations to token ids with the loss mask, in one tokenisation of the whole text.

Rule `fixed` (default): a token is supervised if it lies wholly inside an assistant's content or its
end token: told by the character offsets of that one tokenisation, or, several times faster and with
the same result, by counting tokens where the tokenizer surely cuts the text (see `pieces`).

Rule `paper`: the mask as the paper's code made it (its section 3.2, `encode_with_messages_format`):
boundaries are token counts of tokenised prefixes, and the line break that follows the end token of
an assistant turn that is not the last is in the loss.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from cameleer.chat.conversation import Conversation, Message
from cameleer.chat.pieces import Pieces, by_pieces, is_cut
from cameleer.chat.template import Template
from cameleer.core.console import warn
from cameleer.core.errors import UserError

Rule = Literal["paper", "fixed"]
BATCH = 256  # conversations tokenised in one call: enough to use every core, little memory
FIRST = 32  # conversations that are read both whole and by pieces, before pieces are trusted
WIDTH = 4  # bytes of a token id


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


@dataclass(frozen=True, slots=True)
class RenderedBytes:
    """The same without an object for each token: ids as native uint32, supervised as bytes."""

    id: str
    source: str
    ids: bytes
    supervised: bytes
    cut: int = 0


@dataclass(frozen=True, slots=True)
class Masked:
    """Token ids (native uint32) and mask (bytes 0 and 1) of a conversation, not yet cut.

    straddling: tokens that begin in the prompt and end in the answer, hence unsupervised.
    """

    ids: bytes
    mask: bytes
    straddling: int = 0


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
    renderer = Renderer(tokenizer, template, max_tokens=max_tokens, rule=rule)
    for one in renderer.render(conversations, Counter() if counts is None else counts):
        ids = array("I", one.ids).tolist()
        yield Rendered(one.id, one.source, ids, list(one.supervised), one.cut)


class Renderer:
    """A tokenizer, a template and a rule, ready to render; can be sent to other processes.

    The first batch is tokenised whole; then, if the tokenizer can be read by pieces and gives the
    same for that batch so, all others are. What it has learned stays with it from call to call.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: Template,
        *,
        max_tokens: int | None = None,
        rule: Rule = "fixed",
    ) -> None:
        require_end_token(tokenizer)
        self.backend = tokenizer.backend_tokenizer
        self.backend.no_truncation()
        self.backend.no_padding()
        self.eos: str = tokenizer.eos_token
        self.eos_id: int = tokenizer.eos_token_id
        self.template, self.max_tokens, self.rule = template, max_tokens, rule
        self.first: tuple[list[Conversation], list[Masked]] | None = None
        self.pieces: Pieces | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"first": None, "pieces": None}

    def render(
        self, conversations: Iterable[Conversation], counts: Counter[str]
    ) -> Iterator[RenderedBytes]:
        """What `render` gives, as bytes; see there."""
        stream = iter(conversations)
        while batch := list(islice(stream, BATCH if self.first else FIRST)):
            for conversation, made in zip(batch, self.masked(batch), strict=True):
                ids, mask = made.ids, made.mask
                counts["read"] += 1
                counts["straddling"] += made.straddling
                cut = max(0, len(mask) - self.max_tokens) if self.max_tokens else 0
                counts["cut"] += cut > 0
                counts["cut_tokens"] += cut
                if cut:
                    ids, mask = ids[: -cut * WIDTH], mask[:-cut]
                if 1 not in mask:
                    counts["dropped_no_supervised"] += 1
                    continue
                counts["kept"] += 1
                yield RenderedBytes(conversation.id, conversation.source, ids, mask, cut)

    def masked(self, batch: list[Conversation]) -> list[Masked]:
        """Ids and masks of some conversations, by pieces where that is known to be the same."""
        if self.first is None:
            self.first = batch, self.whole(batch)
            return self.first[1]
        if self.first[0]:
            self._compare(*self.first)
            self.first = [], []
        if self.pieces is None:
            return self.whole(batch)
        found = [self.piecewise(self.pieces, one.messages) for one in batch]
        left = [one for one, made in zip(batch, found, strict=True) if made is None]
        rest = iter(self.whole(left))
        return [next(rest) if made is None else made for made in found]

    def _compare(self, batch: list[Conversation], wanted: list[Masked]) -> None:
        """Take to reading by pieces, unless it differs for what was read whole before."""
        self.pieces = by_pieces(self.backend, self.eos)
        if self.pieces is not None:
            found = [self.piecewise(self.pieces, one.messages) for one in batch]
            if any(made not in (None, one) for made, one in zip(found, wanted, strict=True)):
                warn("this tokenizer cuts texts in an unknown way: rendering is slower")
                self.pieces = None

    def whole(self, batch: list[Conversation]) -> list[Masked]:
        """Ids and masks from one tokenisation of each whole text and its character offsets."""
        texts = [self.template.text(one.messages, self.eos) for one in batch]
        made = []
        for conversation, encoding in zip(batch, self.backend.encode_batch(texts), strict=True):
            ids = encoding.ids
            if self.rule == "fixed":
                mask, straddling = self._offset_mask(conversation, ids, encoding.offsets)
            else:
                mask, straddling = (
                    self._prefix_mask(conversation.messages, len(ids), self._count),
                    0,
                )
            made.append(Masked(array("I", ids).tobytes(), bytes(mask), straddling))
        return made

    def _count(self, text: str) -> int:
        return len(self.backend.encode(text))

    def piecewise(self, pieces: Pieces, messages: Sequence[Message]) -> Masked | None:
        """The same by pieces, or None where that cannot be told."""
        if pieces.refused and pieces.refuses(self.template.text(messages, self.eos)):
            return None
        if self.rule == "fixed":
            return self._stretches(pieces, messages)

        def count(text: str) -> int:
            return len(pieces.whole(text)) // WIDTH

        ids = pieces.whole(self.template.text(messages, self.eos))
        mask = self._prefix_mask(messages, len(ids) // WIDTH, count)
        return Masked(ids, bytes(mask))

    def _stretches(self, pieces: Pieces, messages: Sequence[Message]) -> Masked | None:
        """Ids and mask stretch by stretch: what is asked, what is answered, the end token."""
        ids, mask = [pieces.before], [bytes(len(pieces.before) // WIDTH)]

        def add(text: str, learned: bytes, begins: bool) -> None:
            if text:
                ids.append(pieces.stretch(text, begins=begins, first=len(ids) == 1))
                mask.append(learned * (len(ids[-1]) // WIDTH))

        asked = ""
        for text, learned in self.template.segments(messages, self.eos):
            if not learned:
                asked += text
                continue
            answer = text.removesuffix(self.eos)
            sure = not answer or not asked or is_cut(asked, answer)
            if not sure or answer == text or self.eos in asked or self.eos in answer:
                return None
            add(asked, b"\0", True)
            add(answer, b"\1", not asked)
            ids.append(pieces.end)
            mask.append(b"\1")
            asked = ""
        if self.eos in asked:
            return None
        add(asked, b"\0", True)
        ids.append(pieces.after)
        mask.append(bytes(len(pieces.after) // WIDTH))
        return Masked(b"".join(ids), b"".join(mask))

    def _offset_mask(
        self, conversation: Conversation, ids: Sequence[int], offsets: Sequence[tuple[int, int]]
    ) -> tuple[bytearray, int]:
        """1 for each token whose characters all lie in a learned stretch, and the straddling ones.

        Tokens that stand for no character are supervised only inside a stretch, where they are
        blanks that the tokenizer trims off its offsets; at an edge they are what it adds of its
        own. Offsets are in order but for tokens added at the end of the text, which have (0, 0).
        """
        mask, straddling, position, done = bytearray(len(ids)), 0, 0, 0
        own = len(ids)
        while own and offsets[own - 1] == (0, 0):
            own -= 1
        for text, learned in self.template.segments(conversation.messages, self.eos):
            position, begin = position + len(text), position
            if not learned:
                continue
            token = bisect_left(offsets, (begin, begin), done, own)
            straddling += _reaching(offsets, done, token, begin)
            while token < own and offsets[token] == (begin, begin):
                token += 1
            done = bisect_left(offsets, (position, position), token, own)
            last = done - _reaching(offsets, token, done, position)
            if last <= token or ids[last - 1] != self.eos_id:
                raise UserError(
                    f"the end token of an answer in conversation '{conversation.id}' was merged "
                    "with its neighbours by the tokenizer",
                    hint="mark the end token as special in tokenizer_config.json",
                )
            mask[token:last] = b"\1" * (last - token)
        return mask, straddling

    def _prefix_mask(
        self, messages: Sequence[Message], length: int, count: Callable[[str], int]
    ) -> bytearray:
        """The paper's mask: messages other than the assistant's are masked between prefix lengths.

        length: tokens of the whole; count: tokens of a text. Lengths are those of prefixes
        tokenised on their own and cut at the limit, so a boundary can be off by a token where the
        tokenizer joins characters across it.
        """
        limit = self.max_tokens or length

        def prefix_tokens(number: int, cue: bool) -> int:
            text = self.template.prefix(messages[:number], self.eos, cue=cue, strip=True)
            return min(count(text), limit)

        mask = bytearray(b"\1" * length)
        for index, message in enumerate(messages):
            if message.role == "assistant":
                continue
            begin = prefix_tokens(index, False) if index else 0
            cue = index + 1 < len(messages) and messages[index + 1].role == "assistant"
            end = prefix_tokens(index + 1, cue)
            mask[begin:end] = bytes(max(0, min(end, length) - begin))
            if end >= limit:
                break
        return mask


def _reaching(offsets: Sequence[tuple[int, int]], first: int, stop: int, place: int) -> int:
    """How many of the last tokens of offsets[first:stop] end behind `place`."""
    token = stop
    while token > first and offsets[token - 1][1] > place:
        token -= 1
    return stop - token


def require_end_token(tokenizer: Any) -> None:
    """Check that the tokenizer has an end-of-text token and reads its text as that one token."""
    eos = tokenizer.eos_token
    if not eos:
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
