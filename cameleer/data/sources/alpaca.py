"""Your own instructions in the shape of Alpaca, in files of any name: JSON lines or one JSON array.

Origin: you. Licence: yours. A record holds `instruction`, `input` (may be empty or missing) and
`output` (or `response`). Files may be packed with gzip. `id` and `source` (or `dataset`) are kept;
without them they are `<file>_<number>` and the file's name. An id that was there before gets a
number, counted.

Rule `paper` puts each record into one of the paper's 28 templates, drawn by weight, as it did with
Alpaca (which is the source `stanford_alpaca`). Rule `fixed` writes what you wrote: the instruction,
an empty line, the input; records with an empty instruction or output are dropped, counted.
"""

from collections.abc import Iterator

from cameleer.chat.conversation import Message
from cameleer.data.encode import Row, dialogue, instruct
from cameleer.data.own import NATIVE, own_name, own_rows
from cameleer.data.source import Card, Convert, Dropped, Made

CARD = Card(
    title="Your instructions (Alpaca's shape)",
    origin="",
    licence="",
    citation="",
    native=NATIVE,
    any_file=True,
)


def convert(job: Convert) -> Iterator[Made]:
    """The records by file name, in the files' order."""

    def make(row: Row) -> Iterator[Made]:
        identity, source = own_name(job, row)
        instruction = row.text(job, "instruction")
        context = row.text(job, "input", null=True) if "input" in row.values else ""
        answer = row.text(job, "output" if "output" in row.values else "response")
        question = f"{instruction.strip()}\n\n{context.strip()}"
        if job.rule == "paper":
            question, answer = instruct(job, job.draws.at(row.number), instruction, context, answer)
        elif not instruction.strip():
            yield Dropped("empty question")
            return
        messages = [Message("user", question), Message("assistant", answer)]
        yield dialogue(job, identity, source, messages)

    return own_rows(job, CARD).each(make)
