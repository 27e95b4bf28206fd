"""Verbs of `cameleer train`. Fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cameleer.cli.options import (
    HardwareName,
    Json,
    Output,
    Overrides,
    group,
    out_file,
    out_folder,
    rounded,
    show,
)
from cameleer.core.console import emit_json
from cameleer.train.heap import join_freed_pieces

app = group("Fine-tuning.")

ConfigFile = Annotated[Path, typer.Argument(help="CONFIG.yaml of a training run.")]


@app.command("run")
def train_run(
    config: ConfigFile, output: Output, overrides: Overrides = None, json: Json = False
) -> None:
    """Fine-tune; give the same command again to resume.

    Example: `cameleer train run sft.yaml learning_rate=1e-5 -o models/dolly`
    """
    from cameleer.core.config import load_config
    from cameleer.core.files import read_json
    from cameleer.train.config import TrainConfig

    read = load_config(config, TrainConfig, overrides or ())
    if read.lora:
        join_freed_pieces("train", "run")
    from cameleer.train.launch import rank_and_world
    from cameleer.train.loop import train as fine_tune

    folder = fine_tune(read, out_folder(output))
    if rank_and_world()[0]:
        return  # the first rank speaks for all
    outcome = read_json(folder / "manifest.json")["outcome"]
    outcome.pop("counts", None)
    shown = {key: value for key, value in outcome.items() if not isinstance(value, dict)}
    for when in ("before", "after") if "validation" in outcome else ():
        shown[f"validation loss {when}"] = outcome["validation"][when]["loss"]
    show(json, {"folder": str(folder), **outcome}, "", [rounded(shown)])


@app.command("launch")
def train_launch(
    config: ConfigFile,
    output: Output,
    overrides: Overrides = None,
    nodes: Annotated[int, typer.Option(min=1, help="Number of machines.")] = 1,
    gpus: Annotated[int, typer.Option(min=1, help="Ranks on each machine.")] = 1,
    sbatch: Annotated[
        Path | None, typer.Option(help="Write a script for Slurm to this file.")
    ] = None,
    ray: Annotated[str | None, typer.Option(help="Run on the Ray cluster at this address.")] = None,
    json: Json = False,
) -> None:
    """Fine-tune on many GPUs: print the command for one machine, or the Slurm script for several.

    Example: `cameleer train launch sft.yaml --nodes 4 --gpus 8 --sbatch sft.sh -o models/tulu`
    """
    from cameleer.core.config import load_config
    from cameleer.core.files import replacing
    from cameleer.train.config import TrainConfig
    from cameleer.train.launch import Launch

    load_config(config, TrainConfig, overrides or ())  # mistakes are told before a job is queued
    launch = Launch(config, overrides or (), output, nodes, gpus)
    if ray is not None:
        launch.by_ray(ray)
        return
    text = launch.sbatch() if sbatch or nodes > 1 else launch.torchrun() + "\n"
    if sbatch:
        with replacing(out_file(sbatch)) as handle:
            handle.write(text)
    if json:
        emit_json({"script": text, "file": str(sbatch) if sbatch else None})
    else:
        typer.echo(f"sbatch {sbatch}" if sbatch else text, nl=bool(sbatch))


@app.command("show")
def train_show(
    folders: Annotated[list[Path], typer.Argument(help="Runs, finished or going on.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The page. [default: FOLDER/training.html]"),
    ] = None,
    json: Json = False,
) -> None:
    """Write a page with losses, rates, speed and memory over the steps; several runs side by side.

    Example: `cameleer train show models/dolly models/flan -o both.html`
    """
    from cameleer.core.files import replacing
    from cameleer.train.page import home, training_page

    page = training_page(folders)
    file = output or (home(folders[0]) if len(folders) == 1 else Path()) / "training.html"
    with replacing(file) as handle:
        handle.write(page)
    show(json, {"page": str(file)}, "", [{"page": str(file)}])


@app.command("proof")
def train_proof(config: ConfigFile, overrides: Overrides = None, json: Json = False) -> None:
    """Show on your own configuration and data that the loss is right; exits 1 if something is not.

    Takes seconds to minutes. To see what is learned, coloured: `cameleer data show`.

    Example: `cameleer train proof sft.yaml loss_reduction=conversation`
    """
    from cameleer.core.config import load_config
    from cameleer.train.config import TrainConfig

    read = load_config(config, TrainConfig, overrides or ())
    from cameleer.train.proof.check import shown
    from cameleer.train.proof.prove import prove

    checks = prove(read)
    failed = [check.shows for check in checks if check.passed is False]
    facts = {"passed": not failed, "checks": [check.to_row() for check in checks]}
    show(json, facts, "", [shown(check) for check in checks])
    if failed:
        raise typer.Exit(1)


@app.command("plan")
def train_plan(
    config: ConfigFile,
    overrides: Overrides = None,
    hardware: HardwareName = None,
    gpus: Annotated[
        list[int] | None, typer.Option(help="Number of ranks; can be given again.")
    ] = None,
    length: Annotated[
        list[int] | None, typer.Option(help="Tokens of a row; can be given again.")
    ] = None,
    tokens: Annotated[
        float | None, typer.Option(help="Tokens of an epoch, where the data is not here.")
    ] = None,
    price: Annotated[float | None, typer.Option(help="US dollars per device and hour.")] = None,
    json: Json = False,
) -> None:
    """Show memory, micro-batch, time and cost before anything runs; say what will not fit.

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
