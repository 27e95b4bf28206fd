"""What must not leave the house: pickles, which run code, secrets, and paths that name their user.

Patterns are of the publishers' own key formats. A text may hold one that is no secret (an example
in a data set): a person looks, and says so.
"""

from __future__ import annotations

import mmap
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cameleer.core.artifact import WEIGHTS

HEAD = 2**20  # bytes of weights that are looked at: their header and what it says
PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib"}
PROTOCOLS = {b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5"}
"""What a pickle begins with."""
SETTINGS = {".json", ".yaml", ".yml", ".toml", ".md", ".txt", ".jinja"}
"""Files of settings, not of other people's texts: any user's name in a path is told."""
WORD = b"_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
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
}
HOMES = rb"/(?:home|Users)/[A-Za-z0-9._-]+/|[A-Z]:\\+Users\\+[^\\\s\"]+"
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
    size = HEAD if file.suffix in WEIGHTS else 0
    with file.open("rb") as handle:
        length = min(size, file.stat().st_size)
        with mmap.mmap(handle.fileno(), length, access=mmap.ACCESS_READ) as held:
            for what, pattern in _patterns(file, environment).items():
                if (at := _first(held, pattern)) is not None:
                    yield Leak(name, held[:at].count(b"\n") + 1, what)


def is_pickle(file: Path) -> bool:
    """Whether a file is pickled, as its name or its first bytes say, alone or in torch's zip."""
    with file.open("rb") as handle:
        begin = handle.read(4)
    if begin == b"PK\3\4" and zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    return file.suffix in PICKLES or (begin[:2] in PROTOCOLS)


def _patterns(file: Path, environment: Mapping[str, str]) -> dict[str, re.Pattern[bytes]]:
    found = {f"holds what looks like {what}": pattern for what, pattern in SECRETS.items()}
    for name, value in environment.items():
        if NAMES.search(name.upper()) and len(value) >= LEAST:
            found[f"holds the value of ${name}"] = re.escape(value.encode())
    if file.suffix in SETTINGS:
        found["holds a path with a user's name"] = HOMES
    elif len(Path.home().parts) > 2:  # /root names nobody
        found["holds the path of your home folder"] = re.escape(f"{Path.home()}/".encode())
    return {what: re.compile(pattern) for what, pattern in found.items()}


def _first(held: mmap.mmap, pattern: re.Pattern[bytes]) -> int | None:
    """Where a pattern is met first that does not begin within a word.

    A look behind in the pattern itself would cost the search its speed.
    """
    for found in pattern.finditer(held):
        at = found.start()
        if at == 0 or held[at] not in WORD or held[at - 1] not in WORD:
            return at
    return None
