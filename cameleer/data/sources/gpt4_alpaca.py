"""GPT4-Alpaca: the 52,002 Alpaca instructions with answers by GPT-4.

Origin: Instruction-Tuning-with-GPT-4/GPT-4-LLM, `data/alpaca_gpt4_data.json`; the Chinese file
beside it is not read, as in the paper. Licence: CC BY-NC 4.0. A record holds `instruction`, `input`
(often empty) and `output`; each is put into one of the paper's templates. Rule `fixed` drops
records without an instruction or an output; `paper` keeps them.
"""

from collections.abc import Iterator

from cameleer.data.encode import array_rows, instructions
from cameleer.data.source import Card, Convert, Download, Made

CARD = Card(
    title="GPT4-Alpaca",
    origin="https://github.com/Instruction-Tuning-with-GPT-4/GPT-4-LLM",
    licence="CC BY-NC 4.0",
    citation="Peng et al. (2023), Instruction Tuning with GPT-4, arXiv 2304.03277",
    native=("alpaca_gpt4_data.json",),
    instances=52002,
    rounds=1.0,
    prompt_tokens=28.0,
    completion_tokens=161.8,
    downloads=(
        Download(
            "https://raw.githubusercontent.com/Instruction-Tuning-with-GPT-4/GPT-4-LLM/main/data/"
            "alpaca_gpt4_data.json",
            "alpaca_gpt4_data.json",
        ),
    ),
    derived_from=("stanford_alpaca",),
)


def convert(job: Convert) -> Iterator[Made]:
    """The records in the file's order."""
    return instructions(job, "gpt4_alpaca", array_rows(job, job.folder / CARD.native[0]))
