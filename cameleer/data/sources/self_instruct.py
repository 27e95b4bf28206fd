"""Self-Instruct: 82,439 instances that the plain GPT-3 wrote from 175 seed tasks.

Origin: yizhongw/self-instruct, `data/gpt3_generations/batch_221203/all_instances_82K.jsonl`, and
`data/seed_tasks.jsonl`, the seed tasks by people. Licence: Apache-2.0. A record of the first holds
`instruction`, `input` (often empty) and `output`; a seed task holds `instruction` and a list
`instances` of `input` and `output`. Each instance is put into one of the paper's templates.

Rule `paper` reads the 82K file alone. Rule `fixed` reads it too, or the seed tasks where only they
are there (which is said: they are another, small data set), and drops instances without an
instruction or an output. Both count by file.
"""

from collections.abc import Iterator

from cameleer.core.errors import UserError
from cameleer.data.encode import instructions, jsonl_rows
from cameleer.data.nested import instances
from cameleer.data.source import Card, Convert, Download, Made

REPOSITORY = "https://raw.githubusercontent.com/yizhongw/self-instruct/main/data"

CARD = Card(
    title="Self-instruct",
    origin="https://github.com/yizhongw/self-instruct",
    licence="Apache-2.0",
    citation="Wang et al. (2022), Self-Instruct: Aligning Language Models with Self-Generated "
    "Instructions, arXiv 2212.10560",
    native=("all_instances_82K.jsonl", "seed_tasks.jsonl"),
    instances=82439,
    rounds=1.0,
    prompt_tokens=41.5,
    completion_tokens=29.3,
    downloads=(
        Download(
            f"{REPOSITORY}/gpt3_generations/batch_221203/all_instances_82K.jsonl",
            "all_instances_82K.jsonl",
        ),
    ),
)


def convert(job: Convert) -> Iterator[Made]:
    """The instances in the file's order."""
    generated, seeds = (job.folder / name for name in CARD.native)
    if job.rule == "paper" and not generated.exists():
        fetch = "`cameleer data fetch self_instruct` brings it; the seed tasks are another data set"
        raise UserError("no such file", file=generated, hint=fetch)
    if generated.exists():
        return instructions(job, "self_instruct", jsonl_rows(job, generated, counted=True))
    job.say(f"{generated.name} is not here: the seed tasks are read, which are not this data set")
    return instances(job, "self_instruct", jsonl_rows(job, seeds, counted=True))
