"""Where native data and models are kept on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from cameleer.core.errors import UserError


def cache_root() -> Path:
    """Our cache: `CAMELEER_CACHE`, else `~/.cache/cameleer`."""
    return Path(os.environ.get("CAMELEER_CACHE") or Path.home() / ".cache" / "cameleer")


def data_root() -> Path:
    """The folder of native data: `CAMELEER_DATA`, else `data` in our cache."""
    return Path(os.environ.get("CAMELEER_DATA") or cache_root() / "data")


def locate(
    root: Path | None, kind: str, name: str, native: tuple[str, ...], *, any_file: bool = False
) -> Path:
    """The folder with the native files of source or benchmark `name`.

    root: what the user gave, or None for the default; it may be the folder itself, or one that
    holds `name/` or `kind/name/` (kind: "instruct" or "eval"). native: names or patterns of the
    files, any one of which must be there. any_file: `root` may also be one file, of any name, which
    is then what comes back.
    """
    given = data_root() if root is None else root
    if given.is_file():
        if any_file:
            return given
        raise UserError(
            f"is a file; '{name}' is read from a folder",
            file=given,
            hint="give the folder it is in",
        )
    tried = [given / kind / name, given / name, given]
    for folder in tried:
        if any(next(folder.glob(pattern), None) for pattern in native):
            return folder
    if not given.is_dir():
        raise UserError(
            f"no data folder for '{name}'",
            file=given,
            hint="check --data, --from, a study's 'data'",
        )
    raise UserError(
        f"no file of '{name}' here", file=given, hint=f"looked for {' or '.join(native)}"
    )
