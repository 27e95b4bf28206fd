"""MMLU's prompts against strings written out by hand, and its scores."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from cameleer.core.errors import UserError
from cameleer.evals.asking import prompts
from cameleer.evals.benchmark import Ask
from cameleer.evals.benchmarks import mmlu
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


def restated(folder: Path, shots: int, chat: bool, tokens: Callable[[str], int]) -> list[str]:
    """The paper's prompts by its algorithm, subject by subject, with examples dropped to fit."""
    found = []
    for path in sorted((folder / "test").iterdir()):
        subject = path.name.split("_test.csv")[0]
        with (folder / "dev" / f"{subject}_dev.csv").open(newline="") as handle:
            dev = list(csv.reader(handle))[:shots]
        with path.open(newline="") as handle:
            test = list(csv.reader(handle))
        for row in test:
            k = shots
            while True:
                prompt = "The following are multiple choice questions (with answers) about "
                prompt += "".join(" " + word for word in subject.split("_")) + ".\n\n"
                for example in dev[:k]:
                    prompt += example[0]
                    for letter, option in zip("ABCD", example[1:5], strict=True):
                        prompt += f"\n{letter}. {option}"
                    prompt += f"\nAnswer: {example[5]}\n\n"
                prompt += row[0]
                for letter, option in zip("ABCD", row[1:5], strict=True):
                    prompt += f"\n{letter}. {option}"
                prompt += "\nAnswer:"
                if chat:
                    prompt = f"<|user|>\n{prompt}\n<|assistant|>\nThe answer is:"
                if tokens(prompt) <= 2048 or k == 0:
                    break
                k -= 1
            found.append(prompt)
    return found


@pytest.mark.real_data
@pytest.mark.parametrize("shots", [0, 5])
@pytest.mark.parametrize("form", ["chat", "plain"])
def test_all_real_prompts_are_those_of_the_paper(real_data: Path, shots: int, form: str) -> None:
    folder = real_data / "eval" / "mmlu"

    def tokens(text: str) -> int:  # about as a tokenizer, so that some prompts lose examples
        return len(text) // 3

    expected = restated(folder, shots, form == "chat", tokens)
    label, how = f"mmlu:{shots}-shot", {"rule": "paper", "form": form, "count_tokens": tokens}
    got = [row["prompt"] for row in prompts(label, folder, **how)]  # type: ignore[arg-type]
    assert len(got) == 14_042
    assert got == expected
    whole = sum(prompt.count("\nAnswer:") == shots + 1 for prompt in got)
    assert (whole < len(got)) == (shots > 0)  # some did lose examples


@pytest.mark.real_data
def test_the_hundred_of_each_subject_are_those_that_gpt4_was_asked(real_data: Path) -> None:
    """The numbers are what pandas 3.1.1 drew with `sample(100, random_state=42)`."""
    folder = real_data / "eval" / "mmlu"
    rows: dict[str, list[int]] = {}
    for item in mmlu.items(Ask(folder, "0-shot-100", "paper")):
        rows.setdefault(item.group, []).append(int(item.key.rpartition("/")[2]))
    assert {len(drawn) for drawn in rows.values()} == {100}
    assert len(rows) == 57
    law = rows["professional_law"]  # 1,534 questions
    assert law[:8] == [1364, 76, 316, 1089, 1356, 923, 757, 1504]
    assert sum(law) == 77_341
    astronomy = rows["astronomy"]  # 152 questions
    assert astronomy[:8] == [68, 147, 96, 82, 135, 139, 26, 12]
    assert len(set(astronomy)) == 100
    assert rows["abstract_algebra"] == list(range(100))  # all that there are
    assert len(mmlu.items(Ask(folder, "0-shot-100", grading=True))) == 14_042
