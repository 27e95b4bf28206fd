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
from collections.abc import Iterable, Iterator, Sequence
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
LONG = 1 << 21  # characters of prefixes that are read by pieces at once, or not at all


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
        found = self.piecewise(self.pieces, batch)
        left = [one for one, made in zip(batch, found, strict=True) if made is None]
        rest = iter(self.whole(left))
        return [next(rest) if made is None else made for made in found]

    def _compare(self, batch: list[Conversation], wanted: list[Masked]) -> None:
        """Take to reading by pieces, unless it differs for what was read whole before."""
        self.pieces = by_pieces(self.backend, self.eos)
        if self.pieces is not None:
            found = self.piecewise(self.pieces, batch)
            if any(made not in (None, one) for made, one in zip(found, wanted, strict=True)):
                warn("this tokenizer cuts texts in an unknown way: rendering is slower")
                self.pieces = None

    def whole(self, batch: Sequence[Conversation]) -> list[Masked]:
        """Ids and masks from one tokenisation of each whole text and its character offsets."""
        texts = [self.template.text(one.messages, self.eos) for one in batch]
        made = []
        for conversation, encoding in zip(batch, self.backend.encode_batch(texts), strict=True):
            ids, straddling = encoding.ids, 0
            if self.rule == "fixed":
                mask, straddling = self._offset_mask(conversation, ids, encoding.offsets)
            else:
                prefixes = self._prefixes(conversation.messages)
                lengths = (self._count(text) for pair in prefixes for text in pair)
                mask = self._prefix_mask(lengths, len(ids))
            made.append(Masked(array("I", ids).tobytes(), bytes(mask), straddling))
        return made

    def _count(self, text: str) -> int:
        return len(self.backend.encode(text)) if text else 0

    def piecewise(self, pieces: Pieces, batch: Sequence[Conversation]) -> list[Masked | None]:
        """The same by pieces, or None where that cannot be told."""
        if self.rule == "fixed":
            plans = [self._stretches(pieces, one.messages) for one in batch]
            found = iter(pieces.read([text for plan in plans for text in plan or ()]))
            return [
                None if plan is None else _alternating(pieces, list(islice(found, len(plan))))
                for plan in plans
            ]
        made, plans, size = list[Masked | None](), list[list[str] | None](), 0
        for number, one in enumerate(batch, 1):
            plans.append(self._texts(pieces, one.messages))
            size += sum(map(len, plans[-1] or ()))
            if size > LONG or number == len(batch):
                made += self._papers_masks(pieces, plans)
                plans, size = [], 0
        return made

    def _texts(self, pieces: Pieces, messages: Sequence[Message]) -> list[str] | None:
        """What the paper's rule tokenises: the whole text, and two prefixes for each question."""
        text = self.template.text(messages, self.eos)
        if pieces.refused and pieces.refuses(text):
            return None
        texts = [text]
        for prefixes in self._prefixes(messages):
            texts += prefixes
            if sum(map(len, texts)) > LONG:
                return None
        return texts

    def _papers_masks(
        self, pieces: Pieces, plans: Sequence[list[str] | None]
    ) -> Iterator[Masked | None]:
        texts = [text for plan in plans for text in plan or ()]
        ids = dict(zip(texts, pieces.whole(texts), strict=True))
        for plan in plans:
            if plan is None:
                yield None
                continue
            whole, *prefixes = plan
            lengths = (len(ids[text]) // WIDTH if text else 0 for text in prefixes)
            mask = self._prefix_mask(lengths, len(ids[whole]) // WIDTH)
            yield Masked(ids[whole], bytes(mask))

    def _stretches(self, pieces: Pieces, messages: Sequence[Message]) -> list[str] | None:
        """What is asked and what is answered, in turn, and what is asked at last.

        The end token behind every answer is left out.
        """
        if pieces.refused and pieces.refuses(self.template.text(messages, self.eos)):
            return None
        stretches, asked = list[str](), ""
        for text, learned in self.template.segments(messages, self.eos):
            if not learned:
                asked += text
                continue
            answer = text.removesuffix(self.eos)
            sure = not answer or not asked or is_cut(asked, answer)
            if not sure or answer == text or self.eos in asked or self.eos in answer:
                return None
            first = not stretches
            stretches.append(pieces.begun(asked, first=first))
            stretches.append(answer if asked else pieces.begun(answer, first=first))
            asked = ""
        if self.eos in asked:
            return None
        return [*stretches, pieces.begun(asked, first=not stretches)]

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

    def _prefixes(self, messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
        """For each message that is not the assistant's, the text before it and that to its end.

        The cue of an answer that follows belongs to the latter.
        """

        def prefix(number: int, cue: bool) -> str:
            return self.template.prefix(messages[:number], self.eos, cue=cue, strip=True)

        for index, message in enumerate(messages):
            if message.role != "assistant":
                following = messages[index + 1 : index + 2]
                cue = bool(following) and following[0].role == "assistant"
                yield prefix(index, False), prefix(index + 1, cue)

    def _prefix_mask(self, prefixes: Iterator[int], length: int) -> bytearray:
        """The paper's mask: messages other than the assistant's are masked between prefix lengths.

        prefixes: tokens of each prefix, two by two; length: of the whole. Lengths are those of
        prefixes tokenised on their own and cut at the limit, so a boundary can be off by a token
        where the tokenizer joins characters across it.
        """
        limit = self.max_tokens or length
        mask = bytearray(b"\1" * length)
        for before, upto in zip(prefixes, prefixes, strict=True):
            begin, end = min(before, limit), min(upto, limit)
            mask[begin:end] = bytes(max(0, min(end, length) - begin))
            if end >= limit:
                break
        return mask


def _alternating(pieces: Pieces, stretches: Sequence[bytes]) -> Masked:
    """Ids and mask from those of what was asked and what was answered, in turn."""
    ids, mask = [pieces.before], [bytes(len(pieces.before) // WIDTH)]
    for number, found in enumerate(stretches):
        ids.append(found)
        if number % 2:
            ids.append(pieces.end)
            mask.append(b"\1" * (len(found) // WIDTH + 1))
        else:
            mask.append(bytes(len(found) // WIDTH))
    ids.append(pieces.after)
    mask.append(bytes(len(pieces.after) // WIDTH))
    return Masked(b"".join(ids), b"".join(mask))


def _reaching(offsets: Sequence[tuple[int, int]], first: int, stop: int, place: int) -> int:
    """How many of the last tokens of offsets[first:stop] end behind `place`."""
    token = stop
    while token > first and offsets[token - 1][1] > place:
        token -= 1
    return stop - token


def require_end_token(tokenizer: Any) -> None:
    """Check that the tokenizer has an end-of-text token and reads its text as that one token."""
    eos, file = tokenizer.eos_token, tokenizer.name_or_path or None
    if eos is None:
        raise UserError(
            "the tokenizer has no end-of-text token",
            file=file,
            hint="set eos_token in tokenizer_config.json",
        )
    if not tokenizer.is_fast:
        raise UserError(
            "the tokenizer gives no character offsets", file=file, hint="use a fast tokenizer"
        )
    ids = tokenizer(f"a{eos}\n", add_special_tokens=False)["input_ids"]
    if tokenizer.eos_token_id not in ids:
        raise UserError(
            f"the tokenizer splits its own end token {eos!r}",
            file=file,
            hint="mark it as special in tokenizer_config.json",
        )
