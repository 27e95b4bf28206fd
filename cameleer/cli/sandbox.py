"""What the command line says and asks of code that a model wrote."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from cameleer.cli.options import Json, show
from cameleer.core.console import err, note
from cameleer.core.errors import UserError

AllowCode = Annotated[
    bool | None,
    typer.Option(
        "--allow-code-execution/--no-code-execution",
        help="Run code that a model wrote, in the sandbox. [default: asked]",
    ),
]


def asked_here() -> Callable[[str], bool] | None:
    """What puts a question to the user, or None where there is no terminal to ask on."""
    if not (sys.stdin.isatty() and err.is_terminal):
        return None
    return lambda question: typer.confirm(question, default=False, err=True)


def eval_sandbox(
    attacks: Annotated[bool, typer.Option(help="Run the attacks, too.")] = True,
    without: Annotated[
        list[str] | None, typer.Option(help="Leave out this layer; can be given again.")
    ] = None,
    json: Json = False,
) -> None:
    """Show which layers of the sandbox this machine grants; try a hundred attacks on it.

    Example: `cameleer eval sandbox`
    """
    from dataclasses import asdict

    from cameleer.core.errors import unknown
    from cameleer.evals.attacks import run_attacks
    from cameleer.evals.sandbox import LAYERS, Program, run_program, weakness

    for name in without or ():
        if name not in LAYERS:
            raise unknown("layer", name, LAYERS, "cameleer eval sandbox")
    level = run_program(Program(""), without=without or ()).level
    granted = level.split("+")
    rows = [
        {"layer": name, "granted": "yes" if name in granted else "no", "what it does": about}
        for name, about in LAYERS.items()
    ]
    outcomes = run_attacks(without=without or ()) if attacks else []
    escaped = [one.attack for one in outcomes if not one.contained]
    facts = {
        "level": level,
        "open": weakness(level),
        "attacks": [asdict(one) for one in outcomes],
        "escaped": escaped,
    }
    show(json, facts, "", rows)
    if not json and outcomes:
        said = {True: "contained", False: "GOT THROUGH"}
        show(False, {}, "", [
            {"attack": one.attack, "outcome": said[one.contained], "how": one.how[:90]}
            for one in outcomes
        ])  # fmt: skip
        note(f"{len(outcomes) - len(escaped)} of {len(outcomes)} attacks contained, level {level}")
    if escaped:
        raise UserError(
            f"{len(escaped)} attacks got through: {', '.join(escaped[:5])}",
            hint="run model-written code in a container or a virtual machine here",
        )
