"""What a study declares: a grid of bases, mixtures, seeds and benchmarks, and how to run it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product, starmap
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from cameleer.core.config import Config, FolderName, PlainName, Seed, load_config
from cameleer.core.errors import UserError, unknown
from cameleer.data.miniature import Miniature
from cameleer.data.mix.config import MixConfig
from cameleer.data.source import source_named
from cameleer.engines.registry import DEFAULT, Chosen, choose, engine_named, engine_of
from cameleer.evals.asking import EvalSpec
from cameleer.evals.benchmark import benchmark_named
from cameleer.evals.judge.run import JudgeSpec
from cameleer.evals.judge.spec import pairwise_judge
from cameleer.model.embedded import PREFIX, embedded_folder
from cameleer.results.records import Format, Rule
from cameleer.results.store import UNTUNED
from cameleer.study.budget import Budget
from cameleer.study.designs import Design
from cameleer.train.config import TrainSettings

LONGEST = 180  # bytes of a model's name: a file system has 255, of which a benchmark takes some


def _settings(value: dict[str, Any]) -> dict[str, Any]:
    """An unknown training setting is told here, where file and line of the field are known."""
    known = TrainSettings.model_fields
    for name in value.keys() - known.keys():
        raise ValueError(str(unknown("training setting", name, known, "docs/reference/config.md")))
    return value


TrainChanges = Annotated[dict[str, Any], AfterValidator(_settings)]
"""Training settings that differ from the study's own."""


class Base(Config):
    """A base model: folder, hub id or `embedded:NAME`; `train` changes settings for it alone."""

    name: FolderName
    model: str
    about: str = ""
    train: TrainChanges = Field(default_factory=dict)

    @field_validator("model")
    @classmethod
    def _there(cls, model: str) -> str:
        """An unknown model of ours is told here, where file and line of the field are known."""
        try:
            if model.startswith(PREFIX):
                embedded_folder(model.removeprefix(PREFIX))
        except UserError as error:
            raise ValueError(str(error)) from None
        return model


class Method(Config):
    """A way of training, such as `full` or `lora`, told by the settings that it changes."""

    name: PlainName
    train: TrainChanges = Field(default_factory=dict)


class EngineSpec(Config):
    """What answers: the engine's name, and beside it its options, as `--engine-option` sets them
    (`cameleer eval engines` lists them). Without options the name alone will do."""

    model_config = ConfigDict(extra="allow")

    engine: str = DEFAULT

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"engine": value} if isinstance(value, str) else value

    @field_validator("engine")
    @classmethod
    def _there(cls, name: str) -> str:
        try:
            engine_named(name)
        except UserError as error:
            raise ValueError(str(error)) from None
        return name

    @model_validator(mode="after")
    def _options_are_the_engines(self) -> EngineSpec:
        """Each wrong option is told at its own line."""
        options = engine_named(self.engine).Options
        known = options.model_fields
        for name in self.options.keys() - known.keys():
            kind = f"option of {self.engine}"
            said = str(unknown(kind, name, known, "cameleer eval engines"))
            about = PydanticCustomError("option", "{said}", {"said": said})
            wrong = InitErrorDetails(type=about, loc=(name,), input=self.options[name])
            raise ValidationError.from_exception_data(kind, [wrong])
        options.model_validate(self.options)
        return self

    @property
    def options(self) -> dict[str, Any]:
        """What was set, by name."""
        return dict(self.model_extra or {})

    def chosen(self, model: str, rule: Rule = "fixed") -> Chosen:
        """The engine for a model, not yet loaded; `rule`: see `choose`."""
        return choose(model, self.engine, self.options, rule=rule)


def _of_folders(spec: EngineSpec) -> EngineSpec:
    """What a study trains is a folder, which not every engine can answer for."""
    if getattr(engine_named(spec.engine), "BY_NAME", False):
        raise ValueError(f"{spec.engine} answers for models by name, not for what a study trains")
    return spec


class Reference(Config):
    """A model that is asked the same, and neither trained nor compared: a row to look at beside.

    model: as for `cameleer eval run`: a folder, hub id or `embedded:NAME`; `openai:NAME@URL` on a
    server; `replay:FILE` of recorded outputs. engine: None is the study's, or the one that `model`
    names. It is asked in each benchmark's own format, unless the benchmark's entry says another.
    """

    name: PlainName
    model: str
    about: str = ""
    engine: EngineSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _engine_of_the_model(cls, value: Any) -> Any:
        """A model that names its engine needs no second word on it."""
        if not isinstance(value, dict) or not isinstance(value.get("model"), str):
            return value
        said, engine = engine_of(value["model"]), value.get("engine") or {}
        if said and isinstance(engine, dict):
            return {**value, "engine": {"engine": said, **engine}}
        return value

    def chosen(self, study: Study) -> Chosen:
        """What answers for it, not yet loaded."""
        return (self.engine or study.engine).chosen(self.model, study.rule)


