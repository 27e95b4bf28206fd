"""The verbs of `cameleer judge`: a judge model says which of two answers is better."""

from __future__ import annotations

import typer

app = typer.Typer(help="Judge models: which of two answers is better, and is the judge to be trusted?", no_args_is_help=True)
