"""Votes between two models that answer side by side: each is a Judgement of a person."""

from __future__ import annotations

import fcntl
import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cameleer.core.console import warn
from cameleer.core.errors import UserError
from cameleer.core.files import JsonlLog, require_plain, to_json, writing
from cameleer.results.judgements import TIE, read_judgements, to_row
from cameleer.results.records import Judgement

VERDICTS = ("a", "b", "tie", "bad")
"""What can be said of A and B; bad: neither answer is acceptable."""

VOTES = (*VERDICTS, "skip")

SKIPPED, BAD = "skipped", "both bad"
SEEN = "names seen"  # the note of a vote that was cast anew, after the first one showed the names


class Votes:
    """The file of votes on models `a` and `b`, and beside it what was voted on (CHATS).

    Which model stands first is drawn anew for each chat, from the seed and the chat's key. A vote
    is on the disk before `add` returns.
    """

    def __init__(self, path: Path, a: str, b: str, who: str, seed: int) -> None:
        """Raises UserError for a file that holds something else, or one model twice."""
        if a == b:
            raise UserError("a vote is between two models, not one", field="--compare")
        self.path, self.a, self.b, self.who, self.seed = path, a, b, who, seed
        self.chats = path.with_name(f"{path.stem}.chats.jsonl")
        for file in (path, self.chats):
            require_plain(file, "--votes")  # whoever reads a pipe waits for ever
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            with self._alone():
                _end_lines(path)
        self.session = f"chat/{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
        self.count: Counter[str] = Counter()
        self.last: tuple[Judgement, dict[str, Any]] | None = None

    def b_first(self, chat: int) -> bool:
        """Whether the second model stands first in this chat."""
        return random.Random(f"{self.seed}/{self.session}/{chat}").random() < 0.5

    def add(
        self,
        place: str,
        word: str,
        *,
        b_first: bool,
        seconds: float,
        said: dict[str, Any],
        comment: str = "",
        note: str = "",
    ) -> Judgement:
        """Append a vote, one of VOTES on what was shown first (A) and second (B).

        place: of the turn in the session; said: what the models were told and answered.
        """
        preference = {"a": 2.0 if b_first else 1.0, "b": 1.0 if b_first else 2.0, "skip": None}
        judgement = Judgement(
            f"{self.session}/{place}",
            self.a,
            self.b,
            preference.get(word, TIE),
            self.who,
            "human",
            b_first=b_first,
            acceptable=(False, False) if word == "bad" else (None, None),
            comment=comment,
            note=SKIPPED if word == "skip" else note,
            seconds=round(seconds, 1),
            time=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        )
        row = {"item": judgement.item, **said}
        with self._alone():
            _append(self.chats, row)
            _append(self.path, to_row(judgement))
        self.last = judgement, row
        self.count[self._won(judgement)] += 1
        return judgement

    def undo(self) -> None:
        """Take back the last vote of this session. Raises UserError if another followed it."""
        if self.last is None:
            raise UserError("there is no vote to take back")
        judgement, row = self.last
        with self._alone():
            if not _ends_with(self.path, to_row(judgement)):
                raise UserError("another vote has followed, of another chat", file=self.path)
            _cut_off(self.path, to_row(judgement))
            if _ends_with(self.chats, row):
                _cut_off(self.chats, row)
        self.last = None
        self.count[self._won(judgement)] -= 1

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Alone with the files: several chats may vote into one."""
        with self.path.open("ab") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _won(self, judgement: Judgement) -> str:
        if judgement.preference is None:
            return SKIPPED
        if judgement.preference == TIE:
            return BAD if judgement.acceptable == (False, False) else "ties"
        return self.b if judgement.preference > TIE else self.a

    def tally(self) -> str:
        """What the votes of this session come to, and where they are."""
        if not self.count.total():
            return "no votes"
        kinds = (self.a, self.b, "ties", BAD, SKIPPED)
        told = ", ".join(f"{kind} {self.count[kind]}" for kind in kinds)
        return f"votes for {told}; they are in {self.path}, what was said in {self.chats}"


def _end_lines(path: Path) -> None:
    """Check that a file holds votes; cut off a last one that a kill has torn, and say so."""
    last = path.read_bytes().rpartition(b"\n")[2]
    torn = last.startswith(b'{"item": ') and not last.endswith(b"}")
    if torn:
        warn(f"{path}: the last line is half a vote, and is removed")
        os.truncate(path, path.stat().st_size - len(last))
    read_judgements(path)
    if last and not torn:
        with path.open("ab") as handle:
            handle.write(b"\n")


def _append(path: Path, row: dict[str, Any]) -> None:
    log = JsonlLog(path)
    log.append([row])
    log.close()


def _line(row: dict[str, Any]) -> bytes:
    return f"{to_json(row)}\n".encode()


def _ends_with(path: Path, row: dict[str, Any]) -> bool:
    return path.read_bytes().endswith(_line(row))


def _cut_off(path: Path, row: dict[str, Any]) -> None:
    """Remove the last line, which is this row, in one step that a kill cannot halve."""
    os.truncate(path, path.stat().st_size - len(_line(row)))
