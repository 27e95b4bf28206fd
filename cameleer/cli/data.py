"""Verbs of `cameleer data`. Instruction data sets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from cameleer.cli.options import (
    Json,
    Output,
    Rule,
    RuleOption,
    TokenizerOption,
    group,
    out_file,
    out_folder,
    rounded,
    show,
    shown_counts,
)
from cameleer.core.console import emit_json, err, note, out, table
from cameleer.core.errors import UserError
from cameleer.core.files import write_jsonl

app = group("Instruction data sets.")


@app.command("ls")
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
    show(json, {"sources": rows}, "", rows)


@app.command("fetch")
def data_fetch(
    sources: list[str],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Data folder [$CAMELEER_DATA].")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would come.")] = False,
    json: Json = False,
) -> None:
    """Download native files from their origins: checked, recorded, taken up where it broke off.

    Example: `cameleer data fetch dolly code_alpaca --dry-run`
    """
    from cameleer.core.download import client
    from cameleer.core.folders import data_root
    from cameleer.data.fetch import fetch, plan

    root = output or data_root()
    with client() as session:
        wanted = plan(sources, root, session)
        if dry_run and json:
            emit_json({"folder": str(root), "downloads": [one.to_row() for one in wanted]})
        else:
            shown = [one.to_shown() for one in wanted]
            columns, to = list(shown[0]), out if dry_run else err
            table("", columns, [list(row.values()) for row in shown], to=to)
        if dry_run:
            return
        out_folder(root / "instruct")
        fetched = list(fetch(wanted, session))
    facts = [row for one in fetched for row in one.to_rows()]
    rows = [one.to_shown() for one in fetched]
    show(json, {"folder": str(root), "files": facts}, "", rows)


@app.command("convert")
def data_convert(
    source: str,
    output: Output,
    folder: Annotated[
        Path | None, typer.Option("--from", help="Folder of native files [$CAMELEER_DATA].")
    ] = None,
    rule: RuleOption = Rule.fixed,
    seed: int = 42,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    strict: Annotated[bool, typer.Option(help="Stop at the first bad record.")] = False,
    json: Json = False,
) -> None:
    """Native files to conversations; prints what was read, kept and dropped.

    Records that cannot be read are dropped, and listed with file, line and reason in
    OUT.bad.jsonl beside the output.

    Example: `cameleer data convert dolly --from data/instruct/dolly -o dolly.jsonl`
    """
    from itertools import islice

    from cameleer.data.bad import BadRecords
    from cameleer.data.source import convert

    with BadRecords(out_file(output)) as bad:
        conversations, counts = convert(
            source, folder, rule.value, seed, strict=strict, on_bad=bad.add
        )
        rows = (item.to_row() for item in islice(conversations, limit))
        write_jsonl(output, rows)
    if bad.count and not counts["kept"]:
        raise UserError(f"none of {counts['read']} records could be used", file=bad.file)
    facts = {"source": source, "output": str(output), **shown_counts(counts), **bad.facts()}
    show(json, facts, "", [facts])


@app.command("stats")
def data_stats(files: list[Path], tokenizer: TokenizerOption, json: Json = False) -> None:
    """Table 1 of the paper for conversation files: instances, rounds, mean lengths in tokens.

    Example: `cameleer data stats dolly.jsonl -t embedded:smollm2-135m-instruct`
    """
    from cameleer.data.describe import describe
    from cameleer.model.load import load_tokenizer

    loaded = load_tokenizer(tokenizer)
    rows = [{"file": str(file), **describe(file, loaded)} for file in files]
    show(json, {"files": rows}, "", [rounded(row) for row in rows])


@app.command("render")
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
    write_jsonl(out_file(output), rows)
    facts = {"output": str(output), **shown_counts(counts)}
    show(json, facts, "", [facts])


@app.command("show")
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
        with replacing(out_file(html)) as handle:
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


@app.command("miniature")
def data_miniature(output: Output, seed: int = 7, json: Json = False) -> None:
    """A generated world of small data sets and tests in native formats, to try things out on.

    Example: `cameleer data miniature -o world`
    """
    from cameleer.data.miniature import Miniature, make, miniature_stage

    config = Miniature(seed=seed)
    folder = make(config, miniature_stage(config, out_folder(output)))
    emit_json({"folder": str(folder), **config.model_dump()}) if json else typer.echo(folder)
