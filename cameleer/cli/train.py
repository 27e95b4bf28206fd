"""Verbs of `cameleer train`. Fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cameleer.cli.options import (
    Json,
    Output,
    Overrides,
    group,
    out_folder,
    rounded,
    show,
)
from cameleer.core.console import emit_json

app = group("Fine-tuning.")


@app.command("run")
def train_run(
    config: Path, output: Output, overrides: Overrides = None, json: Json = False
) -> None:
    """Fine-tune; give the same command again to resume.

    Example: `cameleer train run sft.yaml learning_rate=1e-5 -o models/dolly`
    """
    from cameleer.core.config import load_config
    from cameleer.core.files import read_json
    from cameleer.train.config import TrainConfig

    read = load_config(config, TrainConfig, overrides or ())
    from cameleer.train.loop import train as fine_tune

    folder = fine_tune(read, out_folder(output))
    outcome = read_json(folder / "manifest.json")["outcome"]
    outcome.pop("counts", None)
    show(json, {"folder": str(folder), **outcome}, "", [rounded(outcome)])


@app.command("plan")
def train_plan(
    config: Path,
    overrides: Overrides = None,
    hardware: Annotated[
        str | None,
        typer.Option(help="h100-80g, a100-80g, a100-40g, rtx4090, l40s, mi250x, cpu [here]."),
    ] = None,
    gpus: Annotated[list[int] | None, typer.Option(help="Ranks; can be given again.")] = None,
    length: Annotated[list[int] | None, typer.Option(help="Row lengths to compare.")] = None,
    tokens: Annotated[
        float | None, typer.Option(help="Tokens of an epoch, where the data is not here.")
    ] = None,
    price: Annotated[float | None, typer.Option(help="US dollars per device and hour.")] = None,
    json: Json = False,
) -> None:
    """Memory, micro-batch, time and cost before anything runs; what to do if it will not fit.

    Example: `cameleer train plan sft.yaml --hardware h100-80g --gpus 1 --gpus 8`
    """
    from cameleer.core.config import load_config
    from cameleer.train.config import TrainConfig

    read = load_config(config, TrainConfig, overrides or ())
    from cameleer.train.plan_page import plan_facts, show_plan

    facts = plan_facts(read, hardware, gpus or [], length or [], tokens, price)
    if json:
        emit_json(facts)
    else:
        show_plan(facts)
