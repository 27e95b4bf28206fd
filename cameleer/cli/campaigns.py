"""`cameleer annotate new` and `account`: what is compared, and who may come in."""

from __future__ import annotations

import sys
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cameleer.cli.options import Json, show
from cameleer.core.console import emit_json, note, warn
from cameleer.core.errors import UserError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from cameleer.human.accounts import Role
    from cameleer.human.campaign import Campaign

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The campaign's folder.")]
Database = Annotated[
    str | None,
    typer.Option(
        envvar="CAMELEER_DATABASE",
        help="PostgreSQL, as postgresql://user@host/name. [default: SQLite in DIR]",
    ),
]


EXTRA = ("argon2", "markdown_it", "nh3", "sqlalchemy", "starlette", "uvicorn")


def need_extra() -> None:
    """Raise UserError where what the app and its database are made of is not installed."""
    for name in EXTRA:
        if find_spec(name) is None:
            hint = "pip install 'cameleer[annotate]'"
            raise UserError(f"{name} is not installed", hint=hint)


def new(
    folder: Folder,
    answers: Annotated[
        list[str] | None,
        typer.Option(help="MODEL=FILE: its answers, in AlpacaEval's form or JSON lines, or the "
                     "folder of an evaluation; can be given again."),
    ] = None,
    instances: Annotated[
        Path | None, typer.Option(help="A file of prompts with two answers each, as the paper's.")
    ] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option(help="A,B: two models to compare; can be given again. [default: all of "
                     "--instances, or the only two]"),
    ] = None,
    overlap: Annotated[
        float, typer.Option(help="Share of comparisons that a second person makes too.")
    ] = 0.2,
    items: Annotated[
        int | None, typer.Option(min=1, help="Take a sample of so many prompts.")
    ] = None,
    guidelines: Annotated[
        Path | None, typer.Option(help="What raters are told, in markdown. [default: the paper's]")
    ] = None,
    practice: Annotated[
        Path | None, typer.Option(help="Practice items in JSON lines. [default: three of ours]")
    ] = None,
    repeats: Annotated[
        int, typer.Option(help="Comparisons that each rater is asked for twice, unknowingly.")
    ] = 5,
    target: Annotated[
        float | None,
        typer.Option(help="Stop asking for a pair once the 95 % interval of its win rate is this "
                     "narrow to each side, such as 0.05. [default: all are asked]"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the campaign. [default: DIR's]")] = None,
    seed: Annotated[int, typer.Option(help="Of the sample and of all that is random.")] = 42,
    json: Json = False,
) -> None:  # fmt: skip
    """Make a campaign: people will compare the answers of models, blinded.

    Example: `cameleer annotate new camels --answers tulu=evals/tulu/human
    --answers dolly=evals/dolly/human --overlap 0.2`
    """
    from cameleer.human.campaign import new_campaign

    if not answers and not instances:
        hint = "give --answers MODEL=FILE for each model, or --instances FILE"
        raise UserError("there is nothing to compare", hint=hint)
    made = new_campaign(
        folder,
        dict(_answers(one) for one in answers or ()),
        [_pair(one) for one in pairs or ()],
        instances=instances,
        items=items,
        guidelines=guidelines,
        practice=practice,
        name=name,
        overlap=overlap,
        repeats=repeats,
        target=target,
        seed=seed,
    )
    _say_campaign(made, json)


def _say_campaign(made: Campaign, json: bool) -> None:
    """The campaign in numbers, and what to do next."""
    rows = []
    for a, b in made.pairs:
        own = [one for one in made.rated if (one.a, one.b) == (a, b)]
        rows.append({"A": a, "B": b, "comparisons": len(own)})
    facts = {
        "folder": str(made.folder),
        "items": len({one.key for one in made.rated}),
        "pairs": rows,
        "comparisons": len(made.rated),
        "expected_ratings": made.expected_ratings,
        "practice": len(made.practice),
        "repeats": made.settings.repeats,
        "counts": made.counts,
    }
    for what, count in made.counts.items():
        warn(f"{count:,} {what}")
    show(json, facts, "", rows)
    if json:
        return
    most = " at most" if made.settings.target else ""
    note(
        f"{facts['items']:,} prompts, {len(made.rated):,} comparisons, "
        f"{made.expected_ratings:,} ratings{most} with an overlap of {made.settings.overlap:g}; "
        f"{len(made.practice)} practice items and {made.settings.repeats} hidden repeats for each "
        "rater"
    )
    note(f"next: cameleer annotate account {made.folder} add NAME --admin")
    note(f"then: cameleer annotate serve {made.folder}")


def _answers(text: str) -> tuple[str, Path]:
    model, equals, file = text.partition("=")
    if not equals or not model or not file:
        raise UserError(f"'{text}' is not MODEL=FILE", field="answers")
    return model, Path(file)


def _pair(text: str) -> tuple[str, str]:
    models = text.split(",")
    if len(models) != 2 or not all(models):
        raise UserError(f"'{text}' is not A,B", field="pairs")
    return models[0], models[1]


class Action(StrEnum):
    """What is done with accounts."""

    add = "add"
    list = "list"
    disable = "disable"


def account(
    folder: Folder,
    action: Annotated[Action, typer.Argument(help="What to do.")],
    name: Annotated[str | None, typer.Argument(help="Whose account.")] = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="May see the dashboard with the models' names.")
    ] = False,
    invite: Annotated[
        bool, typer.Option("--invite", help="Make a link in place of a password; also a new one.")
    ] = False,
    url: Annotated[
        str, typer.Option(help="Where people reach the app, for the link.")
    ] = "http://127.0.0.1:8765",
    database: Database = None,
    json: Json = False,
) -> None:
    """Add an account, list all, or disable one.

    A password is asked for, or read from stdin; with `--invite` a link is printed that lets its
    reader in once, within 14 days, to choose one.

    Example: `cameleer annotate account camels add ada --invite --url https://camels.example.org`
    """
    need_extra()

    from cameleer.human.campaign import Campaign
    from cameleer.human.database import open_database

    if (name is None) != (action is Action.list):
        said = "is needed" if name is None else "is not needed"
        raise UserError(said, field="name", hint=f"cameleer annotate account DIR {action} ...")
    engine = open_database(Campaign.open(folder), database)
    try:
        if action is Action.add:
            facts = _add(engine, str(name), admin, url if invite else None)
        elif action is Action.disable:
            facts = _disable(engine, str(name))
        else:
            facts = _list(engine)
    finally:
        engine.dispose()
    if json:
        emit_json(facts)
        return
    show(False, {}, "", facts.get("accounts", []))
    if "said" in facts:
        note(facts["said"])
    if "link" in facts:
        typer.echo(facts["link"])


