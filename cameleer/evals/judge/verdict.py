"""From a judge's reply to its verdict; what cannot be read is no verdict, and never a win."""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass

from cameleer.engines.engine import FILTERED, TOO_LONG
from cameleer.evals.judge.spec import Parser
from cameleer.results.records import Answer

LONGEST = 20_000  # characters of a reply that may be a list: nobody writes a longer one
UNREAD = {
    TOO_LONG: "the pair is too long for the judge's context",
    FILTERED: "the server's filter withheld the reply",
    "length": "no verdict in the reply, which was cut at its limit of tokens",
}
NONE = "no verdict in the reply"


@dataclass(frozen=True, slots=True)
class Verdict:
    """shown: 1 (the answer shown first is better) to 2 (the second is), None where nothing can be
    read; note: why not."""

    shown: float | None
    note: str = ""

    def preference(self, b_first: bool) -> float | None:
        """The same on the scale of judgements, where 1 is A and 2 is B."""
        return 3 - self.shown if b_first and self.shown is not None else self.shown


def read_verdict(parser: Parser, answer: Answer) -> Verdict:
    """The verdict in a judge's answer."""
    reply = answer.outputs[0] if answer.outputs else ""
    if parser.kind == "label" and answer.logprobs:
        return Verdict(_weighed(list(parser.values.values()), answer.logprobs))
    ways = {"ranking": _rank, "verdict": _found, "label": _label}
    shown = ways[parser.kind](parser, reply)
    if shown is not None:
        return Verdict(shown)
    return Verdict(None, UNREAD.get(answer.finish[0] if answer.finish else "", NONE))


def _rank(_parser: Parser, reply: str) -> float | None:
    """The rank of model_1 in a list of Python's; the whole reply must be that list."""
    if len(reply) > LONGEST:
        return None
    try:
        rows = ast.literal_eval(reply)
        rank = next(row["rank"] for row in rows if row["model"] == "model_1")
    # A reply can be any text at all: whatever reading it as a list stumbles over, it is none.
    except (ValueError, SyntaxError, TypeError, KeyError, IndexError, AttributeError):
        return None
    except (StopIteration, MemoryError, RecursionError):
        return None
    return float(rank) if isinstance(rank, int | float) and rank in (1, 2) else None


def _found(parser: Parser, reply: str) -> float | None:
    """The last verdict that the pattern finds."""
    said = [found[1] for found in re.finditer(parser.pattern or "", reply)]
    return _value(parser, said[-1]) if said and said[-1] else None


def _label(parser: Parser, reply: str) -> float | None:
    """The one label that the reply consists of, marks around it apart."""
    return _value(parser, reply.strip(" \t\r\n.:*\"'()[]`"))


def _value(parser: Parser, said: str) -> float | None:
    """What a label stands for, as it is written, else in capitals or not if that is plain."""
    if said in parser.values:
        return parser.values[said]
    alike = [value for name, value in parser.values.items() if name.casefold() == said.casefold()]
    return alike[0] if len(alike) == 1 else None


def _weighed(values: list[float], logprobs: list[float]) -> float | None:
    """The mean of labels' values by their probabilities, which among them sum to 1."""
    highest = max(logprobs)
    if not math.isfinite(highest):
        return None
    weights = [math.exp(one - highest) for one in logprobs]
    mean = sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)
    return min(2.0, max(1.0, mean))
