"""The chat that a page shows: one for all of its tabs, answered in threads, votes kept at once."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cameleer.core.errors import UserError
from cameleer.core.text import visible, whole
from cameleer.engines.talk import STOPPED, Spoken
from cameleer.talk.chat import Chat, Side, told
from cameleer.talk.votes import SEEN, VERDICTS

PATIENCE = 5.0  # seconds
LOST = "Something went wrong on the server. It was noted there."
MUTE = "Stopped before both had begun: this message is no part of the chat."


@dataclass
class Turn:
    """A message and its answers, in the order shown, as far as they are written.

    notes: what there is to say of each; vote: of VERDICTS, "" for none.
    """

    text: str
    answers: list[str]
    notes: list[list[str]]
    vote: str = ""

    def row(self) -> dict[str, Any]:
        text, answers = visible(self.text), [visible(answer) for answer in self.answers]
        return {"text": text, "answers": answers, "notes": self.notes, "vote": self.vote}


class SharedChat:
    """What tabs ask of a chat, one at a time; what comes too early or too late is a UserError.

    version: grows with each change; sheet: where turns changed that tabs have already. A vote shows
    the names, so it is the last one of its chat.
    """

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.lock = threading.RLock()
        self.turns: list[Turn] = []
        self.version = self.sheet = 0
        self.busy = self.stopping = self.ended = self.votable = self.seen = False
        self.failed = ""  # why the last message got no answer,
        self.unsent = ""  # and which one that was
        self.since = 0.0  # when the answers to vote on had come
        self.answering: threading.Thread | None = None

    # ---- what tabs ask for

    def send(self, text: str) -> None:
        """Begin a turn with this message."""
        with self.lock:
            self._require_rest()
            if not text.strip():
                raise UserError("an empty message is not sent")
            sides = len(self.chat.sides)
            turn = Turn(whole(text), [""] * sides, [[] for _ in range(sides)])
            self.turns.append(turn)
            self.busy, self.stopping, self.votable = True, False, False
            self.failed = self.unsent = ""
            self._changed()
        self.answering = threading.Thread(target=self._answer, args=(turn,), daemon=True)
        self.answering.start()

    def stop(self) -> None:
        """End the answers that are being written; what was said stays."""
        self.stopping = True
        self._changed()

    def new(self) -> None:
        """Begin a new chat."""
        with self.lock:
            self._require_rest()
            self.chat.reset()
            self.turns, self.votable, self.seen = [], False, False
            self.failed = self.unsent = ""
            self.sheet += 1
            self._changed()

    def set(self, system: str, temperature: str) -> None:
        """From the next answer on."""
        with self.lock:
            self.chat.heat(temperature)
            self.chat.system = whole(system)
            self._changed()

    def vote(self, number: int, word: str, comment: str) -> None:
        """Vote on the turn of this number, from 1; the same vote again is the same."""
        with self.lock:
            turn = self.turns[-1] if number == len(self.turns) > 0 else None
            if turn is not None and word and turn.vote == word:
                return
            if turn is None or not self.votable or word not in VERDICTS:
                raise UserError("there is nothing to vote on: the chat has gone on")
            waited, note = time.monotonic() - self.since, SEEN if self.seen else ""
            self.chat.vote(word, waited, " ".join(whole(comment).split()), note)
            turn.vote, self.votable, self.seen = word, False, True
            self._changed()

    def undo_vote(self) -> None:
        """Take back the last vote; its turn can be voted on again while it is the last one."""
        with self.lock:
            self._require_rest()
            if self.chat.votes is None:
                raise UserError("nobody votes here")
            self.chat.votes.undo()
            for turn in self.turns:
                self.votable = self.votable or (bool(turn.vote) and turn is self.turns[-1])
                turn.vote = ""
            self.sheet += 1
            self._changed()

    def rows(self) -> list[dict[str, Any]]:
        """The chat as conversations, which name the models: not before a vote, if votes are."""
        with self.lock:
            self._require_rest()
            if not self._named():
                raise UserError("the chat names its models: it is saved after a vote")
            return self.chat.rows()

    def end(self) -> None:
        """Stop what is being written, and let go of the tabs."""
        self.stopping = self.ended = True

    def wait(self) -> None:
        """Until nothing is being written, or for as long as somebody who leaves would wait."""
        if self.answering is not None:
            self.answering.join(PATIENCE)

    # ---- what tabs are told

    def view(self, known: tuple[int, int]) -> dict[str, Any]:
        """All that is to be seen; of the turns, those that are not known.

        known: of which sheet how many turns a tab has that cannot change any more.
        """
        with self.lock:
            first = known[1] if known[0] == self.sheet else 0
            votes, named = self.chat.votes, self._named()
            return {
                "sheet": self.sheet,
                "first": first,
                "turns": [turn.row() for turn in self.turns[first:]],
                "names": [side.model for side in self.chat.shown()] if named else None,
                "busy": self.busy,
                "stopping": self.busy and self.stopping,
                "failed": self.failed,
                "unsent": self.unsent,
                "votable": self.votable,
                "savable": named and bool(self.turns) and not self.busy,
                "votes": votes.count.total() if votes else 0,
                "undoable": votes is not None and votes.last is not None,
                "system": self.chat.system,
                "temperature": self.chat.temperature,
            }

    def _named(self) -> bool:
        return self.chat.votes is None or any(turn.vote for turn in self.turns)

    # ---- answering

    def _answer(self, turn: Turn) -> None:
        """Get the answers of a turn, in a thread of its own."""
        spoken, failed = list[Spoken](), LOST
        try:
            spoken = self.chat.take_turn(lambda: self._speak(turn))
            failed = "" if spoken else MUTE
        except UserError as error:
            failed = f"{error}."
        except Exception:
            logging.exception("the chat's page")
        finally:
            with self.lock:
                self._answered(turn, spoken, failed)

    def _answered(self, turn: Turn, spoken: list[Spoken], failed: str) -> None:
        """The turn has ended; failed: why it is none, or ""."""
        self.busy = False
        if failed:
            self.turns.remove(turn)
            self.failed, self.unsent = failed, turn.text
        elif self.chat.votes and not self.seen:
            self.votable = all(one.finish != STOPPED for one in spoken)
            self.since = time.monotonic()
        self._changed()

    def _speak(self, turn: Turn) -> list[Spoken]:
        """Ask all sides at the same time."""
        sides = self.chat.shown()
        with ThreadPoolExecutor(len(sides)) as pool:
            asked = [pool.submit(self._ask, turn, place, side) for place, side in enumerate(sides)]
            return [one.result() for one in asked]

    def _ask(self, turn: Turn, place: int, side: Side) -> Spoken:
        def hear(written: str) -> None:
            if self.stopping:
                raise KeyboardInterrupt  # so a talk is stopped
            turn.answers[place] = written.rstrip("\ufffd")
            self._changed()

        try:
            spoken = side.talk.ask(turn.text, hear)
        except BaseException:
            self.stopping = True  # the turn comes to nothing
            raise
        turn.answers[place], turn.notes[place] = spoken.text, told(spoken, side.talk)
        self._changed()
        return spoken

    def _require_rest(self) -> None:
        if self.busy:
            raise UserError("an answer is being written", hint="stop it first")

    def _changed(self) -> None:
        self.version += 1
