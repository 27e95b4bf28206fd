"""Showing what is learned of a conversation: on the terminal, or several as one HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from rich.text import Text

import cameleer
from cameleer.chat.conversation import Conversation
from cameleer.chat.render import Rule, render
from cameleer.chat.template import Template
from cameleer.core.console import out
from cameleer.core.page import page_template
from cameleer.core.text import name_of, sign_for, visible

OPEN, CLOSE = "⟦", "⟧"  # around what is learned, where there is no colour
UNFINISHED = "\ufffd"  # what a decoder writes for bytes that are not yet a character
LONGEST = 8  # tokens after which bytes that make no character are shown as they are
BREAK = '<b aria-hidden="true">↵</b>'
BEHIND = 400  # tokens shown of what a limit cuts off; the rest is counted

Fate = Literal["learned", "read", "cut"]
"""What becomes of a token: it is in the loss, only read, or does not fit into the limit."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A conversation as tokens, by both rules.

    ids: [tokens] all of them, those behind the limit too; fixed, paper: [tokens] 1 where the rule
    has the token in the loss; limit: tokens that are kept; answered: whether there is an answer.
    """

    id: str
    source: str
    rule: Rule
    ids: list[int]
    fixed: list[int]
    paper: list[int]
    limit: int
    answered: bool

    @property
    def mask(self) -> list[int]:
        return self.fixed if self.rule == "fixed" else self.paper

    @property
    def tokens(self) -> int:
        return min(len(self.ids), self.limit)

    @property
    def learned(self) -> int:
        return sum(self.mask[: self.limit])

    @property
    def cut(self) -> int:
        return len(self.ids) - self.tokens

    @property
    def cut_learned(self) -> int:
        return sum(self.mask[self.limit :])

    @property
    def differing(self) -> int:
        """Kept tokens that only one of the two rules learns."""
        pairs = zip(self.fixed[: self.limit], self.paper, strict=False)
        return sum(one != other for one, other in pairs)

    @property
    def trouble(self) -> str:
        """Why nothing is learned, or ""."""
        if self.learned:
            return ""
        return "its answers lie behind the limit" if self.answered else "it has no answer"

    def fate(self, token: int) -> Fate:
        if token >= self.limit:
            return "cut"
        return "learned" if self.mask[token] else "read"

    def learned_by(self, token: int) -> str:
        """ "paper" or "fixed" if only that rule learns the token, else ""."""
        if token >= self.limit or self.fixed[token] == self.paper[token]:
            return ""
        return "fixed" if self.fixed[token] else "paper"


def lay_out(
    conversations: Iterable[Conversation],
    tokenizer: Any,
    template: Template,
    *,
    max_tokens: int,
    rule: Rule = "fixed",
) -> Iterator[Shown]:
    """Each conversation whole, with what both rules learn of it; none is left out."""
    for conversation in conversations:
        masks: dict[str, list[int]] = {}
        ids: list[int] = []
        for one in ("fixed", "paper"):
            for rendered in render([conversation], tokenizer, template, rule=one):
                ids, masks[one] = list(rendered.ids), list(rendered.supervised)
        if not ids:  # rendering drops what has nothing to learn
            text = template.text(conversation.messages, tokenizer.eos_token)
            ids = list(tokenizer(text, verbose=False)["input_ids"])
        nothing = [0] * len(ids)
        yield Shown(
            conversation.id,
            conversation.source,
            rule,
            ids,
            masks.get("fixed", nothing),
            masks.get("paper", nothing),
            max_tokens,
            any(message.role == "assistant" for message in conversation.messages),
        )


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens that make up whole characters together; mostly one. `first`: its place, from 0."""

    text: str
    first: int
    ids: tuple[int, ...]


def pieces(shown: Shown, tokenizer: Any, count: int) -> list[Piece]:
    """The text of each of the first `count` tokens, as it reads after the token before it.

    Bytes of one character in several tokens make one piece, unless their fates differ.
    """
    found: list[Piece] = []
    before: list[int] = []  # a token alone reads otherwise than one that follows another
    first, total = 0, min(count, len(shown.ids))
    fates = [shown.fate(token) for token in range(total)]
    for end in range(1, total + 1):
        ids = shown.ids[first:end]
        lead = _decode(tokenizer, before)
        text = _decode(tokenizer, before + ids)[len(lead) :]
        waits = text.endswith(UNFINISHED) and len(ids) < LONGEST
        if waits and end < total and fates[end] == fates[first]:
            continue
        found.append(Piece(text, first, tuple(ids)))
        before, first = ids, end
    return found


