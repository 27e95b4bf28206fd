"""Native files to conversations: records that stand by themselves by all cores, joined in order.

A large file is cut into parts. A process makes of a part what it can make without knowing what is
before it: the number of its first record is a guess, and the part has to be whole records that can
be read. Where that was wrong, or an id was given before, the part is made again here, where all is
known. So what comes out does not depend on how many processes there are.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import pickle
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from json.encoder import encode_basestring as quoted
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar, cast

from cameleer.chat.conversation import Conversation
from cameleer.chat.render import Rule
from cameleer.core import parts
from cameleer.core.console import err, note
from cameleer.core.cores import cores, over_cores
from cameleer.core.errors import UserError
from cameleer.core.jsonl import Known, OnBad, Part, Reading
from cameleer.data.encode import form_of
from cameleer.data.source import (
    Apart,
    Convert,
    Dropped,
    Form,
    NativeFile,
    located,
    native_files,
    source_named,
)

T = TypeVar("T")
LARGE = 16 << 20  # bytes of files; smaller ones are done sooner than processes are started
FEW = 50_000  # conversations that are asked for; so many are made sooner as well
PARTS: dict[Form, Callable[[Path], Iterator[Part]]] = {
    "array": parts.array_parts,
    "lines": parts.line_parts,
}


def convert(
    name: str,
    root: Path | None,
    rule: Rule = "fixed",
    seed: int = 42,
    *,
    strict: bool = False,
    on_bad: OnBad = None,
    tokenizer: Any = None,
    max_tokens: int = 2048,
) -> tuple[Iterator[Conversation], Counter[str]]:
    """A source's conversations, streamed, and the counts that fill as they are read.

    Files that cannot be read at all, or hold no record, raise UserError; single records that cannot
    be read are dropped, counted and told to `on_bad`, or with `strict` raised. `tokenizer` and
    `max_tokens` are for sources that split what is too long (`sharegpt`).
    """
    job = Convert(located(name, root), rule, seed, strict, on_bad, tokenizer, max_tokens)
    return stream(source_named(name), job, itself), job.counts


def stream(
    source: ModuleType, job: Convert, form: Callable[[Conversation], T], limit: int | None = None
) -> Iterator[T]:
    """What `form` makes of each conversation of a source, at most `limit`, by all cores.

    form: a function of a module, which goes from process to process, as what it returns does.
    `job.counts` are ahead of the conversations by a part, but exact at the end and at the limit.
    """
    made: Iterator[T]
    if limit is not None and limit < FEW:
        made = map(form, _here(source, job))
    else:
        made = _Spread(source, job, form, limit).all()
    yield from itertools.islice(made, limit)
    if not job.counts["read"]:
        raise UserError("no record in it", file=job.folder)


def itself(conversation: Conversation) -> Conversation:
    """The conversation as it is."""
    return conversation


def to_line(conversation: Conversation) -> bytes:
    """The conversation as a line of a JSON-lines file.

    It is that of `cameleer.core.files.to_json`, three times as fast.
    """
    turns = ", ".join(
        f'{{"role": {quoted(turn.role)}, "content": {quoted(turn.content)}}}'
        for turn in conversation.messages
    )
    begin = f'{{"id": {quoted(conversation.id)}, "source": {quoted(conversation.source)}'
    return f'{begin}, "messages": [{turns}]}}\n'.encode()


def _made(source: ModuleType, job: Convert) -> Iterator[Conversation | Apart]:
    """What a source makes, counted."""
    for made in source.convert(job):
        if isinstance(made, Apart):
            yield made
            continue
        job.counts["read"] += 1
        if isinstance(made, Dropped):
            job.counts[f"dropped: {made.reason}"] += 1
        else:
            job.counts["kept"] += 1
            yield made


def _here(source: ModuleType, job: Convert) -> Iterator[Conversation]:
    """What a source makes, counted, where nothing is left to other processes."""
    return cast("Iterator[Conversation]", _made(source, job))


@dataclass(frozen=True)
class _Task:
    """A part for a process, and the number that its first record probably has."""

    part: Part
    form: Form
    number: int


@dataclass(frozen=True)
class _Done(Generic[T]):
    """What a process made of a part; number: that of the first record behind it."""

    made: list[T]
    counts: Counter[str]
    bad: list[UserError]
    identities: dict[str, int]
    known: Known
    number: int


class _Spread(Generic[T]):
    """A conversion whose large files go to processes in parts."""

    def __init__(
        self,
        source: ModuleType,
        job: Convert,
        form: Callable[[Conversation], T],
        limit: int | None,
    ) -> None:
        self.source, self.form, self.limit = source, form, limit
        self.job = job
        self.known = Known()
        self.number = self.guess = 0  # of the next record; of that behind the parts given out
        self.pending: deque[_Task] = deque()  # given out and not looked at
        self.eaten = 0  # of parts that were given out, so many were read along with one before

    def all(self) -> Iterator[T]:
        """Everything, in order."""
        self.job.apart, told = True, False
        for made in _made(self.source, self.job):
            if isinstance(made, Apart):
                yield from self._files(made.files)
            else:
                if not told:
                    told = True
                    self._tell()
                yield self.form(made)

    def _files(self, files: tuple[NativeFile, ...]) -> Iterator[T]:
        """What the records of files give."""
        self.number = self.guess = next(self.job.numbers)
        tasks = self._tasks(files)
        # To hand a conversation over takes as long as to make it, unless its tokens are counted.
        pays = self.form is not itself or self.job.tokenizer is not None
        large = pays and _size([path for path, _ in files]) >= LARGE
        with closing(self._work(tasks, cores() if large else 1)) as all_done:
            for done in all_done:
                if self.eaten:
                    self.eaten -= 1
                    continue
                task = self.pending.popleft()
                if task.part.first:
                    self.known = Known()
                fits = done is not None and self._fits(task, done)
                yield from self._take(done) if done and fits else self._again(task, tasks)
                self.guess = self.number + sum(task.part.records for task in self.pending)
        self.job.numbers = itertools.count(self.number)

    def _work(self, tasks: Iterator[_Task], workers: int) -> Generator[_Done[T] | None, None, None]:
        """What is made of each task, by so many processes or by this one."""
        own = _Own(self.source, _settings(self.job), self.form)
        if workers > 1 and own.can_travel():
            given = (self.source.__name__, own.settings, self.form)
            yield from over_cores(_work, tasks, workers, _begin, given)
        else:
            yield from map(own.work, tasks)

    def _tasks(self, files: tuple[NativeFile, ...]) -> Iterator[_Task]:
        for file in files:
            form = form_of(file)
            for part in PARTS[form](file[0]):
                task = _Task(part, form, self.guess)
                self.guess += part.records
                self.pending.append(task)
                yield task

    def _fits(self, task: _Task, done: _Done[T]) -> bool:
        """Whether a part is what it would be with all known that is before it."""
        job = self.job
        few = self.limit is None or len(done.made) <= self.limit - job.counts["kept"]
        new = job.identities.keys().isdisjoint(done.identities)
        return few and new and task.number == self.number

    def _take(self, done: _Done[T]) -> list[T]:
        self.job.counts.update(done.counts)
        self.job.identities.update(done.identities)
        if tell := self.job.on_bad:
            for error in done.bad:
                tell(error)
        if done.number != self.number:
            self.known.keys.update(done.known.keys)
            self.known.size, self.known.cut = done.known.size, False
        self.number = done.number
        return done.made

    def _again(self, task: _Task, tasks: Iterator[_Task]) -> Iterator[T]:
        """What a part gives, and those behind it of which its reader needs a piece."""
        reading = Reading(task.part, self.known, partial(self._more, tasks))
        job = replace(self.job, reading=reading, apart=False)
        job.numbers, job.draws = itertools.count(self.number), self.job.draws
        yield from map(self.form, _here(self.source, job))
        self.number = next(job.numbers)

    def _more(self, tasks: Iterator[_Task]) -> Part:
        if self.pending:
            self.eaten += 1
        else:
            next(tasks)
        return self.pending.popleft().part

    def _tell(self) -> None:
        """Say that a source whose records do not stand by themselves leaves cores unused."""
        size = _size(native_files(self.source.CARD, self.job.folder))
        if size >= LARGE and cores() > 1:
            note("records of this source depend on others: they are made by one core")


def _size(paths: list[Path]) -> int:
    """The bytes of files, where they can be told."""
    return sum(path.stat().st_size for path in paths if path.is_file())


def _settings(job: Convert) -> dict[str, Any]:
    names = ("folder", "rule", "seed", "strict", "tokenizer", "max_tokens")
    return {name: getattr(job, name) for name in names}


class UnreadableError(Exception):
    """A part is not whole records that can be read, as far as one can see who sees it alone."""


class _Part(Convert):
    """The conversion of one part by a process, which leaves what is broken to the reader of all."""

    def bad(self, error: UserError) -> None:
        raise UnreadableError from error


class _Own(Generic[T]):
    """What one process works with: source, settings, what makes of a conversation, draws."""

    def __init__(
        self, source: ModuleType, settings: dict[str, Any], form: Callable[[Conversation], T]
    ) -> None:
        self.source, self.settings, self.form = source, settings, form
        self.draws = Convert(**settings).draws

    def can_travel(self) -> bool:
        """Whether another process can be told all this: a source may be no module of a file."""
        try:
            found = importlib.util.find_spec(self.source.__name__)
            pickle.dumps((self.settings, self.form))
        except (AttributeError, ImportError, TypeError, ValueError, pickle.PicklingError):
            return False
        return found is not None and found.origin == getattr(self.source, "__file__", None)

    def work(self, task: _Task) -> _Done[T] | None:
        """What a part gives, or None where that cannot be told from it alone."""
        bad, reading = list[UserError](), Reading(task.part)
        job = _Part(**self.settings, on_bad=bad.append, reading=reading)
        job.numbers, job.draws = itertools.count(task.number), self.draws
        try:
            made = [self.form(one) for one in _here(self.source, job)]
        except (UnreadableError, UserError):
            return None
        return _Done(made, job.within, bad, job.identities, reading.known, next(job.numbers))


_own: list[_Own[Any]] = []  # of a process of the pool


def _begin(source: str, settings: dict[str, Any], form: Callable[[Conversation], Any]) -> None:
    """Make ready a process of the pool, which says nothing itself."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    err.quiet = True
    _own.append(_Own(importlib.import_module(source), settings, form))


def _work(task: _Task) -> _Done[Any] | None:
    return _own[0].work(task)
