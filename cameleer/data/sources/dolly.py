"""Dolly: 15,011 instructions and answers written by people at Databricks.

Origin: databricks/databricks-dolly-15k, `databricks-dolly-15k.jsonl`. Licence: CC BY-SA 3.0. A
record holds `instruction`, `context` (often empty), `response` and `category`; the first three are
put into one of the paper's templates. Rule `fixed` drops records without an instruction or a
response; `paper` keeps them.
"""

from collections.abc import Iterator

from cameleer.data.encode import instructions, jsonl_rows
from cameleer.data.source import Card, Convert, Download, Made

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
    downloads=(
        Download(
            "hf://datasets/databricks/databricks-dolly-15k@bdd27f4d94b9c1f951818a7da7fd7aeea5dbff1a"
            "/databricks-dolly-15k.jsonl",
            "databricks-dolly-15k.jsonl",
            bytes=13085339,
            sha256="2df9083338b4abd6bceb5635764dab5d833b393b55759dffb0959b6fcbf794ec",
        ),
    ),
)

FIELDS = ("instruction", "context", "response")


def convert(job: Convert) -> Iterator[Made]:
    """The records in the file's order."""
    return instructions(job, "dolly", jsonl_rows(job, job.folder / CARD.native[0]), FIELDS)
