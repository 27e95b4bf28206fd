"""Flan V2: 100,000 rows of the FLAN v2 collection, which holds some 1,800 tasks as prompts.

Origin: google-research/FLAN, `flan/v2`; the paper's sample is served by hamishivi/tulu_mix_store on
the Hugging Face hub. Licence: Apache-2.0. A row holds `inputs` and `targets`. Native files, of
which the first that is there is read:

- the sample itself, `flan_v2_resampled_100k.jsonl`, under either of its names; or the 50,000 rows
  that were drawn for the second Tülu mixture;
- the collection's submixes, `<submix>/<submix>.jsonl` or `.jsonl.gz`, of which the sample is drawn
  here, in the paper's proportions: so many lines of each by random.sample, in the file's order. Of
  fewer lines all are taken, and what is missing is counted. SirNeural/flan_v2 on the hub serves
  them as `flan_zs_opt_train.jsonl.gz` and so on: over 200 GB, the few-shot FLAN one in parts to be
  joined, the few-shot T0 one with options not at all.

Rule `paper`: every row, with a line break after prompts that need one. Rule `fixed`: stripped, and
rows with an empty side dropped. `flan_v2_<n>` is the n-th row read, from 0, by both.

One row in twenty is of the CoT submix and one in five of Super-NaturalInstructions: mixed with
those sources, or tested on their test tasks, look for overlap.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from cameleer.core.errors import UserError
from cameleer.core.jsonl import StrayTextError, read_jsonl
from cameleer.data.encode import Row, exchange, jsonl_rows, question_lines
from cameleer.data.source import Card, Convert, Download, Dropped, Made

SAMPLES = (
    "flan_v2_resampled_100k.jsonl",
    "tulu_v1_resampled_flan_100k.jsonl",
    "flan_v2_resampled_50k.jsonl",
    "tulu_v2_resampled_flan_50k.jsonl",
)
SIZE = 100_000
PORTIONS = {  # of the sample, by submix: those of FLAN's own run_example.py
    "flan_zsopt": 0.1,
    "flan_fsopt": 0.1,
    "flan_zsnoopt": 0.1,
    "flan_fsnoopt": 0.1,
    "t0_zsopt": 0.08,
    "t0_fsopt": 0.08,
    "t0_zsnoopt": 0.08,
    "t0_fsnoopt": 0.08,
    "niv2_zsopt": 0.1,
    "niv2_fsopt": 0.1,
    "cot_zsopt": 0.025,
    "cot_fsopt": 0.025,
    "dialog_zsopt": 0.015,
    "dialog_fsopt": 0.015,
}

CARD = Card(
    title="Flan V2",
    origin="https://github.com/google-research/FLAN/tree/main/flan/v2",
    licence="Apache-2.0",
    citation="Longpre et al. (2023), The Flan Collection: Designing Data and Methods for Effective "
    "Instruction Tuning, arXiv 2301.13688",
    native=(*SAMPLES, "*_?s*opt/*_?s*opt.jsonl", "*_?s*opt/*_?s*opt.jsonl.gz"),
    instances=100000,
    rounds=1.0,
    prompt_tokens=355.7,
    completion_tokens=31.2,
    downloads=(Download(f"hf://datasets/hamishivi/tulu_mix_store/{SAMPLES[0]}", SAMPLES[0]),),
    derived_from=("super_ni",),
)


def convert(job: Convert) -> Iterator[Made]:
    """The rows of the sample, or of the submixes one after the other."""
    sample = next((job.folder / name for name in SAMPLES if (job.folder / name).exists()), None)
    if sample:
        return jsonl_rows(job, sample).each(partial(_row, job))
    return job.each(_drawn(job), partial(_row, job))


def _row(job: Convert, row: Row | Dropped) -> Iterator[Made]:
    if isinstance(row, Dropped):
        yield row
    else:
        prompt, completion = question_lines(row.text(job, "inputs")), row.text(job, "targets")
        yield exchange(job, f"flan_v2_{row.number}", prompt, completion)


def _drawn(job: Convert) -> Iterator[Row | Dropped]:
    """The paper's share of each submix, and a Dropped for each other row."""
    before, files = 0, []
    for submix, portion in PORTIONS.items():  # all draws come first: bad records draw as well
        size, path = int(portion * SIZE), _file(job.folder / submix)
        total = _records(path) if path else 0
        if total < size:
            job.counts[f"missing: rows of {submix} to {size}"] = size - total
        picked = job.random.sample(range(total), size) if total > size else range(total)
        if path:
            files.append((submix, path, {before + place for place in picked}))
        before += total
    for submix, path, numbers in files:
        for row in jsonl_rows(job, path):
            job.counts[f"of {submix}"] += row.number in numbers
            yield row if row.number in numbers else Dropped("not in the sample")


def _records(path: Path) -> int:
    """How many records a file holds, those included that cannot be read."""
    unread: list[UserError] = []
    read = sum(1 for _ in read_jsonl(path, unread.append))
    return read + sum(not isinstance(error, StrayTextError) for error in unread)


def _file(folder: Path) -> Path | None:
    """A submix's file, packed or not, if it is there."""
    paths = (folder / f"{folder.name}.jsonl{ending}" for ending in ("", ".gz"))
    return next((path for path in paths if path.exists()), None)
