"""Alpaca: 52,002 instructions and answers that Davinci-003 wrote from 175 seed tasks.

Origin: tatsu-lab/stanford_alpaca, `alpaca_data.json`. Licence: CC BY-NC 4.0. A record holds
`instruction`, `input` (often empty) and `output`; each is put into one of the paper's templates.
Rule `fixed` drops records without an instruction or an output; `paper` keeps them.
"""

from collections.abc import Iterator

from cameleer.data.encode import array_rows, instructions
from cameleer.data.source import Card, Convert, Download, Made

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
    downloads=(
        Download(
            "https://raw.githubusercontent.com/tatsu-lab/stanford_alpaca/"
            "761dc5bfbdeeffa89b8bff5d038781a4055f796a/alpaca_data.json",
            "alpaca_data.json",
            sha256="2eddafc6b977608d778aaab8dfc7e50e547b3af9826dfb9e909d9fc362e4a419",
        ),
    ),
    derived_from=("self_instruct",),
)


def convert(job: Convert) -> Iterator[Made]:
    """The records in the file's order."""
    return instructions(job, "stanford_alpaca", array_rows(job, job.folder / CARD.native[0]))
