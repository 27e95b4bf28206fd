"""What a mixture is: parts of sources, files and other mixtures, and how much of each is taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, PositiveInt, field_validator, model_validator

from cameleer.chat.render import Rule
from cameleer.core.config import Config, FolderName, load_config
from cameleer.core.errors import UserError, unknown
from cameleer.data.mix.filters import Filters

NAMED = Path(__file__).parent / "named"
Unit = Literal["examples", "tokens"]


class Part(Config):
    """One part of a mixture: a source, a file of conversations, or another mixture.

    source: name of a source, read by `rule` from the folder `from` (default: the data folder).
    file: a conversations file. mix: a named mixture, a YAML file, or a mixture in place.
    licence: what the part is under; default: what the sources' cards state.
    name: default the source's, the mixture's, or the file's without its ending.
    seed: of the part's sample; default: made of the mixture's seed and the part's name.

    How much of it is taken: all, `count`, `fraction`, or as its `weight` among all parts says.
    repeat: so many times over. max_count, max_tokens: conversations and supervised tokens that it
    gives at most, all repeats included. filters: applied before anything is counted or taken.
    """

    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(default="", pattern=r"^[^/]+$")
    source: str | None = None
    folder: Path | None = Field(default=None, alias="from")
    rule: Rule | None = None
    file: Path | None = None
    licence: str | None = None
    mix: MixConfig | str | None = None
    seed: int | None = None
    count: PositiveInt | None = None
    fraction: float | None = Field(default=None, gt=0, le=1)
    weight: float | None = Field(default=None, gt=0)
    repeat: PositiveInt = 1
    max_count: PositiveInt | None = None
    max_tokens: PositiveInt | None = None
    filters: Filters = Filters()

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """A part without a name of its own has that of its origin."""
        if not isinstance(value, dict) or value.get("name"):
            return value
        mix = value.get("mix")
        inline = mix.get("name") if isinstance(mix, dict) else getattr(mix, "name", None)
        file = value.get("file") or (mix if isinstance(mix, str) else None)
        stem = Path(file).stem if isinstance(file, str | Path) else None
        return {**value, "name": value.get("source") or inline or stem or "part"}

    @field_validator("mix", mode="before")
    @classmethod
    def _in_place(cls, value: Any) -> Any:
        """A mixture in place is read here: in a union its mistakes would lose their place."""
        if isinstance(value, dict):
            return MixConfig.model_validate(value)
        if not isinstance(value, str | MixConfig | None):
            raise ValueError("is neither a name, nor a YAML file, nor a mixture")
        return value

    @model_validator(mode="after")
    def _one_origin_and_one_amount(self) -> Part:
        given = self.model_fields_set
        if sum(origin is not None for origin in (self.source, self.file, self.mix)) != 1:
            raise ValueError("a part has one of 'source', 'file' and 'mix'")
        for field, shown in (("folder", "from"), ("rule", "rule")):
            if field in given and self.source is None:
                raise ValueError(f"'{shown}' goes with 'source'")
        if self.licence is not None and self.mix is not None:
            raise ValueError("'licence' goes with 'source' or 'file'")
        if sum(x is not None for x in (self.count, self.fraction, self.weight)) > 1:
            raise ValueError("a part has one of 'count', 'fraction' and 'weight'")
        if self.weight is not None and self.repeat > 1:
            raise ValueError("'repeat' does not go with 'weight', which repeats as is needed")
        return self

    @property
    def asked(self) -> str:
        """How much of it is asked for, in words."""
        words = [
            self.count and f"{self.count:,}",
            self.fraction and f"{self.fraction:.4g} of it",
            self.weight and f"weight {self.weight:.4g}",
            self.repeat > 1 and f"{self.repeat} times",
            self.max_count and f"at most {self.max_count:,}",
            self.max_tokens and f"at most {self.max_tokens:,} tokens",
        ]
        return ", ".join(word for word in words if word) or "all"


class MixConfig(Config):
    """A mixture: its name, a word about it, the seed of all its choices, and its parts.

    seed: default 42, or what the mixture around it makes of its own.
    rule: by which sources are read that do not say; default `fixed`.
    weigh: what the parts' weights are shares of, examples (conversations) or supervised tokens.
    total: how many of them, with weights; default: as many as there are without a repetition.
    filters: for all parts together, after their own; duplicates are dropped across parts.
    tokenizer: folder, hub id or `embedded:NAME`; needed where tokens are spoken of. Tokens are
    counted in `template`. max_seq_length: where training will cut; supervised tokens are counted up
    to there, and sources that split long conversations (`sharegpt`) split them to that.
    """

    name: FolderName
    about: str = ""
    seed: int | None = None
    rule: Rule | None = None
    tokenizer: str | None = None
    template: str = "tulu"
    max_seq_length: PositiveInt | None = None
    weigh: Unit = "examples"
    total: PositiveInt | None = None
    filters: Filters = Filters()
    parts: list[Part] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> MixConfig:
        for name, times in Counter(part.name for part in self.parts).items():
            if times > 1:
                raise ValueError(
                    f"{times} parts are named '{name}'; names must differ: give one a 'name'"
                )
        return self

    @model_validator(mode="after")
    def _weights_for_all_or_none(self) -> MixConfig:
        without = [part.name for part in self.parts if part.weight is None]
        if without and len(without) < len(self.parts):
            raise ValueError(f"part '{without[0]}' has no 'weight', others have: give it to all")
        if without and (self.total is not None or self.weigh == "tokens"):
            field = "weigh" if self.total is None else "total"
            raise ValueError(f"'{field}' goes with parts that have a 'weight'")
        return self

    @property
    def weighted(self) -> bool:
        return self.parts[0].weight is not None


Part.model_rebuild()


def named_mixtures() -> dict[str, Path]:
    """The files of the mixtures that come with us, by name."""
    return {path.stem: path for path in sorted(NAMED.glob("*.yaml"))}


def load_mixture(given: str, overrides: Sequence[str] = ()) -> MixConfig:
    """The mixture that a name or a YAML file stands for."""
    named = named_mixtures()
    if given not in named and Path(given).suffix not in (".yaml", ".yml"):
        raise unknown("mixture", given, named, "cameleer mix ls")
    return load_config(named.get(given) or Path(given), MixConfig, overrides)


def expand(config: MixConfig) -> MixConfig:
    """The mixture with all mixtures that it names put in place.

    Raises UserError for one that is not there or holds itself, for mixtures that count tokens in
    another way than the outermost does, and for tokens that are spoken of without a tokenizer.
    """
    whole = _expand(config, ())
    _require_one_way_of_counting(whole, whole)
    return whole


def _expand(config: MixConfig, trail: tuple[str, ...]) -> MixConfig:
    parts = []
    for part in config.parts:
        if part.mix is not None:
            below = trail
            if isinstance(part.mix, str):
                below = (*trail, part.mix)
                if part.mix in trail:
                    circle = " > ".join(below[trail.index(part.mix) :])
                    raise UserError(f"mixture '{part.mix}' holds itself: {circle}")
            inner = part.mix if isinstance(part.mix, MixConfig) else load_mixture(part.mix)
            part = part.model_copy(update={"mix": _expand(inner, below)})
        parts.append(part)
    return config.model_copy(update={"parts": parts})


def _require_one_way_of_counting(outer: MixConfig, here: MixConfig) -> None:
    for field in ("tokenizer", "template", "max_seq_length"):
        if field in here.model_fields_set and getattr(here, field) != getattr(outer, field):
            raise UserError(
                f"mixture '{here.name}' counts tokens with another '{field}' than '{outer.name}'",
                field=field,
                hint=f"say in '{outer.name}', which holds the other, what is meant",
            )
    speaks = [f"mixture '{here.name}'"] * (here.weigh == "tokens" or here.filters.needs_tokens)
    speaks += [
        f"part '{part.name}'"
        for part in here.parts
        if part.max_tokens is not None or part.filters.needs_tokens
    ]
    if speaks and outer.tokenizer is None:
        raise UserError(
            f"{speaks[0]} counts tokens, and '{outer.name}' names no tokenizer to count with",
            field="tokenizer",
            hint="a folder, a hub id, or embedded:smollm2-135m-instruct",
        )
    for part in here.parts:
        if isinstance(part.mix, MixConfig):
            _require_one_way_of_counting(outer, part.mix)
