"""Verbs of `cameleer mix`. Mixtures of data sets."""

from __future__ import annotations

from pathlib import Path

from cameleer.cli.options import (
    DataOption,
    Json,
    Output,
    Overrides,
    group,
    out_folder,
    show,
)

app = group("Mixtures of data sets.")


@app.command("build")
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
    folder = build(read, data, mix_stage(read, data, out_folder(output)))
    outcome = read_json(folder / "manifest.json")["outcome"]
    rows = [
        {"source": name, "conversations": f["taken"], "messages": f["messages"],
         "share": f"{f['share']:.1%}", "of answers": f"{f['answer_share']:.1%}"}
        for name, f in outcome["sources"].items()
    ]  # fmt: skip
    show(json, {"folder": str(folder), **outcome}, read.name, rows)
