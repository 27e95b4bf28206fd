"""Verbs of `cameleer eval`. Benchmarks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cameleer.cli import reconcile, samples
from cameleer.cli.options import (
    DataOption,
    EngineName,
    EngineOptions,
    Form,
    Json,
    Output,
    Rule,
    RuleOption,
    group,
    out_file,
    out_folder,
    show,
)
from cameleer.cli.sandbox import AllowCode, asked_here, eval_sandbox
from cameleer.core.console import emit_json, note, warn
from cameleer.core.errors import UserError
from cameleer.core.files import to_json, write_jsonl

if TYPE_CHECKING:
    from cameleer.core.artifact import Stage
    from cameleer.evals.asking import EvalSpec
    from cameleer.evals.suite import Average
    from cameleer.results.store import Evaluation

app = group("Benchmarks.")

Label = Annotated[str, typer.Argument(help="NAME or NAME:SETTING of `eval ls`.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Take a sample of so many items.")]
TemplateOption = Annotated[
    str | None,
    typer.Option(help="Template of the chat format; `own` is the model's. [default: tulu]"),
]
ReviewerOption = Annotated[
    list[str] | None,
    typer.Option(help="Read outputs with this model, as NAME=MODEL, in place of the setting's."),
]


@app.command("ls")
def eval_ls(json: Json = False) -> None:
    """List benchmarks with their settings and the models that read outputs, and the suites.

    Example: `cameleer eval ls`
    """
    from cameleer.evals.benchmark import all_benchmarks
    from cameleer.evals.suite import named_suites, suite_named

    rows = [
        {"benchmark": one.label, "metric": one.setting.metric, "about": one.setting.about,
         "reviewers": ", ".join(one.setting.reviewers)}
        for one in all_benchmarks()
    ]  # fmt: skip
    suites = [
        {"suite": name, "benchmarks": len(one.benchmarks), "about": one.about}
        for name in named_suites()
        if (one := suite_named(name))
    ]
    show(json, {"benchmarks": rows, "suites": suites}, "", rows)
    if not json:
        show(json, {}, "", suites)


@app.command("engines")
def eval_engines(json: Json = False) -> None:
    """List what can answer, and the options of each.

    Example: `cameleer eval engines`
    """
    from cameleer.engines.registry import engines

    rows = [
        {
            "engine": name,
            "about": (module.__doc__ or "").partition("\n")[0],
            "options": ", ".join(module.Options.model_fields),
        }
        for name, module in sorted(engines().items())
    ]
    show(json, {"engines": rows}, "", rows)


@app.command("published")
def eval_published(
    tables: Annotated[
        list[str] | None,
        typer.Argument(help="Such as `table-3`, `figure-4`, `cards`. [default: all]"),
    ] = None,
    json: Json = False,
) -> None:
    """Print the scores of the paper's tables, of its model cards and of the Tülu 2 paper.

    Only what could be verified, in points of 100, each with its source.

    Example: `cameleer eval published table-5`
    """
    from cameleer.results.published.rows import published, sources

    rows = [asdict(row) for row in published(*(tables or ()))]
    columns = [name for name in rows[0] if any(row[name] != "" for row in rows)]
    shown = [{name: row[name] for name in columns} for row in rows]
    show(json, {"published": rows, "sources": sources()}, "", shown)
    if not json:
        used = {mark for row in rows for mark in row["source"].split()}
        show(json, {}, "", [{"source": k, "about": v} for k, v in sources().items() if k in used])


@app.command("prompts")
def eval_prompts(
    benchmark: Label,
    output: Output,
    data: DataOption = None,
    format: Annotated[
        Form | None, typer.Option(help="How a prompt is put. [default: the setting's]")
    ] = None,
    rule: RuleOption = Rule.fixed,
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", "-t", help="Drop examples and cut contexts by it."),
    ] = None,
    limit: Limit = None,
    template: TemplateOption = None,
    json: Json = False,
) -> None:
    """Write the exact strings that a local model would get.

    Without a tokenizer no few-shot example is dropped and no context cut, however long the prompt.

    Example: `cameleer eval prompts mmlu:5-shot --data data --format plain -o prompts.jsonl`
    """
    from cameleer.evals.asking import prompts

    loaded = count = cut = None
    if tokenizer is not None:
        from cameleer.engines.lengths import Lengths
        from cameleer.model.load import load_tokenizer

        loaded = load_tokenizer(tokenizer)
        measure = Lengths(loaded)
        count, cut = measure.count, measure.cut
    form: Any = format.value if format else None
    made = prompts(benchmark, data, rule.value, form, count, template or "tulu", limit, cut, loaded)
    number = write_jsonl(out_file(output), made)
    if json:
        emit_json({"prompts": number, "output": str(output)})
    else:
        note(f"wrote {number} prompts to {output}")


@app.command("run")
def eval_run(
    model: Annotated[str, typer.Argument(help="Folder, hub id, embedded:NAME, or ENGINE:….")],
    output: Output,
    benchmarks: Annotated[
        list[str] | None, typer.Argument(help="NAME or NAME:SETTING of `eval ls`.")
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="Take all benchmarks of a suite: its name, or its YAML file.")
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Leave out this benchmark of the suite; can be given again."),
    ] = None,
    data: DataOption = None,
    limit: Limit = None,
    format: Annotated[
        Form | None, typer.Option(help="How a prompt is put. [default: the setting's]")
    ] = None,
    rule: Annotated[
        Rule | None,
        typer.Option(help="The paper's code, or mended. [default: the suite's, else fixed]"),
    ] = None,
    engine: EngineName = None,
    engine_option: EngineOptions = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Outputs of an item. [default: the setting's]")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="Of sampling; 0 is greedy. [default: the setting's]")
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of an output. [default: the setting's]")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="The engine option of this name.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="The engine option of this name.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of sampled outputs. [default: 42]")] = None,
    template: TemplateOption = None,
    reviewer: ReviewerOption = None,
    allow_code_execution: AllowCode = None,
    json: Json = False,
) -> None:
    """Evaluate a model; give the same command again to resume by sample.

    MODEL is a folder, a hub id, `embedded:NAME`, or of another engine: `openai:NAME@URL` on a
    server, `replay:FILE` of recorded outputs.

    With `--suite`, options that are given go before what the suite says of a benchmark.

    Example: `cameleer eval run models/dolly gsm:cot mmlu:0-shot --data data --limit 200 -o evals`
    """
    from cameleer.engines.registry import choose
    from cameleer.evals.consent import allow_code, told
    from cameleer.evals.review import reviewers_given
    from cameleer.evals.suite import averages, changed, suite_of

    chosen_suite = suite_of(benchmarks or (), suite)
    declared = chosen_suite.without(without or ())
    models = reviewers_given([spec.benchmark for spec in declared], reviewer or ())
    changes = {
        "rule": rule.value if rule else None,
        "format": format.value if format else None,
        "limit": limit,
        "samples": samples,
        "temperature": temperature,
        "max_new_tokens": max_new_tokens,
        "seed": seed,
        "template": template,
    }
    specs = [
        changed(spec, **changes, reviewers=own or None)
        for spec, own in zip(declared, models, strict=True)
    ]
    all_paper = all(spec.rule == "paper" for spec in specs)
    flags = {"batch_size": batch_size, "precision": precision}
    given = {name: value for name, value in flags.items() if value is not None}
    options = engine_option or ()
    chosen = choose(model, engine, given, options, "paper" if all_paper else "fixed")
    identity = chosen.identity()
    stages, failed = _stages(specs, identity, data, output)
    todo = [spec.benchmark for spec, stage in stages.values() if not stage.done()]
    allow_code(todo, told(allow_code_execution), asked_here())
    runs, stopped = _evaluated(stages, lambda: chosen.open(identity), data, alone=len(specs) == 1)
    failed |= stopped
    if runs or json:
        _show_scores(json, output, list(averages(chosen_suite, runs)), runs, failed)
    if failed:
        raise next(iter(failed.values()))


def _stages(
    specs: Sequence[EvalSpec], identity: dict[str, Any], data: Path | None, output: Path
) -> tuple[dict[str, tuple[EvalSpec, Stage]], dict[str, UserError]]:
    """What is to be done for each benchmark, by label, and which cannot be asked.

    All before the first is asked: what is missing for the last is told at once.
    """
    from cameleer.evals.benchmark import benchmark_named
    from cameleer.evals.runner import eval_stage

    stages: dict[str, tuple[EvalSpec, Stage]] = {}
    failed: dict[str, UserError] = {}
    for spec in specs:
        label = benchmark_named(spec.benchmark).label
        folder = out_folder(output / spec.benchmark.replace(":", "-"))
        try:
            stages[label] = spec, eval_stage(spec, identity, data, folder)
        except UserError as error:
            failed[label] = error
    if not stages:
        raise next(iter(failed.values()))
    for label, why in failed.items():
        warn(f"{label}: {why}; the others are asked")
    return stages, failed


def _evaluated(
    stages: dict[str, tuple[EvalSpec, Stage]],
    open_engine: Callable[[], Any],
    data: Path | None,
    alone: bool,
) -> tuple[dict[str, Evaluation], dict[str, UserError]]:
    """What came of each benchmark, and the mistakes that stopped some; one engine serves all.

    alone: nothing else was asked for, so that a mistake need not be told before it is raised.
    """
    from cameleer.evals.runner import evaluate
    from cameleer.results.store import Evaluation

    engine = cache(open_engine)
    runs: dict[str, Evaluation] = {}
    failed: dict[str, UserError] = {}
    for label, (spec, stage) in stages.items():
        try:
            runs[label] = Evaluation(evaluate(spec, engine, data, stage))
        except UserError as error:
            failed[label] = error
            if not alone:
                warn(f"{label}: {error}")
    return runs, failed


def _show_scores(
    json: bool,
    output: Path,
    means: list[Average],
    runs: dict[str, Evaluation],
    failed: dict[str, UserError],
) -> None:
    facts = {
        "folder": str(output),
        "scores": [run.scores for run in runs.values()],
        "averages": [asdict(one) for one in means],
        "failed": {label: str(error) for label, error in failed.items()},
    }
    rows = [_score_row(label, run.scores) for label, run in runs.items()]
    rows += [
        _score_row(one.title, {"metric": "mean", **asdict(one.estimate)})
        for one in means
        if one.estimate
    ]
    show(json, facts, "", rows)


def _score_row(name: str, scores: dict[str, Any]) -> dict[str, Any]:
    """One line of the table; what is not scored has a dash."""
    row = {"benchmark": name, "metric": scores["metric"], "items": scores["n"]}
    if "value" not in scores:
        return row | {"score": "–", "95 % interval": "–"}
    value, low, high = (f"{scores[key]:.3f}" for key in ("value", "low", "high"))
    return row | {"score": value, "95 % interval": f"{low} to {high}"}


@app.command("grade")
def eval_grade(
    benchmark: Label,
    answers: Annotated[
        Path, typer.Option(help="Lines {item, output}; a target there goes before the data's.")
    ],
    data: DataOption = None,
    rule: RuleOption = Rule.fixed,
    reviewer: ReviewerOption = None,
    allow_code_execution: AllowCode = None,
    json: Json = False,
) -> None:
    """Extract and score recorded outputs; lines {item, extracted, score} on stdout.

    Example: `cameleer eval grade gsm:cot --answers outputs.jsonl --data data`
    """
    from cameleer.evals.consent import allow_code, told
    from cameleer.evals.recorded import grade
    from cameleer.evals.review import reviewers_given

    allow_code([benchmark], told(allow_code_execution), None, recorded=True)
    (models,) = reviewers_given([benchmark], reviewer or ())
    rows = grade(benchmark, answers, data, rule.value, models)
    if json:
        graded = list(rows)
        mean = sum(row["score"] for row in graded) / len(graded) if graded else None
        emit_json({"benchmark": benchmark, "n": len(graded), "score": mean, "rows": graded})
        return
    for row in rows:
        sys.stdout.write(to_json(row) + "\n")


app.command("show")(samples.show)
app.command("diff")(samples.diff)
app.command("reconcile")(reconcile.reconcile)
app.command("sandbox")(eval_sandbox)
