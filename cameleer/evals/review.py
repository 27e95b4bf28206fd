"""The models that read outputs: found before anything is asked, then run over what was answered.

What they say is logged output by output, so that a killed run loses a batch at the most.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cameleer.core.console import note, progress, warn
from cameleer.core.errors import UserError, unknown
from cameleer.core.files import JsonlLog
from cameleer.core.jsonl import read_jsonl
from cameleer.engines.reviewer import Kind, Reader, find_reviewer, open_reviewer
from cameleer.evals.benchmark import Ask, Benchmark, benchmark_named
from cameleer.results.records import Item

REVIEWS = "reviews.jsonl"
Place = tuple[str, int]
"""An output: its item's key, and which of the item's outputs it is."""
Reviews = dict[str, list[float]]
"""What each reviewer says of an item's outputs, by the reviewer's name."""


def reviewer_models(benchmark: Benchmark, given: Mapping[str, str]) -> dict[str, str]:
    """The model of each of a setting's reviewers: what the user gave, else the setting's own."""
    known = benchmark.setting.reviewers
    for name in given:
        if name not in known:
            raise unknown(f"reviewer of {benchmark.label}", name, known, "cameleer eval ls")
    return {name: given.get(name, one.model) for name, one in known.items()}


def reviewers_given(labels: Sequence[str], options: Sequence[str]) -> list[dict[str, str]]:
    """For each benchmark the models that options NAME=MODEL give to the reviewers that it has.

    Raises UserError for an option of another form, or whose reviewer none of the benchmarks has.
    """
    models = {}
    for option in options:
        name, _, model = option.partition("=")
        if not (name and model):
            raise UserError(f"'{option}' is not NAME=MODEL", field="--reviewer")
        models[name] = model
    known = [benchmark_named(label).setting.reviewers for label in labels]
    for name in models:
        if not any(name in one for one in known):
            names = {name for one in known for name in one}
            raise unknown("reviewer", name, names, "cameleer eval ls")
    return [{name: models[name] for name in one if name in models} for one in known]


def find_reviewers(benchmark: Benchmark, given: Mapping[str, str]) -> dict[str, tuple[Path, str]]:
    """Folder and fingerprint of each of a setting's reviewers.

    Raises UserError, with how to give another model, if one cannot be had.
    """
    found = {}
    for name, model in reviewer_models(benchmark, given).items():
        try:
            found[name] = _found(model, benchmark.setting.reviewers[name].kind)
        except UserError as error:
            hint = "; ".join(part for part in (error.hint, _how_to_give(name)) if part)
            raise UserError(
                f"the reviewer '{name}' of {benchmark.label} cannot be had: {error.message}",
                file=error.file,
                hint=hint,
            ) from None
    return found


def texts_to_read(
    benchmark: Benchmark, outputs: Mapping[str, tuple[Item, list[str]]], ask: Ask
) -> dict[str, dict[Place, str]]:
    """By reviewer, what it is given for each output; `outputs` are those of an item, by any key."""
    return {
        name: {
            (key, number): benchmark.module.review(item, output, name, ask)
            for key, (item, said) in outputs.items()
            for number, output in enumerate(said)
        }
        for name in benchmark.setting.reviewers
    }


def _how_to_give(name: str) -> str:
    return f"another one is given by --reviewer {name}=FOLDER"


@cache
def _found(model: str, kind: Kind) -> tuple[Path, str]:
    """A model's files are hashed once, however many cells of a study are read by it."""
    return find_reviewer(model, kind)


def review(
    benchmark: Benchmark,
    given: Mapping[str, str],
    texts: Mapping[str, Mapping[Place, str]],
    path: Path,
) -> tuple[dict[str, Reviews], dict[str, int]]:
    """What the reviewers say of outputs, by key, and how many texts each had to cut to read them.

    texts: see `texts_to_read`. path: the log, which may hold what an earlier call found; what is
    there is not read again, and a model that has nothing left to read is not loaded.
    """
    models, folders = reviewer_models(benchmark, given), find_reviewers(benchmark, given)
    said: dict[str, Reviews] = defaultdict(lambda: defaultdict(list))
    cut: dict[str, int] = {}
    log = JsonlLog(path)
    try:
        logged: dict[str, dict[Place, dict[str, Any]]] = defaultdict(dict)
        for _, row in read_jsonl(path):
            logged[row["reviewer"]][row["item"], row["output"]] = row
        for name, asked in texts.items():
            kind = benchmark.setting.reviewers[name].kind
            rows = logged[name]
            if any(place not in rows for place in asked):
                note(f"{len(asked)} outputs are read by '{name}', {models[name]}")
                _read(name, open_reviewer(folders[name][0], kind), asked, rows, log)
            for place in asked:
                said[place[0]][name].append(rows[place]["value"])
            cut[name] = sum(rows[place]["cut"] for place in asked)
            if cut[name]:
                warn(f"{name}: {cut[name]} of {len(asked)} texts were too long and read in part")
    finally:
        log.close()
    return {key: dict(reviews) for key, reviews in said.items()}, cut


def _read(
    name: str,
    reader: Reader,
    asked: Mapping[Place, str],
    rows: dict[Place, dict[str, Any]],
    log: JsonlLog,
) -> None:
    """Have one reviewer read what is not in `rows` yet; equal texts are read once."""
    places: dict[str, list[Place]] = defaultdict(list)
    for place, text in asked.items():
        places[text].append(place)
    with progress(name, len(asked), sum(place in rows for place in asked)) as ticker:
        for batch in reader.batches(list(places)):
            missing = [[place for place in places[text] if place not in rows] for text in batch]
            if not any(missing):
                continue
            # Read whole, so that every batch is made up as in an unbroken run.
            new: list[dict[str, Any]] = [
                {"item": item, "output": output, "reviewer": name, "value": value, "cut": cut}
                for (value, cut), left in zip(reader.read(batch), missing, strict=True)
                for item, output in left
            ]
            log.append(new)
            rows |= {(row["item"], row["output"]): row for row in new}
            ticker.advance(len(new))
