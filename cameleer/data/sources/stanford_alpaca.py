"""Alpaca: 52,002 instructions and answers that Davinci-003 wrote from 175 seed tasks.

Origin: tatsu-lab/stanford_alpaca, `alpaca_data.json`. Licence: CC BY-NC 4.0. A record holds
`instruction`, `input` (often empty) and `output`; each is put into one of the paper's templates.
Rule `fixed` drops records without an instruction or an output; `paper` keeps them.
"""

from collections.abc import Iterator

from cameleer.data.encode import array_rows, instructions
from cameleer.data.source import Card, Convert, Made

CARD = Card(
    title="Alpaca",
    origin="https://github.com/tatsu-lab/stanford_alpaca",
    licence="CC BY-NC 4.0",
    citation="Taori et al. (2023), Stanford Alpaca: An Instruction-following LLaMA model",
    native=("alpaca_data.json",),
    instances=52002,
    rounds=1.0,
    prompt_tokens=27.8,
    completion_tokens=64.6,
    derived_from=("self_instruct",),
)


def convert(job: Convert) -> Iterator[Made]:
    """The records in the file's order."""
    return instructions(job, "stanford_alpaca", array_rows(job, job.folder / CARD.native[0]))
