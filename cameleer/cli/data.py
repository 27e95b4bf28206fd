"""Verbs of `cameleer data`. Instruction data sets."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cameleer.cli.options import (
    Conversations,
    DataOption,
    Json,
    MaxTokens,
    Output,
    Rule,
    RuleOption,
    Strict,
    TemplateOption,
    TokenizerOption,
    group,
    out_file,
    out_folder,
    show,
    shown_counts,
)
from cameleer.core.console import emit_json, err, note, out, table
from cameleer.core.errors import UserError

if TYPE_CHECKING:
    from cameleer.data.overlap.probes import ItemText

app = group("Instruction data sets.")


@app.command("ls")
def data_ls(json: Json = False) -> None:
    """List the sources, each with its card.

    Example: `cameleer data ls`
    """
    from cameleer.core.folders import data_root
    from cameleer.data.source import all_sources, is_here

    rows = [
        {
            "source": name,
            "title": module.CARD.title,
            "instances": module.CARD.instances,
            "here": is_here(name),
            "licence": module.CARD.licence,
            "origin": module.CARD.origin,
        }
        for name, module in all_sources().items()
    ]
    shown = [
        {**row, "instances": row["instances"] or "", "here": "yes" if row["here"] else ""}
        for row in rows
    ]
    title = f"here: in {data_root()}"
    show(json, {"sources": rows}, title, shown)


@app.command("fetch")
def data_fetch(
    sources: Annotated[list[str], typer.Argument(help="Names of `data ls`.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Data folder. [default: $CAMELEER_DATA]"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be downloaded.")
    ] = False,
    json: Json = False,
) -> None:
    """Download native files from their origins: checked, recorded, taken up where it broke off.

    Example: `cameleer data fetch dolly code_alpaca --dry-run`
    """
    from cameleer.core.download import client
    from cameleer.core.folders import data_root
    from cameleer.data.fetch import fetch, plan

    root = output or data_root()
    with client() as http:
        wanted = plan(sources, root, http)
        if dry_run and json:
            emit_json({"folder": str(root), "downloads": [one.to_row() for one in wanted]})
        else:
            shown = [one.to_shown() for one in wanted]
            columns, to = list(shown[0]), out if dry_run else err
            table("", columns, [list(row.values()) for row in shown], to=to)
        if dry_run:
            return
        out_folder(root / "instruct")
        fetched = list(fetch(wanted, http))
    facts = [row for one in fetched for row in one.to_rows()]
    rows = [one.to_shown() for one in fetched]
    show(json, {"folder": str(root), "files": facts}, "", rows)


@app.command("convert")
def data_convert(
    source: Annotated[str, typer.Argument(help="A name of `data ls`.")],
    output: Output,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--from", help="Folder of native files, or one file. [default: $CAMELEER_DATA]"
        ),
    ] = None,
    rule: RuleOption = Rule.fixed,
    seed: Annotated[int, typer.Option(help="Seed of what is drawn at random.")] = 42,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many conversations.")
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", "-t", help="Split ShareGPT's long conversations by it."),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of what is split off.")] = 2048,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Turn native files into conversations; say what was read, kept and dropped.

    SOURCE is one of `cameleer data ls`; your own files are read by the sources jsonl, alpaca and
    sharegpt, of which --from may also name one file. Records that cannot be read are dropped, and
    listed with file, line and reason in OUT.bad.jsonl beside the output.

    Example: `cameleer data convert dolly --from data/instruct/dolly -o dolly.jsonl`

    Example: `cameleer data convert jsonl --from chats.json -o chats.jsonl`
    """
    from time import monotonic

    from cameleer.core.console import progress
    from cameleer.core.files import replacing
    from cameleer.data.bad import BadRecords
    from cameleer.data.convert import stream, to_line
    from cameleer.data.source import Convert, located, require_apart, source_named

    require_apart(source, folder, out_file(output))
    loaded = _tokenizer(tokenizer) if tokenizer else None
    with BadRecords(output) as bad, progress(f"convert {source}", None) as ticker:
        native = located(source, folder)
        job = Convert(native, rule.value, seed, strict, bad.add, loaded, max_tokens)
        counts = job.counts
        with replacing(output, "wb") as handle:
            for line in stream(source_named(source), job, to_line, limit):
                handle.write(line)
                if counts["read"] >= ticker.count + 100:
                    rate = counts["read"] / (monotonic() - ticker.start)
                    ticker.advance(counts["read"] - ticker.count, f"{rate:,.0f} a second")
            if bad.count and not counts["kept"]:
                raise UserError(f"none of {counts['read']} records could be used", file=bad.file)
    facts = {"source": source, "output": str(output), **shown_counts(counts), **bad.facts()}
    show(json, facts, f"{source}: {output}", _counted(counts))


