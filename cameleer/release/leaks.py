"""What must not leave the house: pickles, which run code, secrets, and paths that name their user.

Patterns are of the publishers' own key formats. A text may hold one that is no secret (an example
in a data set): a person looks, and says so.
"""

from __future__ import annotations

import io
import mmap
import os
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cameleer.core.artifact import WEIGHTS

HEAD = 2**20  # bytes of weights and of pickles that are looked at: a header and what it says
PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib"}
PROTOCOLS = {b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5"}
"""What a pickle begins with, but for those of protocols 0 and 1."""
IMPORTS = re.compile(r"^ *[0-9]+: [ci] +(GLOBAL|INST) ", re.MULTILINE)
SURE = 100  # instructions of a pickle that nothing else begins with by chance
SETTINGS = {".json", ".yaml", ".yml", ".toml", ".md", ".txt", ".jinja"}
"""Files of settings, not of other people's texts: any user's name in a path is told."""
WORD = b"_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
VALUE = rb"(?=[A-Za-z_/+-]*[0-9])(?=[0-9_/+-]*[A-Za-z])[A-Za-z0-9][A-Za-z0-9_/+-]{19,}"
SECRETS = {
    "a Hugging Face token": rb"hf_[A-Za-z0-9]{30,}",
    "a key of OpenAI or Anthropic": rb"sk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{32,}",
    "a GitHub token": rb"gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,}",
    "a GitLab token": rb"glpat-[A-Za-z0-9_-]{20,}",
    "a key of AWS": rb"(?:AKIA|ASIA)[A-Z0-9]{16}",
    "a key of Google": rb"AIza[A-Za-z0-9_-]{35}",
    "a Slack token": rb"xox[abprs]-[A-Za-z0-9-]{10,}",
    "a private key": rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----",
    "a password in an address": rb"://[^\s/:@\"'<>]{1,64}:[^\s/:@\"'<>]{3,64}@",
    "a key or a token, by its name": (
        rb"(?:API_?KEY|ACCESS_?KEY|SECRET_?KEY|TOKEN|SECRET|PASSWORD)"
        rb"[\"']? {0,3}[=:] {0,3}[\"']?(?P<secret>" + VALUE + rb")"
    ),
    "a token that lets its bearer in": rb"[Bb]earer {1,3}(?P<secret>" + VALUE + rb")",
}
"""Where a name says what the secret is, the group of that name is the secret itself."""
HOMES = (
    rb"/(?:home|Users)/[A-Za-z0-9._-]+/"
    rb"|/home/(?<!\w/home/)[A-Za-z0-9._-]*[A-Za-z0-9_-]"  # the last of a path, not of an address
    rb"|/Users/(?<!\w/Users/)[A-Za-z0-9._-]*[A-Za-z0-9_-]"
    rb"|[A-Z]:\\+Users\\+[^\\\s\"]+"
)
NAMES = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|(^|_)KEY$|API_?KEY")
LEAST = 12  # characters of an environment variable that may be a secret


@dataclass(frozen=True)
class Leak:
    """What was found: in which file, on which line (from 1), and what it is."""

    file: str
    line: int
    what: str


def leaks(name: str, file: Path, environment: Mapping[str, str] = os.environ) -> Iterator[Leak]:
    """What of a file must not leave, the first of each kind; name: what the file is called."""
    if not file.stat().st_size:
        return
    size = HEAD if file.suffix.lower() in WEIGHTS else 0
    with file.open("rb") as handle:
        length = min(size, file.stat().st_size)
        with mmap.mmap(handle.fileno(), length, access=mmap.ACCESS_READ) as held:
            for what, pattern in _patterns(file, environment).items():
                if (at := _first(held, pattern)) is not None:
                    yield Leak(name, held[:at].count(b"\n") + 1, what)


def is_pickle(file: Path) -> bool:
    """Whether a file is pickled, as its name or its bytes say, alone or in torch's zip."""
    with file.open("rb") as handle:
        head = handle.read(HEAD)
    if file.suffix.lower() in PICKLES or head[:2] in PROTOCOLS:
        return True
    return _zips_pickle(file) if head.startswith(b"PK\3\4") else _is_old_pickle(head)


def _zips_pickle(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return any(Path(name).suffix.lower() in PICKLES for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _is_old_pickle(head: bytes) -> bool:
    """Whether bytes begin with a pickle of protocol 0 or 1, which have no mark of their own.

    They do if all are instructions up to an end that leaves nothing over; if text follows, only if
    something was imported; if they are cut off, only if there were many. Nothing is run.
    """
    read, told = io.BytesIO(head), io.StringIO()
    try:
        pickletools.dis(read, out=told)
    except (ValueError, IndexError, AssertionError, OverflowError, MemoryError):
        cut = len(head) == HEAD and read.tell() == len(head)
        return cut and told.getvalue().count("\n") >= SURE
    return read.tell() == len(head) or IMPORTS.search(told.getvalue()) is not None


def _patterns(file: Path, environment: Mapping[str, str]) -> dict[str, re.Pattern[bytes]]:
    found = {f"holds what looks like {what}": pattern for what, pattern in SECRETS.items()}
    for name, value in environment.items():
        if NAMES.search(name.upper()) and len(value) >= LEAST:
            found[f"holds the value of ${name}"] = re.escape(value.encode())
    if file.suffix.lower() in SETTINGS:
        found["holds a path with a user's name"] = HOMES
    if len(Path.home().parts) > 2:  # /root names nobody
        home = re.escape(str(Path.home()).encode())
        found["holds the path of your home folder"] = home + rb"(?![A-Za-z0-9_-]|\.[A-Za-z0-9])"
    return {what: re.compile(pattern) for what, pattern in found.items()}


def _first(held: mmap.mmap, pattern: re.Pattern[bytes]) -> int | None:
    """Where a pattern is met first that does not begin within a word; its secret, if it names one.

    A look behind in the pattern itself would cost the search its speed.
    """
    for found in pattern.finditer(held):
        at = found.start(found.lastgroup or 0)
        if at == 0 or held[at] not in WORD or held[at - 1] not in WORD:
            return at
    return None
