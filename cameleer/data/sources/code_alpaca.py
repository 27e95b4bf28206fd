"""Code-Alpaca: 20,022 programming instructions and answers that Davinci-003 wrote.

Origin: sahil280114/codealpaca, `data/code_alpaca_20k.json`, and `data/code_alpaca_2k.json`, other
records of the same release and shape. Licence: CC BY-NC 4.0. A record holds `instruction`, `input`
(often empty) and `output`; each is put into one of the paper's templates.

Rule `paper` reads the 20K file alone. Rule `fixed` reads whichever of the two files are there, the
20K file first (counted by file: leave the 2K file out of the folder for the paper's records alone),
and drops records without an instruction or an output.
"""

from collections.abc import Iterator

from cameleer.data.encode import array_rows, instructions
from cameleer.data.source import Card, Convert, Download, Made

CARD = Card(
    title="Code-Alpaca",
    origin="https://github.com/sahil280114/codealpaca",
    licence="CC BY-NC 4.0",
    citation="Chaudhary (2023), Code Alpaca: An Instruction-following LLaMA model for code",
    native=("code_alpaca_20k.json", "code_alpaca_2k.json"),
    instances=20022,
    rounds=1.0,
    prompt_tokens=35.6,
    completion_tokens=67.8,
    downloads=(
        Download(
            "https://raw.githubusercontent.com/sahil280114/codealpaca/master/data/"
            "code_alpaca_20k.json",
            "code_alpaca_20k.json",
        ),
    ),
)


def convert(job: Convert) -> Iterator[Made]:
    """The records in the order of the files."""
    paths = [job.folder / name for name in CARD.native]
    used = paths[:1] if job.rule == "paper" else [path for path in paths if path.exists()]
    return instructions(job, "code_alpaca", array_rows(job, *used, counted=True))
