"""A whole file of conversations rendered by all cores, block by block, in the file's order."""

from __future__ import annotations

import codecs
import json
import os
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from cameleer.chat.conversation import Conversation, read_conversations, to_conversation
from cameleer.chat.render import Renderer
from cameleer.core.console import progress
from cameleer.core.cores import cores, over_cores
from cameleer.core.errors import UserError
from cameleer.core.files import replacing

BLOCK = 4 << 20  # bytes of the file that make a block: a second of work, little memory
SMALL = 4 * BLOCK  # smaller files are done sooner than processes are started
CONVERSATIONS = 4096  # that make a block where one process does it all

Found = TypeVar("Found")
Work = Callable[[Renderer, Iterable[Conversation]], Found]


@dataclass(frozen=True)
class Block:
    """Whole lines of a file: bytes begin..end; lines: how many stand before it."""

    path: Path
    begin: int
    end: int
    lines: int


class UnreadableError(Exception):
    """A line of a block is no conversation; which one, and why, is for the file's reader to say."""


def blocks(path: Path, size: int = BLOCK) -> Iterator[Block]:
    """A file in blocks of about `size` bytes, more where a line is longer than that."""
    begin = lines = at = 0
    with path.open("rb") as file:
        while chunk := file.read(size):
            if last := chunk.rfind(b"\n") + 1:
                yield Block(path, begin, at + last, lines)
                begin, lines = at + last, lines + chunk.count(b"\n")
            at += len(chunk)
    if begin < at:
        yield Block(path, begin, at, lines)


def read_block(block: Block) -> Iterator[Conversation]:
    """The conversations of a block; raises UnreadableError for anything else in it."""
    with block.path.open("rb") as file:
        file.seek(block.begin)
        for number, line in enumerate(file, block.lines):
            if file.tell() > block.end:
                return
            if not line.strip():
                continue
            try:
                row = json.loads(line.removeprefix(codecs.BOM_UTF8) if not number else line)
                conversation = to_conversation(row, str(number))
            except (UserError, ValueError, AttributeError, RecursionError) as error:
                raise UnreadableError from error
            yield conversation


def by_all_cores(path: Path, renderer: Renderer, work: Work[Found]) -> Iterator[Found]:
    """What `work` makes of each stretch of a file's conversations, in order.

    `work` and what it returns go from process to process: a function of a module, and bytes. A
    small or packed file is done by this process alone. Raises what `read_conversations` raises.
    """
    workers = cores()
    large = path.is_file() and path.suffix != ".gz" and path.stat().st_size >= SMALL
    if workers < 2 or not large:
        conversations = read_conversations(path)
        while stretch := list(islice(conversations, CONVERSATIONS)):
            yield work(renderer, stretch)
        return
    try:
        with progress(f"render {path.name}", path.stat().st_size, in_bytes=True) as ticker:
            for size, found in over_cores(_one, blocks(path), workers, _begin, (renderer, work)):
                yield found
                ticker.advance(size)
    except UnreadableError:
        deque(read_conversations(path), maxlen=0)  # says which line, in the words used everywhere
        raise


_own: list[Callable[[Iterable[Conversation]], object]] = []  # what a process of the pool works with


def _begin(renderer: Renderer, work: Work[Found]) -> None:
    """Make ready a process of the pool, whose tokenizer shall have no threads of its own."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _own.append(partial(work, renderer))


def _one(block: Block) -> tuple[int, Any]:
    """The bytes of a block, and what is made of it."""
    return block.end - block.begin, _own[0](read_block(block))


def render_file(path: Path, output: Path, renderer: Renderer) -> Counter[str]:
    """Render a file to JSON lines of `id`, `input_ids` and `supervised`; returns what was counted.

    Counts are those of `cameleer.chat.render.render`; the output is whole or not there.
    """
    counts: Counter[str] = Counter()
    with replacing(output, "wb") as out:
        for lines, counted in by_all_cores(path, renderer, to_lines):
            out.write(lines)
            counts.update(counted)
    return counts


def to_lines(
    renderer: Renderer, conversations: Iterable[Conversation]
) -> tuple[bytes, Counter[str]]:
    """Rendered conversations as JSON lines, and the counts."""
    counts: Counter[str] = Counter()
    lines = []
    for one in renderer.render(conversations, counts):
        identity = json.dumps(one.id, ensure_ascii=False)
        mask = ", ".join(one.supervised.translate(DIGITS).decode())
        ids = array("I", one.ids).tolist()
        lines.append(f'{{"id": {identity}, "input_ids": {ids}, "supervised": [{mask}]}}\n')
    return "".join(lines).encode(), counts


DIGITS = b"01" + bytes(range(2, 256))
