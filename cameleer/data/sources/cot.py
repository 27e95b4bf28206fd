"""CoT: 100,000 questions with worked-out answers, of the chain-of-thought part of FLAN v2.

Origin: google-research/FLAN, `flan/v2`. Licence: Apache-2.0. Native files: `cot_zsopt.jsonl` and
`cot_fsopt.jsonl`, the zero-shot and few-shot rows (`inputs`, `targets`) that FLAN's code writes,
which hamishivi/tulu_mix_store on the Hugging Face hub serves; and FLAN's `cot_data/*_train.tsv`
(input, answer, explanation; line breaks as `\\n`).

Rule `paper`: both jsonl files; 50,000 rows of each by random.sample, in the sample's order; a line
break after prompts that need one. Of fewer rows all are taken, and what is missing is counted. (The
paper's code asked for the few-shot number where it decides on the zero-shot file; with 50,000 of
both that changes nothing.)

Rule `fixed`: whichever files are there; samples in the file's order; every row of the tsv files,
with the input as prompt and the explanation and "So the answer is …." as completion; rows with an
empty side dropped.
"""

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from cameleer.core.jsonl import read_lines
from cameleer.data.encode import Row, exchange, jsonl_rows, question_lines, rows_in
from cameleer.data.source import Card, Convert, Download, Dropped, Made

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
    downloads=tuple(
        Download(f"hf://datasets/hamishivi/tulu_mix_store/{name}", name)
        for name in ("cot_zsopt.jsonl", "cot_fsopt.jsonl")
    ),
    derived_from=("flan_v2",),
)

SAMPLE = 50_000  # rows of each jsonl file


def convert(job: Convert) -> Iterator[Made]:
    """The sampled rows, zero-shot before few-shot, then those of the tsv files by file name."""
    taken = itertools.count()
    for name in CARD.native[:2]:
        path = job.folder / name
        if job.rule == "paper" or path.exists():
            yield from job.each(_sampled(job, path), partial(_row, job, taken))
    if job.rule == "fixed":
        for path in sorted(job.folder.glob(CARD.native[2])):
            yield from job.each(_lines(job, path), partial(_line, job))


def _row(job: Convert, taken: Iterator[int], row: Row | Dropped) -> Iterator[Made]:
    if isinstance(row, Dropped):
        yield row
        return
    # By the paper's rule an id is the place in the sample, as in its released files.
    number = next(taken) if job.rule == "paper" else row.number
    prompt, completion = question_lines(row.text(job, "inputs")), row.text(job, "targets")
    yield exchange(job, f"cot_{number}", prompt, completion)


def _sampled(job: Convert, path: Path) -> Iterator[Row | Dropped]:
    """`SAMPLE` rows of a file, or all if it has no more, and a Dropped for each other one."""
    total = rows_in(path)
    if total <= SAMPLE:
        if total < SAMPLE:
            job.counts[f"missing: rows of {path.name} to {SAMPLE}"] = SAMPLE - total
        yield from jsonl_rows(job, path)
        return
    picked = job.random.sample(range(total), SAMPLE)
    wanted, held = set(picked), {}
    for index, row in enumerate(jsonl_rows(job, path)):
        if index not in wanted:
            yield Dropped("not in the sample")
        elif job.rule == "paper":
            held[index] = row
        else:
            yield row
    yield from (held[index] for index in picked if held)


def _lines(job: Convert, path: Path) -> Iterator[Row]:
    for line, text in read_lines(path, job.bad):
        yield Row(path, line, next(job.numbers), {"cells": text.split("\t")})


def _line(job: Convert, row: Row) -> Iterator[Made]:
    cells = [cell.replace("\\n", "\n").strip() for cell in row.values["cells"]]
    if len(cells) != 3:
        raise row.error(f"has {len(cells)} tab-separated fields, 3 are needed")
    question, answer, explanation = cells
    # An explanation alone would teach reasoning without a result: then the row is dropped.
    worked = f"{explanation}\nSo the answer is {answer}." if explanation and answer else ""
    yield exchange(job, f"cot_{row.number}", question, worked)
