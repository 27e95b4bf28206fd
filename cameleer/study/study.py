"""What a study declares: a grid of bases, mixtures, seeds and benchmarks, and how to run it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveInt, field_validator, model_validator

from cameleer.core.config import Config, load_config
from cameleer.core.errors import UserError, unknown
from cameleer.data.miniature import Miniature
from cameleer.data.mix.config import MixConfig
from cameleer.evals.benchmark import benchmark_named
from cameleer.evals.runner import EvalSpec
from cameleer.model.load import Precision
from cameleer.results.records import Format
from cameleer.train.config import TrainSettings


def _settings(value: dict[str, Any]) -> dict[str, Any]:
    """An unknown training setting is told here, where file and line of the field are known."""
    known = TrainSettings.model_fields
    for name in value.keys() - known.keys():
        raise ValueError(str(unknown("training setting", name, known, "docs/reference/cli.md")))
    return value


TrainChanges = Annotated[dict[str, Any], AfterValidator(_settings)]
"""Training settings that differ from the study's own."""


class Base(Config):
    """A base model: folder, hub id or `embedded:NAME`; `train` changes settings for it alone."""

    name: str
    model: str
    about: str = ""
    train: TrainChanges = Field(default_factory=dict)


class Method(Config):
    """A way of training, such as `full` or `lora`, told by the settings that it changes."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    train: TrainChanges = Field(default_factory=dict)


class EngineSpec(Config):
    """How models answer: precision, and most sequences that are generated at a time."""

    engine: Literal["transformers"] = "transformers"
    precision: Precision = "auto"
    batch_size: PositiveInt = 32

    def identity(self, model: str) -> dict[str, Any]:
        """What decides an answer, for the fingerprint; `model` is the model's own fingerprint."""
        return {**self.model_dump(), "model": model}


def _known(spec: EvalSpec) -> EvalSpec:
    """An unknown benchmark is told here, where file and line of the field are known."""
    try:
        label_of(spec)
    except UserError as error:
        raise ValueError(str(error)) from None
    return spec


class Study(Config):
    """A study: every base as it is, and tuned on every mixture with every seed, on all benchmarks.

    methods: ways of training that are set side by side, each on every mixture; none: one way, as
    `train` says. A method's settings go before a base's, which go before the study's.
    data: folder of native files (`instruct/…`, `eval/…`; default: the data folder), or `miniature`
    with its sizes for the generated world.
    base_format: how untuned bases are asked; the paper asked them without the chat format, and
    tuned models in each benchmark's own.
    allow_code_execution: whether benchmarks may run code that models wrote, in the sandbox; where
    the file doesn't say, the user is asked.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    about: str = ""
    data: Path | None = None
    miniature: Miniature | None = None
    bases: list[Base] = Field(min_length=1)
    mixtures: list[MixConfig] = Field(min_length=1)
    methods: list[Method] = Field(default_factory=list)
    seeds: list[int] = Field(default=[42], min_length=1)
    train: TrainSettings = TrainSettings()
    engine: EngineSpec = EngineSpec()
    base_format: Format | None = "plain"
    benchmarks: list[Annotated[EvalSpec, AfterValidator(_known)]] = Field(min_length=1)
    allow_code_execution: bool | None = None

    @field_validator("benchmarks", mode="before")
    @classmethod
    def _labels_alone(cls, value: Any) -> Any:
        """A benchmark may be given by its label alone."""
        given = value if isinstance(value, list) else [value]
        return [{"benchmark": one} if isinstance(one, str) else one for one in given]

    @model_validator(mode="after")
    def _makes_sense(self) -> Study:
        if self.data is not None and self.miniature is not None:
            raise ValueError("give either 'data' or 'miniature'")
        named = {
            "bases": [base.name for base in self.bases],
            "mixtures": [mixture.name for mixture in self.mixtures],
            "methods": [method.name for method in self.methods],
            "benchmarks": [label_of(spec) for spec in self.benchmarks],
            "seeds": [str(seed) for seed in self.seeds],
        }
        for field, names in named.items():
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"'{twice}' stands twice in '{field}'")
        for base in self.bases:
            for method in self.ways():
                self.train_settings(base, method, self.seeds[0])
        return self

    def ways(self) -> Sequence[Method | None]:
        """The methods, or None alone where the study compares none."""
        return self.methods or [None]

    def train_settings(self, base: Base, method: Method | None, seed: int) -> TrainSettings:
        """The settings for one base, method and seed."""
        own = method.train if method else {}
        merged = {**self.train.model_dump(), **base.train, **own, "seed": seed}
        return TrainSettings.model_validate(merged)


def label_of(spec: EvalSpec) -> str:
    """A benchmark's full label, `name:setting`."""
    return benchmark_named(spec.benchmark).label


def load_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study's YAML; errors name file, line and field."""
    if path.is_dir():
        raise UserError("is a folder, a study's YAML is needed", file=path)
    return load_config(path, Study, overrides)
