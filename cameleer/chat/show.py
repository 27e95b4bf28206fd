"""Showing what is learned: a rendered conversation on the terminal, or many as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any

from rich.text import Text

from cameleer.chat.render import Rendered
from cameleer.core.console import out

OPEN, CLOSE = "⟦", "⟧"  # around what is learned, where there is no colour
UNFINISHED = "\ufffd"  # what a decoder writes for bytes that are not yet a character
LONGEST = 8  # tokens after which bytes that make no character are shown as they are


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens that make up whole characters together; mostly one. `first`: its place, from 0."""

    text: str
    first: int
    ids: tuple[int, ...]
    supervised: bool


def pieces(rendered: Rendered, tokenizer: Any) -> list[Piece]:
    """The text that each token stands for, as it reads after the token before it.

    Bytes of one character in several tokens make one piece, unless only some are supervised.
    """
    found: list[Piece] = []
    before: list[int] = []  # a token alone reads otherwise than one that follows another
    first, total = 0, len(rendered.ids)
    for end in range(1, total + 1):
        ids, learned = rendered.ids[first:end], rendered.supervised[first]
        lead = _decode(tokenizer, before)
        text = _decode(tokenizer, before + ids)[len(lead) :]
        waits = text.endswith(UNFINISHED) and len(ids) < LONGEST
        if waits and end < total and rendered.supervised[end] == learned:
            continue
        found.append(Piece(text, first, tuple(ids), bool(learned)))
        before, first = ids, end
    return found


def _decode(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def _visible(text: str) -> str:
    """Control characters as pictures: texts come from strangers, terminals and browsers obey."""
    return "".join(
        chr(0x2400 + ord(sign))
        if ord(sign) < 32 and sign not in "\n\t"
        else "\u2421"
        if ord(sign) == 127
        else sign
        for sign in text
    )


def summary(rendered: Rendered) -> str:
    """One line: whose it is, how many tokens, how many of them are learned."""
    learned, total = sum(rendered.supervised), len(rendered.ids)
    cut = f", {rendered.cut} cut off" if rendered.cut else ""
    share = f" ({learned / total:.0%})" if total else ""
    return f"{rendered.source} {rendered.id}: {total} tokens, {learned} learned{share}{cut}"


def show_text(rendered: Rendered, tokenizer: Any, *, plain: bool | None = None) -> Text:
    """The conversation for the terminal: what is learned is green and underlined.

    plain: mark it with ⟦ ⟧ instead, as is done by default where output is not a terminal.
    """
    plain = not out.is_terminal if plain is None else plain
    shown = Text()
    shown.append(summary(rendered) + "\n", style=None if plain else "bold")
    for learned, run in groupby(pieces(rendered, tokenizer), lambda piece: piece.supervised):
        text = _visible("".join(piece.text for piece in run))
        if learned and plain:
            text = f"{OPEN}{text}{CLOSE}"
        shown.append(text, style="green underline" if learned and not plain else None)
    return shown


def show_html(rendered: Sequence[Rendered], tokenizer: Any) -> str:
    """One self-contained page; every token says its place, id and characters when pointed at."""
    tokens = sum(len(one.ids) for one in rendered)
    learned = sum(sum(one.supervised) for one in rendered)
    cut = sum(one.cut > 0 for one in rendered)
    facts = (
        f"{len(rendered)} conversations, {tokens} tokens, {learned} learned "
        f"({learned / max(1, tokens):.0%}), {cut} cut at the limit"
    )
    body = "\n".join(_section(one, tokenizer) for one in rendered)
    return PAGE.replace("{{facts}}", facts).replace("{{body}}", body)


def _section(rendered: Rendered, tokenizer: Any) -> str:
    spans, at = [], 0
    for piece in pieces(rendered, tokenizer):
        begin, at = at, at + len(piece.text)
        last = piece.first + len(piece.ids) - 1
        place = f"{piece.first}" if last == piece.first else f"{piece.first}–{last}"
        ids = " ".join(map(str, piece.ids))
        title = f"token {place} · id {ids} · characters {begin}–{at}"
        text = escape(_visible(piece.text)).replace("\n", '<i aria-hidden="true">↵</i>\n')
        kind = ' class="l"' if piece.supervised else ""
        spans.append(f'<span{kind} title="{title}">{text}</span>')
    name = escape(_visible(summary(rendered)))
    return f"<section><h2>{name}</h2>\n<pre>{''.join(spans)}</pre></section>"


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>What is learned</title>
<style>
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --faint: #69707a;
  --line: #d5d9df; --learned: #c9efd3; --learned-line: #1a7f37; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --paper: #14171b; --faint: #9aa3ad;
  --line: #343a42; --learned: #16452a; --learned-line: #56d37c; } }
body { margin: 2rem auto; padding: 0 1rem; max-width: 60rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; } h2 { font-size: 1rem; margin: 2rem 0 .5rem; overflow-wrap: anywhere; }
pre { border: 1px solid var(--line); border-radius: 6px; padding: 1rem; margin: 0;
  font: 14px/1.7 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
.l { background: var(--learned); padding-bottom: 1px;
  border-bottom: 2px solid var(--learned-line); }
pre span:hover { outline: 1px solid var(--ink); }
pre i { color: var(--faint); font-style: normal; user-select: none; }
</style>
</head>
<body>
<h1>What is learned</h1>
<p>{{facts}}.</p>
<p><span class="l">Underlined on green</span>: in the loss. The rest is read, not learned.
Point at a token for its place, id and characters.</p>
{{body}}
</body>
</html>
"""
