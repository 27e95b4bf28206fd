"""GSM's prompts against strings written out by hand, its sample, and how answers are compared."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from cameleer.core.errors import UserError
from cameleer.evals.asking import prompts
from cameleer.evals.benchmark import Ask
from cameleer.evals.benchmarks import gsm
from cameleer.results.records import Item, Rule

SAMPLE = random.Random(42).sample(range(300), 200)
FIRST = SAMPLE[0]
SHOWN = [("Q one?", "1 + 1 = 2. So the answer is 2.", "2"), ("Q two?", "So the answer is 7.", "7")]


def write(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [{"question": f" How many {n}? ", "answer": f"so.\n#### 1,{n:03}"} for n in range(300)]
    write(tmp_path / "test.jsonl", rows)
    fields = ("question", "cot_answer", "short_answer")
    write(tmp_path / "exemplars.jsonl", [dict(zip(fields, row, strict=True)) for row in SHOWN])
    return tmp_path


COT = (
    "Answer the following questions.\n\n"
    "Question: Q one?\nAnswer: 1 + 1 = 2. So the answer is 2.\n\n"
    "Question: Q two?\nAnswer: So the answer is 7.\n\n"
)
DIRECT = "Answer the following questions.\n\n{0}: Q one?\nAnswer: 2\n\n{0}: Q two?\nAnswer: 7\n\n"


def test_prompts(data: Path) -> None:
    def first(label: str, rule: Rule, form: str) -> str:
        found = {row["item"]: row["prompt"] for row in prompts(label, data, rule, form)}  # type: ignore[arg-type]
        return found[f"gsm/{FIRST}"]

    question = f"Question: How many {FIRST}?"
    assert first("gsm:cot", "fixed", "plain") == f"{COT}{question}\nAnswer:"
    chat = f"<|user|>\n{COT}{question}\n<|assistant|>\nAnswer:"
    assert first("gsm:cot", "fixed", "chat") == chat
    assert first("gsm", "paper", "chat") == chat
    direct = DIRECT.format("Question") + f"{question}\nAnswer:"
    assert first("gsm:direct", "fixed", "plain") == direct
    typo = DIRECT.format("Quesion") + f"{question}\nAnswer:"
    assert first("gsm:direct", "paper", "plain") == typo


def test_the_paper_samples_two_hundred(data: Path) -> None:
    keys = [item.key for item in gsm.items(Ask(data, "cot", "paper"))]
    assert keys == [f"gsm/{index}" for index in SAMPLE]
    assert len(gsm.items(Ask(data, "cot", "fixed"))) == 300
    assert len(gsm.items(Ask(data, "cot", "paper", grading=True))) == 300


def value(rule: Rule, target: str, output: str) -> float:
    item = Item("gsm/0", "", "", "Answer:", target)
    return gsm.grade(item, [output], Ask(Path(), "cot", rule)).value


@pytest.mark.parametrize(
    ("target", "output", "paper", "fixed"),
    [
        ("18", "So the answer is 18.", 1, 1),
        ("18", "It is 18.0", 0, 1),
        ("180", "It is 18.0", 1, 0),
        ("-3", "It is -3", 0, 1),
        ("3", "It is -3", 1, 0),
        ("1234", "$1,234.", 1, 1),
        ("10", "One of 5,10", 0, 1),
        ("5", "five", 0, 0),
        ("5", "So 5.\n \n Question: And 6?\nAnswer: 6", 0, 1),
        ("6", "5\nA Question: And 6", 1, 1),
    ],
)
def test_grade(target: str, output: str, paper: int, fixed: int) -> None:
    # "-3" loses its sign on one side and, in comparing, on the other too.
    paper = 1 if target == "-3" else paper
    assert value("paper", target, output) == paper
    assert value("fixed", target, output) == fixed


def test_samples_are_averaged() -> None:
    item = Item("gsm/0", "", "", "Answer:", "2")
    score = gsm.grade(item, ["2", "3", "no", "2"], Ask(Path(), "cot"))
    assert (score.value, score.extracted, score.note) == (0.5, ["2", "3", None, "2"], "")
    assert gsm.grade(item, ["no"], Ask(Path(), "cot")).note == "no answer found"


@pytest.mark.parametrize(
    ("row", "field"),
    [({"answer": "#### 1"}, "question"), ({"question": "Q", "answer": "1"}, "answer")],
)
def test_a_broken_row_is_named(data: Path, row: dict[str, str], field: str) -> None:
    write(data / "test.jsonl", [{"question": "Q", "answer": "#### 1"}, row])
    with pytest.raises(UserError, match=rf"test.jsonl:2: field '{field}'"):
        gsm.items(Ask(data, "cot"))


def test_without_examples_the_error_says_where_to_put_them(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "exemplars.jsonl").unlink()
    monkeypatch.setenv("CAMELEER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(UserError, match=r"examples of GSM are needed.*exemplars\.jsonl"):
        gsm.items(Ask(data, "cot"))
    assert gsm.items(Ask(data, "cot", grading=True))


@pytest.mark.real_data
def test_real_sample_and_count(real_data: Path) -> None:
    folder = real_data / "eval" / "gsm"
    assert len(gsm.items(Ask(folder, "cot", grading=True))) == 1319
    sampled = [item.key for item in gsm.items(Ask(folder, "cot", "paper"))]
    assert len(sampled) == 200
    first = (1309, 228, 51, 563, 501, 457, 285, 209, 1116, 178)
    assert sampled[:10] == [f"gsm/{index}" for index in first]


@pytest.mark.real_data
def test_real_examples_are_the_eight(real_data: Path) -> None:
    shown = gsm.exemplars(real_data / "eval" / "gsm")
    assert [row["short_answer"] for row in shown] == ["6", "5", "39", "8", "9", "29", "33", "8"]
    for row in shown:
        assert row["cot_answer"].endswith(f"So the answer is {row['short_answer']}.")
        assert "The answer" not in row["cot_answer"]


@pytest.mark.real_data
def test_real_gold_answers_grade_themselves(real_data: Path) -> None:
    folder = real_data / "eval" / "gsm"
    gold = [json.loads(line)["answer"] for line in (folder / "test.jsonl").open()]
    signs = 0
    for item, answer in zip(gsm.items(Ask(folder, "cot", grading=True)), gold, strict=True):
        for rule in ("paper", "fixed"):
            assert value(rule, item.target, answer) == 1, answer
        assert item.target == re.sub(r"(?<=\d),(?=\d)", "", answer.split("#### ")[1])
        if item.target.startswith("-"):
            signs += 1
            wrong = answer.replace("#### -", "#### ")
            assert (value("paper", item.target, wrong), value("fixed", item.target, wrong)) == (
                1,
                0,
            )
        decimal = f"{item.target}.0"
        assert (value("paper", item.target, decimal), value("fixed", item.target, decimal)) == (
            0,
            1,
        )
    assert signs == 2


@pytest.mark.real_data
@pytest.mark.parametrize("setting", ["cot", "direct"])
@pytest.mark.parametrize("form", ["chat", "plain"])
def test_all_real_prompts_are_those_of_the_paper(real_data: Path, setting: str, form: str) -> None:
    """The paper's 200 restated by its algorithm; the examples are those that the package keeps."""
    folder = real_data / "eval" / "gsm"
    asked = [json.loads(line)["question"] for line in (folder / "test.jsonl").open()]
    random.seed(42)
    sampled = random.sample(asked, 200)
    shown = []
    for row in gsm.exemplars(folder):
        if setting == "direct":
            shown.append("Quesion: " + row["question"] + "\nAnswer: " + row["short_answer"])
        else:
            shown.append("Question: " + row["question"] + "\nAnswer: " + row["cot_answer"])
    prefix = "Answer the following questions.\n\n" + "\n\n".join(shown) + "\n\n"
    expected = [f"{prefix}Question: {question.strip()}" for question in sampled]
    if form == "chat":
        expected = [f"<|user|>\n{text}\n<|assistant|>\nAnswer:" for text in expected]
    else:
        expected = [f"{text}\nAnswer:" for text in expected]
    got = [row["prompt"] for row in prompts(f"gsm:{setting}", folder, "paper", form)]  # type: ignore[arg-type]
    assert got == expected
    assert len(got) == 200
