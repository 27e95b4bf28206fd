"""Shapes that several sources share: rows that know where they stand, and instruction templates."""

from __future__ import annotations

from bisect import bisect
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, dropwhile
from pathlib import Path
from typing import Any

from cameleer.chat.conversation import Conversation, Message
from cameleer.core.errors import UserError
from cameleer.core.json_array import read_json_array
from cameleer.core.jsonl import GZIP_BROKEN, Reading, open_bytes, read_jsonl
from cameleer.data.source import Apart, Convert, Dropped, Form, Made, NativeFile

Templates = tuple[tuple[str, str, float], ...]
"""Prompt, completion, and the weight with which the pair is drawn."""

# The paper's 14 + 14 templates (its repository, open_instruct/instruction_encode_templates.py):
# format facts, the typing error of one and the missing blank of another included.
WITH_INPUT: Templates = (
    ("{instruction}\n\n{input}\n\n", "{output}", 0.2),
    ("{instruction}\n{input}\n\n", "{output}", 0.1),
    ("{instruction}\n{input}\n", "{output}", 0.1),
    ("{instruction}\n\nInput: {input}\n\nOutput:", "{output}", 0.05),
    ("{instruction}\nInput: {input}\nOutput:", "{output}", 0.05),
    ("{instruction}\n{input}\n\nResponse:", "{output}", 0.05),
    ("{instruction}\n\nAdditional Context:\n{input}\n\nAnswer:", "{output}", 0.05),
    ("Task: {instruction}\nInput: {input}\nOutput:", "{output}", 0.05),
    ("Task: {instruction}\n\n{input}\n\n", "{output}", 0.05),
    ("Task: {instruction}\n\n{input}\n\nAnswer:", "{output}", 0.05),
    (
        "You need to complete the following task:\n\n{instruction}\n\n{input}\n\nAnswer:",
        "{output}",
        0.05,
    ),
    (
        "{instruction}\n\nNow complete the following instance -\nInput: {input}\nOutput:",
        "{output}",
        0.05,
    ),
    ("Instruction:{instruction}\n\nInput: {input}\n\n", "{output}", 0.05),
    (
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:",
        "{output}",
        0.1,
    ),
)
WITHOUT_INPUT: Templates = (
    ("{instruction}\n\n", "{output}", 0.2),
    ("{instruction}\n", "{output}", 0.1),
    ("{instruction}", "\n{output}", 0.1),
    ("{instruction} Output:", "{output}", 0.05),
    ("{instruction}\nResponse:", "{output}", 0.05),
    ("{instruction}\n\nAnswer:", "{output}", 0.05),
    ("Task: {instruction}\n\n", "{output}", 0.05),
    ("Instruction: {instruction}\n", "{output}", 0.05),
    ("Instruction: {instruction}\nOutput:", "{output}", 0.05),
    ("You need to complete the following task:\n\n{instruction}\n\n", "{output}", 0.05),
    ("Can you help with this?\n\n{instruction}\n", "{output}", 0.05),
    ("Plase answer the following request: {instruction}\nAnswer:", "{output}", 0.05),
    (
        "Tell me how would you respond to the following request.\n{instruction}\n",
        "{output}",
        0.05,
    ),
    (
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{instruction}\n\n### Response:",
        "{output}",
        0.1,
    ),
)
BOUNDS = [
    list(accumulate(weight for _, _, weight in templates))
    for templates in (WITHOUT_INPUT, WITH_INPUT)
]


