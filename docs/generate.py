"""Writes the pages that follow from the code: `python -m docs.generate`; `--check` fails if stale.

These are docs/reference, but for what is written by hand there, and the list of how-to pages.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from enum import EnumMeta
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer.main
import yaml
from pydantic import BaseModel

from cameleer.chat import template
from cameleer.cli import app
from cameleer.core.config import Config
from cameleer.core.plugins import plugins
from cameleer.data.mix.config import MixConfig, Part
from cameleer.data.mix.filters import Filters
from cameleer.data.source import all_sources
from cameleer.engines.registry import engines
from cameleer.evals.asking import EvalSpec
from cameleer.evals.benchmark import GROUP, HOME, Setting
from cameleer.evals.suite import Suite
from cameleer.model.adapters import LoraSpec
from cameleer.model.embedded import EMBEDDED
from cameleer.study.budget import Budget
from cameleer.study.designs import Design
from cameleer.study.study import Base, EngineSpec, Method, Reference, Study
from cameleer.train.config import TrainConfig, TrainSettings
from docs import api, how_to, support
from docs.markdown import page, table

DOCS = Path(__file__).parent
CONFIGS: dict[str, tuple[type[BaseModel], str]] = {
    "Study": (Study, "`cameleer study … STUDY.yaml`"),
    "Design": (Design, "a study's `design`"),
    "Budget": (Budget, "a study's `budget`"),
    "Base": (Base, "an entry of a study's `bases`"),
    "MixConfig": (MixConfig, "`cameleer mix build MIX.yaml`, and an entry of a study's `mixtures`"),
    "Filters": (Filters, "`filters` of a mixture, or of a part"),
    "Part": (Part, "an entry of a mixture's `parts`"),
    "Method": (Method, "an entry of a study's `methods`"),
    "TrainSettings": (TrainSettings, "a study's `train`, and a base's"),
    "TrainConfig": (TrainConfig, "`cameleer train run CONFIG.yaml`, besides the training settings"),
    "LoraSpec": (LoraSpec, "`lora` of the training settings"),
    "EvalSpec": (EvalSpec, "an entry of a study's `benchmarks`, or the benchmark's label alone"),
    "Suite": (Suite, "`cameleer eval run MODEL --suite SUITE.yaml`"),
    "Reference": (Reference, "an entry of a study's `references`"),
    "EngineSpec": (EngineSpec, "a study's `engine`, and a reference's; the options of each engine "
                   "are listed in [plug-ins](plugins.md#engines)"),
}  # fmt: skip


def pages() -> dict[str, str]:
    """Each page's text by its path within docs."""
    return {
        "reference/cli.md": cli_page(),
        "reference/plugins.md": plugins_page(),
        "reference/config.md": config_page(),
        "reference/api.md": page("Python", api.ABOUT, api.api_parts()),
        "reference/support.md": page(
            "What is supported, and which test shows it", support.ABOUT, support.support_parts()
        ),
        "how-to/index.md": page("How to", how_to.ABOUT, how_to.index_parts()),
    }


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or with `--check` say which ones differ from what would be written."""
    stale = {name: text for name, text in pages().items() if _read(DOCS / name) != text}
    for name, text in stale.items():
        if "--check" in arguments:
            print(f"docs/{name} is stale: run `python -m docs.generate`", file=sys.stderr)
        else:
            (DOCS / name).write_text(text, encoding="utf-8")
    return "--check" in arguments and len(stale) > 0


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


# ---- commands


def cli_page() -> str:
    """Every command with its arguments, options and example."""
    about = (
        "Every command has `--help`. With `--json`, stdout holds one JSON object and nothing else;"
        "\nnotes and progress go to stderr. Exit codes: 0 done; 2 your mistake, told in one line "
        "that\nnames file, line and field; 1 a bug of ours; 130 interrupted. Whatever was "
        "interrupted or killed\ngoes on when the same command is given again."
    )
    return page("Commands", about, _commands())


def _commands() -> Iterator[str]:
    for group_name, group in typer.main.get_group(app).commands.items():
        yield f"## {group_name}"
        yield ""
        if not hasattr(group, "commands"):  # a command by itself
            yield from _command(f"cameleer {group_name}", group)
            continue
        yield str(group.help)
        yield ""
        for name, command in group.commands.items():
            yield from _command(f"cameleer {group_name} {name}", command)


def _command(name: str, command: Any) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    shown = " ".join(_placeholder(argument) for argument in arguments)
    yield f"### {name}"
    yield ""
    yield f"    {name} {shown} [OPTIONS]".replace("  [", " [")
    yield ""
    yield inspect.cleandoc(command.help or "")
    yield ""
    hints = get_type_hints(inspect.unwrap(command.callback))
    rows = [[f"`{_placeholder(p)}`", "needed" if p.required else "", p.help] for p in arguments]
    rows += [[f"`{'`, `'.join(_flags(p, hints))}`", _default(p), p.help] for p in options]
    yield from table(["argument, option", "default", "meaning"], rows)


def _placeholder(argument: Any) -> str:
    name = argument.name.upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _flags(option: Any, hints: dict[str, Any]) -> list[str]:
    """The option's names, the last one with what it takes."""
    kinds = [kind for kind in (hints[option.name], *get_args(hints[option.name])) if kind]
    enums: list[Any] = [kind for kind in kinds if isinstance(kind, EnumMeta)]
    values = [str(one.value) for kind in enums for one in kind]
    value = "" if option.is_flag else f" {'|'.join(values) or option.name.upper()}"
    return [*option.opts[:-1], option.opts[-1] + value, *option.secondary_opts]


