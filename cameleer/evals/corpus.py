"""The texts of every test set, item by item, so that training data can be searched for them.

Read from the native files, each item under the key that results carry, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cameleer.core.errors import UserError, unknown
from cameleer.core.files import read_json
from cameleer.evals.benchmark import Ask, benchmark_named
from cameleer.evals.benchmarks import (
    alpaca_eval,
    bbh,
    codex_humaneval,
    gsm,
    human,
    mmlu,
    toxigen,
    truthfulqa,
    tydiqa,
)


class ItemText(NamedTuple):
    """What a test item says.

    item: its key; question: what is asked, without template or examples; answers: texts, any of
    which is a right answer (none where there is no such thing); context: what is shown beside the
    question, such as options or a passage.
    """

    item: str
    question: str
    answers: tuple[str, ...] = ()
    context: str = ""


def texts(name: str, data: Path | None) -> list[ItemText]:
    """All items of benchmark `name`, in the order of its files.

    data: folder of native files, or None for the default. Raises UserError with file and line for
    a row that is none, and for a benchmark that has no such texts.
    """
    if name not in READERS:
        raise unknown("test set", name, READERS, "cameleer data overlap --help")
    return list(READERS[name](benchmark_named(name).folder(data)))


def _mmlu(folder: Path) -> Iterator[ItemText]:
    for path in sorted((folder / "test").glob("*_test.csv")):
        subject = path.name.removesuffix("_test.csv")
        for number, (question, *options, right) in enumerate(mmlu.rows(path)):
            answer = options[mmlu.LETTERS.index(right)]
            yield ItemText(f"mmlu/{subject}/{number}", question, (answer,), "\n".join(options))


def _gsm(folder: Path) -> Iterator[ItemText]:
    for item in gsm.items(Ask(folder, "cot", grading=True)):
        yield ItemText(item.key, item.text.removeprefix("Question: "), (str(item.target),))


def _bbh(folder: Path) -> Iterator[ItemText]:
    for path in sorted((folder / "bbh").glob("*.json")):
        for number, (question, target) in enumerate(bbh.rows(path)):
            yield ItemText(f"bbh/{path.stem}/{number}", question, (_option(question, target),))


def _option(question: str, target: str) -> str:
    """The text of the option that a target such as "(B)" names; any other target as it is."""
    named = re.fullmatch(r"\([A-Z]\)", target.strip())
    found = named and re.search(rf"^{re.escape(named[0])} (.+)$", question, re.MULTILINE)
    return found[1] if found else target


def _tydiqa(folder: Path) -> Iterator[ItemText]:
    for row in tydiqa.rows(folder / tydiqa.DEV):
        yield ItemText(row.key, row.question, row.answers, row.passage)


def _humaneval(folder: Path) -> Iterator[ItemText]:
    path = folder / codex_humaneval.FILE
    for number, row in enumerate(codex_humaneval.rows(path)):
        key = row["task_id"].removeprefix("HumanEval/")
        solution = _text(row, "canonical_solution", path, number)
        yield ItemText(f"codex_humaneval/{key}", row["prompt"], (solution,))


def _truthfulqa(folder: Path) -> Iterator[ItemText]:
    for number, row in enumerate(truthfulqa.rows(folder / truthfulqa.NATIVE[0])):
        answers = [row["Best Answer"], *(one.strip() for one in row["Correct Answers"].split(";"))]
        yield ItemText(f"truthfulqa/{number}", row["Question"], tuple(dict.fromkeys(answers)))


def _toxigen(folder: Path) -> Iterator[ItemText]:
    for path in sorted(folder.glob(toxigen.NATIVE[0])):
        for number, text in enumerate(toxigen.prompts(path)):
            yield ItemText(f"toxigen/{toxigen.group_of(path)}/{number}", text)


def _alpaca_eval(folder: Path) -> Iterator[ItemText]:
    path = folder / alpaca_eval.NATIVE[0]
    rows = zip(alpaca_eval.items(Ask(folder, "greedy")), read_json(path), strict=True)
    for number, (item, row) in enumerate(rows):
        answer = _text(row, "output", path, number)
        yield ItemText(item.key, item.meta["instruction"], (answer,))


def _human(folder: Path) -> Iterator[ItemText]:
    for item in human.items(Ask(folder, "greedy")):
        yield ItemText(item.key, item.meta["instruction"])


def _text(row: Any, field: str, path: Path, record: int) -> str:
    """The text in a field of a record, which counts from 0."""
    value = row.get(field) if isinstance(row, dict) else None
    if not isinstance(value, str):
        raise UserError(f"is missing or not text in record {record}", file=path, field=field)
    return value


READERS: dict[str, Callable[[Path], Iterator[ItemText]]] = {
    "mmlu": _mmlu,
    "gsm": _gsm,
    "bbh": _bbh,
    "tydiqa": _tydiqa,
    "codex_humaneval": _humaneval,
    "truthfulqa": _truthfulqa,
    "toxigen": _toxigen,
    "alpaca_eval": _alpaca_eval,
    "human": _human,
}
"""How the files of each test set are read."""