def _tokenizer(name: str) -> Any:
    from cameleer.model.load import load_tokenizer  # brings torch, which most conversions spare

    return load_tokenizer(name)


def _counted(counts: Counter[str]) -> list[dict[str, Any]]:
    """Rows of a table: read, kept, dropped by reason as shares of what was read; then the rest."""
    shown = shown_counts(counts)
    rest = [key for key in shown if key not in ("read", "kept") and not key.startswith("dropped")]
    dropped = [key for key in shown if key.startswith("dropped")]
    share = {
        key: f"{shown[key] / max(1, counts['read']):.1%}" for key in ("read", "kept", *dropped)
    }
    return [
        {"": key, "count": shown[key], "share": share.get(key, "")}
        for key in ("read", "kept", *dropped, *rest)
        if key in shown
    ]


@app.command("stats")
def data_stats(
    files: Annotated[list[Path], typer.Argument(help="Conversations, one file or more.")],
    tokenizer: TokenizerOption,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Look closer, and write a page."),
    ] = None,
    template: TemplateOption = "tulu",
    rule: RuleOption = Rule.fixed,
    json: Json = False,
) -> None:
    """Table 1 of the paper for conversation files: instances, rounds, mean lengths in tokens.

    After the slash stands the paper's own number (in LLaMA tokens), if the file is one of its
    sources. A page of `--html` says what stands out: lengths, turns, what a limit cuts, languages,
    what is asked, signs of trouble in answers, repeats; with `--json` its numbers are printed.
    Template and rule are for what the page tells of the loss.

    Example: `cameleer data stats dolly.jsonl -t embedded:smollm2-135m-instruct --html dolly.html`
    """
    from cameleer.chat.template import template_named
    from cameleer.core.files import replacing
    from cameleer.core.text import visible
    from cameleer.data.describe import beside_paper, describe
    from cameleer.data.portrait.page import facts, portrait_page
    from cameleer.data.portrait.survey import survey
    from cameleer.model.load import load_tokenizer

    for file in files:
        if not file.is_file():  # not after an hour of counting the ones before it
            raise UserError("is no file" if file.exists() else "no such file", file=file)
    loaded = load_tokenizer(tokenizer)
    if html is None:
        rows = [{"file": str(file), **describe(file, loaded)} for file in files]
    else:
        page, form = out_file(html), template_named(template)
        surveys = [survey(file, loaded, form, rule=rule.value) for file in files]
        rows = [{"file": str(one.file), **facts(one)} for one in surveys]
        with replacing(page) as handle:
            handle.write(portrait_page(surveys, tokenizer))
        note(f"wrote {html}")
    title = "yours / the paper's, whose lengths are in LLaMA tokens"
    known = any(row["paper"] for row in rows)
    show(json, {"files": rows}, title if known else "", [beside_paper(row) for row in rows])
    if html is not None and not json:
        for row in rows:
            said = (("  look: " if one["look"] else "  ") + one["text"] for one in row["findings"])
            out.print(visible("\n".join([f"\n{row['file']}", *said])), markup=False)


