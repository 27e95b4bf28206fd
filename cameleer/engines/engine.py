"""What an engine is: something that answers prompts, in batches that are the unit of resuming."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from cameleer.core.errors import UserError
from cameleer.results.records import Answer, Format, Rule


class UnansweredError(UserError):
    """A batch got no answer though others may: they are asked for, then the run ends with this."""


TOO_LONG = "too long"  # how the answer ends that was not asked for, as there is no room for one
FILTERED = "filtered"  # how an output ends that a server's own filter cut or withheld
CONTEXT = "context"  # how an output ends that might have gone on if the context did

Hear = Callable[[str], None]
"""Is told an output as far as it is written, each time that it has grown, by the thread that asks.
What it raises ends the answer, so an engine that waits tells it again where nothing is new."""


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt and how to go on from it.

    choices: if given, nothing is generated, but the log-probability of each is wanted. scoring
    "last": of its last token right after the prompt (arXiv 2306.04751's code scores " A" … " D"
    so); "sum": of all its tokens, where the tokens of a choice are those that the tokenizer makes
    of prompt + choice beyond those that it makes of the prompt.
    messages: (role, content) of a whole chat, where it is more than one question; for such servers
    as well.
    text, cue, format, system: what the prompt was made of, for servers that put the chat template
    around messages themselves; system: what stands before the user's message, "" for nothing.
    clip: where the context has no room for max_new_tokens, as many as it has room for will do, and
    an output that fills them ends by `length`; without it, by CONTEXT, which is counted. A prompt
    that leaves no room at all is answered with "" and TOO_LONG, which is counted and warned of.
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
    scoring: Literal["last", "sum"] = "last"
    text: str = ""
    cue: str = ""
    format: Format = "plain"
    clip: bool = False
    system: str = ""
    messages: tuple[tuple[str, str], ...] = ()


class Engine(Protocol):
    """Answers requests.

    A batch is answered whole and its make-up depends on the list of requests alone, so that a run
    that was killed and goes on gets bitwise the same answers as one that was not. An engine may
    have `status() -> str`: a few words for the progress bar, such as what was spent; it is called
    from another thread while a batch is answered. Where it has `hear: Hear | None`, that is told of
    the one output of the one request that is asked, while it is written.
    """

    @property
    def identity(self) -> dict[str, Any]:
        """What, besides the request, decides an answer: model fingerprint, precision, batching."""

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, without special tokens; tells which few-shot examples still fit."""

    def cut(self, text: str, tokens: int, rule: Rule) -> str:
        """The beginning of a text of at most so many tokens.

        paper: encoded with special tokens, cut, and decoded with them, as the paper's code did, so
        that a cut text may begin with a stray "<s>"; a text that is short enough is left alone.
        fixed: cut between characters, nothing added.
        """

    def batches(self, requests: Sequence[Request]) -> list[list[Request]]:
        """All requests, in the batches in which they will be answered."""

    def answer(self, batch: Sequence[Request]) -> list[Answer]:
        """The answers to one batch, in its order. A failure raises; nothing is answered with "".

        UnansweredError is about this batch alone: the others are asked for all the same.
        """
