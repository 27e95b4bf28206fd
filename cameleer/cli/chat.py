"""`cameleer chat`: talk to a model or to two at a time, in the terminal or on a page."""

from __future__ import annotations

import getpass
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cameleer.cli.campaigns import need_extra
from cameleer.cli.options import Json
from cameleer.core.console import emit_json, note, warn
from cameleer.core.errors import UserError
from cameleer.core.text import visible, whole

if TYPE_CHECKING:
    from cameleer.engines.engine import Engine
    from cameleer.engines.talk import Sampling
    from cameleer.talk.chat import Chat, Side


def chat(
    model: Annotated[
        str, typer.Argument(help="A folder, hub id, embedded:NAME, or a server: openai:NAME@URL.")
    ],
    compare: Annotated[
        str | None, typer.Option(help="A second MODEL, which is told the same.")
    ] = None,
    votes: Annotated[
        Path | None,
        typer.Option(help="Vote after each turn, not knowing which is which; appended here."),
    ] = None,
    who: Annotated[
        str | None, typer.Option(help="Whose votes they are. [default: your login name]")
    ] = None,
    page: Annotated[
        bool, typer.Option("--page", help="Talk on a page in the browser of this machine.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the page; 0 takes one that is free.")
    ] = 0,
    system: Annotated[str, typer.Option(help="The system message.")] = "",
    template: Annotated[
        str | None, typer.Option(help="The chat template, such as tulu. [default: the model's own]")
    ] = None,
    temperature: Annotated[
        float, typer.Option(min=0, help="How freely tokens are drawn; 0 takes the likeliest.")
    ] = 0.7,
    top_p: Annotated[
        float, typer.Option(min=0, max=1, help="Draw from the likeliest that hold this share.")
    ] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 512,
    seed: Annotated[int, typer.Option(help="Seed of what is drawn.")] = 42,
    precision: Annotated[
        str | None, typer.Option(help="Of a local model: auto, bf16 or fp32. [default: auto]")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="What answers, of `eval engines`. [default: by MODEL]")
    ] = None,
    engine_option: Annotated[
        list[str] | None,
        typer.Option(help="An option of the engine, as name=value; can be given again."),
    ] = None,
    json: Json = False,
) -> None:
    """Talk to a model; the prompt is token by token that of training and evaluation.

    In the chat, `/help` lists the commands. Where stdin is no terminal, each line is a message of
    one chat and gets one line as its answer, with `\\n` for line breaks; with `--json`, an object.

    Example: `cameleer chat embedded:smollm2-135m-instruct`
    """
    if votes and compare is None:
        raise UserError("votes need a second model", field="--votes", hint="--compare MODEL")
    here = page or (not json and sys.stdin.isatty() and sys.stdout.isatty())
    if votes and not here:
        raise UserError("votes need a terminal or --page", field="--votes")
    if compare and not (here or json):
        raise UserError("two models need a terminal, --page or --json", field="--compare")
    if page:
        need_extra()

    from cameleer.engines.talk import Sampling
    from cameleer.talk.chat import Chat
    from cameleer.talk.terminal import Terminal
    from cameleer.talk.votes import Votes

    kept = Votes(votes, model, compare, who or _login(), seed) if votes and compare else None
    how = Sampling(temperature, top_p, max_new_tokens, seed)
    options = (engine, engine_option or [], precision, template, system, how)
    talked = Chat([_open(one, *options) for one in (model, compare) if one is not None], kept)
    try:
        if page:
            _on_a_page(talked, port, json)
        elif here:
            note("/help lists the commands, Ctrl-D leaves")
            Terminal(talked).run()
        else:
            _line_by_line(talked, json)
    finally:
        for side in talked.sides:
            if hasattr(side.talk.engine, "close"):
                side.talk.engine.close()


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in some containers
        return "somebody"


def _open(
    model: str,
    name: str | None,
    options: list[str],
    precision: str | None,
    template: str | None,
    system: str,
    how: Sampling,
) -> Side:
    """A model, ready to talk."""
    from cameleer.engines.registry import choose, engine_named, engine_of
    from cameleer.engines.talk import Talk, template_of
    from cameleer.talk.chat import Side

    fields = engine_named(name or engine_of(model) or "transformers").Options.model_fields
    given = {"precision": precision} if precision and "precision" in fields else {}
    if precision and not given:
        warn(f"{model}: --precision is for local models, and does nothing here")
    chosen = choose(model, name, given, options)
    note(f"opening {model}")
    opened = chosen.open({"model": model})
    served = bool(getattr(chosen.module, "BY_NAME", False))
    talk = Talk(opened, template_of(template, opened, served=served), how, system)
    note(_about(model, talk.template is None, template, opened, talk.streams))
    return Side(model, talk)


def _about(model: str, served: bool, template: str | None, engine: Engine, streams: bool) -> str:
    """A line on how a model is talked to."""
    parts = [f"{template or 'its own'} template" if not served else "the server's own template"]
    if room := getattr(engine, "room", None):
        parts.append(f"context of {room} tokens")
    if weights := getattr(engine, "model", None):
        kind = str(getattr(weights, "dtype", "")).removeprefix("torch.")
        parts += [f"{kind} on {weights.device.type}"] if kind else []
    if not streams:
        parts.append("answers come whole, not as they are written")
    return f"{model}: {', '.join(parts)}"


def _on_a_page(chat: Chat, port: int, json: bool) -> None:
    """Serve the chat's page until Ctrl-C."""
    from cameleer.human.serving import bind, serve
    from cameleer.talk.page import new_token, page_app
    from cameleer.talk.shared import SharedChat

    shared, token = SharedChat(chat), new_token()
    with bind("127.0.0.1", port) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/{token}/"
        if json:
            emit_json({"address": address})
            sys.stdout.flush()  # whoever reads it waits for it
        note(f"open {address} (Ctrl-C ends the chat)")
        serve(page_app(shared, token), listening, shared.end)
        shared.wait()
    if chat.votes:
        note(chat.votes.tally())


def _line_by_line(chat: Chat, json: bool) -> None:
    """Answer each line of stdin with one on stdout."""
    from cameleer.engines.talk import STOPPED
    from cameleer.talk.chat import message_of, told

    for raw in sys.stdin:
        line = whole(raw.rstrip("\r\n"))
        if not line.strip():
            continue
        if line.startswith("/") and not line.startswith("//"):
            note(visible(chat.command(line)))
            if chat.ended:
                return
            continue
        text, rows = message_of(line), list[dict[str, Any]]()
        for side in chat.sides:
            spoken = side.talk.ask(text)
            if spoken.finish == STOPPED:
                raise KeyboardInterrupt
            for line in told(spoken, side.talk):
                warn(f"{side.model}: {line}")
            rows.append({"model": side.model, **asdict(spoken)})
        if json:
            emit_json({"message": text, **({"answers": rows} if len(rows) > 1 else rows[0])})
        else:
            said = visible(spoken.text) if sys.stdout.isatty() else spoken.text
            sys.stdout.write(said.replace("\n", "\\n") + "\n")
        sys.stdout.flush()
