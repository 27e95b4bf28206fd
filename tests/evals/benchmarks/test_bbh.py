"""BBH's prompts against the paper's algorithm told again, its sample, and how answers are read."""

from __future__ import annotations

import json
import random
import re
import string
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.core.errors import UserError
from cameleer.core.files import read_json
from cameleer.engines.engine import Request
from cameleer.evals.asking import EvalSpec, prompts
from cameleer.evals.benchmark import Ask
from cameleer.evals.benchmarks import bbh
from cameleer.evals.recorded import grade as grade_file
from cameleer.evals.runner import eval_stage, evaluate
from cameleer.evals.scoring import weights
from cameleer.results.records import Answer, Format, Item, Rule
from tests.stand_in import StandIn

INTRO = "Say which is bigger.\n\nBigger means taller:\n\n"
SHOWN = (
    "Q: A fly or a cow?\nA: Let's think.\nA cow is. So the answer is (B).\n\n"
    "Q: A fox or an ant?\nA: So the answer is no. So the answer is (A).\n"
)


def write(folder: Path, task: str, examples: object, shown: str = INTRO + SHOWN) -> None:
    for part in ("bbh", "cot-prompts"):
        (folder / part).mkdir(exist_ok=True)
    (folder / "bbh" / f"{task}.json").write_text(json.dumps({"canary": "x", "examples": examples}))
    (folder / "cot-prompts" / f"{task}.txt").write_text(f"canary\n-----\n{shown}")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for task, count in (("zebras", 45), ("ants", 60), ("bees", 3)):
        rows = [{"input": f"{task} {n}?\n", "target": f"({'AB'[n % 2]})"} for n in range(count)]
        write(tmp_path, task, rows)
    return tmp_path


COT = INTRO + SHOWN.rstrip()
DIRECT = f"{INTRO}Q: A fly or a cow?\nA: (B).\n\nQ: A fox or an ant?\nA: (A)."


@pytest.mark.parametrize("rule", ["paper", "fixed"])
def test_prompts(data: Path, rule: Rule) -> None:
    for setting, shown in (("cot", COT), ("direct", DIRECT)):
        texts: dict[Format, str] = {
            "plain": "{}\n\nQ: bees 1?\n\nA:",
            "chat": "<|user|>\n{}\n\nQ: bees 1?\n\n<|assistant|>\nA:",
        }
        for form, text in texts.items():
            found = {
                row["item"]: row["prompt"] for row in prompts(f"bbh:{setting}", data, rule, form)
            }
            assert found["bbh/bees/1"] == text.format(shown)


def test_the_paper_samples_forty_of_each_task(data: Path) -> None:
    keys = [item.key for item in bbh.items(Ask(data, "cot", "paper"))]
    draw = random.Random(42)
    ants, zebras = draw.sample(range(60), 40), draw.sample(range(45), 40)
    assert keys == [
        *(f"bbh/ants/{n}" for n in ants),
        *(f"bbh/bees/{n}" for n in range(3)),
        *(f"bbh/zebras/{n}" for n in zebras),
    ]
    everything = [item.key for item in bbh.items(Ask(data, "cot"))]
    assert len(everything) == 108
    assert everything == [item.key for item in bbh.items(Ask(data, "cot", "paper", grading=True))]