def _default(option: Any) -> str:
    if option.required:
        return "needed"
    default = getattr(option.default, "value", option.default)
    if option.is_flag:
        return f"`{option.opts[0]}`" if default else ""
    return "" if default in (None, "") else f"`{default}`"


# ---- plug-ins


def plugins_page() -> str:
    """Every source, benchmark, engine, template and embedded model, from its card."""
    about = (
        "One small file each; its docstring is the card shown here. How to add one: "
        "[a source](../how-to/add-a-source.md), [a benchmark](../how-to/add-a-benchmark.md),\n"
        "[an engine](../how-to/engines.md)."
    )
    return page("Plug-ins", about, _plugins())


def _plugins() -> Iterator[str]:
    yield "## Sources"
    yield ""
    yield "Means are those of the paper's Table 1, in LLaMA tokens."
    yield ""
    for name, module in all_sources().items():
        card = module.CARD
        yield from _card(name, module)
        facts = [["native files", ", ".join(f"`{native}`" for native in card.native)]]
        if card.any_file:
            facts += [["or", "one file of any name"]]
        if card.instances is not None:
            lengths = f"{card.prompt_tokens}, {card.completion_tokens} tokens"
            facts += [
                ["instances", f"{card.instances:,}"],
                ["mean rounds", str(card.rounds)],
                ["mean prompt, completion", lengths],
                ["citation", card.citation],
            ]
        if card.derived_from:
            facts += [["made from", ", ".join(f"`{name}`" for name in card.derived_from)]]
        yield from table(["fact", "value"], facts)
    yield "## Benchmarks"
    yield ""
    for name, module in sorted(plugins(HOME, GROUP).items()):
        yield from _card(name, module)
        yield from table(
            ["setting", "about", "metric", "format", "samples", "temperature", "new tokens"],
            [_setting(label, one) for label, one in module.SETTINGS.items()],
        )
    yield "## Engines"
    yield ""
    yield "Options are given as `--engine-option name=value`, or in a study's `engine`. Those that"
    yield "decide no answer, such as how many are asked at a time, are no part of its fingerprint."
    yield ""
    for name, module in sorted(engines().items()):
        yield from _card(name, module)
        yield from _options(module.Options)
    yield "## Chat templates"
    yield ""
    for name, module in sorted(plugins("cameleer.chat.templates", "cameleer.templates").items()):
        yield from _template(name, module.TEMPLATE)
    yield "## Embedded models"
    yield ""
    rows = [
        [f"`embedded:{name}`", one.about, one.licence, f"`{one.wheel}`"]
        for name, one in EMBEDDED.items()
    ]
    yield from table(["model", "what it is", "licence", "from the wheel"], rows)


