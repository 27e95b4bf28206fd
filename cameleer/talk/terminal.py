"""A chat at the terminal: what is typed, answers as they come, two of them side by side."""

from __future__ import annotations

import shutil
import sys
import time

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cameleer.core.console import err, warn
from cameleer.core.errors import UserError
from cameleer.core.text import visible, whole
from cameleer.engines.talk import STOPPED, Spoken, Talk
from cameleer.talk.chat import Chat, message_of, told
from cameleer.talk.votes import VOTES

REDRAWN = 0.2  # seconds between two drawings of the columns
WIDE = 100  # columns of a terminal from which on two answers stand side by side
ASKED = "which is better? a, b, tie, bad (both) or skip, and why if you like: "


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

    def __init__(self, chat: Chat) -> None:
        self.chat = chat

    def run(self) -> None:
        """Until /quit or Ctrl-D."""
        import readline  # editing and history of what `input` reads

        readline.parse_and_bind("set enable-bracketed-paste on")  # a paste is one message
        while not self.chat.ended and (line := self._line()) is not None:
            try:
                self._do(line)
            except UserError as error:  # nothing is lost: the chat goes on
                err.print(f"error: {error}", style="red", markup=False)
            except KeyboardInterrupt:  # before an answer or after it
                print()
        if self.chat.votes:
            print(self.chat.votes.tally())

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
        alone = len(self.chat.sides) == 1
        spoken = self.chat.take_turn(lambda: [self._alone(text)] if alone else self._compared(text))
        if not spoken:
            warn("this message is not a part of the chat")
        elif self.chat.votes and any(one.finish == STOPPED for one in spoken):
            print("no vote, as an answer was stopped")
        elif self.chat.votes:
            word, comment, seconds = ask_vote()
            self.chat.vote(word, seconds, comment)

    def _alone(self, text: str) -> Spoken:
        [side] = self.chat.sides
        stream = Stream()
        spoken = side.talk.ask(text, stream.hear)
        stream.end(spoken.text)
        _tell(spoken, side.talk)
        return spoken

    # ---- two at a time

    def _compared(self, text: str) -> list[Spoken]:
        width = shutil.get_terminal_size().columns
        spoken = self._columns(text) if width >= WIDE else self._rows(text)
        for label, side, one in zip(self.chat.labels(), self.chat.shown(), spoken, strict=True):
            _tell(one, side.talk, f"{label}: ")
        return spoken

    def _rows(self, text: str) -> list[Spoken]:
        """One answer under the other."""
        found = []
        console = Console(highlight=False)
        for label, side in zip(self.chat.labels(), self.chat.shown(), strict=True):
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
            for label in self.chat.labels():
                grid.add_column(Text(label), ratio=1, overflow="fold")
            grid.add_row(*(Text(visible(one)) for one in written))
            return grid

        console = Console(highlight=False)
        drawn = 0.0
        with Live(get_renderable=shown, console=console, auto_refresh=False) as live:
            for place, side in enumerate(self.chat.shown()):

                def hear(so_far: str, place: int = place) -> None:
                    nonlocal drawn
                    written[place] = so_far.rstrip("\ufffd")
                    if time.monotonic() - drawn > REDRAWN:
                        live.refresh()
                        drawn = time.monotonic()

                found.append(side.talk.ask(text, hear))
                written[place] = found[-1].text
        return found


def _tell(spoken: Spoken, talk: Talk, before: str = "") -> None:
    for line in told(spoken, talk):
        warn(before + line)


def ask_vote() -> tuple[str, str, float]:
    """A vote, its comment, and the seconds that it took; Ctrl-C and Ctrl-D skip."""
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
            return word.lower(), comment.strip(), time.monotonic() - began


def _forget(line: str) -> None:
    """Keep a vote out of the messages that the arrow keys bring back."""
    readline = sys.modules.get("readline")
    if line and readline is not None and (size := readline.get_current_history_length()):
        readline.remove_history_item(size - 1)
