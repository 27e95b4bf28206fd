"""Taking some members out of a zip or tar archive that nobody has vouched for."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO

from cameleer.core.errors import UserError
from cameleer.core.files import replacing

RATIO = 100  # text packs to a tenth; what packs to less than a hundredth is a bomb
SMALL = 16 << 20  # bytes that are let through at any ratio
BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError)
UNREADABLE = (NotImplementedError, RuntimeError)  # zipfile's words for "unknown" and "encrypted"


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    plain: bool  # a file: no folder, link or device
    folder: bool
    open: Callable[[], IO[bytes] | None]


def unpack(archive: Path, pattern: str, folder: Path) -> list[Path]:
    """Write the members whose path fits `pattern` to `folder`, by their last name; their paths.

    `*` in the pattern stands for any characters, "/" included; hidden names never fit. An archive
    is refused whole, as UserError, if any member leads out of it or is packed like a bomb, if a
    member that fits is a link or two have one name, if none fits, or if it is broken.
    """
    taken: dict[str, Path] = {}
    limit, total = max(SMALL, RATIO * archive.stat().st_size), 0
    try:
        with _members(archive) as members:
            for member in members:
                total += member.size
                if total > limit:
                    raise _refused(archive, "unpacks to more than a hundred times its size")
                name = _last_name(archive, member.name)
                if member.folder or name.startswith(".") or not fnmatchcase(member.name, pattern):
                    continue
                if not member.plain:
                    raise _refused(archive, f"member '{member.name}' is a link or device")
                if name in taken:
                    raise _refused(archive, f"two members are named '{name}'")
                taken[name] = _write(member, folder / name)
    except BROKEN as error:
        raise _refused(archive, f"is no zip or tar archive, or a broken one: {error}") from None
    except UNREADABLE as error:
        raise _refused(archive, f"cannot be read: {error}") from None
    if not taken:
        raise _refused(archive, f"holds no member '{pattern}'")
    return list(taken.values())


def _refused(archive: Path, message: str) -> UserError:
    return UserError(message, file=archive, hint="nothing was taken out of it")


def _last_name(archive: Path, name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise _refused(archive, f"member '{name}' leads out of the archive")
    return path.name


def _write(member: _Member, to: Path) -> Path:
    source = member.open()
    assert source is not None  # tarfile has None for what is no file
    with source, replacing(to, "wb") as handle:
        shutil.copyfileobj(source, handle)
    return to


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[_Member]]:
    """The members of either kind of archive, one after the other."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield (_of_zip(opened, info) for info in opened.infolist())
    else:
        with tarfile.open(archive) as tar:
            yield (_of_tar(tar, info) for info in tar)


def _of_zip(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    kind = stat.S_IFMT(info.external_attr >> 16)
    plain = not info.is_dir() and kind in (0, stat.S_IFREG)
    return _Member(info.filename, info.file_size, plain, info.is_dir(), lambda: opened.open(info))


def _of_tar(tar: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    return _Member(info.name, info.size, info.isreg(), info.isdir(), lambda: tar.extractfile(info))