@dataclass(frozen=True, slots=True)
class Row:
    """A native record and where it begins, so that every complaint about it can say so.

    number: how many records of the conversion came before, those that could not be read included.
    """

    file: Path
    line: int
    number: int
    values: dict[str, Any]

    def text(self, job: Convert, field: str, *, null: bool = False) -> str:
        """The text of a field; `null` allows null, which reads as "".

        Halves of surrogate pairs, which no file or tokenizer can hold, become U+FFFD, counted.
        """
        value = self.values.get(field)
        if value is None and null and field in self.values:
            return ""
        return self._checked(job, field, value)

    def texts(self, job: Convert, field: str) -> list[str]:
        """The texts of a field that is a list of them, mended as by `text`."""
        values = self.values.get(field)
        if not isinstance(values, list):
            raise self.error("is missing or not a list", field)
        return [self._checked(job, f"{field}.{place}", one) for place, one in enumerate(values)]

    def _checked(self, job: Convert, field: str, value: Any) -> str:
        if not isinstance(value, str):
            raise self.error("is missing or not text", field)
        try:
            value.encode()
        except UnicodeEncodeError:
            job.counts["mended: half a character"] += 1
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value

    def error(self, message: str, field: str | None = None, hint: str | None = None) -> UserError:
        return UserError(message, file=self.file, line=self.line, field=field, hint=hint)


READERS: dict[Form, Any] = {"array": read_json_array, "lines": read_jsonl}


@dataclass(frozen=True)
class Rows:
    """The objects of JSON files, streamed; what cannot be read is dropped.

    counted: whether those of each file are counted as `of <its name>`.
    """

    job: Convert
    files: tuple[NativeFile, ...]
    counted: bool = False

    def __iter__(self) -> Iterator[Row]:
        if self.job.reading is None:
            for file in self.files:
                yield from self._of(file, None)

    def each(self, make: Callable[[Row], Iterable[Made]]) -> Iterator[Made]:
        """What `make` gives for each row, one that it cannot use (UserError) going whole.

        It is to look at nothing but the row, so that processes can share the work; what it counts
        is added up, and ids that it was given by `job.once` are unique.
        """
        job, reading = self.job, self.job.reading
        if job.apart:
            yield Apart("", self.files)
        elif reading is None:
            yield from job.each(self, make)
        else:
            file = next((file for file in self.files if file[0] == reading.part.path), None)
            job.counts, outside = job.within, job.counts
            for row in self._of(file, reading) if file else ():
                yield from job.made(row, make)
            job.counts = outside

    def _of(self, file: NativeFile, reading: Reading | None) -> Iterator[Row]:
        job, path = self.job, file[0]
        count, read = f"of {path.name}", READERS[form_of(file)]
        for line, value in read(path, job.bad, reading=reading):
            if not isinstance(value, dict):
                job.bad(UserError("the record is not a JSON object", file=path, line=line))
                continue
            if self.counted:
                job.counts[count] += 1
            yield Row(path, line, next(job.numbers), value)


def array_rows(job: Convert, *paths: Path, counted: bool = False) -> Rows:
    """The objects of JSON files that are one array each."""
    return Rows(job, tuple((path, "array") for path in paths), counted)


def jsonl_rows(job: Convert, *paths: Path, counted: bool = False) -> Rows:
    """The objects of JSON-lines files."""
    return Rows(job, tuple((path, "lines") for path in paths), counted)


def either_rows(job: Convert, *paths: Path) -> Rows:
    """The objects of files that are one JSON array or JSON lines, as their first characters say."""
    return Rows(job, tuple((path, "either") for path in paths))


def form_of(file: NativeFile) -> Form:
    """Whether a file is one JSON array or JSON lines."""
    path, form = file
    if form != "either":
        return form
    try:
        with open_bytes(path) as handle:
            head: bytes = handle.read1(1 << 16)
    except GZIP_BROKEN:
        head = b""  # the reader of lines tells
    first = head.removeprefix(BOM_UTF8).lstrip().partition(b"\n")[0].rstrip()
    if first.startswith(b"{") and first.endswith((b"{", b"[")):
        hint = "take its list of records out, or write an object a line"
        raise UserError("is one JSON object over many lines", file=path, hint=hint)
    return "array" if first.startswith(b"[") else "lines"


