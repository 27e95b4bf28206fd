"""A stage's folder: worked on aside, finished by one rename, skipped when its fingerprint is there.

DIR/                  finished: holds manifest.json beside the stage's files
.DIR.partial/         being worked on, or left by a kill; taken up again if the fingerprint fits
.DIR.partial/scratch/ what only unfinished work needs; gone when it is finished
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cameleer
from cameleer.core.console import note
from cameleer.core.cores import cores
from cameleer.core.errors import UserError
from cameleer.core.files import (
    WriteError,
    read_json,
    sha256_file,
    sha256_tree,
    write_json,
    writing,
)

PATIENCE = 2.0  # seconds
MANIFEST, BEGUN = "manifest.json", "begun.json"
SCRATCH = "scratch"
WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".ckpt"}
FULL = (errno.ENOSPC, errno.EDQUOT)
NO_RIGHTS = (errno.EACCES, errno.EROFS, errno.EPERM)
NO_PATH = (errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
UNTOLD = "cannot be read or written"  # the system does not say which of both was tried
VERSIONED = ("torch", "transformers", "tokenizers", "peft", "numpy", "scipy")


def fingerprint(kind: str, config: Any, inputs: Mapping[str, str]) -> str:
    """Hex SHA-256 of all that decides a stage's result: kind, config, inputs, our version."""
    facts = [kind, cameleer.__version__, config, dict(sorted(inputs.items()))]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def fingerprint_of(path: Path) -> str:
    """Fingerprint of an input: of a finished stage its own, of anything else its contents.

    Raises UserError if the stage's files were changed since (see `require_unchanged`).
    """
    stated = _stated(path / MANIFEST)
    if stated is not None:
        require_unchanged(path)
    return stated or sha256_tree(path)


def require_unchanged(folder: Path, weights: bool = False) -> None:
    """Raise UserError if a finished stage's files are not those that it wrote.

    Sizes are compared and hashes; of weights, which take long to read, the hash only if `weights`.
    Files added since are not looked at. A manifest without a seal is of a version that kept none.
    """
    manifest = read_json(folder / MANIFEST)
    if "seal" not in manifest:
        return
    hint = f"put it back, or remove {folder} and give the command again that made it"
    if manifest["seal"] != seal(manifest):
        raise UserError(
            "was changed after the work was finished", file=folder / MANIFEST, hint=hint
        )
    for name, facts in manifest["files"].items():
        file = folder / name
        if not file.is_file():
            raise UserError(
                "is missing, and was there when the work was finished", file=file, hint=hint
            )
        size, read = file.stat().st_size, weights or file.suffix not in WEIGHTS
        if size != facts["bytes"] or (read and sha256_file(file) != facts["sha256"]):
            raise UserError("was changed after the work was finished", file=file, hint=hint)


def seal(manifest: Mapping[str, Any]) -> str:
    """Hex SHA-256 of all else in a manifest: who edits it by hand is found out."""
    facts = {name: value for name, value in manifest.items() if name != "seal"}
    facts = json.loads(json.dumps(facts))  # as who reads the file finds it: all keys are text
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def file_facts(file: Path) -> dict[str, Any]:
    """A file's size in bytes, and its hash."""
    return {"bytes": file.stat().st_size, "sha256": sha256_file(file)}


def _stated(file: Path) -> str | None:
    """The fingerprint that a file of ours states, or None if it is not there or not ours."""
    facts = read_json(file) if file.is_file() else None
    return str(facts["fingerprint"]) if isinstance(facts, dict) and "fingerprint" in facts else None


