"""Verbs of `cameleer judge` that ask a judge, and list the judges there are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cameleer.cli.options import (
    DataOption,
    EngineName,
    EngineOptions,
    Json,
    Output,
    out_folder,
    show,
)
from cameleer.core.console import emit_json, note, warn
from cameleer.core.errors import UserError
from cameleer.core.files import read_text
from cameleer.core.text import visible

SHOWN = 160  # characters of a reply without a verdict

JudgeOption = Annotated[
    str, typer.Option("--judge", "-j", help="A name of `judge ls`, or a TOML file.")
]


def ls(
    name: Annotated[
        str | None, typer.Argument(help="Show this judge whole: its card, words and parser.")
    ] = None,
    json: Json = False,
) -> None:
    """List the judges: of pairs, and those that benchmarks have read single outputs.

    Example: `cameleer judge ls`
    """
    from cameleer.evals.judge.listing import listed
    from cameleer.evals.judge.spec import judge_file, load_judge

    if name is None:
        rows = listed()
        shown = ("judge", "kind", "version", "model", "about", "used by")
        show(json, {"judges": rows}, "", [{key: row[key] for key in shown} for row in rows])
        return
    path = judge_file(name)
    judge = load_judge(path)
    if json:
        emit_json({"judge": name, "file": str(path), **judge.model_dump(mode="json")})
    else:
        typer.echo(read_text(path).rstrip())


def run(
    answers: Annotated[
        str,
        typer.Argument(help="The answers to judge: AlpacaEval JSON, a folder, a published model."),
    ],
    against: Annotated[str, typer.Option(help="The answers to compare with, as the first.")],
    judge: JudgeOption,
    output: Output,
    model: Annotated[
        str | None, typer.Option(help="What judges: MODEL as of `eval run`. [default: the judge's]")
    ] = None,
    engine: EngineName = None,
    engine_option: EngineOptions = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Take a sample of so many pairs.")
    ] = None,
    both_orders: Annotated[
        bool, typer.Option("--both-orders", help="Ask twice, with the answers in either order.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the orders and of sampled replies.")] = 42,
    template: Annotated[
        str | None, typer.Option(help="Chat template of a local model. [default: its own]")
    ] = None,
    data: DataOption = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only tell what it will take; nothing is asked.")
    ] = False,
    json: Json = False,
) -> None:
    """Have a judge compare two models' answers; give the same command again to go on.

    The win rate is that of ANSWERS against the others, which are the reference. A published model
    is one of AlpacaEval's results in the data folder, such as `text_davinci_003`; an
    annotations.json stands for its model as the first, for its reference as the second.

    Example: `cameleer judge run evals/tulu --against text_davinci_003 -j weighted -o judged`
    """
    from cameleer.engines.registry import choose
    from cameleer.evals.judge import run as running
    from cameleer.evals.judge.spec import pairwise_judge

    rubric = pairwise_judge(judge)
    asked = model or rubric.model
    if asked is None:
        raise UserError(f"the judge '{judge}' names no model", hint="give --model")
    spec = running.JudgeSpec(both_orders=both_orders, limit=limit, seed=seed, template=template)
    judging = running.Judging(
        rubric,
        running.who(Path(judge).stem, rubric, asked),
        choose(asked, engine, None, engine_option or ()),
        running.answers_of(against, data),
        running.answers_of(answers, data, second=True),
        spec,
    )
    stage = judging.stage(out_folder(output))
    if plan:
        told = running.plan(judging, stage)
        if json:
            emit_json({"plan": told.facts(), "done": stage.done()})
        else:
            typer.echo("finished already, nothing is left" if stage.done() else told.told())
            if said := "" if stage.done() else told.short_of():
                warn(said)
        return
    result = running.read_result(running.judge_pairs(judging, stage))
    if json:
        emit_json({"folder": str(output), **result})
    else:
        show(False, {}, "", result_rows(result))
    _tell_unread(result)


def result_rows(result: dict[str, Any]) -> list[dict[str, str]]:
    """The table of a judging."""
    from cameleer.evals.judge.plan import money

    rows = [
        _rate(f"{result['b']} wins against {result['a']}", result["win_rate"]),
        _rate("the same, were the answers as long", result["length_controlled"]),
        _row("wins, ties, losses", f"{result['wins']}, {result['ties']}, {result['losses']}"),
        _row("of the ties, the same text", str(result["same_text"])),
        _row("pairs without a verdict", str(result["no_verdict"])),
        _rate("prefers what is shown first", result["first_preferred"]),
    ]
    if both := result["both_orders"]:
        rows.append(_rate("other winner in the other order", both["flips"]))
    cost = "" if result["dollars"] is None else f", {money(result['dollars'])}"
    tokens = f"{result['prompt_tokens']:,} tokens in, {result['new_tokens']:,} out"
    rows.append(_row("requests", f"{result['requests']}: {tokens}{cost}"))
    return rows


def _rate(about: str, rate: dict[str, Any] | None) -> dict[str, str]:
    if rate is None:
        return _row(about, "–")
    value, low, high = (f"{rate[key]:.3f}" for key in ("value", "low", "high"))
    return _row(about, value, f"{low} to {high}")


def _row(about: str, value: str, interval: str = "") -> dict[str, str]:
    return {"": about, "value": value, "95 % interval": interval}


def _tell_unread(result: dict[str, Any]) -> None:
    """Say how many replies held no verdict, and show the first of them."""
    unread = result["unread"]
    if not unread["replies"]:
        return
    reasons = ", ".join(f"{count}: {reason}" for reason, count in unread["reasons"].items())
    warn(f"{unread['replies']} of {result['requests']} replies hold no verdict ({reasons})")
    for example in unread["examples"]:
        note(f"  {example['item']}: {visible(' '.join(example['said'].split()))[:SHOWN]}")
