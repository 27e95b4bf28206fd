"""Options and output that the verbs share."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cameleer.core.console import emit_json, table
from cameleer.core.errors import UserError
from cameleer.core.files import require_plain


def group(about: str) -> typer.Typer:
    """A group of verbs."""
    return typer.Typer(help=about, no_args_is_help=True, rich_markup_mode="markdown")


class Rule(StrEnum):
    """`paper`: what the paper's code did, defects included. `fixed`: the defects mended."""

    paper = "paper"
    fixed = "fixed"


class Form(StrEnum):
    """How a prompt is put: in the chat template, or as plain text."""

    chat = "chat"
    plain = "plain"


Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]
RuleOption = Annotated[
    Rule, typer.Option(help="`paper`: what the paper's code did; `fixed`: its defects mended.")
]
Output = Annotated[Path, typer.Option("-o", "--output", help="Where the result goes.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Folder of native files. [default: $CAMELEER_DATA]")
]
EngineName = Annotated[
    str | None,
    typer.Option("--engine", help="What answers, of `eval engines`. [default: by MODEL]"),
]
EngineOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--engine-option", help="An option of the engine, as name=value; can be given again."
    ),
]
TokenizerOption = Annotated[
    str, typer.Option("--tokenizer", "-t", help="Folder, hub id, or embedded:NAME.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first bad record.")]
HardwareName = Annotated[
    str | None,
    typer.Option(
        help="h100-80g, a100-80g, a100-40g, rtx4090, l40s, mi250x or cpu. [default: this one]"
    ),
]
Overrides = Annotated[list[str] | None, typer.Argument(help="Fields to change, as a.b=value.")]
Conversations = Annotated[Path, typer.Argument(help="A file of conversations.")]
TemplateOption = Annotated[str, typer.Option("--template", help="The chat template.")]
MaxTokens = Annotated[
    int, typer.Option("--max-tokens", min=1, help="Tokens at which a conversation is cut.")
]


def show(json: bool, facts: dict[str, Any], title: str, rows: list[dict[str, Any]]) -> None:
    """Facts as one JSON object, or rows as a table."""
    if json:
        emit_json(facts)
    elif rows:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        table(title, columns, [[row.get(column, "") for column in columns] for row in rows])


def shown_counts(counts: Counter[str]) -> dict[str, int]:
    """Counts that say something: `read` and `kept`, and whatever else is not 0."""
    return {k: v for k, v in counts.items() if v or k in ("read", "kept")}


def rounded(row: dict[str, Any]) -> dict[str, Any]:
    """Floats as people read them."""
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}


def out_file(path: Path) -> Path:
    """Where a file is to be written; a folder or a device there would be replaced by it."""
    require_plain(path, "output")
    return out_folder(path)


def out_folder(path: Path) -> Path:
    """Where something is to be written, in a folder that is there or can be made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = (error.strerror or "unknown reason").lower()
        raise UserError(f"its folder cannot be made: {reason}", file=path, field="output") from None
    return path


StudyFolder = Annotated[
    Path | None, typer.Option("-o", "--output", help="The study's folder. [default: runs/NAME]")
]


def study_folder(file: Path, output: Path | None, overrides: Sequence[str] = ()) -> Path:
    """The folder of a study that was given as such, or by its file.

    Raises UserError for settings or -o beside a folder, which has both already.
    """
    if not file.is_dir():
        from cameleer.study.study import load_study

        return output or Path("runs") / load_study(file, overrides).name
    if output or overrides:
        hint = "it holds its settings, and its report is written into it"
        raise UserError("is a folder: settings and -o go with a study's file", file=file, hint=hint)
    return file