class StudyJudge(JudgeSpec):
    """A judge model that compares the answers of all models with those of one of them, or others'.

    judge: a name of `cameleer judge ls`, or a TOML file; model: what judges, as for `cameleer eval
    run` (default: the judge's own), by `engine`. against: what all are compared with: a model of
    this study as `study status` calls it, a published model such as `text_davinci_003`, or a file
    of answers. benchmark: whose answers, one that is not scored.
    """

    name: PlainName
    judge: str
    against: str
    model: str | None = None
    engine: EngineSpec | None = None
    benchmark: str = "alpaca_eval"

    @model_validator(mode="after")
    def _there(self) -> StudyJudge:
        try:
            own = pairwise_judge(self.judge)
            label = benchmark_named(self.benchmark)
        except UserError as error:
            raise ValueError(str(error)) from None
        if label.setting.scored:
            raise ValueError(f"{label.label} is scored: there is nothing to judge")
        if self.model is None and own.model is None:
            raise ValueError(f"the judge '{self.judge}' names no model: give 'model'")
        return self

    def chosen(self) -> Chosen:
        """What answers for the judge, not yet loaded."""
        model = self.model or pairwise_judge(self.judge).model
        assert model is not None
        return self.engine.chosen(model) if self.engine else choose(model)


Parted = TypeVar("Parted", MixConfig, Design | None)
"""What has parts with sources."""


def _known(spec: EvalSpec) -> EvalSpec:
    """An unknown benchmark is told here, where file and line of the field are known."""
    try:
        label_of(spec)
    except UserError as error:
        raise ValueError(str(error)) from None
    return spec


class ExecutorSpec(Config):
    """Where a study's models are trained and evaluated. None of it changes a number.

    kind: `local`, processes of this machine, or `ray`, tasks of a Ray cluster whose nodes share the
    study's folder. workers: so many at once, at most. gpus_per_stage: of each training and each
    evaluation, where there are GPUs; only vLLM (`tensor_parallel`) takes more than one. retries:
    further tries of one whose process was killed. memory: GiB that those of this machine may hold
    together (default: what is free). address: of the cluster, such as `auto` on one of its nodes;
    without it one of this machine alone is started.
    """

    kind: Literal["local", "ray"] = "local"
    workers: PositiveInt | None = None
    gpus_per_stage: PositiveInt = 1
    retries: int = Field(default=1, ge=0)
    memory: PositiveFloat | None = None
    address: str | None = None

    @model_validator(mode="after")
    def _of_its_kind(self) -> ExecutorSpec:
        if self.address is not None and self.kind != "ray":
            raise ValueError("address is of a Ray cluster: set kind: ray")
        if self.memory is not None and self.kind != "local":
            raise ValueError("memory is of this machine: a Ray cluster knows that of its nodes")
        return self


def _sources_known(given: Parted) -> Parted:
    """An unknown source is told here, where file and line of the field are known."""
    parts = given.parts if isinstance(given, MixConfig) else given.sources if given else []
    name = "parts" if isinstance(given, MixConfig) else "sources"
    for index, part in enumerate(parts):
        try:
            if part.source is not None:
                source_named(part.source)
        except UserError as error:
            about = PydanticCustomError("source", "{said}", {"said": str(error)})
            wrong = InitErrorDetails(type=about, loc=(name, index, "source"), input=part.source)
            raise ValidationError.from_exception_data("mixture", [wrong]) from None
    return given


