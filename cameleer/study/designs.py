"""Designs: a list of sources with counts, and the mixtures by which their effects are told apart.

A design's mixtures differ in nothing but what they hold: a source's conversations are drawn by one
seed, so that `cot` is the same 100 conversations in every mixture that has all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Annotated, Any, Literal
from zlib import crc32

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from cameleer.core.config import Config
from cameleer.core.errors import unknown
from cameleer.data.mix.config import MixConfig, Part

Kind = Literal["single", "leave-one-out", "add-one-in", "pairs", "ratios", "sizes", "random"]
Ratio = Annotated[dict[str, PositiveFloat], Field(min_length=1)]
SEED = 42
ALL = "all"  # the name of the mixture of every source


class Source(Part):
    """A source of a design: a part of a mixture with its `count` of conversations."""

    @model_validator(mode="after")
    def _counted(self) -> Source:
        if self.count is None:
            raise ValueError("a source of a design needs 'count', how many conversations it gives")
        for field in ("weight", "fraction", "repeat"):
            if field in self.model_fields_set:
                raise ValueError(f"'{field}' does not go with a design, whose sources have 'count'")
        return self

    @property
    def most(self) -> int:
        """Conversations that it gives at most."""
        return min(self.count or 0, self.max_count or self.count or 0)


class Design(Config):
    """Mixtures over a list of sources, for `study plan` to show and `study run` to train.

    mixtures: which ones: `single` each source alone; `leave-one-out` all sources, and all but each;
    `add-one-in` those of `core`, and with each other one; `pairs` every two; `ratios` as the list
    of that name says; `sizes` all sources at each share of `sizes`; `random` the control: of all
    sources together as many conversations, drawn at random, as the other mixtures have, or as many
    supervised tokens as `tokens` lists. (Every study asks the base as it is, the other control.)
    ratios: each by source its part, such as `{cot: 3, dolly: 1}`. total: conversations of each,
    default: as many as the counts allow. seed: of what is drawn. tokenizer, template,
    max_seq_length: as a mixture's, where tokens are counted.
    """

    mixtures: list[Kind] = Field(min_length=1)
    sources: list[Source] = Field(min_length=1)
    core: list[str] = Field(default_factory=list)
    ratios: list[Ratio] = Field(default_factory=list)
    total: PositiveInt | None = None
    sizes: list[float] = Field(default_factory=list)
    tokens: list[PositiveInt] = Field(default_factory=list)
    seed: int = SEED
    tokenizer: str | None = None
    template: str = "tulu"
    max_seq_length: PositiveInt | None = None

    @field_validator("mixtures", mode="before")
    @classmethod
    def _one_alone(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _makes_sense(self) -> Design:
        self._names_are_known()
        self._fields_are_used()
        names = [mixture.name for mixture in self.expand()]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two different mixtures would be named '{twice}'")
        return self

    def _names_are_known(self) -> None:
        names = [source.name for source in self.sources]
        for index, name in enumerate(names):
            if name in names[:index]:
                _refuse(("sources", index), f"'{name}' stands twice: give one a 'name'")
            if name == ALL or "+" in name:
                _refuse(("sources", index), f"'{name}' may not be a source's name in a design")
        said = [(("core", index), name) for index, name in enumerate(self.core)]
        said += [(("ratios", i), name) for i, one in enumerate(self.ratios) for name in one]
        for where, name in said:
            if name not in names:
                about = unknown("source", name, names, "the design's 'sources'")
                _refuse(where, str(about).replace("`", ""))
        if len(set(self.core)) < len(self.core):
            _refuse(("core",), "names a source twice")

    def _fields_are_used(self) -> None:
        """What belongs to one kind of mixture is there if that kind is, and not otherwise."""
        kinds = self.mixtures
        if twice := next((kind for kind in kinds if kinds.count(kind) > 1), None):
            _refuse(("mixtures",), f"'{twice}' stands twice")
        for kind, field in (("add-one-in", "core"), ("ratios", "ratios"), ("sizes", "sizes")):
            if (kind in kinds) != bool(getattr(self, field)):
                missing = f"'{kind}' needs '{field}'" if kind in kinds else f"goes with '{kind}'"
                _refuse((field,) if kind not in kinds else ("mixtures",), missing)
        for field, kind in (("total", "ratios"), ("tokens", "random")):
            if getattr(self, field) and kind not in kinds:
                _refuse((field,), f"goes with '{kind}' among 'mixtures'")
        for index, share in enumerate(self.sizes):
            if not 0 < share <= 1 or share in self.sizes[:index]:
                _refuse(("sizes", index), "is no share above 0 and up to 1, or stands twice")
        alone = len(self.sources) == 1
        for kind in ("leave-one-out", "add-one-in", "pairs", "ratios", "random"):
            if alone and kind in kinds:
                _refuse(("mixtures",), f"'{kind}' needs two sources at least")
        if len(self.core) == len(self.sources):
            _refuse(("core",), "names every source: there is none to add")
        if "random" in kinds and not self.tokens:
            if len(kinds) == 1:
                _refuse(("mixtures",), "'random' needs others to equal, or 'tokens'")
            if any(source.max_tokens for source in self.sources):
                _refuse(("mixtures",), "sources have 'max_tokens': 'random' needs 'tokens'")
        if self.tokens and self.tokenizer is None:
            _refuse(("tokens",), "needs a 'tokenizer' to count with")

    def expand(self) -> list[MixConfig]:
        """The mixtures in the order of the kinds; of two that hold the same, the first."""
        found: dict[str, MixConfig] = {}
        for kind in sorted(self.mixtures, key=lambda kind: kind == "random"):
            for one in list(self._of(kind, list(found.values()))):
                holds = sorted(part.model_dump_json() for part in one.parts)
                found.setdefault(str(holds), one)
        return list(found.values())

    def _of(self, kind: Kind, before: Sequence[MixConfig]) -> Iterator[MixConfig]:
        every = self.sources
        if kind == "single":
            yield from (self._mix(one.name, [one]) for one in every)
        elif kind == "leave-one-out":
            yield self._mix(ALL, every)
            for one in every:
                rest = [other for other in every if other is not one]
                yield self._mix(f"{ALL}-but-{one.name}", rest)
        elif kind == "pairs":
            yield from (self._mix("+".join(p.name for p in two), two) for two in _two(every))
        elif kind == "add-one-in":
            core = [one for one in every if one.name in self.core]
            yield self._mix("core", core)
            added = [one for one in every if one not in core]
            yield from (self._mix(f"core+{one.name}", [*core, one]) for one in added)
        elif kind == "ratios":
            yield from (self._ratio(index) for index in range(len(self.ratios)))
        elif kind == "sizes":
            yield from (self._sized(index) for index in range(len(self.sizes)))
        else:
            yield from self._random(before)

    def _ratio(self, index: int) -> MixConfig:
        shares = self.ratios[index]
        whole = sum(shares.values())
        sources = {one.name: one for one in self.sources if one.name in shares}
        fits = min(one.most * whole / shares[name] for name, one in sources.items())
        total = self.total or int(fits)
        parts = []
        for name, one in sources.items():
            count = round(total * shares[name] / whole)
            if not 0 < count <= one.most:
                about = f"asks for {count} of '{name}', which gives 1 to {one.most}"
                _refuse(("ratios", index), about)
            parts.append(one.model_copy(update={"count": count}))
        said = "+".join(f"{shares[name]:g}x{name}" for name in sources)
        return self._mix(said, parts)

    def _sized(self, index: int) -> MixConfig:
        share = self.sizes[index]
        counts = {one.name: round(share * one.most) for one in self.sources}
        if empty := next((name for name, count in counts.items() if not count), None):
            _refuse(("sizes", index), f"leaves nothing of '{empty}'")
        if share == 1:
            return self._mix(ALL, self.sources)
        parts = [one.model_copy(update={"count": counts[one.name]}) for one in self.sources]
        return self._mix(f"{ALL}-x{share:g}", parts)

    def _random(self, before: Sequence[MixConfig]) -> Iterator[MixConfig]:
        """Controls of all sources together, of each size that there is among the others."""
        whole = self._mix(ALL, self.sources)
        for tokens in self.tokens:
            yield self._mix(f"random-{tokens}-tokens", [Part(mix=whole, max_tokens=tokens)])
        if self.tokens:
            return
        most = sum(one.most for one in self.sources)
        sizes = {sum(min(p.count or 0, p.max_count or most) for p in mix.parts) for mix in before}
        if not (sizes := sizes - {most}):
            _refuse(("mixtures",), "'random': every other mixture is all there is")
        for size in sorted(sizes):
            yield self._mix(f"random-{size}", [Part(mix=whole, count=size)])

    def _mix(self, name: str, parts: Sequence[Part]) -> MixConfig:
        """A mixture of parts whose draws do not depend on what is beside them."""
        seeded = [
            part
            if part.seed is not None
            else part.model_copy(update={"seed": crc32(f"{self.seed}/{part.name}".encode())})
            for part in parts
        ]
        fields = ("tokenizer", "template", "max_seq_length")
        counting = {one: getattr(self, one) for one in fields if one in self.model_fields_set}
        plain = [_as_part(part) for part in seeded]
        return MixConfig(name=name, seed=self.seed, parts=plain, **counting)


def _two(sources: Sequence[Source]) -> Iterator[tuple[Source, ...]]:
    return combinations(sources, 2)


def _as_part(part: Part) -> Part:
    """A design's source as what it is in a mixture."""
    said = {name: getattr(part, name) for name in part.model_fields_set | {"name", "count", "seed"}}
    return Part.model_construct(_fields_set=set(said), **said)


def _refuse(where: tuple[str | int, ...], message: str) -> None:
    """A mistake that is told at its own line, not at the design's."""
    about = PydanticCustomError("design", "{said}", {"said": message})
    wrong = InitErrorDetails(type=about, loc=where, input=None)
    raise ValidationError.from_exception_data("design", [wrong])
