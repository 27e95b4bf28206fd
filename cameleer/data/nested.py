"""Records that hold one instruction and a list of instances, each an input and its output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from cameleer.core.errors import UserError
from cameleer.data.encode import Row, exchange, instruct
from cameleer.data.source import Convert, Dropped, Made

Texts = Callable[[Row, str], tuple[str, str, str]]
"""Instruction, input and output of an instance, from its values and its record's instruction."""


def instances(
    job: Convert, source: str, rows: Iterable[Row], texts: Texts | None = None
) -> Iterator[Made]:
    """Conversations from every instance of every row; a row with one that is none is a bad record.

    The first instance of record 3 is `<source>_3`, the next `<source>_3.1`, by both rules. Rule
    `fixed` drops instances whose instruction or output is empty.
    """

    extra = 0  # draws that were more than one for each record

    def plain(instance: Row, instruction: str) -> tuple[str, str, str]:
        context = instance.text(job, "input", null=True)
        return instruction, context, instance.text(job, "output")

    def make(row: Row) -> Iterator[Made]:
        shared, inside = row.text(job, "instruction"), row.values.get("instances")
        if not isinstance(inside, list):
            raise row.error("is missing or not a list", "instances")
        read = [
            _at(row, place, values, texts or plain, shared) for place, values in enumerate(inside)
        ]
        if not read:
            yield Dropped("no instance")
        nonlocal extra
        drawn, extra = row.number + extra, extra + max(0, len(read) - 1)
        for place, (instruction, context, output) in enumerate(read):
            draw = job.draws.at(drawn + place)
            prompt, completion = instruct(job, draw, instruction, context, output)
            if job.rule == "fixed" and not instruction.strip():
                yield Dropped("empty question")
            else:
                number = f"{row.number}.{place}" if place else f"{row.number}"
                yield exchange(job, f"{source}_{number}", prompt, completion)

    return job.each(rows, make)


def _at(row: Row, place: int, values: Any, texts: Texts, shared: str) -> tuple[str, str, str]:
    """What `texts` makes of one instance; what is wrong with it is told with its place."""
    field = f"instances.{place}"
    if not isinstance(values, dict):
        raise row.error("is not an object", field)
    try:
        return texts(replace(row, values=values), shared)
    except UserError as error:
        raise row.error(error.message, f"{field}.{error.field}", error.hint) from None
