"""Votes between two models that answer side by side: each is a Judgement of a person."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cameleer.core.errors import UserError
from cameleer.core.files import JsonlLog
from cameleer.results.judgements import TIE, read_judgements, to_row
from cameleer.results.records import Judgement

ASKED = "which is better? a, b, tie or skip, and why if you like: "
VOTES = ("a", "b", "tie", "skip")
SKIPPED = "skipped"


class Votes:
    """The file of votes on models `a` and `b`, and beside it what was voted on (CHATS).

    Which model stands first is drawn anew for each chat, from the seed and the chat's key.
    """

    def __init__(self, path: Path, a: str, b: str, who: str, seed: int) -> None:
        """Raises UserError for a file that holds something else, or one model twice."""
        if a == b:
            raise UserError("a vote is between two models, not one", field="--compare")
        if path.exists():
            read_judgements(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.a, self.b, self.who, self.seed = path, a, b, who, seed
        self.chats = path.with_name(f"{path.stem}.chats.jsonl")
        self.session = f"chat/{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
        self.count: Counter[str] = Counter()

    def b_first(self, chat: int) -> bool:
        """Whether the second model stands first in this chat."""
        return random.Random(f"{self.seed}/{self.session}/{chat}").random() < 0.5

    def add(
        self, place: str, vote: str, b_first: bool, seconds: float, said: dict[str, Any]
    ) -> Judgement:
        """Append what was said of A (shown first) and B, with the comment after it.

        place: of the turn in the session; said: what the models were told and answered.
        """
        word, _, comment = vote.partition(" ")
        preference = {"a": 2.0 if b_first else 1.0, "b": 1.0 if b_first else 2.0, "tie": TIE}
        judgement = Judgement(
            f"{self.session}/{place}",
            self.a,
            self.b,
            preference.get(word),
            self.who,
            "human",
            b_first=b_first,
            comment=comment.strip(),
            note="" if word in preference else SKIPPED,
            seconds=round(seconds, 1),
            time=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        )
        for path, row in (
            (self.chats, {"item": judgement.item, **said}),
            (self.path, to_row(judgement)),
        ):
            log = JsonlLog(path)
            log.append([row])
            log.close()
        self.count[self._won(judgement.preference)] += 1
        return judgement

    def _won(self, preference: float | None) -> str:
        if preference is None:
            return SKIPPED
        return "ties" if preference == TIE else self.b if preference > TIE else self.a

    def tally(self) -> str:
        """What the votes of this session come to, and where they are."""
        if not self.count:
            return "no votes"
        kinds = (self.a, self.b, "ties", SKIPPED)
        told = ", ".join(f"{kind} {self.count[kind]}" for kind in kinds)
        return f"votes for {told}; they are in {self.path}, what was said in {self.chats}"


def ask_vote() -> tuple[str, float]:
    """A vote with its comment, and the seconds that it took; Ctrl-C and Ctrl-D skip."""
    began = time.monotonic()
    while True:
        try:
            line = input(ASKED).strip()
        except (EOFError, KeyboardInterrupt):
            print()
            line = "skip"
        else:
            _forget(line)
        word, _, comment = line.partition(" ")
        if word.lower() in VOTES:
            return f"{word.lower()} {comment}".strip(), time.monotonic() - began


def _forget(line: str) -> None:
    """Keep a vote out of the messages that the arrow keys bring back."""
    readline = sys.modules.get("readline")
    if line and readline is not None and (size := readline.get_current_history_length()):
        readline.remove_history_item(size - 1)
