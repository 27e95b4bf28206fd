"""Verbs of `cameleer mix`. Mixtures of data sets."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cameleer.cli.options import (
    DataOption,
    Json,
    Output,
    Overrides,
    Strict,
    group,
    out_folder,
    show,
)
from cameleer.core.console import note, warn

app = group("Mixtures of data sets.")

Mixture = Annotated[str, typer.Argument(help="MIX.yaml, or the name of a mixture (`mix ls`).")]


@app.command("ls")
def mix_ls(json: Json = False) -> None:
    """List the mixtures that come with us; each can be built, and be a part of another.

    Example: `cameleer mix ls`
    """
    from cameleer.data.mix.config import load_mixture, named_mixtures

    rows = []
    for name in named_mixtures():
        read = load_mixture(name)
        rows.append(
            {"mixture": name, "parts": ", ".join(p.name for p in read.parts), "about": read.about}
        )
    show(json, {"mixtures": rows}, "", rows)


@app.command("plan")
def mix_plan(
    mixture: Mixture,
    overrides: Overrides = None,
    data: DataOption = None,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Show what a mixture would take of each part, without writing anything.

    Example: `cameleer mix plan mix.yaml total=50000`
    """
    from cameleer.data.mix.build import plan
    from cameleer.data.mix.config import load_mixture
    from cameleer.model.load import load_tokenizer

    read = load_mixture(mixture, overrides or ())
    _show(json, {}, plan(read, data, load_tokenizer, strict=strict))


@app.command("build")
def mix_build(
    mixture: Mixture,
    output: Output,
    overrides: Overrides = None,
    data: DataOption = None,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Build a fingerprinted mixture: conversations.jsonl, a manifest, and MIXTURE.md for people.

    Records that cannot be read are dropped, counted and told.

    Example: `cameleer mix build tulu rule=paper --data data -o mixtures/tulu`
    """
    from cameleer.core.files import read_json
    from cameleer.data.mix.build import build, mix_stage
    from cameleer.data.mix.config import load_mixture
    from cameleer.model.load import load_tokenizer

    read = load_mixture(mixture, overrides or ())
    stage = mix_stage(read, data, out_folder(output), load_tokenizer)
    folder = build(read, data, stage, load_tokenizer, strict=strict)
    _show(json, {"folder": str(folder)}, read_json(folder / "manifest.json")["outcome"])


def _show(json: bool, where: dict[str, str], outcome: dict[str, Any]) -> None:
    tokens = outcome["measure"] == "supervised_tokens"
    weight = "token_share" if tokens else "answer_share"
    rows = [
        {
            "part": name,
            "asked for": facts["asked"],
            "read": facts["read"],
            "dropped": sum(n for key, n in facts.items() if key.startswith("dropped: ")),
            "taken": facts["taken"],
            "of those again": facts["repeats"],
            "conversations": f"{facts['share']:.1%}",
            "learned tokens" if tokens else "answers' characters": f"{facts[weight]:.1%}",
            "licence": facts["licence"],
        }
        for name, facts in outcome["sources"].items()
    ]
    show(json, {**where, **outcome}, outcome["name"], rows)
    for text in outcome["warnings"]:
        warn(text)
    for name, facts in outcome["sources"].items():
        for reason, count in facts.items():
            if reason.startswith("dropped: "):
                note(f"{name}: {count} {reason}")
    strictest = outcome["strictest"]
    note(f"strictest licence: {strictest} ({outcome['licences'][strictest]})")
