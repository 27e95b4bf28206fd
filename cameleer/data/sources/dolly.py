"""Dolly: 15,011 instructions and answers written by people at Databricks.

Origin: databricks/databricks-dolly-15k, `databricks-dolly-15k.jsonl`. Licence: CC BY-SA 3.0. A
record holds `instruction`, `context` (often empty), `response` and `category`; the first three are
put into one of the paper's templates. Rule `fixed` drops records without an instruction or a
response; `paper` keeps them.
"""

from collections.abc import Iterator

from cameleer.data.encode import instructions, jsonl_rows
from cameleer.data.source import Card, Convert, Made

CARD = Card(
    title="Dolly",
    origin="https://huggingface.co/datasets/databricks/databricks-dolly-15k",
    licence="CC BY-SA 3.0",
    citation="Conover et al. (2023), Free Dolly: Introducing the world's first truly open "
    "instruction-tuned LLM",
    native=("databricks-dolly-15k.jsonl",),
    instances=15011,
    rounds=1.0,
    prompt_tokens=118.1,
    completion_tokens=91.3,
)

FIELDS = ("instruction", "context", "response")


def convert(job: Convert) -> Iterator[Made]:
    """The records in the file's order."""
    return instructions(job, "dolly", jsonl_rows(job, job.folder / CARD.native[0]), FIELDS)
