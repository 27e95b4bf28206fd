"""Unnatural Instructions: the 68,478 core instances that Davinci-002 wrote from a few examples.

Origin: orhonovich/unnatural-instructions, `data/core_data.zip`, which holds `core_data.jsonl`.
Licence: MIT. A record holds `instruction` and a list `instances` of `input`, `constraints` and
`output` (and `instruction_with_input`, which is not read). Every instance is put into one of the
paper's templates; constraints go below the instruction, unless they are empty, "none" or "none."
(in any case of letters).

Rule `fixed` also leaves out constraints of white space or with white space around "none", and drops
instances without an instruction or an output. Both count the records (`records`) and the instances
with constraints.
"""

from collections.abc import Iterator

from cameleer.core.errors import UserError
from cameleer.data.encode import Row, jsonl_rows
from cameleer.data.nested import instances
from cameleer.data.source import Card, Convert, Download, Made

CARD = Card(
    title="Unnatural Instructions",
    origin="https://github.com/orhonovich/unnatural-instructions",
    licence="MIT",
    citation="Honovich et al. (2022), Unnatural Instructions: Tuning Language Models with (Almost) "
    "No Human Labor, arXiv 2212.09689",
    native=("core_data.jsonl", "core_data.zip"),
    instances=68478,
    rounds=1.0,
    prompt_tokens=107.8,
    completion_tokens=23.6,
    downloads=(
        Download(
            "https://raw.githubusercontent.com/orhonovich/unnatural-instructions/main/data/"
            "core_data.zip",
            ".",
            member="*core_data.jsonl",
        ),
    ),
    derived_from=("super_ni",),
)


def convert(job: Convert) -> Iterator[Made]:
    """The instances in the file's order."""
    path, archive = (job.folder / name for name in CARD.native)
    if archive.exists() and not path.exists():
        raise UserError("is packed", file=archive, hint=f"unpack it: {path.name} is read")

    def texts(instance: Row, instruction: str) -> tuple[str, str, str]:
        constraints = instance.text(job, "constraints", null=True)
        asked = constraints.strip() if job.rule == "fixed" else constraints
        if asked and asked.lower() not in ("none", "none."):
            job.counts["with constraints"] += 1
            instruction = f"{instruction}\n{asked}"
        context = instance.text(job, "input", null=True)
        return instruction, context, instance.text(job, "output")

    def counted() -> Iterator[Row]:
        for row in jsonl_rows(job, path):
            job.counts["records"] += 1
            yield row

    return instances(job, "unnatural_instructions", counted(), texts)
