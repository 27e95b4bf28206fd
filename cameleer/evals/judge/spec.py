"""What a judge is: one TOML file that says what a model is asked, and how its reply is read.

Judges are found by their presence in `judges/`, any other file goes by its path, and a package of
somebody else's may give a folder of them as an entry point of the group `cameleer.judges`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from cameleer.core.config import Config, load_toml, read_toml
from cameleer.core.errors import UserError, unknown
from cameleer.evals.benchmark import Reviewer

NAMED = Path(__file__).parent / "judges"
GROUP = "cameleer.judges"
SEE = "cameleer judge ls"
PLACES = ("instruction", "output_1", "output_2")  # output_1 is the answer that is shown first


class Messages(Config):
    """What the judge is told, with {instruction}, {output_1} and {output_2} filled in; white space
    at either end goes. Nothing else in braces is touched."""

    user: str
    system: str = ""

    @field_validator("user", "system")
    @classmethod
    def _stripped(cls, value: str) -> str:
        return value.strip()

    @model_validator(mode="after")
    def _shows_all(self) -> Messages:
        if missing := [place for place in PLACES if f"{{{place}}}" not in self.user + self.system]:
            raise ValueError(f"the messages do not hold {{{missing[0]}}}")
        return self


class Sampling(Config):
    """How the reply is drawn. max_new_tokens: most tokens of it; temperature 0 is greedy; stop:
    texts that end it."""

    max_new_tokens: PositiveInt = 256
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    stop: tuple[str, ...] = ()


class Parser(Config):
    """How a verdict is read from the reply, on the scale 1 (the first answer shown is better) to 2
    (the second is), 1.5 being neither.

    ranking: the reply is a list [{'model': 'model_1', 'rank': …}, …] and nothing else, as of
    `alpaca_eval_gpt4`; the rank of model_1 counts, which must be 1 or 2.
    verdict: what the one group of the regular expression `pattern` finds, the last time it does,
    means what `values` says of it, in capitals or not.
    label: the reply is one of the labels that `values` has. Where their log-probabilities are told,
    the verdict is the mean of their values, weighed by how probable each is among them
    (Li et al. 2023, AlpacaEval 2).
    """

    kind: Literal["ranking", "verdict", "label"]
    pattern: str | None = None
    values: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _whole(self) -> Parser:
        if self.kind != "ranking" and len(self.values) < 2:
            raise ValueError(f"a parser of kind '{self.kind}' needs two or more 'values'")
        if self.kind == "ranking" and self.values:
            raise ValueError("a parser of kind 'ranking' has no 'values'")
        if any(not 1 <= value <= 2 for value in self.values.values()):
            raise ValueError("a value is not in 1 (the first is better) to 2 (the second is)")
        if (self.pattern is not None) != (self.kind == "verdict"):
            raise ValueError("'pattern' goes with a parser of kind 'verdict', and only there")
        if self.pattern is not None and _groups(self.pattern) != 1:
            raise ValueError("'pattern' needs one group, which finds the verdict")
        return self


def _groups(pattern: str) -> int:
    try:
        return re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"'pattern' is no regular expression: {error}") from None


class Pairwise(Config):
    """A judge of pairs: which of two answers to one instruction is better?

    about: in one line. card: where it comes from. version: of its words, which another version must
    have when they change. model: MODEL as of `eval run`, what is asked unless the user names one.
    order: which answer is shown first is drawn from the contents of the pair, whoever wrote them
    (`content`), or as AlpacaEval's code draws it, from the instruction alone (`instruction`).
    """

    kind: Literal["pairwise"]
    about: str
    version: str
    messages: Messages
    parser: Parser
    card: str = ""
    model: str | None = None
    order: Literal["content", "instruction"] = "content"
    sampling: Sampling = Sampling()

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of all that decides a verdict, but for the model."""
        decides = self.model_dump(mode="json", include={"messages", "parser", "order", "sampling"})
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


class Reading(Config):
    """A judge of single texts: a model reads `text`, its names in braces filled in, and says a
    probability.

    kind: of a causal language model it is that of " yes" coming next, which counts as yes from the
    threshold on (`yes_no`); of a classifier that of its label 1, which counts above the threshold
    (`classifier`). about, card, version, model: as of judges of pairs.
    """

    kind: Literal["yes_no", "classifier"]
    about: str
    version: str
    model: str
    text: str
    card: str = ""
    threshold: float = Field(default=0.5, ge=0, le=1)

    def shown(self, **texts: str) -> str:
        """What the model is given to read."""
        return filled(self.text, texts)

    def says_yes(self, probability: float) -> bool:
        """Whether a probability counts as yes."""
        if self.kind == "yes_no":
            return probability >= self.threshold
        return probability > self.threshold


Judge = Pairwise | Reading
KINDS: dict[str, type[Judge]] = {"pairwise": Pairwise, "yes_no": Reading, "classifier": Reading}


def filled(template: str, texts: dict[str, str]) -> str:
    """The template with its names in braces filled in, all at once: what is filled in may hold
    such names of its own."""
    names = "|".join(map(re.escape, texts))
    return re.sub(rf"\{{({names})\}}", lambda found: texts[found[1]], template)


def named_judges() -> dict[str, Path]:
    """The files of judges that have names: ours, and those of other packages."""
    found = {path.stem: path for path in sorted(NAMED.glob("*.toml"))}
    for entry in importlib.metadata.entry_points(group=GROUP):
        folder = Path(entry.load())
        for path in sorted(folder.glob("*.toml")):
            if path.stem in found:
                raise UserError(f"two judges are named '{path.stem}'", file=path)
            found[path.stem] = path
    return found


def judge_file(given: str) -> Path:
    """The file that a name or a path to a TOML file stands for."""
    named = named_judges()
    if given in named:
        return named[given]
    if Path(given).suffix != ".toml":
        raise unknown("judge", given, named, SEE)
    return Path(given).expanduser()


def load_judge(path: Path) -> Judge:
    """The judge that a file describes. Raises UserError naming file, line and field."""
    kind = read_toml(path).get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        hint = f"it is one of {', '.join(KINDS)}"
        raise UserError("is missing or unknown", file=path, field="kind", hint=hint)
    return load_toml(path, KINDS[kind])


def pairwise_judge(given: str) -> Pairwise:
    """The judge of pairs that a name or a path stands for."""
    judge = load_judge(judge_file(given))
    if isinstance(judge, Pairwise):
        return judge
    raise UserError(
        f"'{given}' reads single texts, it compares no pairs",
        hint=f"it is asked by benchmarks that name it as a reviewer; `{SEE}` lists all",
    )


@cache
def reading_judge(name: str) -> Reading:
    """The judge of single texts by that name, as benchmarks refer to it."""
    judge = load_judge(judge_file(name))
    if isinstance(judge, Reading):
        return judge
    raise UserError(f"'{name}' compares pairs, it reads no single texts", hint=f"see `{SEE}`")


def as_reviewer(name: str) -> Reviewer:
    """The judge of single texts by that name, as a benchmark's setting has it."""
    judge = reading_judge(name)
    kind: Literal["label", "yes"] = "yes" if judge.kind == "yes_no" else "label"
    return Reviewer(judge.about, kind, judge.model, name)
