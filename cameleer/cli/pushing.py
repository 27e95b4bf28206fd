"""The verb `cameleer release push`: a dry run, unless it is told to send."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cameleer.cli.options import Json
from cameleer.core.console import emit_json, err, note, table, warn
from cameleer.core.errors import UserError

if TYPE_CHECKING:
    from cameleer.release.push import Cargo, Found


def push(
    place: Annotated[
        Path, typer.Argument(metavar="FOLDER|BUNDLE", help="A model, a diff, a mixture, a bundle.")
    ],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="USER/NAME on the hub.")],
    yes: Annotated[bool, typer.Option("--yes", help="Send it; without, nothing is sent.")] = False,
    public: Annotated[
        bool, typer.Option("--public", help="Make a public repository. [default: private]")
    ] = False,
    type: Annotated[
        Literal["model", "dataset"] | None,
        typer.Option(help="What the repository is of. [default: by what is in the folder]"),
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(help="A file in which you looked at what was found; again for more."),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help="A file or folder that is not sent; again for more."),
    ] = None,
    json: Json = False,
) -> None:
    """Show what would be sent to a hub and what stands against it; with --yes, send it.

    A dry run needs no network. Sending needs a token: HF_TOKEN, or `hf auth login`. A broken upload
    goes on by the same command. HF_ENDPOINT names another hub than huggingface.co.

    Example: `cameleer release push models/tulu-7b me/tulu-7b`
    """
    from cameleer.cli.bundling import derive
    from cameleer.data.mix.provenance import asks
    from cameleer.release.push import cargo, hub, look, require_name, send

    require_name(repo)
    with cargo(place, derive(), without or ()) as load:
        kind = type or load.kind
        found = look(load, asks, accept or ())
        api = hub() if yes and not found.refused else None
        if json:
            emit_json(_facts(load, found, repo, kind) | {"sent": api is not None})
        else:
            _tell(load, found, f"{kind} {repo}, {'public' if public else 'private'}")
        if found.refused:
            about = f"{len(found.refused)} things stand against it, first {found.refused[0]}"
            hint = "nothing was sent; mend it, leave it out with --without, or look and --accept it"
            raise UserError(about, file=place, hint=hint)
        if api is None:
            note(f"dry run: nothing was sent; --yes sends {len(load.files)} files to {repo}")
            return
        send(load, repo, kind, api, public)
        note(f"sent {len(load.files)} files to {repo}")


def _facts(load: Cargo, found: Found, repo: str, kind: str) -> dict[str, Any]:
    licence = found.licence
    return {
        "repository": repo,
        "type": kind,
        "files": found.facts,
        "staying": load.staying,
        "card": found.card,
        "licence_problems": licence.problems if licence else None,
        "refused": [str(one) for one in found.refused],
        "accepted": [str(one) for one in found.accepted],
    }


def _tell(load: Cargo, found: Found, where: str) -> None:
    rows = [[name, one["bytes"], one["sha256"]] for name, one in found.facts.items()]
    table(where, ["file", "bytes", "sha256"], rows)
    size = sum(one["bytes"] for one in found.facts.values())
    note(f"{len(rows)} files, {size:,} bytes")
    if load.staying:
        note(f"not sent: {', '.join(load.staying)}")
    for name in ("license", "license_name", "base_model", "datasets"):
        if name in found.card:
            note(f"card: {name}: {found.card[name]}")
    if found.card and not found.licence:
        warn("the card does not list the licences of base and data: compare them yourself")
    if found.licence:
        asked = ", ".join(found.licence.asked) or "nothing known"
        note(f"licence: base and data ask: {asked}; {len(found.licence.problems)} doubts")
        for problem in found.licence.problems:
            warn(problem)
    for accepted in found.accepted:
        note(f"accepted: {accepted}")
    for refused in found.refused:
        err.print(f"against it: {refused}", style="red", markup=False)
