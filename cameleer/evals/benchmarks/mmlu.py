"""MMLU: multiple-choice questions of 57 subjects, from school to profession.

origin    https://people.eecs.berkeley.edu/~hendrycks/data.tar (hendrycks/test)
licence   MIT
citation  Hendrycks et al., Measuring Massive Multitask Language Understanding, ICLR 2021
size      14,042 test questions; 5 examples for each subject (dev)
score     share of all questions whose most probable letter is right (micro average)

The settings with 100 have a hundred questions of each subject, those that the paper asked GPT-4.
API models were given the plain prompt as a user's message and one token to choose a letter by.
Rule `paper`: as the paper's code, where "about" is followed by two spaces.
Rule `fixed`: one space. A letter is also read out of an answer in words ("The answer is (B).").
Both: the code drops examples until the prompt has at most 2,048 tokens; where even none is too long
it would never end, here the item is asked without examples and counted. With pandas 2 or later that
code reads ten options "None" as "nan"; the paper pins no version, so they stay "None".
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import numpy as np

from cameleer.core.csv_rows import read_csv
from cameleer.core.errors import UserError
from cameleer.evals.benchmark import Ask, Setting
from cameleer.evals.extract import NO_ANSWER, letter
from cameleer.results.records import Item, Score

T = TypeVar("T")
LETTERS = ("A", "B", "C", "D")
CHOICES = tuple(f" {name}" for name in LETTERS)
SAMPLED = 100
SETTINGS = {
    "0-shot": Setting("no examples", "accuracy", choices=CHOICES),
    "5-shot": Setting("five examples of the subject", "accuracy", choices=CHOICES),
}
SETTINGS |= {
    f"{name}-{SAMPLED}": one.subset(SAMPLED, " of each subject") for name, one in SETTINGS.items()
}
GROUPS = 57
NATIVE = ("test/*_test.csv", "dev/*_dev.csv")


def items(ask: Ask) -> list[Item]:
    """Every test question, subject by subject in alphabetical order."""
    found: list[Item] = []
    for path in sorted((ask.data / "test").glob("*_test.csv")):
        subject = path.name.removesuffix("_test.csv")
        shots = 0 if ask.grading else int(ask.setting.partition("-")[0])
        examples = _examples(ask.data / "dev" / f"{subject}_dev.csv", shots)
        head = _head(subject, ask.rule)
        asked = list(enumerate(rows(path)))
        for number, row in _sampled(asked, SETTINGS[ask.setting].drawn(ask)):
            text, cue, meta = _prompt(head, examples, row, ask)
            key = f"mmlu/{subject}/{number}"
            found.append(Item(key, subject, text, cue, row[-1], meta))
    return found


def _sampled(rows: list[T], size: int | None) -> list[T]:
    """All rows, or those that pandas' `sample(size, random_state=42)` draws, in its order."""
    if size is None or len(rows) <= size:
        return rows
    drawn = np.random.RandomState(42).choice(len(rows), size=size, replace=False)
    return [rows[index] for index in drawn]


def grade(item: Item, outputs: list[str], ask: Ask) -> Score:
    """Whether the letter chosen, or named in words, is the right one."""
    if ask.rule == "paper":
        said: list[str | None] = [output.strip() for output in outputs]
    else:
        said = [letter(output, LETTERS) for output in outputs]
    value = sum(one == item.target for one in said) / len(said)
    note = "" if any(one in LETTERS for one in said) else NO_ANSWER
    return Score(value, list(said), note=note)


def rows(path: Path) -> list[list[str]]:
    """Rows of question, four options and letter."""
    if not path.is_file():
        raise UserError("no such file", file=path, hint="MMLU has a folder dev beside test")
    rows = []
    for line, row in read_csv(path):
        if len(row) != len(LETTERS) + 2 or row[-1] not in LETTERS:
            wanted = "is not a question, four options and a letter"
            raise UserError(wanted, file=path, line=line)
        rows.append(row)
    if not rows:
        raise UserError("holds no questions", file=path, hint="fetch it again")
    return rows


def _examples(path: Path, shots: int) -> list[str]:
    shown = rows(path)[:shots] if shots else []
    if len(shown) < shots:
        wanted = f"holds {len(shown)} examples, and {shots} are shown"
        raise UserError(wanted, file=path, hint="fetch it again, or ask 0-shot")
    return [f"{_question(row)} {row[-1]}\n\n" for row in shown]


def _head(subject: str, rule: str) -> str:
    space = "  " if rule == "paper" else " "
    name = subject.replace("_", " ")
    return f"The following are multiple choice questions (with answers) about{space}{name}.\n\n"


def _question(row: list[str]) -> str:
    options = zip(LETTERS, row[1:-1], strict=True)
    return row[0] + "".join(f"\n{name}. {option}" for name, option in options) + "\nAnswer:"


def _prompt(
    head: str, examples: list[str], row: list[str], ask: Ask
) -> tuple[str, str, dict[str, int]]:
    """The text with as many examples as fit, the cue, and what was dropped for it."""
    cue = "The answer is:" if ask.format == "chat" else ""
    question = _question(row)
    for shots in range(len(examples), -1, -1):
        text = head + "".join(examples[:shots]) + question
        if ask.fits(text, cue):
            dropped = len(examples) - shots
            return text, cue, {"dropped_shots": dropped} if dropped else {}
    return text, cue, {"dropped_shots": len(examples), "too_long": 1}
