"""Engines without a model, for tests of what asks them."""

from __future__ import annotations

from collections.abc import Sequence

from cameleer.engines.engine import Request
from cameleer.results.records import Answer, Rule
from tests.killing import Killed


class StandIn:
    """Answers as `one` says, in batches of `size` in the order asked.

    killed_at: the batch, from 0, at which it is killed. answered: batches so far.
    """

    size = 4

    def __init__(self, killed_at: int | None = None) -> None:
        self.killed_at, self.answered = killed_at, 0
        self.identity = {"model": type(self).__name__.lower()}

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def cut(self, text: str, tokens: int, rule: Rule) -> str:
        return text[:tokens]

    def batches(self, requests: Sequence[Request]) -> list[list[Request]]:
        starts = range(0, len(requests), self.size)
        return [list(requests[start : start + self.size]) for start in starts]

    def answer(self, batch: Sequence[Request]) -> list[Answer]:
        if self.answered == self.killed_at:
            raise Killed
        self.answered += 1
        return [self.one(request, len(batch)) for request in batch]

    def one(self, request: Request, mates: int) -> Answer:
        """The answer to a request; mates: how many are answered together."""
        raise NotImplementedError
