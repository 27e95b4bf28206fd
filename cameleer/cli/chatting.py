"""A chat on the command line with one model or two at a time: its commands, and its terminal."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cameleer.chat.conversation import Conversation, Message
from cameleer.cli.votes import Votes, ask_vote
from cameleer.core.console import err, warn
from cameleer.core.errors import UserError, unknown
from cameleer.core.files import write_jsonl
from cameleer.core.text import visible, whole
from cameleer.engines.talk import ENDINGS, STOPPED, Spoken, Talk

REDRAWN = 0.2  # seconds between two drawings of the columns
WIDE = 100  # columns of a terminal from which on two answers stand side by side
HELP = """\
/help         these lines
/reset        begin a new chat; the system message stays
/undo         take back the last message and its answer
/system TEXT  set the system message, from the next answer on; - removes it, no text shows it
/save FILE    write the chat as a conversation, as `cameleer data` commands read it
/prompt       the exact text that the last answer goes on from; /prompt TEXT: that TEXT would give
/quit         leave; so does Ctrl-D
A message that begins with / is written with //; a line that ends in \\ goes on in the next.
Ctrl-C stops an answer and keeps the chat. Arrow keys bring back and edit messages."""


@dataclass(frozen=True)
class Side:
    """One of the models that are talked to."""

    model: str
    talk: Talk


class Chat:
    """A chat with one model, or the same chat with two."""

    def __init__(self, sides: Sequence[Side]) -> None:
        self.sides = sides
        self.number = 1  # of chats since the start
        self.ended = False
        self.saved: set[Path] = set()

    def command(self, line: str) -> str:
        """Do what `/name …` asks; returns what there is to say. Raises UserError."""
        name, _, rest = line.removeprefix("/").partition(" ")
        known: dict[str, Callable[[str], str]] = {
            "help": lambda _: HELP,
            "reset": self._reset,
            "undo": self._undo,
            "system": self._system,
            "save": self._save,
            "prompt": self._prompt,
            "quit": self._quit,
        }
        if name not in known:
            raise unknown("command", f"/{name}", [f"/{one}" for one in known], "/help")
        return known[name](rest.strip())

    def even(self, lengths: Sequence[int]) -> None:
        """Take back what went beyond so many messages: a turn is all models', or nobody's."""
        for side, length in zip(self.sides, lengths, strict=True):
            if len(side.talk.messages) > length:
                side.talk.undo()

    def lengths(self) -> list[int]:
        return [len(side.talk.messages) for side in self.sides]

    def _reset(self, _: str) -> str:
        for side in self.sides:
            side.talk.reset()
        self.number += 1
        return "a new chat"

    def _undo(self, _: str) -> str:
        undone = [side.talk.undo() for side in self.sides]
        return "the last message and its answer are taken back" if any(undone) else "no message yet"

    def _system(self, text: str) -> str:
        if text:
            for side in self.sides:
                side.talk.system = "" if text == "-" else text
        said = self.sides[0].talk.system
        return f"system message: {said}" if said else "no system message"

    def _save(self, name: str) -> str:
        if not name:
            raise UserError("/save needs a name", hint="/save FILE")
        path = Path(name).expanduser()
        if path.exists() and path.resolve() not in self.saved:
            raise UserError("is there already, and is not replaced", file=path)
        if not self.sides[0].talk.messages:
            raise UserError("there is nothing to save yet")
        try:
            write_jsonl(path, [one.to_row() for one in self._conversations()])
        except OSError as error:
            raise UserError(f"cannot be written: {error.strerror}", file=path) from None
        self.saved.add(path.resolve())
        return f"saved in {path}"

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


class Stream:
    """Writes an answer to the terminal as it comes; of what cannot be seen, signs."""

    def __init__(self) -> None:
        self.shown = ""

    def hear(self, written: str) -> None:
        """Write what is new; the last character may not be whole yet."""
        ready = written.rstrip("\ufffd")
        if ready.startswith(self.shown):
            sys.stdout.write(visible(ready[len(self.shown) :]))
            sys.stdout.flush()
            self.shown = ready

    def end(self, text: str) -> None:
        """Write the rest; a text that came out otherwise stands there once more, whole."""
        rest = text[len(self.shown) :] if text.startswith(self.shown) else f"\n{text}"
        sys.stdout.write(visible(rest) + "\n")
        sys.stdout.flush()


class Terminal:
    """A chat with a person at a terminal."""

    def __init__(self, chat: Chat, votes: Votes | None) -> None:
        """votes: where two are compared blindly."""
        self.chat, self.votes = chat, votes
        self.turn = 0

    def run(self) -> None:
        """Until /quit or Ctrl-D."""
        import readline  # noqa: F401 (editing and history of what `input` reads)

        while not self.chat.ended and (line := self._line()) is not None:
            try:
                self._do(line)
            except UserError as error:  # nothing is lost: the chat goes on
                err.print(f"error: {error}", style="red", markup=False)
        if self.votes:
            print(self.votes.tally())

    def _line(self) -> str | None:
        """What the person writes; None at the end."""
        try:
            line = input("> ")
            while line.endswith("\\"):
                line = f"{line[:-1]}\n{input('… ')}"
        except EOFError:
            print()
            return None
        except KeyboardInterrupt:
            print("\n/quit or Ctrl-D leaves")
            return ""
        return whole(line)

    def _do(self, line: str) -> None:
        if not line.strip():
            return
        if line.startswith("/") and not line.startswith("//"):
            if said := self.chat.command(line):
                print(visible(said))
            return
        text = message_of(line)
        before = self.chat.lengths()
        self.turn += 1
        try:
            spoken = self._compared(text) if len(self.chat.sides) > 1 else [self._alone(text)]
        except UserError:
            self.chat.even(before)
            raise
        if any(one.finish == STOPPED and not one.text for one in spoken):
            self.chat.even(before)
            warn("this message is not a part of the chat")
        elif self.votes and not any(one.finish == STOPPED for one in spoken):
            self._vote(self.votes)
        elif self.votes:
            print("no vote, as an answer was stopped")

    def _alone(self, text: str) -> Spoken:
        [side] = self.chat.sides
        stream = Stream()
        spoken = side.talk.ask(text, stream.hear)
        stream.end(spoken.text)
        _tell(spoken, side.talk)
        return spoken

    # ---- two at a time

    def _order(self) -> list[Side]:
        """The sides as they are shown."""
        first, second = self.chat.sides
        swapped = self.votes is not None and self.votes.b_first(self.chat.number)
        return [second, first] if swapped else [first, second]

    def _labels(self) -> list[str]:
        """What the sides are called: by their names only where nobody votes."""
        return ["A", "B"] if self.votes else [side.model for side in self._order()]

    def _compared(self, text: str) -> list[Spoken]:
        width = shutil.get_terminal_size().columns
        spoken = self._columns(text) if width >= WIDE else self._rows(text)
        for label, side, one in zip(self._labels(), self._order(), spoken, strict=True):
            _tell(one, side.talk, f"{label}: ")
        return spoken

    def _rows(self, text: str) -> list[Spoken]:
        """One answer under the other."""
        found = []
        console = Console(highlight=False)
        for label, side in zip(self._labels(), self._order(), strict=True):
            console.rule(Text(label, style="bold"), align="left")
            stream = Stream()
            found.append(side.talk.ask(text, stream.hear))
            stream.end(found[-1].text)
        console.rule()
        return found

    def _columns(self, text: str) -> list[Spoken]:
        """Both answers side by side; the second is written when the first has ended."""
        written = ["", ""]
        found: list[Spoken] = []

        def shown() -> Table:
            grid = Table(box=None, expand=True, padding=(0, 2, 0, 0), header_style="bold")
            for label in self._labels():
                grid.add_column(Text(label), ratio=1, overflow="fold")
            grid.add_row(*(Text(visible(one)) for one in written))
            return grid

        console = Console(highlight=False)
        drawn = 0.0
        with Live(get_renderable=shown, console=console, auto_refresh=False) as live:
            for place, side in enumerate(self._order()):

                def hear(so_far: str, place: int = place) -> None:
                    nonlocal drawn
                    written[place] = so_far.rstrip("\ufffd")
                    if time.monotonic() - drawn > REDRAWN:
                        live.refresh()
                        drawn = time.monotonic()

                found.append(side.talk.ask(text, hear))
                written[place] = found[-1].text
        return found

    def _vote(self, votes: Votes) -> None:
        vote, seconds = ask_vote()
        a, b = (
            {
                "model": side.model,
                "prompt": side.talk.last,
                "answer": side.talk.messages[-1].content,
            }
            for side in self.chat.sides
        )
        b_first = votes.b_first(self.chat.number)
        votes.add(f"{self.chat.number}.{self.turn}", vote, b_first, seconds, {"a": a, "b": b})


def message_of(line: str) -> str:
    """The message that a line is: // stands for / at its beginning."""
    return line.removeprefix("/") if line.startswith("//") else line


def _tell(spoken: Spoken, talk: Talk, before: str = "") -> None:
    for line in told(spoken, talk):
        warn(before + line)
