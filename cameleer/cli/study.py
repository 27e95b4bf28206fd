"""Verbs of `cameleer study`. Whole studies: bases x mixtures x benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cameleer.cli.compare import Answers, Judgements, Same, gather, named_options
from cameleer.cli.effects import effects
from cameleer.cli.options import (
    HardwareName,
    Json,
    Overrides,
    StudyFolder,
    group,
    out_folder,
    study_folder,
)
from cameleer.cli.same import same
from cameleer.cli.sandbox import asked_here
from cameleer.core.console import emit_json, note, out, table
from cameleer.core.errors import UserError

app = group("Whole studies: bases x mixtures x benchmarks.")
app.command("effects")(effects)
app.command("same")(same)

StudyFile = Annotated[Path, typer.Argument(help="STUDY.yaml.")]


@app.command("plan")
def study_plan(
    file: StudyFile,
    overrides: Overrides = None,
    output: StudyFolder = None,
    hardware: HardwareName = None,
    gpus: Annotated[
        int, typer.Option(min=1, help="Devices that train one model, as by `train launch`.")
    ] = 1,
    price: Annotated[
        float | None, typer.Option(min=0, help="US dollars per device and hour.")
    ] = None,
    discordance: Annotated[
        float, typer.Option(min=0.001, max=1, help="Share of items on which two models differ.")
    ] = 0.2,
    luck: Annotated[
        float, typer.Option(min=0, max=1, help="How far the luck of a training moves its score.")
    ] = 0.01,
    json: Json = False,
) -> None:
    """Show what the study will take, whether it fits, and the smallest differences it can show.

    Example: `cameleer study plan studies/quickstart.yaml --hardware h100-80g --price 2.5`
    """
    from cameleer.results.detectable import Assumed
    from cameleer.study.plan.page import show_plan
    from cameleer.study.plan.planned import StudyPlan
    from cameleer.study.plan.trainings import found_model
    from cameleer.study.status import grid_of

    read, folder = _study(file, overrides, output)
    grid = grid_of(read, folder, found_model)
    assumed = Assumed(discordance, seeds=discordance / 2, luck=luck)
    facts = StudyPlan(grid, hardware, gpus, price).facts(assumed)
    emit_json(facts) if json else show_plan(facts)


@app.command("run")
def study_run(
    file: StudyFile, overrides: Overrides = None, output: StudyFolder = None, json: Json = False
) -> None:
    """Do what is not done yet, and write the report; give it again to resume.

    Example: `cameleer study run studies/quickstart.yaml`
    """
    from cameleer.evals.consent import allow_code, told
    from cameleer.study.run import run_study

    read, folder = _study(file, overrides, output)
    labels = [spec.benchmark for spec in read.benchmarks]
    said = told(None, read.allow_code_execution)
    allow_code(labels, said, asked_here(), how="allow_code_execution: true in the study's file")
    page = run_study(read, folder, file)
    _say_report(page, json)


@app.command("status")
def study_status(
    file: StudyFile,
    overrides: Overrides = None,
    output: StudyFolder = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show the board of a run elsewhere until it ends.")
    ] = False,
    json: Json = False,
) -> None:
    """Show how far the study is, the scores of what is done, and what runs in another terminal.

    Example: `cameleer study status studies/quickstart.yaml`
    """
    from cameleer.study.execute import board
    from cameleer.study.status import status

    read, folder = _study(file, overrides, output)
    if watch and not json:
        board.watch(folder)
    facts = status(read, folder)
    rows = board.board_now(folder)
    if json:
        emit_json({**facts, "running": rows})
        return
    _models_table(facts["models"])
    if rows is None:
        note("no run of it is under way")
    else:
        out.print(board.drawn(rows, len(rows)))


@app.command("report")
def study_report(
    file: Annotated[Path, typer.Argument(help="STUDY.yaml, or a study's folder.")],
    overrides: Overrides = None,
    output: StudyFolder = None,
    judgements: Judgements = None,
    same: Same = None,
    answers: Answers = None,
    json: Json = False,
) -> None:
    """Write the report anew from the results that are there.

    With --judgements what judge models and people said of its models stands beside the benchmarks.

    Example: `cameleer study report studies/quickstart.yaml`
    """
    from cameleer.report.page import write_report
    from cameleer.results.store import read_study

    folder = study_folder(file, output, overrides or ())
    read_study(folder).require_unchanged()
    if (same or answers) and not judgements:
        raise UserError("is about judgements, and none are given", field="--same or --answers")
    judged = gather(judgements, answers or ()) if judgements else None
    names = named_options(same or (), "--same")
    _say_report(write_report(folder, folder / "report", judged, names), json)


def _study(file: Path, overrides: list[str] | None, output: Path | None) -> tuple[Any, Path]:
    from cameleer.study.study import load_study

    read = load_study(file, overrides or ())
    folder = output or Path("runs") / read.name
    out_folder(folder / "study.json")
    return read, folder


def _models_table(rows: list[dict[str, Any]]) -> None:
    labels = list(rows[0]["evals"])
    cells = [[row["model"], row["train"], *row["evals"].values()] for row in rows]
    table("", ["model", "train", *labels], cells)


def _say_report(page: Path, json: bool) -> None:
    if json:
        emit_json({"report": str(page)})
        return
    sys.stdout.write((page.parent / "tables/scores.md").read_text(encoding="utf-8"))
    note(f"report: {page.resolve()}")
