"""A bundle: all of a study but its weights and data, with hashes, so that others can check it.

BUNDLE/bundle.json    what is in it: every file's size and SHA-256, and what was left out
BUNDLE/study.json     the study and the folders of its stages, laid out as where it was run
BUNDLE/report/        page, tables and figures, written anew from what is in the bundle
BUNDLE/README.md      its card, likewise
BUNDLE/added/         files that were given besides, such as the study's YAML

A bundle of evaluations alone holds their folders. The same content gives the same bytes: no times,
no owners, names in order.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import cameleer
from cameleer.core.artifact import MANIFEST, WEIGHTS, disk_full_named, file_facts
from cameleer.core.console import progress, warn
from cameleer.core.errors import UserError
from cameleer.core.files import (
    read_json,
    replacing,
    require_outside,
    sha256_file,
    write_json,
    writing,
)
from cameleer.release.bundle_card import bundle_card
from cameleer.release.findings import Problem
from cameleer.release.verify import (
    BUNDLE,
    CARD,
    FORMAT,
    REPORT,
    Derive,
    check_numbers,
    check_written,
)
from cameleer.results.store import STUDY, read_study

TOKENIZERS = {"tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt"}
DATA = {"conversations.jsonl", "matches.jsonl", "matches.html"}  # and what is quoted of it
ADDED = "added"
TABLES = (".csv", ".md", ".tex")
KINDS = ("eval", "judge")


@dataclass(frozen=True)
class Made:
    """A finished bundle. stale: tables of the study's report that its samples no longer give."""

    path: Path
    fingerprint: str
    files: int
    bytes: int
    left_out: dict[str, dict[str, Any]]
    stale: list[str]


def make_bundle(
    place: Path,
    out: Path,
    derive: Derive,
    *,
    weights: bool = False,
    data: bool = False,
    added: Sequence[Path] = (),
) -> Made:
    """Bundle the study or the evaluations in `place` as a folder, or as `out` if it ends in .tar.

    weights: with weights and tokenizers; data: with the conversations of the mixtures. What is left
    out is named with its hash. Raises UserError if `out` is there or in `place`, or if a number of
    the study does not follow from its samples: `verify_bundle` would not believe such a bundle.
    """
    require_outside(out, place)
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise UserError("is there already", file=out, hint="give another -o, or remove it")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with disk_full_named(out, partial):
            with writing(out):
                partial.mkdir(parents=True)
            made = _filled(place, partial, derive, weights, data, added)
            if out.suffix == ".tar":
                write_tar(partial, out)
            else:
                partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Made(out, *made)


def _filled(
    place: Path, root: Path, derive: Derive, weights: bool, data: bool, added: Sequence[Path]
) -> tuple[str, int, int, dict[str, dict[str, Any]], list[str]]:
    """Fill an empty folder with the bundle; returns the fields of Made but its path."""
    study = (place / STUDY).is_file()
    left_out: dict[str, dict[str, Any]] = {}
    contents = list(_contents(place, study))
    size = sum(source.stat().st_size for _, source in contents)
    with progress("hashing and copying", size, in_bytes=True) as ticker:
        for name, source in contents:
            why = _kept_back(source, weights, data)
            if why:
                left_out[name] = {**file_facts(source), "why": why}
            else:
                _copy(source, root / name)
            ticker.advance(source.stat().st_size)
    for file in added:
        _copy(file, root / ADDED / file.name)
    stale: list[str] = []
    if study:
        derive.report(root, root / REPORT)
        stale = _stale(place / REPORT, root / REPORT)
    with replacing(root / CARD) as handle:
        handle.write(bundle_card(root))
    files = {
        file.relative_to(root).as_posix(): file_facts(file)
        for file in sorted(root.rglob("*"))
        if file.is_file()
    }
    index = {
        "bundle": FORMAT,
        "kind": "study" if study else "evaluations",
        "name": read_study(place).name if study else place.resolve().name,
        "cameleer": cameleer.__version__,
        "files": dict(sorted(files.items())),
        "left_out": dict(sorted(left_out.items())),
    }
    write_json(root / BUNDLE, index)
    _require_sound([*check_numbers(root, derive).problems, *check_written(root, index)], place)
    _warn_of_home(root)
    held = sum(int(facts["bytes"]) for facts in files.values())
    return sha256_file(root / BUNDLE), len(files), held, left_out, stale