def _options(model: type[Config]) -> Iterator[str]:
    """What can be set about an engine, that of the classes below included."""
    if not model.model_fields:
        return
    classes = [one for one in reversed(model.__mro__) if issubclass(one, Config)][1:]
    yield from ["```text", *(inspect.cleandoc(one.__doc__ or "") for one in classes), "```", ""]
    decides = ["" if field.exclude else "yes" for field in model.model_fields.values()]
    fields = zip(_fields(model, inherited=True), decides, strict=True)
    rows = [[*row, decided] for row, decided in fields]
    yield from table(["option", "type", "default", "in the fingerprint"], rows)


def _card(name: str, module: Any) -> Iterator[str]:
    yield f"### {name}"
    yield ""
    yield "```text"
    yield inspect.cleandoc(module.__doc__ or "")
    yield "```"
    yield ""


def _setting(label: str, one: Setting) -> list[str]:
    tokens = "choices" if one.choices else str(one.max_new_tokens)
    return [f"`{label}`", one.about, one.metric, one.format, str(one.samples),
            str(one.temperature), tokens]  # fmt: skip


def _template(name: str, one: template.Template) -> Iterator[str]:
    yield f"### {name}"
    yield ""
    rows = [[role, f"`{one.headers[role]!r}`", f"`{one.footers[role]!r}`"] for role in one.headers]
    yield from table(["role", "opens with", "closes with"], rows)


# ---- configuration


def config_page() -> str:
    """Every field of every YAML file."""
    about = (
        "Unknown fields are errors. A value is overridden on the command line by its dotted path:\n"
        "`train.learning_rate=1e-5`. Paths are relative to the folder the command is given in."
    )
    return page("Configuration", about, _configs())


def _configs() -> Iterator[str]:
    for name, (model, where) in CONFIGS.items():
        yield f"## {name}"
        yield ""
        yield f"Where: {where}."
        yield ""
        yield "```text"
        yield inspect.cleandoc(model.__doc__ or "")
        yield "```"
        yield ""
        yield from table(["field", "type", "default"], list(_fields(model)))


def _fields(model: type[BaseModel], *, inherited: bool = False) -> Iterator[list[str]]:
    hints = get_type_hints(model)
    bases = () if inherited else model.__bases__
    above: set[str] = {name for base in bases for name in _names(base)}
    for name, field in model.model_fields.items():
        if name in above:
            continue
        kind = _kind(hints[name])
        if field.is_required():
            default = "needed"
        else:
            value = field.get_default(call_default_factory=True)
            default = "" if isinstance(value, BaseModel) else f"`{_yaml(value)}`"
        yield [f"`{field.alias or name}`", f"`{kind}`", default]


def _names(model: type[Any]) -> set[str]:
    return set(model.model_fields) if issubclass(model, BaseModel) else set()


def _yaml(value: Any) -> str:
    """A value as YAML writes it."""
    text = str(yaml.safe_dump(value, default_flow_style=True, width=1000))
    return text.removesuffix("...\n").strip()


def _kind(hint: Any) -> str:
    """A type as it reads in YAML."""
    if hint is type(None):
        return "null"
    if not (parts := get_args(hint)):
        name = str(hint.__name__)
        return {"Path": "path", "str": "text"}.get(name, name)
    origin: Any = getattr(hint, "__origin__", None)
    if origin is list:
        return f"list of {_kind(parts[0])}"
    if origin is dict:
        return "fields"
    if all(isinstance(part, str) for part in parts):
        return " | ".join(parts)
    return " | ".join(_kind(part) for part in parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
