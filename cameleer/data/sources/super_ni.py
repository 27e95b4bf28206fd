"""SuperNI: 96,913 instances of NLP tasks with instructions written by people.

Origin: allenai/natural-instructions, `tasks/*.json` and `splits/xlingual/train_tasks.txt`. Licence:
Apache-2.0; each task names its own `Instance License` besides. A task file holds `Definition` (its
first text is the instruction), `Positive Examples` and `Instances` of `id`, `input` and `output`,
a list of texts of which the first is taken: others are counted.

The tasks are those of the list, in its order, less those of MMLU, which is a benchmark of the
paper. Without the list of the cross-lingual track, the one of the English track
(`splits/default/train_tasks.txt`) is read; the count "tasks of …" says which it was. A task whose
file is not there or cannot be read is one bad record.

Rule `paper`: 80 instances of a task by random.sample (all, in the file's order, if it has no more):
60 with one of the paper's templates, then up to 20 with two of the positive examples before them,
drawn for each anew (all, if there are no more), in a form that is always the same.

Rule `fixed`: the same draws; but an example that is the instance asked gives its place to another
one, and pairs with an empty instruction or answer are dropped.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from cameleer.core.errors import UserError
from cameleer.core.json_array import read_json_array
from cameleer.core.jsonl import StrayTextError, open_bytes, read_lines
from cameleer.data.encode import Row, exchange, instruct
from cameleer.data.source import Card, Convert, Download, Dropped, Made

LISTS = ("splits/xlingual/train_tasks.txt", "splits/default/train_tasks.txt")
ARCHIVE = "https://github.com/allenai/natural-instructions/archive/refs/heads/master.zip"
INSIDE = "natural-instructions-master"

CARD = Card(
    title="SuperNI",
    origin="https://github.com/allenai/natural-instructions",
    licence="Apache-2.0",
    citation="Wang et al. (2022), Super-NaturalInstructions: Generalization via Declarative "
    "Instructions on 1600+ NLP Tasks, arXiv 2204.07705",
    native=(*LISTS, "tasks/task*.json"),
    instances=96913,
    rounds=1.0,
    prompt_tokens=291.1,
    completion_tokens=38.7,
    downloads=(
        Download(ARCHIVE, "tasks", member=f"{INSIDE}/tasks/task*.json"),
        Download(ARCHIVE, "splits/xlingual", member=f"{INSIDE}/{LISTS[0]}"),
    ),
)

ZERO_SHOT, FEW_SHOT, EXAMPLES = 60, 20, 2  # instances of a task, and examples before the latter
NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")


def convert(job: Convert) -> Iterator[Made]:
    """Each task's sample; `super_ni_<id of the instance>`."""
    name = next((name for name in LISTS if (job.folder / name).exists()), None)
    if name is None:
        hint = "it says which tasks are for training"
        raise UserError("no such file", file=job.folder / LISTS[0], hint=hint)
    seen: set[str] = set()
    return job.each(_listed(job, name), partial(_task, job, seen))


def _listed(job: Convert, name: str) -> Iterator[Row]:
    """The list's lines, those of MMLU's tasks left out."""
    for line, text in read_lines(job.folder / name, job.bad):
        if "_mmmlu_" in text:
            job.counts["left out: tasks of MMLU"] += 1
        else:
            job.counts[f"tasks of {name}"] += 1
            yield Row(job.folder / name, line, next(job.numbers), {"name": text.strip()})


def _task(job: Convert, seen: set[str], listed: Row) -> Iterator[Made]:
    """The sample of the task that a line of the list names."""
    name = listed.values["name"]
    if not NAME.fullmatch(name):
        raise listed.error(f"{name[:50]!r} is no name of a task")
    path = job.folder / "tasks" / f"{name}.json"
    values, instances = _read(job, path)
    task = Row(path, 1, listed.number, values)
    instruction = _first(job, task, "Definition")
    chosen: Sequence[int] = range(len(instances))
    if len(instances) > ZERO_SHOT + FEW_SHOT:
        chosen = job.random.sample(chosen, ZERO_SHOT + FEW_SHOT)
    others = set(range(len(instances))).difference(chosen)
    yield from (Dropped("not in the sample") for index in others if instances[index])
    places = ((place, instances[index]) for place, index in enumerate(chosen))
    yield from job.each(places, partial(_instance, job, seen, task, instruction))


