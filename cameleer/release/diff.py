"""Weight diffs: a tuned model as what its base does not have, and back again to the bit.

The paper gave its LLaMA models as differences `tuned - raw` in float32 (§7 of its release). That is
not exact: floats are rounded when they are subtracted and again when they are added, and NaN, -0.0
and infinities do not come back. Here the *bits* of both are combined by exclusive or, which is its
own inverse: `(tuned ^ raw) ^ raw == tuned`, whatever the bits mean. Nobody without the base can
read a tensor that was combined so.

- The base's numbers are brought to the tuned tensor's dtype first where those differ (rounded in
  one defined way), so that a float32 model can be given as a diff on a float16 base.
- A matrix with other rows (embeddings with added tokens) is combined in the rows that both have;
  what is beyond them is stored as it is. So is a tensor of another shape, or of the tuned one only.
- Everything goes through in pieces of 4 MiB, file by file, so a model of any size needs little
  memory. The files of a recovered model are those of the tuned one to the byte, headers included.

DIFF/weights/       the tuned model's files, same names and headers, their bits combined
DIFF/model/         its config, tokenizer, chat template, generation config, index
DIFF/manifest.json  SHA-256 of every tensor of raw, diff and tuned, and of every other file
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from cameleer.core.artifact import BEGUN, MANIFEST, Stage, disk_full_named
from cameleer.core.config import Config
from cameleer.core.console import Ticker, progress
from cameleer.core.errors import UserError
from cameleer.core.files import read_json, replacing, require_outside, sha256_file, writing
from cameleer.model.load import model_fingerprint
from cameleer.release.tensor_files import Stored, TensorFile, read_header, weight_files

PIECE = 4 * 2**20  # bytes of a tensor in memory at a time
WEIGHTS, MODEL = "weights", "model"
FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
COMPANIONS = (
    "*.json", "*.jinja", "*.model", "*.txt", "tokenizer*", "README.md", "LICENSE*", "NOTICE*",
    "additional_chat_templates/*.jinja",
)  # fmt: skip


class RawTensor(Config):
    """What a tensor of the base must be."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str


class DiffTensor(Config):
    """One tensor of the tuned model.

    shared: bytes at its begin that were combined with the base's; diff, tuned: SHA-256 of its bytes
    in the diff and in the model.
    """

    shared: int
    diff: str
    tuned: str


class Diff(Config):
    """What the manifest of a weight diff says.

    raw, tensors: by name; headers: SHA-256 of each weight file's header; companions: of each other
    file; only_raw: tensors that only the base has; left_out: files of the tuned model that do not
    travel; total_bytes: of all tuned tensors, of which `whole_bytes` are stored without the base.
    """

    format: Literal[1]
    raw: dict[str, RawTensor]
    tensors: dict[str, DiffTensor]
    headers: dict[str, str]
    companions: dict[str, str]
    only_raw: list[str]
    left_out: list[str]
    total_bytes: int
    whole_bytes: int

    def whole(self) -> list[str]:
        """Tensors of which nothing was combined with the base."""
        return [name for name, one in self.tensors.items() if not one.shared]