def _contents(place: Path, study: bool) -> Iterator[tuple[str, Path]]:
    """(name in the bundle, file) of all that belongs to it."""
    if study:
        yield STUDY, place / STUDY
        root, folders = place, _stages_of_study(place)
    else:
        folders = _evaluations(place)
        root = place.parent if folders == [place] else place
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            below = file.relative_to(folder)
            if file.is_file() and not any(part.startswith(".") for part in below.parts):
                yield file.relative_to(root).as_posix(), file


def _stages_of_study(place: Path) -> list[Path]:
    """The folders of all finished stages of a study, each once."""
    found = read_study(place).stages()
    for folder in found:
        if not folder.resolve().is_relative_to(place.resolve()):
            hint = "move it into the study's folder"
            raise UserError(
                f"'{folder}' stands outside of the study", file=place / STUDY, hint=hint
            )
    return found


def _evaluations(place: Path) -> list[Path]:
    """The folder itself if it is an evaluation or a judging, else those in it."""
    if not place.is_dir():
        raise UserError("no such folder", file=place, hint="check the path")
    if _kind(place) in KINDS:
        return [place]
    found = [folder for folder in sorted(place.iterdir()) if _kind(folder) in KINDS]
    if not found:
        hint = "give the folder of `study run`, `eval run` or `judge run`"
        raise UserError("holds no study and no finished evaluation", file=place, hint=hint)
    return found


def _kind(folder: Path) -> str | None:
    manifest = folder / MANIFEST
    facts = read_json(manifest) if manifest.is_file() else None
    hidden = folder.name.startswith(".")
    return facts.get("kind") if isinstance(facts, dict) and not hidden else None


def _kept_back(file: Path, weights: bool, data: bool) -> str:
    """Why a file does not go into the bundle, or ""."""
    if not weights and file.suffix in WEIGHTS:
        return "weights"
    if not weights and file.name in TOKENIZERS:
        return "tokenizer"
    return "training data" if not data and file.name in DATA else ""


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise UserError("no such file", file=source, hint="check the path")
    if target.exists():
        raise UserError("two files of this name", file=source, hint="rename one of them")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _stale(shown: Path, derived: Path) -> list[str]:
    """Tables that colleagues may have seen and that say something else than the bundle's."""
    names = [file.relative_to(derived) for file in sorted(derived.rglob("*"))]
    return [
        name.as_posix()
        for name in names
        if name.suffix in TABLES
        and (shown / name).is_file()
        and (shown / name).read_bytes() != (derived / name).read_bytes()
    ]


def _warn_of_home(root: Path) -> None:
    """Say which files tell where their author's home is: what is bundled is for strangers."""
    home = str(Path.home()).encode() + b"/"
    found = [
        file.relative_to(root).as_posix()
        for file in sorted(root.rglob("*"))
        if file.is_file() and file.suffix not in WEIGHTS and home in file.read_bytes()
    ]
    if found:
        warn(f"{len(found)} files name your home folder {Path.home()}, first {found[0]}")


def _require_sound(problems: list[Problem], place: Path) -> None:
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        hint = "no bundle was made; put it back, or remove its folder and give its command again"
        raise UserError(f"is not as it was made: {problems[0]}{more}", file=place, hint=hint)


def write_tar(folder: Path, out: Path) -> None:
    """The folder's files as a tar of the same bytes wherever and whenever it is written."""
    name = out.name.removesuffix(".tar")
    with replacing(out, "wb") as handle, _tar(handle) as tar:
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            info = tarfile.TarInfo(f"{name}/{file.relative_to(folder).as_posix()}")
            info.size, info.mode = file.stat().st_size, 0o644
            with file.open("rb") as content:
                tar.addfile(info, content)


@contextmanager
def _tar(handle: IO[bytes]) -> Iterator[tarfile.TarFile]:
    with tarfile.open(fileobj=handle, mode="w", format=tarfile.PAX_FORMAT) as tar:
        yield tar
