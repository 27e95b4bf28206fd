"""Which tokens of a choice are scored, and which tokens they follow."""

from __future__ import annotations

from typing import Any

from cameleer.core.errors import UserError

Window = tuple[list[int], list[int]]
"""Tokens that are given, and the tokens after them that are scored."""


def windows(tokenizer: Any, prompt: str, choice: str, room: int | None) -> list[Window]:
    """What is to be scored where all tokens of a choice count; their sum is its log-probability.

    The choice's tokens are those of prompt + choice beyond those of the prompt. After an empty
    prompt they follow the token that the tokenizer starts texts with (where it has none, the one
    that it ends them with), and a text longer than `room` tokens is scored in windows, each as long
    as fits: so does lm-eval. One window in all other cases. Raises UserError for a choice that has
    no tokens of its own.
    """
    if not prompt:
        ids = tokenizer(choice, add_special_tokens=False, verbose=False)["input_ids"]
        start = tokenizer.bos_token_id
        return _rolling(ids, tokenizer.eos_token_id if start is None else start, room)
    given = tokenizer(prompt, verbose=False)["input_ids"]
    whole = tokenizer(prompt + choice, verbose=False)["input_ids"]
    if len(whole) <= len(given):
        raise UserError(f"the choice {choice!r} adds no token to its prompt")
    return [(whole[: len(given)], whole[len(given) :])]


def _rolling(ids: list[int], start: int, room: int | None) -> list[Window]:
    """Windows of at most `room` tokens (given and scored, but the last one) over a whole text.

    The last window is filled up with tokens that were scored before, as its context.
    """
    size = len(ids) if room is None else room
    found = [([start], ids[:size])]
    for begin in range(size, len(ids), size):
        end = min(begin + size, len(ids))
        found.append((ids[end - size - 1 : begin], ids[begin:end]))
    return found