class Listening(StandIn):
    """Keeps what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Request] = []

    def one(self, request: Request, mates: int) -> Answer:
        self.asked.append(request)
        return Answer(request.key, [" (A).\n\n"], [], ["stop"], 1, 1, 0.0)


@pytest.mark.parametrize(
    ("rule", "form", "stop"),
    [
        ("paper", "chat", ()),
        ("paper", "plain", ("\n\n",)),
        ("fixed", "chat", ("\nQ:",)),
        ("fixed", "plain", ("\n\n", "\nQ:")),
    ],
)
def test_where_an_output_ends(
    rule: Rule, form: Format, stop: tuple[str, ...], data: Path, tmp_path: Path
) -> None:
    spec, engine = EvalSpec(benchmark="bbh:direct", rule=rule, format=form), Listening()
    stage = eval_stage(spec, {}, data, tmp_path / "out")
    scores = read_json(evaluate(spec, lambda: engine, data, stage) / "scores.json")
    assert {one.stop for one in engine.asked} == {stop}
    # Half of the zebras' and ants' targets are (A), but two thirds of the bees'.
    groups = {name: group["value"] for name, group in scores["groups"].items()}
    assert groups["bees"] == pytest.approx(2 / 3)
    assert scores["value"] == pytest.approx(sum(groups.values()) / 3)


def test_every_task_counts_the_same(data: Path) -> None:
    items = bbh.items(Ask(data, "cot"))
    share = weights(items, bbh.SETTINGS["cot"].macro)
    totals: Counter[str] = Counter()
    for item in items:
        totals[item.group] += share[item.key]  # type: ignore[assignment]
    assert all(total == pytest.approx(36) for total in totals.values())


def value(rule: Rule, target: str, output: str, setting: str = "cot") -> float:
    item = Item("bbh/task/0", "task", "", "A:", target)
    return bbh.grade(item, [output], Ask(Path(), setting, rule)).value


@pytest.mark.parametrize(
    ("target", "output", "paper", "fixed"),
    [
        ("(A)", "Because. So the answer is (A).", 1, 1),
        ("(A)", "So the answer is A.", 1, 1),
        ("(A)", "So the answer is (A)", 0, 1),
        ("(A)", "**Answer:** (A) red\n\nI hope this helps.", 0, 1),
        ("(A)", "The answer is (B). No: the answer is (A).", 0, 1),
        ("(B)", "The answer is (B). No: the answer is (A).", 1, 0),
        ("(A)", "So the answer is (A).\n\nQ: Next?\nA: So the answer is (B).", 1, 1),
        ("(A)", "So it must be\n(A) red", 0, 1),
        ("(A)", "So the answer is:\n\nOption A.", 0, 1),
        ("(A)", r"The final answer is $\boxed{\text{A}}$", 0, 1),
        ("Yes", r"The final answer is $\boxed{\text{Yes}}$.", 0, 1),
        ("(A)", "Q: Which?\nA: So the answer is (A).\n\nQ: Next?", 1, 1),
        ("(A)", "\n\nQ: Next?\nA: So the answer is (A).", 1, 0),
        ("(A)", "A red car is it. So the answer is A red car.", 0, 0),
        ("-5", "So the answer is -5.", 1, 1),
        ("-5", "So the answer is 5.", 1, 0),
        ("5", "So the answer is 5.0.", 1, 1),
        ("50", "So the answer is 5.0.", 0, 0),
        ("1234", "So the answer is 2 * 617 = 1,234.", 0, 1),
        ("] )", "So the answer is ] ).", 1, 1),
        ("] )", "So the answer is } >.", 1, 0),
        ("] )", "So the answer is `])`.", 0, 1),
        ("]", "So the answer is .", 1, 0),
        ("a it&t c", "So the answer is a it&t c.", 1, 1),
        ("a it&t c", "So the answer is a, it&t, c.", 1, 1),
        ("a it&t c", "So the answer is a c it&t.", 0, 0),
        ("Yes", "So the answer is yes, it is.", 0, 1),
        ("No", "So the answer is not known.", 0, 0),
        ("invalid", "The argument is not sound.\nThe argument is invalid.", 0, 1),
        ("True", "", 0, 0),
    ],
)
def test_grade(target: str, output: str, paper: int, fixed: int) -> None:
    assert value("paper", target, output) == paper
    assert value("fixed", target, output) == fixed


@pytest.mark.parametrize(
    ("target", "output", "paper", "fixed"),
    [
        ("(A)", " (A).", 1, 1),
        ("(A)", " A", 1, 1),
        ("(A)", " (A) red", 0, 1),
        ("(A)", "(A)\n\nQ: Next?\nA: (B)", 0, 1),
        ("7", "7 apples. There are 3 pears, too", 0, 1),
        ("no", "No. Yes would be wrong", 0, 1),
        ("] )", "] )", 1, 1),
        ("Monsters, Inc", "monsters inc", 1, 1),
    ],
)
def test_grade_direct(target: str, output: str, paper: int, fixed: int) -> None:
    assert value("paper", target, output, "direct") == paper
    assert value("fixed", target, output, "direct") == fixed


def test_an_output_without_an_answer_is_noted() -> None:
    item = Item("bbh/task/0", "task", "", "A:", "(A)")
    for rule in ("paper", "fixed"):
        score = bbh.grade(item, ["I can't say"], Ask(Path(), "cot", rule))
        assert score.note == "no answer found"
        score = bbh.grade(item, ["So the answer is (B).", ""], Ask(Path(), "cot", rule))
        assert (score.value, score.note) == (0, "")
    assert bbh.grade(item, ["(B)"], Ask(Path(), "direct", "paper")).note == ""
    two = bbh.grade(item, ["the answer is (A).", "(B)"], Ask(Path(), "cot"))
    assert (two.value, two.extracted) == (0.5, ["(A)", "(B)"])


@given(st.text(), st.sampled_from(["(A)", "-5", "] )", "Yes", "a b"]))
def test_any_output_can_be_read(output: str, target: str) -> None:
    for rule in ("paper", "fixed"):
        for setting in ("cot", "direct"):
            assert value(rule, target, output, setting) in (0, 1)


def test_recorded_outputs(data: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    rows = [
        {"item": "bbh/bees/0", "output": "So the answer is A."},
        {"item": "bbh/other/0", "output": "So the answer is -5.", "target": "5"},
    ]
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fixed = list(grade_file("bbh:cot", answers, data))
    assert [(row["extracted"], row["score"]) for row in fixed] == [("(A)", 1), ("-5", 0)]
    paper = list(grade_file("bbh:cot", answers, data, "paper"))
    assert [(row["extracted"], row["score"]) for row in paper] == [("A", 1), ("-5", 1)]


def test_broken_files_are_named(data: Path) -> None:
    write(data, "ants", [{"input": "?", "target": "x"}, {"input": "?"}])
    with pytest.raises(UserError, match=r"ants\.json: field 'target'.*record 1"):
        bbh.items(Ask(data, "cot"))
    write(data, "ants", [{"input": "?", "target": "x"}], shown="Do.\n\nQ: Why?\nA: Because.\n")
    assert bbh.items(Ask(data, "cot"))
    with pytest.raises(UserError, match=r"ants\.txt.*So the answer is"):
        bbh.items(Ask(data, "direct"))
    (data / "cot-prompts" / "ants.txt").unlink()
    with pytest.raises(UserError, match=r"ants\.txt: no such file"):
        bbh.items(Ask(data, "cot"))


def paper_prompts(folder: Path, direct: bool, chat: bool) -> dict[str, str]:
    """The paper's algorithm told again; examples are found by their index."""
    random.seed(42)
    found = {}
    for path in sorted((folder / "bbh").iterdir()):
        rows = list(enumerate(json.loads(path.read_text(encoding="utf-8"))["examples"]))
        with (folder / "cot-prompts" / path.name.replace(".json", ".txt")).open(
            encoding="utf-8"
        ) as handle:
            head = "".join(list(handle)[2:])
        if direct:
            parts = head.split("\n\n")
            for place, part in enumerate(parts):
                if part.startswith("Q:"):
                    last = part.split("So the answer is")[-1].strip()
                    parts[place] = part.split("\nA:")[0].strip() + "\nA: " + last
            head = "\n\n".join(parts)
        for index, row in random.sample(rows, 40):
            text = head.strip() + "\n\nQ: " + row["input"]
            text = f"<|user|>\n{text}\n<|assistant|>\nA:" if chat else f"{text}\nA:"
            found[f"bbh/{path.stem}/{index}"] = text
    return found


