"""What a benchmark is: a file that makes items from native data and grades answers to them.

A benchmark is a module of `cameleer.evals.benchmarks` (or an entry point of the group
`cameleer.benchmarks`) whose docstring is its card and which holds

    SETTINGS: dict[str, Setting]      the ways to ask it, the default first
    NATIVE: tuple[str, ...]           patterns of the files it reads; the first must be there
    GROUPS: int                       of items in the whole set; left out where there are none
    items(ask: Ask) -> list[Item]     the questions in the order asked, not yet limited
    grade(item, outputs, ask) -> Score

For multiple choice, `grade` is given the chosen text as its one output, and where the item has its
own choices their log-probabilities as `item.meta["logprobs"]`. Where a setting has reviewers, the
module has `review(item, output, reviewer, ask) -> str`, the text that the reviewer is given, and
`grade` takes `reviews` (reviewer to one number for each output) as a fourth argument. Where a
setting is not scored, the module needs no `grade`, and an item's meta holds its `instruction`,
under which the answers are written to outputs.json for a judge. A benchmark whose files can come
from elsewhere too has `folder(data: Path | None) -> Path`, which says where; one that runs what a
model wrote has `RUNS_CODE = True`, and is run only where that is allowed.

A module that stands for another harness has `setting(name) -> Setting` for settings that no list
holds, `inputs(name, folder)` for what tells their questions, and `run(spec, engine, data)`, which
makes the rows and scores that the runner makes of items and grades.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Literal

from cameleer.core.errors import unknown
from cameleer.core.folders import locate
from cameleer.core.plugins import plugin, plugins
from cameleer.results.records import Format, Rule

HOME, GROUP = "cameleer.evals.benchmarks", "cameleer.benchmarks"


@dataclass(frozen=True)
class Reviewer:
    """A model that reads outputs, because no text comparison can tell what is right.

    kind: "label" is a classifier, which says the probability of its label 1; "yes" a language
    model, which says that of " yes" coming next. model: hub id or folder that is taken by default.
    judge: the name by which `judge ls` lists it, "" for one that it does not list.
    """

    about: str
    kind: Literal["label", "yes"]
    model: str
    judge: str = ""


@dataclass(frozen=True)
class Setting:
    """One way to ask a benchmark.

    choices: the answers to choose from by probability; empty where text is generated, or where
    each item has its own. scoring: how a choice's probability is told: "last" by its last token
    right after the prompt, "sum" by all its tokens. macro: the score is the mean over groups, not
    over items. reviewers: by name, models that read the outputs before they can be graded.
    lower_is_better: as of the share of toxic outputs.
    stop: texts that end an output, by format; fixed_stop: those by rule `fixed`, for the formats
    that it names. metric: name of the score in tables.
    format: the format that the paper used with tuned models ("chat"), or "plain" for all models.
    clip: max_new_tokens is lowered to what the model's context has room for. scored: False where
    answers are only written, for a judge or people to compare; `metric` is "" then.
    sample: by rule `paper` so many items are drawn, of each group where there are groups;
    sampled: by rule `fixed` too, so that the paper's subset goes by its own name.
    """

    about: str
    metric: str
    choices: tuple[str, ...] = ()
    max_new_tokens: int = 512
    stop: dict[Format, tuple[str, ...]] = field(default_factory=dict)
    fixed_stop: dict[Format, tuple[str, ...]] = field(default_factory=dict)
    temperature: float = 0.0
    top_p: float = 1.0
    samples: int = 1
    format: Format = "chat"
    scoring: Literal["last", "sum"] = "last"
    macro: bool = False
    reviewers: dict[str, Reviewer] = field(default_factory=dict)
    clip: bool = False
    scored: bool = True
    lower_is_better: bool = False
    sample: int | None = None
    sampled: bool = False

    def stops(self, rule: Rule, form: Format) -> tuple[str, ...]:
        """The texts that end an output."""
        mended = self.fixed_stop if rule == "fixed" else {}
        return mended.get(form, self.stop.get(form, ()))

    def drawn(self, ask: Ask) -> int | None:
        """How many items are drawn (of each group); None is all, as for grading."""
        drawing = self.sampled or ask.rule == "paper"
        return self.sample if drawing and not ask.grading else None

    def subset(self, size: int, of: str = "") -> Setting:
        """The same with so many of the items, by both rules, for a setting of its own name."""
        about = f"{self.about}; {size}{of}"
        return replace(self, about=about, sample=size, sampled=True)


@dataclass(frozen=True)
class Ask:
    """How a benchmark is to be asked.

    data: folder with the benchmark's native files; fits: whether an item's text and cue make a
    prompt short enough to be sent; benchmarks drop few-shot examples until it is. cut: a text's
    beginning of so many tokens, as the rule says; nothing is cut without a tokenizer. grading: only
    keys, targets and meta are wanted, and of every row of the data; texts may be empty.
    """

    data: Path
    setting: str
    rule: Rule = "fixed"
    format: Format = "chat"
    fits: Callable[[str, str], bool] = lambda _text, _cue: True
    cut: Callable[[str, int], str] = lambda text, _tokens: text
    grading: bool = False


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's module with one of its settings, as named on the command line."""

    name: str
    setting_name: str
    module: ModuleType

    @property
    def setting(self) -> Setting:
        listed: dict[str, Setting] = self.module.SETTINGS
        found: Setting | None = listed.get(self.setting_name)
        return found or self.module.setting(self.setting_name)

    @property
    def label(self) -> str:
        return f"{self.name}:{self.setting_name}"

    def folder(self, data: Path | None) -> Path:
        """The folder with the native files; `data` is what the user gave, or None."""
        own: Callable[[Path | None], Path] | None = getattr(self.module, "folder", None)
        return own(data) if own else locate(data, "eval", self.name, self.module.NATIVE[:1])


def benchmark_named(label: str) -> Benchmark:
    """The benchmark that `name` or `name:setting` stands for; unknown ones are the user's error."""
    name, _, setting = label.partition(":")
    module = plugin(HOME, GROUP, name, "cameleer eval ls")
    setting = setting or next(iter(module.SETTINGS))
    if hasattr(module, "setting"):
        module.setting(setting)
    elif setting not in module.SETTINGS:
        raise unknown(f"setting of {name}", setting, module.SETTINGS, "cameleer eval ls")
    return Benchmark(name, setting, module)


def all_benchmarks() -> list[Benchmark]:
    """Every benchmark in every setting."""
    found = plugins(HOME, GROUP)
    return [
        Benchmark(name, setting, module)
        for name, module in sorted(found.items())
        for setting in module.SETTINGS
    ]
