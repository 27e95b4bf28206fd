"""MMLU's prompts against strings written out by hand, and its scores."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from cameleer.core.errors import UserError
from cameleer.evals.benchmark import Ask
from cameleer.evals.benchmarks import mmlu
from cameleer.evals.runner import prompts
from cameleer.results.records import Item

SUBJECT = "desert_law"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for split, rows in (
        ("dev", [[f"Dev {n}?", "w", "x", "y", "z", "ABCDA"[n]] for n in range(5)]),
        ("test", [["How many, \nsay?", "1", "1,0", "None", "", "C"], ["Two?", *"abcd", "D"]]),
    ):
        (tmp_path / split).mkdir()
        with (tmp_path / split / f"{SUBJECT}_{split}.csv").open("w", newline="") as handle:
            csv.writer(handle).writerows(rows)
    return tmp_path


QUESTION = "How many, \nsay?\nA. 1\nB. 1,0\nC. None\nD. \nAnswer:"
HEAD = "The following are multiple choice questions (with answers) about{}desert law.\n\n"


def first(data: Path, setting: str, **how: object) -> str:
    return next(prompts(f"mmlu:{setting}", data, **how))["prompt"]  # type: ignore[arg-type]


def test_zero_shot_prompts(data: Path) -> None:
    assert first(data, "0-shot", form="plain") == HEAD.format(" ") + QUESTION
    assert first(data, "0-shot", form="plain", rule="paper") == HEAD.format("  ") + QUESTION
    chat = f"<|user|>\n{HEAD.format('  ')}{QUESTION}\n<|assistant|>\nThe answer is:"
    assert first(data, "0-shot", rule="paper") == chat


def shots(count: int) -> str:
    return "".join(
        f"Dev {n}?\nA. w\nB. x\nC. y\nD. z\nAnswer: {'ABCDA'[n]}\n\n" for n in range(count)
    )


def test_five_shot_prompt(data: Path) -> None:
    expected = HEAD.format("  ") + shots(5) + QUESTION
    assert first(data, "5-shot", form="plain", rule="paper") == expected


def test_shots_are_dropped_until_the_wrapped_prompt_fits(data: Path) -> None:
    wrapped = f"<|user|>\n{HEAD.format(' ')}{shots(3)}{QUESTION}\n<|assistant|>\nThe answer is:"
    limit = len(wrapped)

    def tokens(text: str) -> int:  # a tokenizer of which the prompt with three shots just fits
        return 2048 - limit + len(text)

    (data / "test" / f"{SUBJECT}_test.csv").write_text(
        '"How many, \nsay?",1,"1,0",None,,C\n', encoding="utf-8"
    )
    # Prompts shorter than the limit in bytes are never counted, so make this one long.
    long = "x" * 3000
    rows = (data / "test" / f"{SUBJECT}_test.csv").read_text().replace("How", long + "How")
    (data / "test" / f"{SUBJECT}_test.csv").write_text(rows)
    got = first(data, "5-shot", count_tokens=lambda text: tokens(text) - len(long))
    assert got == wrapped.replace("How many", f"{long}How many")


def test_no_shots_is_the_end_of_dropping(data: Path) -> None:
    ask = Ask(data, "5-shot", fits=lambda _text, _cue: False)
    item = mmlu.items(ask)[0]
    assert item.text == HEAD.format(" ") + QUESTION
    assert item.meta == {"dropped_shots": 5, "too_long": 1}


@pytest.mark.parametrize(
    ("rule", "output", "value"),
    [
        ("paper", " C", 1.0),
        ("paper", "C.", 0.0),
        ("fixed", " C", 1.0),
        ("fixed", "The answer is C.", 1.0),
        ("fixed", "The answer is B.", 0.0),
    ],
)
def test_grade(data: Path, rule: str, output: str, value: float) -> None:
    ask = Ask(data, "0-shot", rule)  # type: ignore[arg-type]
    item = Item("mmlu/desert_law/0", SUBJECT, "", "", "C")
    assert mmlu.grade(item, [output], ask).value == value


def test_no_answer_is_noted(data: Path) -> None:
    item = Item("mmlu/desert_law/0", SUBJECT, "", "", "C")
    assert mmlu.grade(item, ["I can't say"], Ask(data, "0-shot")).note == "no answer found"


def test_a_broken_row_is_named(data: Path) -> None:
    path = data / "test" / f"{SUBJECT}_test.csv"
    path.write_text("Q?,a,b,c,d,A\nQ?,a,b,c,A\n")
    with pytest.raises(UserError, match=f"{path}:2: .*four options"):
        mmlu.items(Ask(data, "0-shot"))


@pytest.mark.real_data
def test_real_count(real_data: Path) -> None:
    items = mmlu.items(Ask(real_data / "eval" / "mmlu", "5-shot"))
    assert len(items) == 14_042
    assert len({item.key for item in items}) == 14_042
    assert len({item.group for item in items}) == 57
    assert all(item.text.count("Answer:") >= 6 for item in items)