@pytest.mark.real_data
@pytest.mark.parametrize("form", ["chat", "plain"])
@pytest.mark.parametrize("setting", ["cot", "direct"])
def test_real_prompts_are_the_papers(real_data: Path, setting: str, form: Format) -> None:
    wanted = paper_prompts(real_data / "eval" / "bbh", setting == "direct", form == "chat")
    found = {
        row["item"]: row["prompt"] for row in prompts(f"bbh:{setting}", real_data, "paper", form)
    }
    assert len(wanted) == 1080
    assert list(found.items()) == list(wanted.items())
    whole = {
        row["item"]: row["prompt"] for row in prompts(f"bbh:{setting}", real_data, "fixed", form)
    }
    assert len(whole) == 6511
    assert found.items() <= whole.items()


@pytest.mark.real_data
def test_real_targets_grade_themselves(real_data: Path) -> None:
    """By rule `paper` too; but there wrong signs and brackets pass as well, and that is counted."""
    items = bbh.items(Ask(real_data / "eval" / "bbh", "cot", grading=True))
    assert len(items) == 6511
    signs = brackets = 0
    for item in items:
        target = str(item.target)
        for rule in ("paper", "fixed"):
            assert value(rule, target, target, "direct") == 1, (rule, item)
            assert value(rule, target, f"It is. So the answer is {target}.") == 1, (rule, item)
        if re.fullmatch(r"\([A-Z]\)", target):
            assert value("fixed", target, f"The answer is {target[1]}.") == 1
        if item.group == "multistep_arithmetic_two" and target != "0":
            other = target[1:] if target[0] == "-" else f"-{target}"
            assert value("fixed", target, f"So the answer is {other}.") == 0
            signs += value("paper", target, f"So the answer is {other}.") == 1
        if item.group == "dyck_languages":
            other = " ".join("<" for _ in target.split())
            assert value("fixed", target, f"So the answer is {other}.") == 0
            brackets += value("paper", target, f"So the answer is {other}.") == 1
    assert (signs, brackets) == (249, 250)


@pytest.mark.real_data
def test_real_dyck_targets_are_three_classes_to_the_paper(real_data: Path) -> None:
    rows = bbh.rows(real_data / "eval" / "bbh" / "bbh" / "dyck_languages.json")
    classes = Counter(
        "".join(c for c in target if c not in string.punctuation) for _, target in rows
    )
    assert classes == {"": 81, " ": 97, "  ": 72}