def diff(raw: Path, tuned: Path, folder: Path) -> Diff:
    """Write the weight diff of two model folders to `folder`; skipped if it is there.

    Raises UserError for a folder that is not whole, or two models of which less than half fits.
    """
    require_outside(folder, raw, tuned)
    base, files = _by_name(weight_files(raw)), weight_files(tuned)
    _require_kin(base, files, raw, tuned)
    inputs = {"raw": model_fingerprint(raw), "tuned": model_fingerprint(tuned)}
    stage = Stage("diff", folder, {"format": 1}, inputs)
    total = sum(one.size for one in [*base.values(), *_by_name(files).values()])

    def work(partial: Path) -> dict[str, Any]:
        emptied(partial)
        with progress("weight diff", total, in_bytes=True) as bar:
            sums = {
                one.name: RawTensor(dtype=one.dtype, shape=one.shape, sha256=_sha256(one, bar))
                for one in base.values()
            }
            tensors: dict[str, DiffTensor] = {}
            for file in files:
                tensors |= _combine(file, base, partial / WEIGHTS / file.file.name, bar)
        made = Diff(
            format=1,
            raw=sums,
            tensors=tensors,
            headers={one.file.name: hashlib.sha256(one.header).hexdigest() for one in files},
            companions=_copy_companions(tuned, partial / MODEL),
            only_raw=sorted(base.keys() - tensors.keys()),
            left_out=_left_out(tuned, files),
            total_bytes=sum(one.size for file in files for one in file.tensors),
            whole_bytes=sum(
                one.size - tensors[one.name].shared for file in files for one in file.tensors
            ),
        )
        return made.model_dump(mode="json")

    stage.run(work)
    return read_diff(folder)


def recover(raw: Path, given: Path, folder: Path) -> Diff:
    """Write the tuned model that a weight diff was made from, bit for bit; skipped if it is there.

    raw: the base's folder, its tensors in whatever files; given: the diff's. Everything is checked
    before anything is written: UserError names the file or tensor that is not what it was.
    """
    require_outside(folder, raw, given)
    facts = read_diff(given)
    stage = Stage("recover", folder, {"format": 1}, {"diff": sha256_file(given / MANIFEST)})
    if stage.done():
        return facts
    require_free(folder)
    files, base = _diff_files(given, facts), _by_name(weight_files(raw))
    needed = [_needed(base, name, facts, raw) for name in facts.tensors if _is_shared(facts, name)]
    stored = list(_by_name(files).values())
    total = sum(one.size for one in [*needed, *stored, *stored])
    with progress("recover", total, in_bytes=True) as bar:
        _check_diff(stored, facts, bar)
        _check_base(needed, facts, bar)

        def work(partial: Path) -> dict[str, Any]:
            emptied(partial)
            for file in files:
                made = _combine(file, base, partial / file.file.name, bar, facts)
                for name, one in made.items():
                    if one.diff != facts.tensors[name].tuned:
                        raise UserError(
                            f"'{name}' does not come out as it was: its numbers are rounded "
                            "otherwise on this machine, or a file has just been changed",
                            file=file.file,
                        )
            for name in facts.companions:
                _copy(given / MODEL / name, partial / name)
            sums = {name: one.tuned for name, one in facts.tensors.items()}
            return {"bytes": facts.total_bytes, "sha256": sums}

        stage.run(work)
    return facts


def read_diff(folder: Path) -> Diff:
    """The manifest of a weight diff; UserError if it is none."""
    file = folder / MANIFEST
    if not file.is_file():
        raise UserError("is no weight diff: manifest.json is missing", file=folder)
    manifest = read_json(file)
    if not isinstance(manifest, dict) or manifest.get("kind") != "diff":
        raise UserError("is no weight diff", file=file, hint="`release diff` makes one")
    try:
        facts = Diff.model_validate(manifest.get("outcome"))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, ("outcome", *first["loc"])))
        raise UserError(f"was changed: {first['msg'].lower()}", file=file, field=field) from None
    for name, one in facts.tensors.items():
        if one.shared and name not in facts.raw:
            raise UserError("was changed: it is missing", file=file, field=f"outcome.raw.{name}")
    return facts


def _by_name(files: list[TensorFile]) -> dict[str, Stored]:
    return {one.name: one for file in files for one in file.tensors}


