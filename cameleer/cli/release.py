"""Verbs of `cameleer release`. What leaves the house: weights, weight diffs, cards and bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal

from cameleer.cli import bundling, gguf, pushing
from cameleer.cli.options import Json, Output, group
from cameleer.core.console import emit_json, note

if TYPE_CHECKING:
    from cameleer.release.diff import Diff

app = group("What leaves the house: merged weights, weight diffs, cards and bundles to check.")

Raw = Annotated[str, typer.Argument(help="The base: folder, hub id or embedded:NAME.")]


@app.command("merge")
def release_merge(
    adapter: Annotated[
        Path, typer.Argument(metavar="ADAPTER_OR_RUN", help="A peft folder, or a training run's.")
    ],
    output: Output,
    base: Annotated[
        str | None, typer.Option(help="The base's folder or hub id. [default: as the adapter says]")
    ] = None,
    json: Json = False,
) -> None:
    """Fold LoRA adapters into their base and write the model whole.

    It is written in the base's dtype; a run's in that of the run. The model must fit in memory.

    Example: `cameleer release merge runs/lora -o models/merged`
    """
    from cameleer.release.merge import adapter_of, merge

    facts = merge(adapter_of(adapter, base), output)
    if json:
        emit_json({**facts, "output": str(output)})
    else:
        note(f"merged {facts['parameters']} parameters in {facts['dtype']} to {output}")


@app.command("diff")
def release_diff(
    raw: Raw,
    tuned: Annotated[str, typer.Argument(help="The tuned model, likewise.")],
    output: Output,
    json: Json = False,
) -> None:
    """Write what a tuned model adds to its base, for who may not pass the base's weights on.

    `release recover` gives the tuned model back from both, bit for bit.

    Example: `cameleer release diff models/llama-7b runs/tulu-7b -o tulu-7b-diff`
    """
    from cameleer.model.load import model_folder
    from cameleer.release.diff import diff

    made = diff(model_folder(raw), model_folder(tuned), output)
    if json:
        emit_json({**_facts(made), "left_out": made.left_out, "output": str(output)})
        return
    size = f"{len(made.tensors)} tensors ({decimal(made.total_bytes)})"
    note(f"wrote the difference of {size} to {output}")
    if made.whole_bytes:
        whole = made.whole()
        such = f", such as {whole[0]}" if whole else ""
        note(
            f"readable without the base, as it has nothing to set against them: "
            f"{decimal(made.whole_bytes)}; whole tensors: {len(whole)}{such}"
        )
    if made.only_raw:
        note(f"only the base has: {', '.join(made.only_raw)}")
    if made.left_out:
        note(f"left out: {', '.join(made.left_out)}")


@app.command("recover")
def release_recover(
    raw: Raw,
    diff: Annotated[Path, typer.Argument(help="The folder of a weight diff.")],
    output: Output,
    json: Json = False,
) -> None:
    """Give a tuned model back from its base and a weight diff, bit for bit.

    Every tensor of both is checked before anything is written.

    Example: `cameleer release recover models/llama-7b tulu-7b-diff -o models/tulu-7b`
    """
    from cameleer.model.load import model_folder
    from cameleer.release.diff import read_diff, recover

    read_diff(diff)  # before a base is fetched for it
    made = recover(model_folder(raw), diff, output)
    if json:
        emit_json({**_facts(made), "output": str(output)})
    else:
        size = f"{len(made.tensors)} tensors ({decimal(made.total_bytes)})"
        note(f"recovered {size} to {output}, all as they were")


def _facts(made: Diff) -> dict[str, object]:
    return {
        "tensors": len(made.tensors),
        "bytes": made.total_bytes,
        "whole": made.whole(),
        "whole_bytes": made.whole_bytes,
        "only_raw": made.only_raw,
    }


app.command("card")(bundling.card)
app.command("bundle")(bundling.bundle)
app.command("verify")(bundling.verify)
app.command("push")(pushing.push)
app.command("gguf")(gguf.gguf)
