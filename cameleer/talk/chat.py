"""A chat with one model or the same chat with two: its commands, its turns, and votes on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cameleer.chat.conversation import Conversation, Message
from cameleer.core.errors import UserError, unknown
from cameleer.core.files import write_jsonl
from cameleer.engines.talk import ENDINGS, STOPPED, Spoken, Talk
from cameleer.results.records import Judgement
from cameleer.talk.votes import Votes

HELP = """\
/help           these lines
/reset          begin a new chat; the system message stays
/undo           take back the last message and its answer
/system TEXT    set the system message, from the next answer on; - removes it, no text shows it
/temperature N  how freely tokens are drawn, from the next answer on; no number shows it
/save FILE      write the chat as a conversation, as `cameleer data` commands read it
/prompt         the exact text that the last answer goes on from; /prompt TEXT: that TEXT would give
/quit           leave; so does Ctrl-D
A message that begins with / is written with //; a line that ends in \\ goes on in the next, and
what is pasted is one message, however many lines it has.
Ctrl-C stops an answer and keeps the chat. Arrow keys bring back and edit messages."""


@dataclass(frozen=True)
class Side:
    """One of the models that are talked to."""

    model: str
    talk: Talk


class Chat:
    """A chat with one model, or the same chat with two. number: of chats since the start; turn: of
    messages. votes: where two are compared blindly."""

    def __init__(self, sides: Sequence[Side], votes: Votes | None = None) -> None:
        self.sides, self.votes = sides, votes
        self.number, self.turn = 1, 0
        self.ended = False
        self.saved: set[Path] = set()

    # ---- turns

    def take_turn(self, speak: Callable[[], list[Spoken]]) -> list[Spoken]:
        """The answers that `speak` gets of the sides; none if one was stopped before it began.

        A turn is all models', or nobody's: one that one of them does not answer is taken back.
        """
        lengths = [len(side.talk.messages) for side in self.sides]
        self.turn += 1
        try:
            spoken = speak()
        except BaseException:
            self._even(lengths)
            raise
        if all(one.text or one.finish != STOPPED for one in spoken):
            return spoken
        self._even(lengths)
        return []

    def _even(self, lengths: Sequence[int]) -> None:
        """Take back what went beyond so many messages."""
        for side, length in zip(self.sides, lengths, strict=True):
            if len(side.talk.messages) > length:
                side.talk.undo()

    # ---- who is shown where, and votes

    @property
    def b_first(self) -> bool:
        """Whether the second model is shown first, in this chat."""
        return self.votes is not None and self.votes.b_first(self.number)

    def shown(self) -> list[Side]:
        """The sides as they are shown."""
        return [*self.sides][:: -1 if self.b_first else 1]

    def labels(self) -> list[str]:
        """What the sides are called: by their names only where nobody votes."""
        return ["A", "B"] if self.votes else [side.model for side in self.sides]

    def vote(self, word: str, seconds: float, comment: str = "", note: str = "") -> Judgement:
        """Keep a vote on the last turn; see Votes."""
        assert self.votes is not None
        said = dict(zip("ab", map(_said, self.sides), strict=True))
        return self.votes.add(
            f"{self.number}.{self.turn}",
            word,
            b_first=self.b_first,
            seconds=seconds,
            said=said,
            comment=comment,
            note=note,
        )

    # ---- commands

    def command(self, line: str) -> str:
        """Do what `/name …` asks; returns what there is to say. Raises UserError."""
        name, _, rest = line.removeprefix("/").partition(" ")
        known: dict[str, Callable[[str], str]] = {
            "help": lambda _: HELP,
            "reset": lambda _: self.reset(),
            "undo": self._undo,
            "system": self._system,
            "temperature": self._temperature,
            "save": self._save,
            "prompt": self._prompt,
            "quit": self._quit,
        }
        if name not in known:
            raise unknown("command", f"/{name}", [f"/{one}" for one in known], "/help")
        return known[name](rest.strip())

    def reset(self) -> str:
        """Begin a new chat."""
        for side in self.sides:
            side.talk.reset()
        self.number += 1
        return "a new chat"

    @property
    def system(self) -> str:
        """The system message, from the next answer on."""
        return self.sides[0].talk.system

    @system.setter
    def system(self, text: str) -> None:
        for side in self.sides:
            side.talk.system = text

    @property
    def temperature(self) -> float:
        """How freely tokens are drawn, from the next answer on."""
        return self.sides[0].talk.how.temperature

    def heat(self, said: str) -> None:
        """Set the temperature that a person writes. Raises UserError for what is none."""
        try:
            value = float(said)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 100:
            raise UserError(f"'{said}' is no temperature", hint="0 takes the likeliest tokens")
        for side in self.sides:
            side.talk.how = replace(side.talk.how, temperature=value)

    def _undo(self, _: str) -> str:
        undone = [side.talk.undo() for side in self.sides]
        return "the last message and its answer are taken back" if any(undone) else "no message yet"

    def _system(self, text: str) -> str:
        if text:
            self.system = "" if text == "-" else text
        return f"system message: {self.system}" if self.system else "no system message"

    def _temperature(self, said: str) -> str:
        if said:
            self.heat(said)
        return f"temperature {self.temperature:g}"

    def _save(self, name: str) -> str:
        if not name:
            raise UserError("/save needs a name", hint="/save FILE")
        path = Path(name).expanduser()
        if path.exists() and path.resolve() not in self.saved:
            raise UserError("is there already, and is not replaced", file=path)
        rows = self.rows()
        try:
            write_jsonl(path, rows)
        except OSError as error:
            raise UserError(f"cannot be written: {error.strerror}", file=path) from None
        self.saved.add(path.resolve())
        return f"saved in {path}"

    def rows(self) -> list[dict[str, Any]]:
        """The chat as it is saved: a conversation with each model. UserError if there is none."""
        if not self.sides[0].talk.messages:
            raise UserError("there is nothing to save yet")
        return [one.to_row() for one in self._conversations()]

    def _conversations(self) -> Iterator[Conversation]:
        for side in self.sides:
            system = [Message("system", side.talk.system)] if side.talk.system else []
            messages = (*system, *side.talk.messages)
            yield Conversation(f"chat-{self.number}", side.model, messages)

    def _prompt(self, text: str) -> str:
        found = [side.talk.prompt(text) if text else side.talk.last for side in self.sides]
        if not any(found):
            return "nothing was sent yet; /prompt TEXT shows what TEXT would send"
        return "\n\n".join(found)

    def _quit(self, _: str) -> str:
        self.ended = True
        return ""


def _said(side: Side) -> dict[str, Any]:
    """What a model was told in the last turn, how it was to answer, and what it did."""
    answer, how = side.talk.messages[-1].content, asdict(side.talk.how)
    return {"model": side.model, "prompt": side.talk.last, "answer": answer, **how}


def message_of(line: str) -> str:
    """The message that a line is: // stands for / at its beginning."""
    return line.removeprefix("/") if line.startswith("//") else line


def told(spoken: Spoken, talk: Talk) -> list[str]:
    """What there is to say of an answer, besides its text."""
    lines = []
    if spoken.dropped:
        lines.append(
            f"the context is full: the first {talk.dropped} messages with their answers "
            "are not sent any more"
        )
    if spoken.finish in ENDINGS:
        lines.append(ENDINGS[spoken.finish])
    elif spoken.finish != "stop":
        lines.append(f"the answer ended by '{spoken.finish}'")
    if not spoken.text:
        lines.append("the answer is empty")
    return lines