class Study(Config):
    """A study: every base as it is, and tuned on every mixture with every seed, on all benchmarks.

    mixtures: what is trained on, told one by one; design: and over a list of sources; one of both
    at least.
    methods: ways of training that are set side by side, each on every mixture; none: one way, as
    `train` says. A method's settings go before a base's, which go before the study's.
    data: folder of native files (`instruct/…`, `eval/…`; default: the data folder), or `miniature`
    with its sizes for the generated world.
    references: further models that are asked the same, such as one on a server.
    base_format: how untuned bases are asked; the paper asked them without the chat format, and
    tuned models in each benchmark's own.
    judges: of answers that are only written, by alpaca_eval or human.
    allow_code_execution: whether benchmarks may run code that models wrote, in the sandbox; where
    the file doesn't say, the user is asked.
    threads: with which each model is trained and evaluated: numbers depend on it, so give it where
    they are to be the same on several machines; None takes as many as torch does here.
    executor: where that is done.
    budget: what it may take at most.
    published: whether the report shows the paper's models beside, where benchmarks are the paper's.
    overlap: whether test items are looked for in the mixtures, so that scores on those that a
    mixture holds can be told from scores on the others.
    """

    name: PlainName
    about: str = ""
    data: Path | None = None
    miniature: Miniature | None = None
    bases: list[Base] = Field(min_length=1)
    design: Annotated[Design | None, AfterValidator(_sources_known)] = None
    mixtures: list[Annotated[MixConfig, AfterValidator(_sources_known)]] = Field(
        default_factory=list, validate_default=True
    )
    methods: list[Method] = Field(default_factory=list)
    seeds: list[Seed] = Field(default=[42], min_length=1)
    references: list[Reference] = Field(default_factory=list)
    train: TrainSettings = TrainSettings()
    engine: Annotated[EngineSpec, AfterValidator(_of_folders)] = Field(default_factory=EngineSpec)
    base_format: Format | None = "plain"
    benchmarks: list[Annotated[EvalSpec, AfterValidator(_known)]] = Field(min_length=1)
    judges: list[StudyJudge] = Field(default_factory=list)
    allow_code_execution: bool | None = None
    threads: PositiveInt | None = None
    executor: ExecutorSpec = ExecutorSpec()
    budget: Budget | None = None
    published: bool = True
    overlap: bool = True

    @field_validator("benchmarks", mode="before")
    @classmethod
    def _labels_alone(cls, value: Any) -> Any:
        """A benchmark may be given by its label alone."""
        given = value if isinstance(value, list) else [value]
        return [{"benchmark": one} if isinstance(one, str) else one for one in given]

    @field_validator("mixtures")
    @classmethod
    def _and_the_designs(cls, given: list[MixConfig], info: ValidationInfo) -> list[MixConfig]:
        design = info.data.get("design")
        designed = design.expand() if design else []
        if not given and not designed and "design" in info.data:
            raise ValueError("is empty, and there is no 'design': say what is trained on")
        return [*given, *(mixture for mixture in designed if mixture not in given)]

    @model_validator(mode="after")
    def _makes_sense(self) -> Study:
        if self.data is not None and self.miniature is not None:
            raise ValueError("give either 'data' or 'miniature'")
        rows = [row_name(mixture, way) for mixture in self.mixtures for way in self.ways()]
        references = [one.name for one in self.references]
        named = {
            "bases": [base.name for base in self.bases],
            "mixtures": [mixture.name for mixture in self.mixtures],
            "references": [*references, *({*rows, *(b.name for b in self.bases)} & {*references})],
            "methods": [method.name for method in self.methods],
            "benchmarks": [label_of(spec) for spec in self.benchmarks],
            "seeds": [str(seed) for seed in self.seeds],
            "judges": [judge.name for judge in self.judges],
        }
        for field, names in named.items():
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"'{twice}' stands twice in '{field}'")
        self._cells_differ(rows)
        for judge in self.judges:
            label = benchmark_named(judge.benchmark).label
            if label not in named["benchmarks"]:
                raise ValueError(f"'{judge.name}' judges {label}, which is not in 'benchmarks'")
        for base in self.bases:
            for method in self.ways():
                self.train_settings(base, method, self.seeds[0])
        return self

    def _cells_differ(self, rows: Sequence[str]) -> None:
        """Each cell is known by a name, and stands in a folder of that name."""
        if UNTUNED in rows:
            raise ValueError(f"a mixture may not be named '{UNTUNED}', as bases are")
        tuned = product(self.bases, self.mixtures, self.ways(), self.seeds)
        names = [base.name for base in self.bases] + [one.name for one in self.references]
        names += starmap(cell_name, tuned)
        for name, times in Counter(names).items():
            if times > 1:
                raise ValueError(f"{times} of its models would be named '{name}': rename one")
        longest = max(names, key=lambda name: len(name.encode()))
        if len(longest.encode()) > LONGEST:
            raise ValueError(f"'{longest[:40]}…' is too long for a folder: shorten its parts")

    def ways(self) -> Sequence[Method | None]:
        """The methods, or None alone where the study compares none."""
        return self.methods or [None]

    @property
    def rule(self) -> Rule:
        """The rule by which engines are set: the paper's if all benchmarks are asked by it."""
        return "paper" if all(spec.rule == "paper" for spec in self.benchmarks) else "fixed"

    def train_settings(self, base: Base, method: Method | None, seed: int) -> TrainSettings:
        """The settings for one base, method and seed."""
        own = method.train if method else {}
        merged = {**self.train.model_dump(), **base.train, **own, "seed": seed}
        return TrainSettings.model_validate(merged)


def cell_name(base: Base, mixture: MixConfig, method: Method | None, seed: int) -> str:
    """The name of a tuned model, and of its folders."""
    return "--".join([base.name, mixture.name, *([method.name] if method else []), f"s{seed}"])


def row_name(mixture: MixConfig, method: Method | None) -> str:
    """The name of a row of the report: the mixture, and how it was trained on if that is told."""
    return f"{mixture.name} ({method.name})" if method else mixture.name


def label_of(spec: EvalSpec) -> str:
    """A benchmark's full label, `name:setting`."""
    return benchmark_named(spec.benchmark).label


def load_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study's YAML; errors name file, line and field."""
    if path.is_dir():
        raise UserError("is a folder, a study's YAML is needed", file=path)
    return load_config(path, Study, overrides)
