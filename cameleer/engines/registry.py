"""Which engine answers for a model: found by name, set by options, told apart by its identity.

An engine is a module of `cameleer.engines` that has `make` (the others there are what engines are
made of; NAME_plugin stands for NAME where that one is slow to import), or an entry point of the
group `cameleer.engines`. Its docstring is its card, and it holds

    Options                                 a Config; what is set by `--engine-option name=value`
    fingerprint(model) -> str               what tells this model from every other
    make(model, options, identity) -> Engine

and, if the rule `paper` sets some options where the user does not, these as `PAPER`. Options with
`Field(exclude=True)` decide no answer (how many at a time, how long to wait) and stay out of the
identity. Where the version of a program decides answers as well, `version() -> str` tells it, and
raises UserError if the program is not here. BY_NAME = True says that models are no folders, so that
a study cannot have trained them. All but `make` must be quick: what is heavy is imported there.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from cameleer.core.config import Config, read_options
from cameleer.core.errors import unknown
from cameleer.engines.engine import Engine
from cameleer.results.records import Rule

HOME = GROUP = "cameleer.engines"
DEFAULT = "transformers"
NAMED = re.compile(r"([a-z][a-z0-9_]*):(.+)", re.DOTALL)


@dataclass(frozen=True)
class Chosen:
    """A model and the engine that is to answer for it, not yet loaded."""

    name: str
    model: str
    options: Config

    @property
    def module(self) -> ModuleType:
        return engine_named(self.name)

    def identity(self, model: str | None = None) -> dict[str, Any]:
        """What, besides a request, decides an answer; no such model is a UserError.

        model: its fingerprint, where it is known before the model is there to be read.
        """
        decides = {"engine": self.name, **self.options.model_dump(mode="json")}
        if hasattr(self.module, "version"):
            decides["version"] = self.module.version()
        return {**decides, "model": model or self.module.fingerprint(self.model)}

    def open(self, identity: dict[str, Any]) -> Engine:
        """The engine, ready to answer."""
        engine: Engine = self.module.make(self.model, self.options, identity)
        return engine


def choose(
    model: str,
    name: str | None = None,
    given: Mapping[str, Any] | None = None,
    options: Sequence[str] = (),
    rule: Rule = "fixed",
) -> Chosen:
    """The engine for MODEL: the one named, else `ENGINE` of `ENGINE:REST`, else transformers.

    given: options by name; options: further ones as `name=value`. Raises UserError for an engine
    or an option that there is not.
    """
    said = engine_of(model)
    if said and name in (None, said):
        name, model = said, model.removeprefix(f"{said}:")
    module = engine_named(name or DEFAULT)
    paper = getattr(module, "PAPER", {}) if rule == "paper" else {}
    settings = read_options(module.Options, {**paper, **(given or {})}, options)
    return Chosen(name or DEFAULT, model, settings)


def engine_of(model: str) -> str | None:
    """The engine that MODEL names by itself, as `ENGINE:REST`."""
    said = NAMED.fullmatch(model)
    return said[1] if said and said[1] != "embedded" else None


def engine_named(name: str) -> ModuleType:
    """An engine's module; only that one is imported, as some of them load much."""
    if name in (here := _here()):
        module = importlib.import_module(here[name])
        if hasattr(module, "make"):
            return module
    for entry in importlib.metadata.entry_points(group=GROUP, name=name):
        found: ModuleType = entry.load()
        return found
    raise unknown("engine", name, engines(), "cameleer eval engines")


def engines() -> dict[str, ModuleType]:
    """All engines by name."""
    own = {name: importlib.import_module(path) for name, path in _here().items()}
    found = {name: module for name, module in own.items() if hasattr(module, "make")}
    others = importlib.metadata.entry_points(group=GROUP)
    return found | {entry.name: entry.load() for entry in others if entry.name not in found}


def _here() -> dict[str, str]:
    """Modules of our own that may be engines, by name."""
    home = importlib.import_module(HOME)
    found = sorted(info.name for info in pkgutil.iter_modules(home.__path__))
    return {name.removesuffix("_plugin"): f"{HOME}.{name}" for name in found}
