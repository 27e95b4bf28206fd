"""The verb `cameleer release gguf`: a model for llama.cpp, by llama.cpp's own converter."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

import typer

from cameleer.cli.options import Json, Output, out_file
from cameleer.core.console import emit_json, note, warn


def gguf(
    model: Annotated[str, typer.Argument(help="A folder, hub id or embedded:NAME.")],
    output: Output,
    outtype: Annotated[
        Literal["auto", "f32", "f16", "bf16", "q8_0"],
        typer.Option(help="Type of the numbers; auto: 16 bits, f16 or bf16."),
    ] = "auto",
    converter: Annotated[
        str | None,
        typer.Option(help="llama.cpp's convert_hf_to_gguf.py. [default: the one on PATH]"),
    ] = None,
    json: Json = False,
) -> None:
    """Write a model as one GGUF file, for llama.cpp and what is built on it.

    llama.cpp's own converter does it; the file is then read again, and what it holds is told.

    Example: `cameleer release gguf runs/tulu -o tulu.gguf`
    """
    from cameleer.model.load import model_folder
    from cameleer.release.gguf_file import export

    made = export(model_folder(model), out_file(output), converter, outtype)
    if json:
        emit_json({**asdict(made), "output": str(output)})
        return
    note(f"{made.architecture}: {made.tensors} tensors, {made.numbers:,} numbers: {output}")
    if made.numbers != made.model_numbers:
        warn(
            f"the model has {made.model_tensors} tensors, {made.model_numbers:,} numbers: "
            "some were put together, left out or added; compare its answers"
        )
    if made.same_template is False:
        warn("its chat template is not the model's: give the model's to what runs it")
