"""Verbs of `cameleer models`. Models to start from."""

from __future__ import annotations

from typing import Annotated

import typer

from cameleer.cli.options import Json, group, show
from cameleer.core.console import emit_json, note

app = group("Models to start from.")


@app.command("ls")
def models_ls(json: Json = False) -> None:
    """List known and embedded models.

    Example: `cameleer models ls`
    """
    from cameleer.model.embedded import EMBEDDED, PREFIX, embedded_folder

    rows = [
        {
            "name": name,
            "model": f"{PREFIX}{name}",
            "licence": origin.licence,
            "here": (embedded_folder(name) / "manifest.json").is_file(),
            "about": origin.about,
        }
        for name, origin in EMBEDDED.items()
    ]
    show(json, {"models": rows}, "", rows)
    if not json:
        note("Any folder or hub id of a causal language model works as MODEL, too.")


@app.command("get")
def models_get(
    name: Annotated[str, typer.Argument(help="A name of `models ls`, or a hub id.")],
    json: Json = False,
) -> None:
    """Fetch a model to the cache, as a Hugging Face folder; prints its path.

    Example: `cameleer models get smollm2-135m-instruct`
    """
    from cameleer.model.embedded import PREFIX
    from cameleer.model.load import model_folder

    embedded = name if name.startswith(PREFIX) or "/" in name else f"{PREFIX}{name}"
    folder = model_folder(embedded)
    emit_json({"path": str(folder)}) if json else typer.echo(folder)
