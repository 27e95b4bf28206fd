"""Typed configuration: YAML, TOML and dotted overrides, read into models that forbid typos."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from cameleer.core.errors import UserError
from cameleer.core.files import read_text

FIELDS = 100_000  # of a file whose lines are known; aliases of aliases may stand for billions


class Config(BaseModel):
    """Base of every configuration: unknown fields are errors, values do not change once read, and
    numbers are finite."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )


def _of_a_folder(name: str) -> str:
    if not name.strip() or name.startswith(".") or re.search(r"[/\\\x00-\x1f\x7f]", name):
        raise ValueError("names a folder: no slash, no line break, no point at its beginning")
    return name


FolderName = Annotated[str, AfterValidator(_of_a_folder)]
"""A name by which a folder is called, so that no file of others' writes elsewhere."""
PlainName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
"""The same without spaces, for what stands in commands."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""A seed that torch, numpy and Python's random all take."""
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
    lines: Lines = dict(islice(_lines(node, path), FIELDS))
    for override in overrides:
        lines[_override(values, override)] = None
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _as_user_error(error, model, path, lines) from None


def load_toml(path: Path, model: type[Model]) -> Model:
    """Read a TOML file into `model`.

    Raises UserError naming file, line and field for broken TOML, an unknown or a wrong field.
    """
    values = read_toml(path)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _as_user_error(error, model, path, _toml_lines(read_text(path))) from None


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file; a syntax error names its line."""
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        said, _, where = str(error).partition(" (at ")
        line = re.match(r"line (\d+)", where)
        about = f"broken TOML: {said[0].lower()}{said[1:]}"
        raise UserError(about, file=path, line=int(line[1]) if line else None) from None


def read_options(
    model: type[Model], given: Mapping[str, Any], overrides: Sequence[str] = ()
) -> Model:
    """Options that no file holds: values by field, then each override as `field=value`."""
    values = dict(given)
    lines: Lines = {_override(values, override): None for override in overrides}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _as_user_error(error, model, None, lines) from None


Lines = dict[tuple[str, ...], int | None]
"""Where each field stands: its line, from 1, or None if it was given as an override."""


def _override(values: dict[str, Any], override: str) -> tuple[str, ...]:
    """Set the value that `a.b=value` gives; returns the field's path."""
    name, equals, text = override.partition("=")
    if not equals:
        raise UserError(f"override '{override}' has no '='", hint="write it as a.b=value")
    *parents, last = name.split(".")
    here: Any = values
    for parent in parents:
        if isinstance(here, dict) and here.get(parent) is None:
            here[parent] = {}
        here = here[parent] if isinstance(here, dict) else None
    if not isinstance(here, dict):
        raise UserError(f"override '{override}' goes into a field that is not a mapping")
    try:
        here[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"override '{override}' has a value that is broken YAML") from None
    return (*parents, last)


def _lines(
    node: yaml.Node | None, file: Path, path: tuple[str, ...] = (), around: Sequence[yaml.Node] = ()
) -> Iterator[tuple[tuple[str, ...], int]]:
    """The line at which each field of a YAML document stands; a field given twice is an error, and
    so is one that holds itself. around: the nodes that hold this one."""
    if node in around:
        line = node.start_mark.line + 1 if node else None
        raise UserError("holds itself", file=file, line=line, field=".".join(path))
    around = [*around, node] if node else around
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in seen:
                field = ".".join((*path, name))
                raise UserError("is given twice", file=file, line=line, field=field)
            seen.add(name)
            yield (*path, name), line
            yield from _lines(value, file, (*path, name), around)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, str(index)), value.start_mark.line + 1
            yield from _lines(value, file, (*path, str(index)), around)


def _toml_lines(text: str) -> Lines:
    """The line of each `key =` and `[table]`, as far as they are written plainly."""
    table: tuple[str, ...] = ()
    found: Lines = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.fullmatch(r"\[([\w.-]+)\]\s*(#.*)?", line):
            table = tuple(header[1].split("."))
            found.setdefault(table, number)
        elif key := re.match(r"([\w.-]+)\s*=", line):
            found.setdefault((*table, *key[1].split(".")), number)
    return found


def _as_user_error(
    error: ValidationError, model: type[BaseModel], path: Path | None, lines: Lines
) -> UserError:
    found = error.errors()  # a typo in a required field is two errors: the typo says more
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    where = tuple(str(part) for part in first["loc"])
    known_at = next((where[:n] for n in range(len(where), 0, -1) if where[:n] in lines), None)
    line = lines[known_at] if known_at else None
    file = None if known_at and line is None else path
    hint = None
    if first["type"] == "extra_forbidden" and where:
        known = _fields_at(model, where[:-1])
        near = difflib.get_close_matches(where[-1], known, n=1)
        message = "is not known"
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(known))}"
    else:
        message = first["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
    return UserError(message, file=file, line=line, field=".".join(where) or None, hint=hint)


def _fields_at(model: Any, where: tuple[str, ...]) -> list[str]:
    """Names of the fields that the model reached by `where` has."""
    here = model
    for part in where:
        fields = getattr(here, "model_fields", {})
        here = _model_in(fields[part].annotation) if part in fields else here
    return list(getattr(here, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    """The first model that a type such as `dict[str, Model] | None` speaks of, or None."""
    if hasattr(annotation, "model_fields"):
        return annotation
    return next(filter(None, map(_model_in, getattr(annotation, "__args__", ()))), None)
