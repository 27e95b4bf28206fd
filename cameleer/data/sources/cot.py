"""CoT: 100,000 questions with worked-out answers, of the chain-of-thought part of FLAN v2.

Origin: google-research/FLAN, `flan/v2`. Licence: Apache-2.0. Native files: `cot_zsopt.jsonl` and
`cot_fsopt.jsonl`, the zero-shot and few-shot rows (`inputs`, `targets`) that FLAN's code writes;
and FLAN's `cot_data/*_train.tsv` (input, answer, explanation; line breaks as `\\n`).

Rule `paper`: both jsonl files; 50,000 rows of each by random.sample, in the sample's order; a line
break after prompts that need one. Of fewer rows all are taken, and what is missing is counted. (The
paper's code asked for the few-shot number where it decides on the zero-shot file; with 50,000 of
both that changes nothing.)

Rule `fixed`: whichever files are there; samples in the file's order; every row of the tsv files,
with the input as prompt and the explanation and "So the answer is …." as completion; rows with an
empty side dropped.
"""

from collections.abc import Iterator
from pathlib import Path

from cameleer.chat.conversation import Conversation
from cameleer.core.errors import UserError
from cameleer.data.encode import Row, exchange, jsonl_rows, question_lines
from cameleer.data.source import Card, Convert

CARD = Card(
    title="CoT",
    origin="https://github.com/google-research/FLAN/tree/main/flan/v2",
    licence="Apache-2.0",
    citation="Longpre et al. (2023), The Flan Collection, arXiv 2301.13688; Wei et al. (2022), "
    "Chain-of-Thought Prompting, arXiv 2201.11903",
    native=("cot_zsopt.jsonl", "cot_fsopt.jsonl", "*_train.tsv"),
    instances=100000,
    rounds=1.0,
    prompt_tokens=266.0,
    completion_tokens=53.2,
)

SAMPLE = 50_000  # rows of each jsonl file


def convert(job: Convert) -> Iterator[Conversation]:
    """The sampled rows, zero-shot before few-shot, then those of the tsv files by file name."""
    for number, (prompt, completion) in enumerate(_pairs(job)):
        if conversation := exchange(job, f"cot_{number}", prompt, completion):
            yield conversation


def _pairs(job: Convert) -> Iterator[tuple[str, str]]:
    for name in CARD.native[:2]:
        path = job.folder / name
        if job.rule == "paper" or path.exists():
            for row in _sample(job, path):
                yield question_lines(row.text(job, "inputs")), row.text(job, "targets")
    if job.rule == "fixed":
        for path in sorted(job.folder.glob(CARD.native[2])):
            yield from _tsv(job, path)


def _sample(job: Convert, path: Path) -> Iterator[Row]:
    """`SAMPLE` rows of a file, or all if it has no more. The file is read twice, to hold no more
    rows in memory than are taken."""
    total = sum(1 for _ in jsonl_rows(path))
    job.counts["read"] += total
    if total <= SAMPLE:
        if total < SAMPLE:
            job.counts[f"missing: rows of {path.name} to {SAMPLE}"] = SAMPLE - total
        yield from jsonl_rows(path)
        return
    job.counts["dropped: not in the sample"] += total - SAMPLE
    picked = job.random.sample(range(total), SAMPLE)
    wanted = set(picked)
    rows = {index: row for index, row in enumerate(jsonl_rows(path)) if index in wanted}
    for index in picked if job.rule == "paper" else sorted(picked):
        yield rows[index]


def _tsv(job: Convert, path: Path) -> Iterator[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="\n") as handle:
            for number, line in enumerate(handle, 1):
                cells = line.rstrip("\r\n").split("\t")
                if len(cells) != 3:
                    message = f"has {len(cells)} tab-separated fields, 3 are needed"
                    raise UserError(message, file=path, line=number)
                job.counts["read"] += 1
                question, answer, explanation = (cell.replace("\\n", "\n") for cell in cells)
                # An explanation alone would teach reasoning without a result: then drop the row.
                worked = f"{explanation.strip()}\nSo the answer is {answer.strip()}."
                yield question, worked if explanation.strip() and answer.strip() else ""
    except UnicodeDecodeError:
        raise UserError("is not UTF-8 text", file=path, hint="convert it to UTF-8") from None