@dataclass(frozen=True)
class Stage:
    """One piece of work with a folder for its result.

    kind: what it is ("train", "eval", …); config: JSON values that decide the result; inputs: name
    to fingerprint of what is read; folder: where the finished result stands.
    """

    kind: str
    folder: Path
    config: Any
    inputs: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.kind, self.config, self.inputs)

    @property
    def partial(self) -> Path:
        return self.folder.with_name(f".{self.folder.name}.partial")

    def done(self) -> bool:
        """Whether the folder holds the finished result of exactly this stage."""
        return _stated(self.folder / MANIFEST) == self.fingerprint

    def begun_by_another(self) -> dict[str, Any] | None:
        """`config` and `inputs` of unfinished work that `run` would give up, if there is any."""
        begun = self.partial / BEGUN
        if _stated(begun) in (None, self.fingerprint):
            return None
        facts: dict[str, Any] = read_json(begun)
        return facts

    def run(self, work: Callable[[Path], dict[str, Any]]) -> bool:
        """Do the work unless it is done; returns whether anything was done.

        `work` gets the partial folder, which may hold what an earlier, killed call left there, and
        returns the outcome for the manifest. Raises UserError if the folder holds something else,
        or if what it holds was changed since it was finished.
        """
        if self.done():
            require_unchanged(self.folder)
            return False
        with disk_full_named(self.folder, self.partial):
            self._require_free()
            with writing(self.folder):
                self.partial.mkdir(parents=True, exist_ok=True)
            with only_worker(self.partial):
                if self.done():
                    return False  # by who held the lock until now
                self._require_free()
                if _stated(self.partial / MANIFEST) != self.fingerprint:
                    self._take_up()
                    start = time.time()
                    self._state(work(self.partial), start)
                self._hand_over()
        return True

    def _require_free(self) -> None:
        if self.folder.is_file():
            raise UserError("is a file, a folder is needed", file=self.folder)
        if self.folder.exists() and any(self.folder.iterdir()):
            held = "another run" if (self.folder / MANIFEST).exists() else "other files"
            raise UserError(
                f"holds {held}", file=self.folder, hint="give another -o, or remove it yourself"
            )

    def _take_up(self) -> None:
        """Clear the partial folder unless it was begun by this very stage."""
        begun = self.partial / BEGUN
        if _stated(begun) == self.fingerprint:
            return
        if begun.exists():
            note(f"{self.folder}: unfinished work with other settings is given up")
        for left in self.partial.iterdir():
            if left.name != ".lock":
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        decides = {"config": self.config, "inputs": dict(self.inputs)}
        write_json(begun, {"fingerprint": self.fingerprint, **decides})

    def _state(self, outcome: dict[str, Any], start: float) -> None:
        """Write the manifest: from here on the work is done, whatever happens to this process."""
        manifest = {
            "kind": self.kind,
            "fingerprint": self.fingerprint,
            "config": self.config,
            "inputs": dict(self.inputs),
            "outcome": outcome,
            "seconds": round(time.time() - start, 3),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "environment": environment(),
            "files": self._files(),
        }
        write_json(self.partial / MANIFEST, manifest | {"seal": seal(manifest)})

    def _files(self) -> dict[str, dict[str, Any]]:
        """Size and hash of every file that the work wrote and that stays, by name."""
        return {
            file.relative_to(self.partial).as_posix(): file_facts(file)
            for file in sorted(self.partial.rglob("*"))
            if file.is_file() and not _passing(file.relative_to(self.partial))
        }

    def _hand_over(self) -> None:
        if (self.partial / SCRATCH).exists():
            shutil.rmtree(self.partial / SCRATCH)
        (self.partial / BEGUN).unlink(missing_ok=True)
        self.partial.rename(self.folder)
        # Not before: who finds the lock gone would take a finished folder for one left by a kill.
        (self.folder / ".lock").unlink(missing_ok=True)


def _passing(name: Path) -> bool:
    """Whether a file of a partial folder is gone, or another, when the work is finished."""
    hidden = any(part.startswith(".") for part in name.parts)
    return hidden or name.parts[0] == SCRATCH or str(name) in (BEGUN, MANIFEST)


def be_patient(seconds: float) -> None:
    """Wait so long for locks from here on: shared folders keep those of a dead machine for long."""
    global PATIENCE
    PATIENCE = seconds


@contextmanager
def only_worker(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the kernel lets it go when the process ends, however it ends.

    Processes of a study that was just killed end within moments: so long it is tried again.
    """
    with (folder / ".lock").open("w") as handle:
        given_up = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > given_up:
                    raise UserError(
                        "another process is at work on this",
                        file=folder,
                        hint="wait for it, or stop it",
                    ) from None
            time.sleep(0.05)
        yield


@contextmanager
def disk_full_named(folder: Path, partial: Path | None = None) -> Iterator[None]:
    """Turn a full disk, missing rights or a path that cannot be into an error that says so.

    partial: where `folder` is worked on; what lies there is written, and told as lying in `folder`.
    """
    try:
        yield
    except OSError as error:
        file = Path(os.fsdecode(error.filename or folder))
        aside = partial is not None and file.is_relative_to(partial)
        what = "cannot be written" if aside or isinstance(error, WriteError) else UNTOLD
        reason = (error.strerror or "unknown reason").lower()
        if partial is not None and aside:
            file = _in_the_open(file.relative_to(partial), folder)
        if error.errno in FULL:
            message, hint = "the disk is full", "make room, then give the same command again"
        elif error.errno in NO_RIGHTS:
            message, hint = what, "check the rights"
        elif isinstance(error, WriteError) or (error.errno in NO_PATH and error.filename):
            message, hint = f"{what}: {reason}", "check the path"
        else:
            raise
        raise UserError(message, file=file, hint=hint) from None


def _in_the_open(name: Path, folder: Path) -> Path:
    """Where a file of a partial folder will lie; nobody asked for hidden ones: then `folder`."""
    return folder if name.name.startswith(".") else folder / name


def environment() -> dict[str, Any]:
    """What the work ran on: versions, processor, cores."""
    versions = {}
    for name in VERSIONED:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cameleer": cameleer.__version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cores": cores(),
        **versions,
    }
