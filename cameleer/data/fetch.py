"""Bringing a source's native files from their origins to the folder where `convert` finds them.

DIR/instruct/<source>/             the files, under their original names
DIR/instruct/<source>/fetched.json what came, from where, when: later calls hold the files to it
"""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from pydantic import ValidationError
from rich.filesize import decimal

from cameleer.core.config import Config
from cameleer.core.console import warn
from cameleer.core.download import (
    PATIENCE,
    Expected,
    Patience,
    Served,
    download,
    part_of,
    probe,
    require_room,
    web_address,
)
from cameleer.core.errors import UserError
from cameleer.core.files import read_json, sha256_file, write_json
from cameleer.core.unpack import unpack
from cameleer.data.source import Card, Download, source_named

RECORD = "fetched.json"
HERE = "there already"
UNCHECKED = "there, as large as it should be"  # no hash is known that its contents could be held to
FETCHED = "fetched"


class FileRecord(Config):
    """A file that came; `mtime_ns` spares hashing it again while nobody has touched it."""

    bytes: int
    sha256: str
    mtime_ns: int


class Record(Config):
    """What one line of a card brought: what the server said and sent, the files by their names.

    bytes, sha256: of what was sent. Without files it is an archive that is not unpacked yet.
    """

    url: str
    to: str
    member: str | None
    final_url: str
    bytes: int
    sha256: str
    revision: str | None
    etag: str | None
    last_modified: str | None
    date: str
    licence: str
    files: dict[str, FileRecord]


