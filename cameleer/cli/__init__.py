"""The command line: one verb per stage, one file per group; heavy imports wait inside the verbs."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

import cameleer
from cameleer.cli import annotate, chat, data, evals, judge, mix, models, release, study, train
from cameleer.core.artifact import disk_full_named
from cameleer.core.console import err
from cameleer.core.errors import UserError, out_of_memory

INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it; typer returns it
UsageError: Any = typer.BadParameter.__base__  # typer carries it, but gives it no name of its own

app = typer.Typer(
    help="Which instruction data should I use for my base model, and did it really help?",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for name, group in (
    ("models", models),
    ("data", data),
    ("mix", mix),
    ("train", train),
    ("eval", evals),
    ("judge", judge),
    ("annotate", annotate),
    ("study", study),
    ("release", release),
):
    app.add_typer(group.app, name=name)
app.command("chat")(chat.chat)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"cameleer {cameleer.__version__}")
        raise typer.Exit


def _leave(code: int) -> NoReturn:
    """End without waiting for threads of libraries; what was to be written has been."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _say_usage(error: Any) -> None:
    """A command line that cannot be read, in one line; no arguments at all bring the help."""
    said = " ".join(error.format_message().split()).rstrip(".")
    if said and "Usage:" not in said:
        command = error.ctx.command_path if error.ctx else "cameleer"
        err.print(f"error: {said} (see `{command} --help`)", style="red", markup=False)


def main(arguments: Iterable[str] | None = None) -> None:
    """Run the command line: exit 0 done, 2 the user's mistake in one line, 1 a bug."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        with disk_full_named(Path.cwd()):
            code = app(list(arguments) if arguments is not None else None, standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code or 0)
    except UserError as error:
        err.print(f"error: {error}", style="red", markup=False)
        sys.exit(2)
    except UsageError as error:
        _say_usage(error)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("interrupted; the same command goes on from here")
        _leave(INTERRUPTED)
    except BrokenPipeError:
        _leave(0)
    except Exception as error:  # the last resort: a bug of ours is shown whole, and says so
        if out_of_memory(error):
            hint = "make room, or let it hold less; the same command goes on from here"
            err.print(f"error: out of memory ({hint})", style="red", markup=False)
            sys.exit(2)
        traceback.print_exc()
        err.print("this is a bug in cameleer: please report it with the lines above", style="red")
        sys.exit(1)
