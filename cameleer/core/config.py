"""Typed configuration: YAML and dotted overrides read into pydantic models that forbid typos."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cameleer.core.errors import UserError
from cameleer.core.files import read_text


class Config(BaseModel):
    """Base of every configuration: unknown fields are errors, values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


Model = TypeVar("Model", bound=BaseModel)


def load_config(path: Path, model: type[Model], overrides: Sequence[str] = ()) -> Model:
    """Read a YAML file into `model`; each override is `a.b=value` with a YAML value.

    Raises UserError naming file, line and field for broken YAML, an unknown or a wrong field.
    """
    text = read_text(path)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "cannot be read"
        line = mark.line + 1 if mark else None
        raise UserError(f"broken YAML: {problem}", file=path, line=line) from None
    if not isinstance(values, dict):
        raise UserError("is not a mapping of fields to values", file=path, line=1)
    for override in overrides:
        _override(values, override)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _as_user_error(error, model, path, _lines(node)) from None


def _override(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals:
        raise UserError(f"override '{override}' has no '='", hint="write it as a.b=value")
    *parents, last = name.split(".")
    here: Any = values
    for parent in parents:
        here = here.setdefault(parent, {}) if isinstance(here, dict) else None
    if not isinstance(here, dict):
        raise UserError(f"override '{override}' goes into a field that is not a mapping")
    here[last] = yaml.safe_load(text)


def _lines(node: yaml.Node | None, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], int]:
    """The line, from 1, at which each field of a YAML document stands."""
    found: dict[tuple[str, ...], int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = (*path, str(key.value))
            found[below] = key.start_mark.line + 1
            found |= _lines(value, below)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            below = (*path, str(index))
            found[below] = value.start_mark.line + 1
            found |= _lines(value, below)
    return found


def _as_user_error(
    error: ValidationError, model: type[BaseModel], path: Path, lines: dict[tuple[str, ...], int]
) -> UserError:
    first = error.errors()[0]
    where = tuple(str(part) for part in first["loc"])
    line = next((lines[where[:n]] for n in range(len(where), 0, -1) if where[:n] in lines), None)
    hint = None
    if first["type"] == "extra_forbidden" and where:
        known = _fields_at(model, where[:-1])
        near = difflib.get_close_matches(where[-1], known, n=1)
        message = "is not known"
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(known))}"
    else:
        message = first["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
    return UserError(message, file=path, line=line, field=".".join(where) or None, hint=hint)


def _fields_at(model: Any, where: tuple[str, ...]) -> list[str]:
    """Names of the fields that the model reached by `where` has."""
    here = model
    for part in where:
        fields = getattr(here, "model_fields", {})
        here = fields[part].annotation if part in fields else here
        while not hasattr(here, "model_fields") and getattr(here, "__args__", None):
            models = [arg for arg in here.__args__ if hasattr(arg, "model_fields")]
            here = models[0] if models else here.__args__[-1]
    return list(getattr(here, "model_fields", {}))