def shared_bytes(raw: Stored | None, tuned: Stored) -> int:
    """How many bytes of a tuned tensor, from its begin, the base has numbers for."""
    if raw is None or (raw.dtype != tuned.dtype and not {raw.dtype, tuned.dtype} <= FLOATS.keys()):
        return 0
    if raw.shape == tuned.shape:
        return tuned.size
    if len(tuned.shape) < 2 or raw.shape[1:] != tuned.shape[1:] or not tuned.item:
        return 0
    return min(raw.shape[0], tuned.shape[0]) * (tuned.size // max(tuned.shape[0], 1))


def _require_kin(base: dict[str, Stored], files: list[TensorFile], raw: Path, tuned: Path) -> None:
    tensors = [one for file in files for one in file.tensors]
    shared = sum(shared_bytes(base.get(one.name), one) for one in tensors)
    held = sum(one.size for one in tensors)
    if 2 * shared < held or not shared:
        raise UserError(
            f"is not the base of {tuned}: only {100 * shared // max(held, 1)}% of that model's "
            "bytes have a tensor of the same name and shape here",
            file=raw,
            hint="give the model that was tuned",
        )


def require_free(folder: Path) -> None:
    """Say before long work that there is no place for its result, as the stage would after it."""
    if folder.is_file():
        raise UserError("is a file, a folder is needed", file=folder, hint="give another -o")
    with disk_full_named(folder), writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError("is not empty", file=folder, hint="give another -o, or remove it yourself")


def emptied(partial: Path) -> None:
    """Remove what a killed call left: it is written again."""
    for left in partial.iterdir():
        if left.name not in (".lock", BEGUN):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def _sha256(tensor: Stored, bar: Ticker) -> str:
    digest = hashlib.sha256()
    for piece in tensor.pieces(PIECE):
        digest.update(piece)
        bar.advance(len(piece))
    return digest.hexdigest()


def _combine(
    source: TensorFile,
    base: dict[str, Stored],
    target: Path,
    bar: Ticker,
    facts: Diff | None = None,
) -> dict[str, DiffTensor]:
    """Write a file with the base's bits combined into its tensors, in both directions the same.

    facts: of the diff that is undone, or None to make one. Returns by tensor what was shared, and
    the SHA-256 of what was written (`diff`) and what was read (`tuned`).
    """
    made: dict[str, DiffTensor] = {}
    with replacing(target, "wb") as handle:
        handle.write(source.header)
        for one in source.tensors:
            raw = base.get(one.name)
            shared = facts.tensors[one.name].shared if facts else shared_bytes(raw, one)
            read, wrote = hashlib.sha256(), hashlib.sha256()
            for piece, combined in _combined(one, raw, shared):
                read.update(piece)
                wrote.update(combined)
                handle.write(combined)
                bar.advance(len(piece))
            made[one.name] = DiffTensor(
                shared=shared, diff=wrote.hexdigest(), tuned=read.hexdigest()
            )
    return made


def _combined(one: Stored, raw: Stored | None, shared: int) -> Iterator[tuple[bytes, bytes]]:
    """Pieces of a tensor, each as it is and exclusive-ored with the base's in `shared` bytes."""
    keys = iter(()) if raw is None or not shared else _keys(raw, one, shared)
    for piece in one.pieces(PIECE):
        key = next(keys, b"")
        begin = np.frombuffer(piece, np.uint8, len(key)) ^ np.frombuffer(key, np.uint8)
        yield piece, begin.tobytes() + piece[len(key) :]


def _keys(raw: Stored, like: Stored, shared: int) -> Iterator[bytes]:
    """The base's first numbers in the dtype of `like`, `shared` bytes of them, in pieces."""
    same = raw.dtype == like.dtype
    size = PIECE if same else PIECE // (like.item or 1) * (raw.item or 1)
    for piece in raw.pieces(size):
        key = (piece if same else _cast(piece, raw.dtype, like.dtype))[:shared]
        shared -= len(key)
        yield key
        if not shared:
            return


def _cast(numbers: bytes, dtype: str, to: str) -> bytes:
    """Floats in another dtype, rounded to nearest, ties to even."""
    import torch

    given = torch.frombuffer(bytearray(numbers), dtype=getattr(torch, FLOATS[dtype]))
    cast = given.to(getattr(torch, FLOATS[to])).view(torch.uint8).numpy()
    return bytes(cast.data)


def companions(folder: Path) -> list[Path]:
    """The files of a model folder that travel beside its weights."""
    found = {file for pattern in COMPANIONS for file in folder.glob(pattern) if file.is_file()}
    return sorted(found - {folder / MANIFEST})


def _copy_companions(tuned: Path, target: Path) -> dict[str, str]:
    """Copy them; returns the SHA-256 of each by name."""
    sums = {}
    for file in companions(tuned):
        name = file.relative_to(tuned).as_posix()
        _copy(file, target / name)
        sums[name] = sha256_file(target / name)
    return sums


def _copy(file: Path, target: Path) -> None:
    with replacing(target, "wb") as handle:
        handle.write(file.read_bytes())


def _left_out(tuned: Path, files: list[TensorFile]) -> list[str]:
    travel = {*companions(tuned), *(one.file for one in files)}
    left = (file for file in tuned.rglob("*") if file.is_file() and file not in travel)
    return sorted(file.relative_to(tuned).as_posix() for file in left)


def _is_shared(facts: Diff, name: str) -> bool:
    return facts.tensors[name].shared > 0


def _diff_files(given: Path, facts: Diff) -> list[TensorFile]:
    """The weight files of a diff, headers and other files checked; nothing else of them is read."""
    for name, sha256 in facts.companions.items():
        _require_inside(name, given)
        file = given / MODEL / name
        if not file.is_file():
            raise UserError("is missing", file=file, hint="get the diff again")
        if sha256_file(file) != sha256:
            raise changed(file)
    files = []
    for name, sha256 in facts.headers.items():
        _require_inside(name, given)
        files.append(read_header(given / WEIGHTS / name))
        if hashlib.sha256(files[-1].header).hexdigest() != sha256:
            raise changed(files[-1].file)
    if _by_name(files).keys() != facts.tensors.keys():
        raise changed(given / MANIFEST)
    return files


def _require_inside(name: str, given: Path) -> None:
    """A diff of somebody else's may name no file outside of its folder."""
    if Path(name).is_absolute() or ".." in Path(name).parts or name == MANIFEST:
        raise UserError(f"names the file '{name}'", file=given / MANIFEST, hint="don't trust it")


def changed(file: Path, what: str = "") -> UserError:
    """The error for a file that is not as the diff was written."""
    return UserError(f"{what}is not as it was written", file=file, hint="get the diff again")


def _needed(base: dict[str, Stored], name: str, facts: Diff, raw: Path) -> Stored:
    """A tensor of the base that the diff needs, of the right dtype and shape."""
    wanted, found = facts.raw[name], base.get(name)
    if found is None:
        raise _wrong_base(raw, f"it lacks '{name}'")
    if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
        raise _wrong_base(
            found.file,
            f"'{name}' is {found.dtype} {list(found.shape)}, not {wanted.dtype} "
            f"{list(wanted.shape)}",
        )
    return found


def _wrong_base(file: Path, why: str) -> UserError:
    return UserError(
        f"is not the base that the diff was made from: {why}",
        file=file,
        hint="give the very model, in the dtype it was published in",
    )


def _check_diff(stored: list[Stored], facts: Diff, bar: Ticker) -> None:
    for one in stored:
        said = facts.tensors[one.name]
        if not 0 <= said.shared <= one.size:
            raise UserError(f"was changed: 'shared' of '{one.name}'", file=one.file)
        if _sha256(one, bar) != said.diff:
            raise changed(one.file, f"'{one.name}' ")


def _check_base(needed: list[Stored], facts: Diff, bar: Ticker) -> None:
    """Stops at the first tensor that differs, and says how far those before it were right."""
    for number, one in enumerate(needed):
        if _sha256(one, bar) != facts.raw[one.name].sha256:
            right = f"; the {number} before it are right" if number else ""
            raise _wrong_base(one.file, f"'{one.name}' holds other numbers{right}")