def _add(engine: Engine, name: str, admin: bool, url: str | None) -> dict[str, Any]:
    """Make an account; or a new link for one that is there, which also lets it in again."""
    from cameleer.human.accounts import add_rater, check_name, rater_named
    from cameleer.human.accounts import invite as make_invite

    role: Role = "admin" if admin else "annotator"
    rater = rater_named(engine, name)
    if rater is not None and url is None:
        hint = "--invite makes a new link for it"
        raise UserError(f"there is an account '{rater.name}' already", field="name", hint=hint)
    if rater is not None and admin and rater.role != "admin":
        hint = "admins have accounts of their own"
        raise UserError(f"'{rater.name}' is an annotator", field="name", hint=hint)
    if url is None:
        check_name(name)
        rater = add_rater(engine, name, role, _password())
        return {"name": rater.name, "role": role, "said": f"{rater.name} can log in ({role})"}
    rater = rater or add_rater(engine, name, role)
    link = f"{url.rstrip('/')}/invite/{make_invite(engine, rater.id)}"
    said = f"{rater.name} ({rater.role}) can come in once by this link, within 14 days:"
    return {"name": rater.name, "role": rater.role, "link": link, "said": said}


def _disable(engine: Engine, name: str) -> dict[str, Any]:
    from cameleer.human.accounts import disable, rater_named

    rater = rater_named(engine, name)
    if rater is None:
        hint = "`cameleer annotate account DIR list` lists them"
        raise UserError(f"there is no account '{name}'", field="name", hint=hint)
    disable(engine, rater.id)
    said = f"{rater.name} is logged out and cannot come in; their ratings stay"
    return {"name": rater.name, "role": rater.role, "said": said}


def _list(engine: Engine) -> dict[str, Any]:
    from cameleer.human.accounts import accounts

    found = accounts(engine)
    rows = [{"name": a.rater.name, "role": a.rater.role, "state": a.state} for a in found]
    return {"accounts": rows} if rows else {"accounts": [], "said": "there are no accounts"}


def _password() -> str:
    """Typed twice and not shown, or the first line of stdin where nobody types."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise UserError("there is no password on stdin", hint="or give --invite")
    return line
