"""The safetensors files of a model folder, read in pieces: no tensor ever lies whole in memory."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from cameleer.core.errors import UserError
from cameleer.core.files import read_json

BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8,
    "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
}  # fmt: skip
"""Bits of one number of each dtype, by its name in a file; others are read as bytes alone."""


@dataclass(frozen=True)
class Stored:
    """One tensor on disk: its file, dtype as safetensors names it, shape, and where it begins."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    size: int

    @property
    def item(self) -> int | None:
        """Bytes of one number; None for dtypes whose numbers are no whole bytes, or not known."""
        bits = BITS.get(self.dtype)
        return bits // 8 if bits and math.prod(self.shape) * bits == self.size * 8 else None

    def pieces(self, most: int) -> Iterator[bytes]:
        """The tensor's bytes, at most `most` at a time; UserError if the file ends before them."""
        with self.file.open("rb") as handle:
            handle.seek(self.begin)
            for begin in range(0, self.size, most):
                wanted = min(most, self.size - begin)
                piece = handle.read(wanted)
                if len(piece) < wanted:
                    raise cut_off(self.file)
                yield piece


@dataclass(frozen=True)
class TensorFile:
    """One safetensors file: its header to the byte, and its tensors in the order of their bytes."""

    file: Path
    header: bytes
    tensors: tuple[Stored, ...]


def cut_off(file: Path) -> UserError:
    """The error for a file that is shorter than it says."""
    return UserError("is cut off: it ends before its last tensor", file=file, hint="get it again")


def read_header(file: Path) -> TensorFile:
    """The header of a safetensors file; UserError if the file is cut off, too long or broken."""
    try:
        with safe_open(file, framework="numpy"):
            pass  # checks that dtypes, shapes and offsets fit, and cover the file without holes
    except FileNotFoundError:
        raise UserError("is missing", file=file, hint="the folder is not whole") from None
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"cannot be read as safetensors, is it cut off? {error}", file=file, hint="get it again"
        ) from None
    with file.open("rb") as handle:
        start = handle.read(8)
        header = start + handle.read(int.from_bytes(start, "little"))
    facts: dict[str, Any] = json.loads(header[8:])
    facts.pop("__metadata__", None)
    tensors = (
        Stored(
            name, file, one["dtype"], tuple(one["shape"]), len(header) + one["data_offsets"][0],
            one["data_offsets"][1] - one["data_offsets"][0],
        )
        for name, one in facts.items()
    )  # fmt: skip
    return TensorFile(file, header, tuple(sorted(tensors, key=lambda one: (one.begin, one.name))))


def weight_files(folder: Path) -> list[TensorFile]:
    """The headers of a model folder's weights: those of its index, else `model.safetensors`.

    Raises UserError for a folder without them, a file of the index that is missing or broken, or a
    tensor that the index puts where it is not.
    """
    indices = sorted(folder.glob("*.safetensors.index.json"))
    if not indices:
        single = folder / "model.safetensors"
        names = [single] if single.exists() else sorted(folder.glob("*.safetensors"))
        if not names:
            raise UserError(
                "holds no safetensors weights",
                file=folder,
                hint="convert it: pickled weights run code",
            )
        files = [read_header(file) for file in names]
    else:
        index = read_json(indices[0])
        where = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(where, dict) or not all(
            isinstance(file, str) and Path(file).name == file for file in where.values()
        ):
            raise UserError("is no index of weights", file=indices[0])
        files = [read_header(folder / name) for name in sorted(set(where.values()))]
        held = {(one.name, one.file.name) for file in files for one in file.tensors}
        for name, file in where.items():
            if (name, file) not in held:
                raise UserError(f"says that '{name}' is in {file}: it is not", file=indices[0])
    _require_once(files)
    return files


def _require_once(files: list[TensorFile]) -> None:
    seen: dict[str, Path] = {}
    for one in (tensor for file in files for tensor in file.tensors):
        if one.name in seen:
            raise UserError(f"'{one.name}' is in {seen[one.name].name} as well", file=one.file)
        seen[one.name] = one.file