def _instance(
    job: Convert, seen: set[str], task: Row, instruction: str, chosen: tuple[int, Row | None]
) -> Iterator[Made]:
    """The conversation of an instance at its place in the task's sample.

    One that could not be read draws as if it could, so that the others' draws stay what they are.
    """
    place, row = chosen
    examples = task.values.get("Positive Examples")
    draw, drawn = 0.0, list[int]()
    if place < ZERO_SHOT:
        draw = job.random.random()
    else:
        drawn = _drawn(job, examples)
    if row is None:
        return
    identity, asked = (row.text(job, key) for key in ("id", "input"))
    output = _first(job, row, "output")
    if place < ZERO_SHOT:
        prompt, completion = instruct(job, draw, instruction, asked, output)
    else:
        prompt = _few_shot(job, row, examples, drawn, instruction, asked)
        completion = output.strip()
    if identity in seen:
        raise row.error("is that of an earlier instance", "id")
    seen.add(identity)
    job.counts["left out: answers after an instance's first"] += len(row.values["output"]) - 1
    if job.rule == "fixed" and not instruction.strip():
        yield Dropped("empty question")
    else:
        made = exchange(job, "super_ni_", prompt, completion)
        yield made if isinstance(made, Dropped) else replace(made, id=f"super_ni_{identity}")


def _drawn(job: Convert, examples: object) -> list[int]:
    """The places of the examples of one few-shot prompt."""
    places = list(range(len(examples))) if isinstance(examples, list) else []
    return job.random.sample(places, EXAMPLES) if len(places) > EXAMPLES else places


def _few_shot(
    job: Convert, row: Row, examples: object, drawn: Sequence[int], instruction: str, asked: str
) -> str:
    """The paper's few-shot prompt: instruction, examples, what is asked."""
    if not isinstance(examples, list):
        raise row.error("is missing or not a list", "Positive Examples")
    if job.rule == "fixed":
        drawn = _others(job, examples, drawn, asked)
    prompt = f"{instruction.strip()}\n\n"
    for place in drawn:
        example, field = examples[place], f"Positive Examples.{place}"
        shown, answer = (_text(job, row, example, key, field) for key in ("input", "output"))
        prompt += f"Input:\n{shown.strip()}\nOutput:\n{answer.strip()}\n\n"
    return f"{prompt}Input:\n{asked.strip()}\nOutput:\n"


def _others(job: Convert, examples: list[Any], drawn: Sequence[int], asked: str) -> list[int]:
    """The drawn examples; the first others in place of those that are what is asked."""

    def tells(place: int) -> bool:
        example = examples[place]
        shown = example.get("input") if isinstance(example, dict) else None
        return isinstance(shown, str) and shown.strip() == asked.strip()

    kept = [place for place in drawn if not tells(place)]
    spare = [place for place in range(len(examples)) if place not in drawn and not tells(place)]
    job.counts["replaced: examples that are the instance asked"] += len(drawn) - len(kept)
    return kept + spare[: len(drawn) - len(kept)]


def _first(job: Convert, row: Row, field: str) -> str:
    """The first of a list of texts."""
    texts = row.texts(job, field)
    if not texts:
        raise row.error("is an empty list", field)
    return texts[0]


def _text(job: Convert, row: Row, values: object, key: str, field: str) -> str:
    """The text `key` of the object that stands at `field`."""
    if not isinstance(values, dict):
        raise row.error("is not an object", field)
    if not isinstance(values.get(key), str):
        raise row.error("is missing or not text", f"{field}.{key}")
    return replace(row, values=values).text(job, key)


def _read(job: Convert, path: Path) -> tuple[dict[str, Any], list[Row | None]]:
    """What a task says before its instances, and these: None for each broken one, dropped."""
    task, instances = _head(path), list[Row | None]()

    def bad(error: UserError) -> None:
        if isinstance(error, StrayTextError):
            job.pass_over(error)
        else:
            instances.append(None)
            job.drop(error)

    for line, value in read_json_array(path, bad, within="Instances"):
        if isinstance(value, dict):
            instances.append(Row(path, line, len(instances), value))
        else:
            bad(UserError("the instance is not a JSON object", file=path, line=line))
    return task, instances


def _head(path: Path) -> dict[str, Any]:
    """What stands before the instances of a task: its definition and examples."""
    with open_bytes(path) as handle:
        text = handle.read().decode("utf-8-sig", "surrogateescape")
    head = text.partition('"Instances"')[0]
    try:
        head.encode()
        task = json.loads(f'{head}"Instances": null}}')
    except UnicodeEncodeError:
        hint = "convert it to UTF-8"
        raise UserError("is not UTF-8 text", file=path, line=1, hint=hint) from None
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise UserError(f"broken JSON: {error}", file=path, line=line) from None
    if not isinstance(task, dict):
        raise UserError("the task is not a JSON object", file=path, line=1)
    return task
