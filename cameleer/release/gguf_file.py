"""A model as one GGUF file, made by llama.cpp's own converter, which is driven and then checked.

The converter (`convert_hf_to_gguf.py`, MIT) knows the architectures and tokenizers that llama.cpp
runs; it comes with llama.cpp (its source, Homebrew, conda-forge), in no wheel of its own makers.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cameleer.core.console import note, progress
from cameleer.core.errors import UserError
from cameleer.core.files import read_text
from cameleer.release.tensor_files import weight_files

COMMANDS = ("convert_hf_to_gguf.py", "llama-convert-hf-to-gguf")
NAMED = ("general.architecture", "tokenizer.chat_template")
TEMPLATE = "chat_template.jinja"
TOLD = 8  # lines of a converter that failed
OutType = Literal["auto", "f32", "f16", "bf16", "q8_0"]


@dataclass(frozen=True)
class Exported:
    """What a GGUF file holds, beside what the model has; same_template: None where it has none."""

    tensors: int
    numbers: int
    model_tensors: int
    model_numbers: int
    architecture: str
    same_template: bool | None


def find_converter(given: str | None) -> list[str]:
    """The command of the converter: the path or name that was given, else what is on PATH.

    A Python script is run by this Python. Raises UserError if there is none.
    """
    for name in [given] if given else COMMANDS:
        found = name if Path(name).is_file() else shutil.which(name)
        if found:
            return [sys.executable, found] if found.endswith(".py") else [found]
    hint = "get llama.cpp, then give --converter LLAMA.CPP/convert_hf_to_gguf.py"
    raise UserError(f"no converter: {given or ' or '.join(COMMANDS)} is not there", hint=hint)


def export(model: Path, out: Path, converter: str | None, outtype: OutType = "auto") -> Exported:
    """Write a model folder as the GGUF file `out`.

    Raises UserError if there is no converter, if it fails, or if what it wrote cannot be read; then
    there is no file.
    """
    stored = [one for file in weight_files(model) for one in file.tensors]
    if out.exists():
        raise UserError("is there already", file=out, hint="give another -o, or remove it")
    command = find_converter(converter)
    partial = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    note(f"converting with {command[-1]}")
    try:
        _run([*command, str(model), "--outfile", str(partial), "--outtype", outtype], model)
        numbers = sum(math.prod(one.shape) for one in stored)
        made = _read(partial, model, len(stored), numbers)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return made


def _run(command: list[str], model: Path) -> None:
    """Run the converter, offline; its last lines are shown if it fails."""
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with progress("converting", None):
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=offline, check=False
        )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it says nothing"]
        for line in lines[-TOLD:-1]:
            note(f"  {line}")
        hint = "its own words are above; a missing module is one that llama.cpp asks for"
        raise UserError(f"the converter failed: {lines[-1].strip()}", file=model, hint=hint)


def _read(file: Path, model: Path, tensors: int, numbers: int) -> Exported:
    """What the file holds, by the reader of GGUF's own makers."""
    if not file.is_file():
        raise UserError("the converter wrote no file", file=model, hint="is it llama.cpp's?")
    with _told(file):
        from gguf import GGUFReader

        reader = GGUFReader(file)
        held = sum(int(one.n_elements) for one in reader.tensors)
        texts = {name: one.contents() for name, one in reader.fields.items() if name in NAMED}
        count = len(reader.tensors)
    if not count:
        raise UserError("the converter wrote a file without tensors", file=model)
    same = None
    if (model / TEMPLATE).is_file():
        same = texts.get(NAMED[1]) == read_text(model / TEMPLATE)
    return Exported(count, held, tensors, numbers, str(texts.get(NAMED[0], "unknown")), same)


@contextmanager
def _told(file: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, IndexError, KeyError, OSError) as error:
        about = f"the converter wrote what cannot be read as GGUF: {error}"
        raise UserError(about, file=file, hint="is it llama.cpp's?") from None
