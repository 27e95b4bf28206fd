"""Answers of servers on the disk: each is written the moment it comes, and never asked for again.

One JSONL file for each model name, which several processes may add to. A line is what came for one
request, under the hash of all that was sent: model, endpoint and body; the server's address is not
part of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cameleer.core.errors import UserError
from cameleer.core.files import to_json


def key_of(endpoint: str, body: dict[str, Any]) -> str:
    """Hex SHA-256 of a request; `body` names the model."""
    return hashlib.sha256(json.dumps([endpoint, body], sort_keys=True).encode()).hexdigest()


class Answers:
    """The file of one model's answers, in `folder`."""

    def __init__(self, folder: Path, model: str) -> None:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", model)[:80]
        mark = hashlib.sha256(model.encode()).hexdigest()[:8]
        self.path = folder / f"{name}-{mark}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self.handle = self.path.open("a+b")
        with self._locked():
            self.at = self._index()

    def get(self, key: str) -> dict[str, Any] | None:
        """What came for a request, or None."""
        if key not in self.at:
            return None
        self.handle.seek(self.at[key])
        row: dict[str, Any] = json.loads(self.handle.readline())
        return row

    def put(self, key: str, row: dict[str, Any]) -> None:
        """Keep what came; it is with the operating system before this returns."""
        with self._locked():
            at = self.handle.seek(0, os.SEEK_END)
            self.handle.write((to_json({"key": key, **row}) + "\n").encode())
            self.handle.flush()
        self.at.setdefault(key, at)

    def close(self) -> None:
        self.handle.close()

    def _index(self) -> dict[str, int]:
        """Where each key's first line begins; a line torn by a kill is cut off."""
        found: dict[str, int] = {}
        at = 0
        self.handle.seek(0)
        for number, line in enumerate(self.handle, 1):
            if not line.endswith(b"\n"):
                os.truncate(self.path, at)
                break
            try:
                found.setdefault(json.loads(line)["key"], at)
            except (ValueError, TypeError, KeyError):
                hint = "remove the line; what it held is asked for again"
                raise UserError("is no answer", file=self.path, line=number, hint=hint) from None
            at += len(line)
        return found

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self.handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self.handle, fcntl.LOCK_UN)
