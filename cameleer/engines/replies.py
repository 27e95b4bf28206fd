"""What a server of OpenAI's API sends back: texts, how they ended, how likely their tokens were."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from cameleer.core.errors import UserError
from cameleer.engines.engine import FILTERED
from cameleer.engines.server import AgainError, Reply, Said

FINISH = {"stop": "stop", "eos": "stop", "eos_token": "stop", "length": "length"}
FINISH |= {"content_filter": FILTERED}  # asked again, it would end so again
IMPOSSIBLE = -9999.0  # what OpenAI says for the logarithm of 0


def read_reply(payload: dict[str, Any], model: str, *, empty: bool) -> Reply:
    """A server's JSON; raises AgainError for what is no answer.

    model: who was asked, where the server does not say who answers; empty: whether an empty text
    that the server gives no account of is an answer.
    """
    usage = payload.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    new = usage.get("completion_tokens")
    try:
        ordered = sorted(payload["choices"], key=lambda choice: choice.get("index") or 0)
        said = [_said(choice) for choice in ordered]
    except (KeyError, TypeError, AttributeError, IndexError, ValueError):
        raise AgainError("the server's answer is not as the API has it") from None
    if not said:
        raise AgainError("the server's answer holds no text")
    if not empty:
        _require_account(said, new)
    return Reply(said, usage.get("prompt_tokens"), new, model=str(payload.get("model", model)))


def _said(choice: dict[str, Any]) -> Said:
    """One of the texts of an answer."""
    message = choice.get("message")
    text = message.get("content") if message is not None else choice["text"]
    finish = choice.get("finish_reason")
    if finish not in FINISH:
        ended = f"ends by '{finish}'" if finish else "has no end: it was cut off"
        raise AgainError(f"the server's answer {ended}")
    if not isinstance(text, str | None):
        raise TypeError("no text")
    return Said(text or "", FINISH[finish], _likely(choice.get("logprobs")))


def _likely(told: dict[str, Any] | None) -> list[tuple[str, float | None]] | None:
    """The likeliest next tokens, or the tokens of a text that is echoed."""
    if not told:
        return None
    if told.get("content"):
        return _numbers(
            (one["token"], one["logprob"]) for one in told["content"][0]["top_logprobs"]
        )
    tokens = told.get("tokens") or []
    if len(tokens) > 1:  # one is generated: the others are an echo
        return _numbers(zip(tokens, told["token_logprobs"], strict=True))
    top = told.get("top_logprobs")
    return _numbers(top[0].items()) if top else None


def _numbers(told: Iterable[tuple[str, Any]]) -> list[tuple[str, float | None]]:
    """Tokens with log-probabilities, None where none is told. Raises ValueError for no number."""
    pairs = [(str(token), IMPOSSIBLE if v == -math.inf else v) for token, v in told]
    for _, value in pairs:
        if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
            raise ValueError("no log-probability")
    return pairs


def _require_account(said: list[Said], new: int | None) -> None:
    """Raise if a text is empty and nothing tells that the model said so."""
    empty = [one for one in said if not (one.text or one.likely or one.finish == FILTERED)]
    if any(one.finish == "length" for one in empty):
        raise AgainError("all tokens went where no text is seen (thinking?): allow more new tokens")
    if empty and not new:
        raise AgainError("the server's answer is empty (if it is to count: empty=keep)")


def stopped(said: Said, stops: tuple[str, ...]) -> Said:
    """The text up to the first stop text, whether or not the server ended it there."""
    found = [at for stop in stops if (at := said.text.find(stop)) >= 0]
    return Said(said.text[: min(found)], "stop") if found else said


def log_sum(choice: str, likely: list[tuple[str, float | None]]) -> float:
    """Log-probability of a choice, with or without white space around it."""
    own = [v for token, v in likely if token.strip() == choice.strip() and v is not None]
    return max(own) + math.log(sum(math.exp(v - max(own)) for v in own)) if own else -math.inf


def echoed(said: Said, text: str, choice: str, url: str) -> float:
    """Sum of the log-probabilities of the tokens at the end of an echoed text that are the
    choice's; what was generated after it is one token."""
    echoed = said.likely[:-1] if said.likely else []
    if not "".join(token for token, _ in echoed).endswith(text[-len(choice) :]):
        raise UserError(
            f"{url} does not echo prompts with their log-probabilities",
            hint="vLLM does; with other servers leave out what scores whole answers",
        )
    total, size = 0.0, 0
    for token, value in reversed(echoed):
        total, size = total + (value or 0.0), size + len(token)
        if size >= len(choice):
            break
    return total
