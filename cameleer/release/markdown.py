"""Markdown of cards: text of others stays text, whatever it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml


def front_matter(value: Any) -> str:
    """What stands above a card for machines, in YAML."""
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{text}---"


def bullets(texts: Sequence[str]) -> str:
    """A list."""
    return "\n".join(f"- {plain(text)}" for text in texts)


def pairs(rows: Sequence[tuple[str, str]], head: tuple[str, str]) -> str:
    """A table of names and values."""
    return table(head, rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; text is made plain."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(plain(str(cell)) for cell in line)} |" for line in lines)


def plain(text: str) -> str:
    """Text that stays in its cell and brings no markup of its own but code."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