@app.command("render")
def data_render(
    file: Conversations,
    output: Output,
    tokenizer: TokenizerOption,
    template: TemplateOption = "tulu",
    max_tokens: MaxTokens = 2048,
    rule: RuleOption = Rule.fixed,
    json: Json = False,
) -> None:
    """Write the token ids and the loss mask of each conversation.

    Example: `cameleer data render dolly.jsonl -t embedded:smollm2-135m-instruct -o ids.jsonl`
    """
    from cameleer.chat.render import Renderer
    from cameleer.chat.template import template_named
    from cameleer.data.rendering import render_file
    from cameleer.model.load import load_tokenizer

    renderer = Renderer(
        load_tokenizer(tokenizer),
        template_named(template),
        max_tokens=max_tokens,
        rule=rule.value,
    )
    counts = render_file(file, out_file(output), renderer)
    facts = {"output": str(output), **shown_counts(counts)}
    show(json, facts, "", [facts])


@app.command("show")
def data_show(
    file: Conversations,
    tokenizer: TokenizerOption,
    id: Annotated[str | None, typer.Option("--id", help="Show this conversation alone.")] = None,
    template: TemplateOption = "tulu",
    max_tokens: MaxTokens = 2048,
    rule: RuleOption = Rule.fixed,
    limit: Annotated[int, typer.Option(min=1, help="Show so many of the first ones.")] = 5,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page instead.")] = None,
    json: Json = False,
) -> None:
    """Show what is learned of a conversation, what is cut off, and where the two rules differ.

    Example: `cameleer data show dolly.jsonl -t embedded:smollm2-135m-instruct --html dolly.html`
    """
    from itertools import islice

    from cameleer.chat.conversation import read_conversations
    from cameleer.chat.show import lay_out, show_html, show_text, summary
    from cameleer.chat.template import template_named
    from cameleer.core.files import replacing
    from cameleer.model.load import load_tokenizer

    loaded, form = load_tokenizer(tokenizer), template_named(template)
    wanted = (c for c in read_conversations(file) if id is None or c.id == id)
    some = islice(wanted, None if id else limit)
    shown = list(lay_out(some, loaded, form, max_tokens=max_tokens, rule=rule.value))
    if not shown:
        raise UserError(f"no conversation '{id}'" if id else "holds no conversation", file=file)
    if html is not None:
        about = f"{file.name} · tokens of {tokenizer} · template {template}"
        with replacing(out_file(html)) as handle:
            handle.write(show_html(shown, loaded, about))
        note(f"wrote {html}")
    if json:
        facts = [
            {
                "id": one.id,
                "tokens": one.tokens,
                "supervised": one.learned,
                "cut": one.cut,
                "differing": one.differing,
                "said": summary(one),
            }
            for one in shown
        ]
        emit_json({"html": html and str(html), "conversations": facts})
    elif html is None:
        for one in shown:
            out.print(show_text(one, loaded))


class By(StrEnum):
    """What is compared: whole conversations, or what the user said."""

    conversation = "conversation"
    prompt = "prompt"


class Reason(StrEnum):
    """Why a conversation is removed."""

    exact = "exact"
    near = "near"
    overlap = "overlap"


