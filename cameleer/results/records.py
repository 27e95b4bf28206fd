"""Records of evaluation: what is asked, what was answered, how it scored, what was preferred."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Rule = Literal["paper", "fixed"]
Format = Literal["chat", "plain"]
NO_ANSWER = "no answer found"
"""The note of a score whose output held no answer; the runner counts it."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question of a benchmark, as one model is to be asked.

    key: unique, `benchmark/…` as in the command contract; group: what scores are broken down by
    (a subject, a task), or ""; text: the question with its few-shot examples, which in chat format
    is the user's message; cue: the words that open the model's answer; target: the gold answer;
    meta: what grading needs besides; choices: the answers to choose from by probability, where
    each item has its own; cluster: items of one name (questions about one passage) do not vary
    independently, "" is alone.
    """

    key: str
    group: str
    text: str
    cue: str
    target: Any
    meta: dict[str, Any] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said to one item.

    outputs: one text for each sample that was asked for; logprobs: natural-log probability of each
    choice, for multiple choice; finish: for each output `stop`, `length`, `choice`, or another
    of those in engines.engine; prompt_tokens and new_tokens: counts, the latter over
    all outputs; seconds: share of its batch's time; greedy:
    whether each choice is what the model would itself go on with, where all its tokens are scored
    and the engine can tell.
    """

    item: str
    outputs: list[str]
    logprobs: list[float]
    finish: list[str]
    prompt_tokens: int
    new_tokens: int
    seconds: float
    greedy: list[bool] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Score:
    """How an answer scored: `value` in 0..1, and what was read out of each output.

    values: further metrics by name (for example pass@10 beside pass@1); note: anything a reader
    should know, such as the sandbox level or "no answer found".
    """

    value: float
    extracted: list[Any]
    values: dict[str, float] = field(default_factory=dict)
    note: str = ""


_UNSCORED: dict[str, Any] = {"value": None, "extracted": [], "values": {}, "note": ""}


@dataclass(frozen=True, slots=True)
class Sample:
    """An item with its prompt, answer and score: one line of samples.jsonl.

    score: None where answers are only written, to be judged elsewhere. weight: of the item in the
    benchmark's mean; 1 on average (see Setting.macro). reviews: what each reviewer said of each
    output, by its name.
    """

    item: str
    group: str
    prompt: str
    target: Any
    answer: Answer
    score: Score | None
    cluster: str = ""
    weight: float = 1.0
    reviews: dict[str, list[float]] = field(default_factory=dict)

    def to_row(self) -> dict[str, Any]:
        """The JSON object that stands for it in a file, flat where people will read it."""
        answer = asdict(self.answer)
        score = asdict(self.score) if self.score else dict(_UNSCORED)
        del answer["item"]
        if not self.answer.greedy:
            del answer["greedy"]
        rare = {"cluster": self.cluster, "weight": self.weight, "reviews": self.reviews}
        told = {"cluster": bool(self.cluster), "weight": self.weight != 1, "reviews": self.reviews}
        return {
            "item": self.item,
            "group": self.group,
            "score": score.pop("value"),
            "extracted": score.pop("extracted"),
            "target": self.target,
            **answer,
            **score,
            **{name: value for name, value in rare.items() if told[name]},
            "prompt": self.prompt,
        }


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge model or a person said of two models' answers to one item.

    item: its key; a, b: the models, A being the reference where there is one. preference: on
    AlpacaEval's scale, from 1 (A is better) over 1.5 (neither) to 2 (B is better): a person's
    "slightly" is 1.25 or 1.75, a judge whose probability of B is known says 1 + that; None where
    there is no verdict, and `note` says why. who: the judge or annotator; b_first: whether B stood
    first; acceptable: of A's and B's answer, where it was asked; quality: of the item, as people
    see it; comment: theirs. said: the judge's reply as it came. seconds, price (US dollars): of
    this judgement; time: when, UTC.
    """

    item: str
    a: str
    b: str
    preference: float | None
    who: str
    kind: Literal["judge", "human"]
    b_first: bool | None = None
    acceptable: tuple[bool | None, bool | None] = (None, None)
    quality: Literal["", "good", "invalid", "too_hard"] = ""
    comment: str = ""
    said: str = ""
    note: str = ""
    seconds: float | None = None
    price: float | None = None
    time: str = ""