class Records(Config):
    """A folder's `fetched.json`."""

    downloads: tuple[Record, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> Records:
        path = folder / RECORD
        if not path.exists():
            return cls()
        try:
            return cls.model_validate(read_json(path))
        except ValidationError:
            hint = "remove it: files that are there are then compared with their origin"
            raise UserError("is not as fetch writes it", file=path, hint=hint) from None

    def of(self, line: Download) -> Record | None:
        same = (r for r in self.downloads if (r.url, r.to, r.member) == _key(line))
        return next(same, None)

    def put(self, line: Download, record: Record | None, folder: Path) -> None:
        """Write the file with this record, or none, in place of the one for the line."""
        others = [one for one in self.downloads if (one.url, one.to, one.member) != _key(line)]
        kept = (*others, record) if record else others
        write_json(folder / RECORD, Records(downloads=tuple(kept)).model_dump())


def _key(line: Download) -> tuple[str, str, str | None]:
    return line.url, line.to, line.member


@dataclass(frozen=True)
class Wanted:
    """One line of a source's card; served: what its server says of it; state: why it need not be
    fetched, or ""."""

    source: str
    card: Card
    line: Download
    folder: Path
    served: Served
    state: str = ""

    @property
    def name(self) -> str:
        """The file, or a pattern of the files out of an archive, in the source's folder."""
        last = Path(self.line.member or "").name
        return str(Path(self.line.to) / last)

    @property
    def bytes(self) -> int | None:
        """How much would come, as far as that is known."""
        return self.line.bytes or self.served.bytes

    @property
    def record(self) -> Record | None:
        return Records.read(self.folder).of(self.line)

    def to_row(self) -> dict[str, Any]:
        """What is known before anything is fetched."""
        return {
            "source": self.source,
            "file": self.name,
            "url": self.line.url,
            "bytes": self.bytes or (self.record and self.record.bytes),
            "licence": self.card.licence,
            "origin": self.card.origin,
            "state": self.state or "to fetch",
        }

    def to_shown(self) -> dict[str, str]:
        """The same as people read it."""
        row = self.to_row()
        size = "unknown" if row["bytes"] is None else decimal(row["bytes"])
        shown = {"source": self.source, "file": self.name, "size": size}
        return shown | {column: row[column] for column in ("licence", "origin", "state")}


@dataclass(frozen=True)
class Fetched:
    """The files that a line of a card stands for, now that they are there."""

    wanted: Wanted
    state: str
    files: dict[Path, FileRecord]

    def to_rows(self) -> list[dict[str, Any]]:
        """A row for each file."""
        return [
            {"source": self.wanted.source, "path": str(path), "bytes": file.bytes}
            | {"sha256": file.sha256, "state": self.state}
            for path, file in self.files.items()
        ]

    def to_shown(self) -> dict[str, Any]:
        """One row as people read it; of several files their folder and number."""
        row, *more = self.to_rows()
        if more:
            row["path"] = f"{self.wanted.folder / self.wanted.line.to} ({len(more) + 1} files)"
            row["bytes"], row["sha256"] = sum(file.bytes for file in self.files.values()), ""
        return row


def plan(names: Sequence[str], root: Path, http: httpx2.Client) -> list[Wanted]:
    """What `fetch` would do for these sources; servers are asked for sizes, nothing is written.

    root: the folder that holds `instruct/`. Raises UserError for a source without addresses, and
    for a file that is in the way: it did not come from here and is not what would come.
    """
    wanted: list[Wanted] = []
    for name in dict.fromkeys(names):
        card: Card = source_named(name).CARD
        folder = root / "instruct" / name
        if not card.downloads:
            raise _no_address(name, card, folder)
        for line in card.downloads:
            wanted.append(Wanted(name, card, line, folder, Served(line.url, web_address(line.url))))
    answers: dict[str, Served] = {}
    for index, one in enumerate(wanted):
        if _right(one):
            wanted[index] = replace(one, state=HERE)
            continue
        if one.line.url not in answers:
            answers[one.line.url] = probe(http, one.line.url)
        known = replace(one, served=answers[one.line.url])
        wanted[index] = replace(known, state=_unrecorded(known))
    return wanted


def fetch(
    wanted: Sequence[Wanted], http: httpx2.Client, patience: Patience = PATIENCE
) -> Iterator[Fetched]:
    """Bring what `plan` found missing, one after the other; yields every line's files.

    A download that fails, or brings something else than expected, does not keep the others from
    coming: it is told at once, and when all is done as UserError. The same call then goes on.
    """
    shared: dict[tuple[Path, str, bool], list[Wanted]] = {}  # an archive comes once
    for one in wanted:
        if one.state:
            yield Fetched(one, one.state, _files(one))
        else:
            key = (one.folder, one.line.url, one.line.member is None)
            shared.setdefault(key, []).append(one)
    if shared:
        require_room(wanted[0].folder, sum(_missing(lines[0]) for lines in shared.values()))
    failed: list[UserError] = []
    for lines in shared.values():
        try:
            with _alone(lines[0].folder):
                yield from _bring(lines, http, patience)
        except UserError as error:
            failed.append(error)
            if len(shared) > 1:
                warn(str(error))
    if failed:
        raise failed[0] if len(shared) == 1 else _failures(failed, len(shared))


def _failures(failed: list[UserError], total: int) -> UserError:
    message = f"{len(failed)} of {total} downloads failed, as told above"
    return UserError(message, hint="the others are done; the same command tries these again")


def _no_address(name: str, card: Card, folder: Path) -> UserError:
    if not card.origin:
        return UserError(f"'{name}' reads your own files: there is nothing to fetch")
    hint = f"get {' or '.join(card.native)} from {card.origin} and put it in {folder}"
    return UserError(f"no address is known for the files of '{name}'", hint=hint)


def _missing(one: Wanted) -> int:
    """Bytes that are still to come, as far as that is known."""
    part = part_of(_target(one))
    return max(0, (one.bytes or 0) - (part.stat().st_size if part.exists() else 0))


def _target(one: Wanted) -> Path:
    """Where the download itself goes: an archive waits, hidden, until it is unpacked."""
    if one.line.member is None:
        return one.folder / one.line.to
    return one.folder / f".{Path(urlsplit(one.line.url).path).name}"


def _right(one: Wanted) -> bool:
    """Whether the files are here and are known to be right without asking anyone."""
    record, target = one.record, one.folder / one.line.to
    if record and record.files and one.line.sha256 in (None, record.sha256):
        return all(_intact(one.folder / name, file) for name, file in record.files.items())
    hashed = one.line.member is None and one.line.sha256 and target.is_file()
    return bool(hashed and sha256_file(target) == one.line.sha256)


def _intact(path: Path, file: FileRecord) -> bool:
    if not path.is_file() or path.stat().st_size != file.bytes:
        return False
    return path.stat().st_mtime_ns == file.mtime_ns or sha256_file(path) == file.sha256


def _unrecorded(one: Wanted) -> str:
    """The state of a line whose file nothing here vouches for: right, unchecked, or missing."""
    path = one.folder / one.line.to
    if one.line.member is not None or not path.exists():
        return ""
    if path.is_file() and one.served.sha256 == sha256_file(path):
        return HERE
    hashed = one.line.sha256 or one.served.sha256 or one.record
    if path.is_file() and not hashed and one.served.bytes == path.stat().st_size:
        return UNCHECKED
    _require_ours(one, one.line.to, one.record)
    return ""


def _require_ours(one: Wanted, name: str, record: Record | None) -> None:
    """Raise unless the file, if it is there, was brought by `fetch` and left as it came."""
    path, file = one.folder / name, record and record.files.get(name)
    if path.exists() and not (file and _intact(path, file)):
        message = f"is in the way: it is not what {one.line.url} has, or may not be"
        raise UserError(message, file=path, hint="move it away, or do without fetching")


def _bring(lines: list[Wanted], http: httpx2.Client, patience: Patience) -> Iterator[Fetched]:
    """Download what these lines share, then take out of it what each wants if it is an archive."""
    first = lines[0]
    to, packed = _target(first), first.line.member is not None
    before = [one.record for one in lines]
    waits = packed and before[0] and to.is_file() and sha256_file(to) == before[0].sha256
    if not waits:

        def record_all(served: Served, part: Path) -> None:
            for one in lines:
                _put(one, served, {} if packed else {one.line.to: _file_record(part)})

        download(http, first.line.url, to, _expected(first), patience, record_all)
    if packed:
        for one, record in zip(lines, before, strict=True):
            _take_out(one, to, record)
        to.unlink()
    for one in lines:
        yield Fetched(one, FETCHED, _files(one))


def _expected(one: Wanted) -> Expected:
    """What has to come: what the card says, else what came the first time."""
    record = one.record
    if one.line.sha256 or record is None:
        return Expected(one.line.bytes, one.line.sha256)
    return Expected(
        record.bytes,
        record.sha256,
        by=f"{RECORD} of {record.date[:10]}",
        hint=f"to take what is there now, remove its entry from {one.folder / RECORD}",
    )


def _take_out(one: Wanted, archive: Path, before: Record | None) -> None:
    """Unpack aside, see that nothing is in the way, then give the files their places.

    before: what the line brought before this archive came; those files are ours to replace.
    """
    aside = archive.with_name(f"{archive.name}.unpacked")
    shutil.rmtree(aside, ignore_errors=True)
    places = {str(Path(one.line.to) / path.name): path for path in _unpacked(one, archive, aside)}
    files = {name: _file_record(path) for name, path in places.items()}
    for name, file in files.items():
        if not _intact(one.folder / name, file):
            _require_ours(one, name, before)
    for name, path in places.items():
        (one.folder / name).parent.mkdir(parents=True, exist_ok=True)
        path.replace(one.folder / name)
    came = one.record
    assert came is not None
    Records.read(one.folder).put(one.line, came.model_copy(update={"files": files}), one.folder)
    aside.rmdir()


def _unpacked(one: Wanted, archive: Path, aside: Path) -> list[Path]:
    """The members that the line wants; an archive that is of no use is not kept for another try."""
    assert one.line.member is not None
    try:
        return unpack(archive, one.line.member, aside)
    except UserError as error:
        shutil.rmtree(aside, ignore_errors=True)
        archive.unlink()
        Records.read(one.folder).put(one.line, None, one.folder)
        raise UserError(f"{one.line.url} {error.message}", hint=error.hint) from None


def _put(one: Wanted, served: Served, files: dict[str, FileRecord]) -> None:
    """Write down what came."""
    assert served.bytes is not None
    assert served.sha256 is not None
    record = Record(
        url=one.line.url,
        to=one.line.to,
        member=one.line.member,
        final_url=served.final_url,
        bytes=served.bytes,
        sha256=served.sha256,
        revision=served.revision,
        etag=served.etag,
        last_modified=served.last_modified,
        date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        licence=one.card.licence,
        files=files,
    )
    Records.read(one.folder).put(one.line, record, one.folder)


def _file_record(path: Path) -> FileRecord:
    stat = path.stat()
    return FileRecord(bytes=stat.st_size, sha256=sha256_file(path), mtime_ns=stat.st_mtime_ns)


def _files(one: Wanted) -> dict[Path, FileRecord]:
    """The files of a line that is there, as recorded, or as they lie there."""
    record = one.record
    if record and record.files and one.line.sha256 in (None, record.sha256):
        return {one.folder / name: file for name, file in record.files.items()}
    path = one.folder / one.line.to
    return {path: _file_record(path)}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the kernel lets it go when the process ends, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = "wait for it, or stop it"
            raise UserError("another process is fetching this", file=folder, hint=hint) from None
        yield