def rows_in(path: Path) -> int:
    """How many objects of a JSON-lines file can be read; counts and tells nothing."""
    unread: list[UserError] = []
    return sum(1 for _ in read_jsonl(path, unread.append))


def instruct(
    job: Convert, draw: float, instruction: str, context: str, output: str
) -> tuple[str, str]:
    """Prompt and completion by a template drawn by weight; all three texts are stripped.

    draw: from 0 up to 1, of which the template comes as `random.choices` has it. Rule `fixed`
    writes "Please" where the paper's template has a typing error.
    """
    instruction, context, output = instruction.strip(), context.strip(), output.strip()
    templates, bounds = WITH_INPUT if context else WITHOUT_INPUT, BOUNDS[bool(context)]
    prompt, completion, _ = templates[bisect(bounds, draw * bounds[-1], 0, len(bounds) - 1)]
    if job.rule == "fixed":
        prompt = prompt.replace("Plase", "Please")
    return prompt.format(instruction=instruction, input=context), completion.format(output=output)


def exchange(job: Convert, identity: str, prompt: str, completion: str) -> Made:
    """A conversation of one question and its answer, or why it is dropped.

    identity: `<source>_<number>`. Rule `fixed` strips both texts, as rendering does in any case, so
    that the file shows what is learned, and drops the pair if one of them is empty.
    """
    if job.rule == "fixed":
        prompt, completion = prompt.strip(), completion.strip()
        if not prompt or not completion:
            return Dropped("empty " + ("answer" if prompt else "question"))
    source = identity.rpartition("_")[0]
    return Conversation(
        identity, source, (Message("user", prompt), Message("assistant", completion))
    )


def dialogue(job: Convert, identity: str, source: str, messages: list[Message]) -> Made:
    """A conversation of any number of messages, or why it is dropped.

    Rule `fixed` makes it one that can be learned from: texts are stripped, empty system messages
    and what follows the last answer are cut (counted), and it is dropped if there is then no answer
    or an empty message. Rule `paper` drops only what has no message.
    """
    if job.rule == "fixed":
        messages = [replace(message, content=message.content.strip()) for message in messages]
        spoken = [one for one in messages if one.content or one.role != "system"]
        answered = list(dropwhile(lambda one: one.role != "assistant", reversed(spoken)))[::-1]
        if not answered:
            return Dropped("no answer")
        if not all(one.content for one in answered):
            return Dropped("an empty message")
        job.counts["cut: empty system message"] += len(messages) - len(spoken)
        job.counts["cut: message after the last answer"] += len(spoken) - len(answered)
        messages = answered
    return Conversation(identity, source, tuple(messages)) if messages else Dropped("no message")


def instructions(
    job: Convert,
    source: str,
    rows: Iterable[Row],
    fields: tuple[str, str, str] = ("instruction", "input", "output"),
) -> Iterator[Made]:
    """Conversations from rows of instruction, input and output, under the names in `fields`.

    Rule `fixed` drops rows whose instruction or output is empty. Ids count the rows read, so that a
    row has the same id by both rules.
    """

    def make(row: Row) -> Iterator[Made]:
        instruction = row.text(job, fields[0])
        context = row.text(job, fields[1], null=True)
        output = row.text(job, fields[2])
        prompt, completion = instruct(job, job.draws.at(row.number), instruction, context, output)
        if job.rule == "fixed" and not instruction.strip():
            yield Dropped("empty question")
        else:
            yield exchange(job, f"{source}_{row.number}", prompt, completion)

    return rows.each(make) if isinstance(rows, Rows) else job.each(rows, make)


def question_lines(prompt: str) -> str:
    """The prompt as the paper's code ended those of CoT and FLAN v2: with a line break, unless it
    has one or its last visible character is a colon."""
    if prompt.endswith("\n") or prompt.rstrip().endswith(":"):
        return prompt
    return prompt + "\n"
