"""What a judging is going to take, before anything is asked: requests, tokens, dollars, time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from cameleer.engines.engine import Request
from cameleer.engines.server import Limits
from cameleer.results.records import Answer

PER_TOKEN = 4  # bytes of a token of English text, where no tokenizer counts them


@dataclass(frozen=True)
class Plan:
    """pairs: to be compared, of which `same` have one text and need no judge. requests: in all, of
    which `kept` are answered already. prompt_tokens: of the others, about. new_tokens: of theirs,
    at the most. dollars: what they may cost, going by the replies that are there, and at the most;
    None where no prices are given. seconds: None where there is no reply to go by. limits: requests
    and dollars that the run may not pass."""

    pairs: int
    same: int
    requests: int
    kept: int
    prompt_tokens: int
    new_tokens: int
    dollars: tuple[float, float] | None
    seconds: float | None
    limits: tuple[int | None, float | None] = (None, None)

    @property
    def left(self) -> int:
        """Requests that are to be sent."""
        return self.requests - self.kept

    def told(self) -> str:
        """All of it in a line."""
        parts = [f"{self.pairs} pairs", f"{self.requests} requests"]
        parts[0] += f" ({self.same} of them the same text, a tie)" if self.same else ""
        parts[1] += f", {self.kept} of them answered already" if self.kept else ""
        if self.left:
            parts += [f"about {self.prompt_tokens:,} tokens in, at most {self.new_tokens:,} out"]
            parts += [self._cost(), self._time()]
        return "; ".join(part for part in parts if part)

    def _cost(self) -> str:
        if self.dollars is None:
            return ""
        expected, most = map(money, self.dollars)
        return f"at most {most}" if expected == most else f"about {expected}, at most {most}"

    def _time(self) -> str:
        if self.seconds is None:
            return "how long is told when the first have come"
        return f"about {self.seconds / 60:.0f} min" if self.seconds > 90 else "under two minutes"

    def short_of(self) -> str:
        """What the limits may leave undone, or ""."""
        requests, dollars = self.limits
        on = "the same command goes on from there"
        if requests is not None and self.left > requests:
            return f"{self.left} requests are to be sent, max_requests stops at {requests}; {on}"
        if dollars is not None and self.dollars and self.dollars[1] > dollars:
            return f"it may cost {money(self.dollars[1])}, max_dollars stops at ${dollars:g}; {on}"
        return ""

    def facts(self) -> dict[str, Any]:
        """The same for `--json`."""
        return asdict(self) | {"left": self.left}


def money(dollars: float) -> str:
    """An amount as people read it, small ones too."""
    return f"${dollars:.2f}" if dollars >= 1 else f"${dollars:.2g}"


def planned(
    pairs: int,
    same: int,
    requests: Sequence[Request],
    there: Mapping[str, Answer],
    count_tokens: Callable[[str], int] | None,
    limits: Limits | None,
) -> Plan:
    """The plan for requests, some of which are answered already.

    there: the answers, by request; further ones are thought to be like them. count_tokens: of a
    text, 0 or None where it cannot be told; then about PER_TOKEN bytes make a token.
    """
    left = [request for request in requests if request.key not in there]
    sizes = [_tokens(request.prompt, count_tokens) for request in left]
    most = [1 if request.choices else request.samples * request.max_new_tokens for request in left]
    known = list(there.values())
    dollars = None
    if limits is not None and (limits.price_in or limits.price_out):
        likely = fmean(max(1, one.new_tokens) for one in known) if known else None
        new = [size if likely is None else min(size, likely) for size in most]
        amounts = [limits.dollars(sum(sizes), round(sum(each))) for each in (new, most)]
        dollars = (amounts[0], amounts[1])
    at_once = limits.concurrency if limits else 1
    seconds = fmean(one.seconds for one in known) * len(left) / at_once if known else None
    held = (limits.max_requests, limits.max_dollars) if limits else (None, None)
    kept = len(requests) - len(left)
    facts = (pairs, same, len(requests), kept, sum(sizes), sum(most), dollars, seconds)
    return Plan(*facts, limits=held)


def _tokens(prompt: str, count_tokens: Callable[[str], int] | None) -> int:
    counted = count_tokens(prompt) if count_tokens else 0
    return counted or len(prompt.encode()) // PER_TOKEN
