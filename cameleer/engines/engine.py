"""What an engine is: something that answers prompts, in batches that are the unit of resuming."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cameleer.results.records import Answer


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt and how to go on from it.

    choices: if given, nothing is generated; the log-probability of each choice's last token right
    after the prompt is wanted (arXiv 2306.04751's code scores " A" … " D" so).
    stop: texts at which an output ends, left out of it. temperature 0 is greedy. samples: how many
    outputs. seed: with the key it decides every random draw, whatever else is in the batch.
    """

    key: str
    prompt: str
    choices: tuple[str, ...] = ()
    max_new_tokens: int = 512
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    samples: int = 1
    seed: int = 42


class Engine(Protocol):
    """Answers requests.

    A batch is answered whole and its make-up depends on the list of requests alone, so that a run
    that was killed and goes on gets bitwise the same answers as one that was not.
    """

    @property
    def identity(self) -> dict[str, Any]:
        """What, besides the request, decides an answer: model fingerprint, precision, batching."""

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, without special tokens; tells which few-shot examples still fit."""

    def batches(self, requests: Sequence[Request]) -> list[list[Request]]:
        """All requests, in the batches in which they will be answered."""

    def answer(self, batch: Sequence[Request]) -> list[Answer]:
        """The answers to one batch, in its order. A failure raises; nothing is answered with ""."""