@app.command("overlap")
def data_overlap(
    files: Annotated[list[Path], typer.Argument(help="Conversations, one file or more.")],
    benchmarks: Annotated[
        list[str] | None, typer.Option("--with", help="A test set, or `all`; can be given again.")
    ] = None,
    data: DataOption = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for labels, matches and a page.")
    ] = None,
    by: Annotated[By, typer.Option(help="What repeats: conversations, or prompts alone.")] = (
        By.conversation
    ),
    remove: Annotated[
        list[Reason] | None,
        typer.Option(help="Write copies without these; can be given again."),
    ] = None,
    cores: Annotated[
        int | None, typer.Option(min=1, help="Processes at a time. [default: all cores]")
    ] = None,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Find duplicates in and across conversation files, and test items that stand in them.

    Without --with, duplicates alone: exact, or near (Jaccard index of at least 0.7 over runs of
    five words). With it, every item of the test sets is looked for in every message: whole, by runs
    of 13 and 8 words, and nearly. OUTPUT then holds labels.jsonl with a line for each test item,
    and matches.html to read what was found. --remove exact, near (which takes exact along) or
    overlap writes the files without such conversations to OUTPUT/cleaned; of those that repeat each
    other the first stays. Lines that are no conversations are told, counted and left out.

    Example: `cameleer data overlap dolly.jsonl alpaca.jsonl --with gsm --with mmlu -o overlap`

    Example: `cameleer data overlap dolly.jsonl alpaca.jsonl --remove near -o clean`
    """
    import tempfile

    from cameleer.core.cores import cores as all_cores
    from cameleer.core.files import read_json
    from cameleer.data.overlap.matches import overlap_stage, write_overlap

    removed = [reason.value for reason in dict.fromkeys(remove or ())]
    if removed and output is None:
        raise UserError("there is no place for cleaned files", field="remove", hint="give -o DIR")
    if "overlap" in removed and not benchmarks:
        raise UserError("nothing to overlap with", field="remove", hint="give --with BENCHMARK")
    files, items = _test_sets(files, benchmarks, data) if benchmarks else (files, [])
    cores = cores or all_cores()

    def write(folder: Path) -> dict[str, Any]:
        return write_overlap(folder, files, items, by.value, removed, cores, strict=strict)

    if output is None:
        with tempfile.TemporaryDirectory() as folder:
            facts = write(Path(folder))
    else:
        stage = overlap_stage(files, items, by.value, removed, out_folder(output))
        stage.run(write)
        facts = {"folder": str(output), **read_json(output / "summary.json")}
    if json:
        emit_json(facts)
    else:
        _show_overlap(facts)


def _test_sets(
    files: list[Path], benchmarks: list[str], data: Path | None
) -> tuple[list[Path], list[ItemText]]:
    """The files that are no names of test sets, and the items of the test sets."""
    from cameleer.data.overlap.probes import ItemText
    from cameleer.evals.corpus import READERS, texts

    # `--with gsm mmlu` reads as a file named mmlu: a name that is no file is a test set.
    more = [str(one) for one in files if not one.exists() and str(one) in READERS]
    names = list(dict.fromkeys([*benchmarks, *more]))
    sets = list(READERS) if "all" in names else names
    items = [ItemText(*one) for name in sets for one in texts(name, data)]
    return [one for one in files if str(one) not in names], items


def _show_overlap(facts: dict[str, Any]) -> None:
    """What was found, as tables."""
    repeats = facts["duplicates"]
    table("", ["file", "conversations", "bad"], [list(row.values()) for row in facts["files"]])
    title = f"conversations that repeat an earlier one, compared by {repeats['by']}"
    pairs = [list(row.values()) for row in repeats["pairs"]] or [["none", "", "", 0]]
    table(title, ["kept", "repeats", "kind", "conversations"], pairs)
    if "benchmarks" in facts:
        rows = [
            {"benchmark": name, "items": fact["items"], "touched": fact["touched"],
             "answer seen": fact["answer_seen"], **fact["kinds"],
             "in": ", ".join(f"{source} {n}" for source, n in fact["sources"].items())}
            for name, fact in facts["benchmarks"].items()
        ]  # fmt: skip
        show(False, facts, "test items found, by their strongest match", rows)
    for row in facts.get("removed", ()):
        note(", ".join(f"{key} {value}" for key, value in row.items()))
    if "folder" in facts:
        note(f"wrote {facts['folder']}")


@app.command("miniature")
def data_miniature(
    output: Output,
    seed: Annotated[int, typer.Option(help="Seed of what is drawn at random.")] = 7,
    json: Json = False,
) -> None:
    """Make a world of small generated data sets and tests in native formats, to try things on.

    Example: `cameleer data miniature -o world`
    """
    from cameleer.data.miniature import Miniature, make, miniature_stage

    config = Miniature(seed=seed)
    folder = make(config, miniature_stage(config, out_folder(output)))
    emit_json({"folder": str(folder), **config.model_dump()}) if json else typer.echo(folder)