def _decode(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def summary(shown: Shown) -> str:
    """One line: how many tokens, how many of them are learned, what is cut, where rules differ."""
    share = f" ({shown.learned / shown.tokens:.0%})" if shown.tokens else ""
    parts = [f"{shown.tokens:,} tokens, {shown.learned:,} learned{share}"]
    if shown.trouble:
        parts.append(f"nothing to learn: {shown.trouble}")
    if shown.cut:
        parts.append(
            f"{shown.cut:,} cut off at {shown.limit:,}, {shown.cut_learned:,} of them to be learned"
        )
    if shown.differing:
        parts.append(f"rules paper and fixed differ at {shown.differing:,}")
    return "; ".join(parts)


def show_text(shown: Shown, tokenizer: Any, *, plain: bool | None = None) -> Text:
    """The conversation for the terminal: what is learned is green and underlined.

    plain: mark it with ⟦ ⟧ instead, as is done by default where output is not a terminal.
    """
    plain = not out.is_terminal if plain is None else plain
    page = Text()
    head = f"{shown.source} {shown.id}: {summary(shown)}"
    page.append(visible(head) + "\n", style=None if plain else "bold")
    found = pieces(shown, tokenizer, shown.limit)
    for fate, run in groupby(found, lambda piece: shown.fate(piece.first)):
        text = visible("".join(piece.text for piece in run))
        if fate == "learned" and plain:
            text = f"{OPEN}{text}{CLOSE}"
        page.append(text, style="green underline" if fate == "learned" and not plain else None)
    return page


def show_html(conversations: Sequence[Shown], tokenizer: Any, about: str = "") -> str:
    """One self-contained page that runs no script; `about` says in words how it was made."""
    page = page_template(Path(__file__).with_name("show.html.jinja"), visible=visible)
    return page.render(  # type: ignore[no-any-return]
        version=cameleer.__version__,
        about=about,
        rows=[(one, summary(one), _body(one, tokenizer)) for one in conversations],
        behind=BEHIND,
        rule=conversations[0].rule,
        limit=conversations[0].limit,
    )


def _body(shown: Shown, tokenizer: Any) -> dict[str, Any]:
    """The tokens of a conversation as HTML: those that are kept, and some of those that are cut."""
    special = set(tokenizer.all_special_ids)
    kept: list[str] = []
    cut: list[str] = []
    at = 0
    for piece in pieces(shown, tokenizer, shown.limit + BEHIND):
        begin, at = at, at + len(piece.text)
        span = _span(shown, piece, begin, special)
        (kept if piece.first < shown.limit else cut).append(span)
    return {
        "kept": "".join(kept),
        "cut": "".join(cut),
        "unshown": max(0, shown.cut - BEHIND),
    }


def _span(shown: Shown, piece: Piece, begin: int, special: set[int]) -> str:
    last = piece.first + len(piece.ids) - 1
    place = f"{piece.first}" if last == piece.first else f"{piece.first}–{last}"
    ids = " ".join(map(str, piece.ids))
    fate = shown.fate(piece.first)
    by = next(filter(None, map(shown.learned_by, range(piece.first, last + 1))), "")
    kinds = {"learned": "l", "read": "", "cut": ""}[fate], "x" * (piece.ids[0] in special), by
    title = f"token {place} · id {ids} · characters {begin}–{begin + len(piece.text)} · {fate}"
    if by:
        title += f" by rule {by} only" if fate == "learned" else f", learned by rule {by}"
    names = " ".join(filter(None, kinds))
    kind = f' class="{names}"' if names else ""
    text = piece.text.removesuffix("\n")  # the break comes last, behind what is written on a token
    broken = "\n" if text != piece.text else ""
    sign = BREAK if broken else ""
    return f'<span{kind} title="{title}" data-i="{ids}">{markup(text)}{sign}</span>{broken}'


def markup(text: str) -> str:
    """Text as HTML in which white space, control and invisible characters can be seen."""
    return "".join(map(_sign, text))


def _sign(character: str) -> str:
    if character == " ":
        return "<i> </i>"  # a dot, on demand
    if character == "\n":
        return BREAK + character
    if character == "\t":
        return f'<b aria-hidden="true">⇥</b>{character}'
    sign = "⍽" if character.isspace() and character.isprintable() else sign_for(character)
    sign = sign or ("⍽" if character.isspace() else "")
    if sign:
        return f'<u title="{escape(name_of(character))}">{sign}</u>'
    return escape(character)
