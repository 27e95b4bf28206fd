"""A miniature world of data sets and tests, from a seed: every real code path, in minutes.

Four small instruction sets in the native formats of Chain-of-Thought, Code-Alpaca, Alpaca and
ShareGPT, and three small test sets in those of GSM8K, HumanEval and MMLU. Each set holds one skill:

    cot               word problems of two steps, worked out          -> gsm
    code_alpaca       one-line functions on lists of whole numbers    -> codex_humaneval
    stanford_alpaca   facts and rules whose answer is a letter, A-D   -> mmlu
    sharegpt          chats of several turns that touch a little of everything

No test question is a training question: tests are drawn first, and training draws again what would
repeat one. Multiple-choice tests ask in other words than training, or about other words.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import PositiveInt

from cameleer.core.artifact import Stage
from cameleer.core.config import Config
from cameleer.core.errors import UserError
from cameleer.core.files import replacing, write_json, write_jsonl

Row = dict[str, Any]


class Question(Protocol):
    """What is drawn: something with a text that must not be both trained and tested."""

    @property
    def question(self) -> str: ...


Q = TypeVar("Q", bound=Question)


class Miniature(Config):
    """Sizes of the miniature sets: training records of each, test items of each."""

    seed: int = 7
    cot: PositiveInt = 400
    code_alpaca: PositiveInt = 200
    stanford_alpaca: PositiveInt = 640
    sharegpt: PositiveInt = 90
    gsm: PositiveInt = 80
    codex_humaneval: PositiveInt = 60
    mmlu_per_subject: PositiveInt = 25


def miniature_stage(config: Miniature, folder: Path) -> Stage:
    """The stage whose folder holds `instruct/<source>` and `eval/<benchmark>` in native formats."""
    return Stage("miniature", folder, config.model_dump(), {})


def make(config: Miniature, stage: Stage) -> Path:
    """Write the sets unless they are there; returns the folder."""

    def work(folder: Path) -> Row:
        draw = random.Random(config.seed)
        world = _World(config, draw)
        world.write_tests(folder / "eval")
        world.write_training(folder / "instruct")
        return config.model_dump()

    stage.run(work)
    return stage.folder


class _World:
    """Draws tests first, each once, then training records that repeat none of them."""

    def __init__(self, config: Miniature, draw: random.Random) -> None:
        self.config, self.draw = config, draw
        self.tests: set[str] = set()
        self.facts = Facts.of(draw)

    def training(self, make_one: Callable[[random.Random], Q], count: int) -> list[Q]:
        """`count` questions that are in no test."""
        found: list[Q] = []
        for _ in range(100 * count):
            one = make_one(self.draw)
            if one.question not in self.tests:
                found.append(one)
                if len(found) == count:
                    return found
        raise UserError("so many different questions cannot be made", field="data.miniature")

    def test(self, make_one: Callable[[random.Random], Q], count: int) -> list[Q]:
        """`count` questions that are all different, and that training will not repeat."""
        found: list[Q] = []
        while len(found) < count:
            (one,) = self.training(make_one, 1)
            self.tests.add(one.question)
            found.append(one)
        return found

    def write_tests(self, folder: Path) -> None:
        """The three test sets with their few-shot examples."""
        config = self.config
        sums = self.test(word_problem, config.gsm + 8)
        write_jsonl(
            folder / "gsm" / "test.jsonl",
            ({"question": s.question, "answer": f"{s.worked}\n#### {s.answer}"} for s in sums[8:]),
        )
        write_jsonl(
            folder / "gsm" / "exemplars.jsonl",
            (
                {"question": s.question, "cot_answer": s.reply, "short_answer": s.answer}
                for s in sums[:8]
            ),
        )
        functions = self.test(list_function, config.codex_humaneval)
        with replacing(folder / "codex_humaneval" / "HumanEval.jsonl.gz", "wb") as handle:
            lines = [
                json.dumps(f.problem(index, self.draw)) + "\n" for index, f in enumerate(functions)
            ]
            handle.write(gzip.compress("".join(lines).encode(), mtime=0))
        for subject in SUBJECTS:
            per_split = {"dev": 5, "test": config.mmlu_per_subject}
            for split, count in per_split.items():
                make_one = partial(choice, facts=self.facts, subject=subject, split="test")
                chosen = self.test(make_one, count)
                text = io.StringIO()
                csv.writer(text, lineterminator="\n").writerows(c.csv_row() for c in chosen)
                with replacing(folder / "mmlu" / split / f"{subject}_{split}.csv") as handle:
                    handle.write(text.getvalue())

    def write_training(self, folder: Path) -> None:
        """The four instruction sets."""
        config = self.config
        few = config.cot // 10
        sums = self.training(word_problem, config.cot)
        write_jsonl(
            folder / "cot" / "cot_zsopt.jsonl",
            ({"inputs": f"Question: {s.question}", "targets": s.reply} for s in sums[few:]),
        )
        write_jsonl(folder / "cot" / "cot_fsopt.jsonl", self._few_shot(sums[:few]))
        functions = self.training(list_function, config.code_alpaca)
        write_json(folder / "code_alpaca" / "code_alpaca_20k.json", [f.record() for f in functions])
        choices = self.training(self._training_choice, config.stanford_alpaca)
        write_json(folder / "stanford_alpaca" / "alpaca_data.json", [c.record() for c in choices])
        write_json(
            folder / "sharegpt" / "ShareGPT_V3_unfiltered_cleaned_split.json",
            list(self._chats(config.sharegpt)),
        )

    def _training_choice(self, draw: random.Random) -> Choice:
        return choice(draw, self.facts, draw.choice(SUBJECTS), "train")

    def _few_shot(self, sums: list[WordProblem]) -> Iterator[Row]:
        """Every problem after two worked ones, as FLAN's few-shot rows are."""
        for index, asked in enumerate(sums):
            shown = [sums[index - 1], sums[(index - 2) % len(sums)]]
            before = "".join(f"Question: {s.question}\nAnswer: {s.reply}\n\n" for s in shown)
            yield {"inputs": f"{before}Question: {asked.question}", "targets": asked.reply}

    def _chats(self, count: int) -> Iterator[Row]:
        """Chats of two to four turns; each turn is any of the skills, or a word spelled."""
        for number in range(count):
            turns: list[Row] = []
            for _ in range(self.draw.randint(2, 4)):
                question, answer = self._chat_turn()
                turns += [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
            yield {"id": f"chat{number:04d}_0", "conversations": turns}

    def _chat_turn(self) -> tuple[str, str]:
        kind = self.draw.randrange(4)
        if kind == 0:
            (problem,) = self.training(word_problem, 1)
            return problem.question, problem.reply
        if kind == 1:
            (function,) = self.training(list_function, 1)
            return f"Write a Python function `{function.name}`. {function.sentence}", function.code
        if kind == 2:
            (asked,) = self.training(self._training_choice, 1)
            return asked.text(), asked.reply
        word = self.draw.choice(self.facts.words["train"])
        return f"Please spell the word {word}.", "-".join(word)


# ---- word problems of two steps

PEOPLE = (
    "Ada",
    "Ben",
    "Cleo",
    "Dora",
    "Emil",
    "Finn",
    "Gita",
    "Hugo",
    "Iris",
    "Jon",
    "Kira",
    "Leo",
)
THINGS = ("shells", "stamps", "pears", "marbles", "books", "coins", "eggs", "cards", "nuts", "pens")
PACKS = ("boxes", "bags", "baskets", "packs", "crates")


@dataclass(frozen=True)
class WordProblem:
    """A question, its steps worked out, and the number."""

    question: str
    worked: str
    answer: str

    @property
    def reply(self) -> str:
        return f"{self.worked} So the answer is {self.answer}."


def word_problem(draw: random.Random) -> WordProblem:
    """One of four kinds of story, with numbers that are mostly new."""
    who, other = draw.sample(PEOPLE, 2)
    what, packs = draw.choice(THINGS), draw.choice(PACKS)
    count, each, more = draw.randint(2, 9), draw.randint(2, 9), draw.randint(2, 12)
    product = count * each
    kind = draw.randrange(4)
    if kind == 0:
        question = (
            f"{who} has {more} {what}. {who} buys {count} {packs} with {each} {what} in each. "
            f"How many {what} does {who} have now?"
        )
        steps = f"{count} * {each} = {product}. {more} + {product} = {more + product}."
        answer = more + product
    elif kind == 1:
        away = draw.randint(1, product - 1)
        question = (
            f"There are {count} {packs} with {each} {what} in each. {who} takes away {away} "
            f"{what}. How many {what} are left?"
        )
        steps = f"{count} * {each} = {product}. {product} - {away} = {product - away}."
        answer = product - away
    elif kind == 2:
        question = (
            f"{who} has {more} {what}. {other} has {count} times as many {what} as {who}. "
            f"How many {what} do they have together?"
        )
        steps = f"{count} * {more} = {count * more}. "
        steps += f"{more} + {count * more} = {more + count * more}."
        answer = more + count * more
    else:
        gone = draw.randint(1, more + each - 1)
        question = (
            f"{who} has {more} {what} and gets {each} {what} from {other}. Then {who} loses {gone} "
            f"{what}. How many {what} does {who} have now?"
        )
        steps = f"{more} + {each} = {more + each}. {more + each} - {gone} = {more + each - gone}."
        answer = more + each - gone
    return WordProblem(question, steps, str(answer))


# ---- one-line functions on lists of whole numbers

FILTERS = {
    "": "",
    "even ": " if x % 2 == 0",
    "odd ": " if x % 2 == 1",
    "positive ": " if x > 0",
    "negative ": " if x < 0",
}
MAPS = {
    "{}numbers": "x",
    "squares of the {}numbers": "x * x",
    "doubles of the {}numbers": "x * 2",
    "{}numbers, each increased by K,": "x + K",
    "{}numbers, each multiplied by K,": "x * K",
}
FOLDS = {
    "the sum of the": "sum({})",
    "the list of the": "[{}]",
    "the largest of the": "max({})",
    "the smallest of the": "min({})",
    "the product of the": "math.prod({})",
}
NAMES = ("solve", "compute", "calculate", "apply", "work_out", "process", "evaluate", "reckon")


@dataclass(frozen=True)
class ListFunction:
    """A one-line function: its name, what it is to return in words, and the expression."""

    name: str
    sentence: str
    expression: str

    @property
    def question(self) -> str:
        """What must not be asked twice: the sentence, whatever the function is called."""
        return self.sentence

    @property
    def head(self) -> str:
        """Signature and docstring, which a test gives."""
        importing = "import math\n\n\n" if "math." in self.expression else ""
        return f'{importing}def {self.name}(numbers):\n    """{self.sentence}"""\n'

    @property
    def body(self) -> str:
        return f"    return {self.expression}\n"

    @property
    def code(self) -> str:
        return self.head + self.body

    def record(self) -> Row:
        """A Code-Alpaca record."""
        return {
            "instruction": f"Write a Python function `{self.name}`. {self.sentence}",
            "input": "",
            "output": self.code.rstrip(),
        }

    def problem(self, number: int, draw: random.Random) -> Row:
        """A HumanEval problem, tested on lists in which every kind of number occurs."""
        function = eval(f"lambda numbers: {self.expression}", {"math": __import__("math")})
        lists = [[2, 3, -4, -5, *(draw.randint(-9, 9) for _ in range(size))] for size in (1, 3, 5)]
        checks = "".join(f"    assert candidate({n}) == {function(n)}\n" for n in lists)
        return {
            "task_id": f"HumanEval/{number}",
            "prompt": self.head,
            "entry_point": self.name,
            "canonical_solution": self.body,
            "test": f"def check(candidate):\n{checks}",
        }


def list_function(draw: random.Random) -> ListFunction:
    """A fold of a map of a filtered list."""
    words, kept = draw.choice(list(FILTERS.items()))
    mapped, value = draw.choice(list(MAPS.items()))
    fold, code = draw.choice(list(FOLDS.items()))
    constant = str(draw.randint(2, 29))
    what = mapped.format(words).replace("K", constant)
    inner = f"{value.replace('K', constant)} for x in numbers{kept}"
    sentence = f"Return {fold} {what} in the list.".replace(", in the list", ", in the list")
    return ListFunction(draw.choice(NAMES), sentence, code.format(inner))


# ---- facts and rules whose answer is one of four letters

BEGINNING = {
    "A": "apple arrow ant acorn anchor apron autumn arch artist album atlas almond angel alarm "
    "answer animal army actor age aunt",
    "B": "bread boat bird bottle button basket bell bridge brush bucket banana book barn bone "
    "branch breeze brick bus butter box",
    "C": "camel candle castle carpet cloud coat corn cradle crown curtain cup cake cart cheese "
    "chair clock coin copper cow card",
    "D": "desert dragon drum duck door dust dress dish diamond doctor dance dinner donkey dream "
    "desk deer dog doll ditch dime",
}
TOWNS = [
    *("Zumra", "Kelto", "Mirapi", "Oshun", "Tavira", "Belgor", "Nuvela", "Quimba"),
    *("Harrow", "Sarip", "Lodesh", "Wanto", "Ifrane", "Pellu", "Dromar", "Yestin"),
]
GRADES = ((80, "A"), (60, "B"), (40, "C"), (0, "D"))
LETTERS = "ABCD"
SUBJECTS = ("caravan_gates", "first_letters", "school_grades")


@dataclass(frozen=True)
class Facts:
    """What the world's multiple-choice questions are about.

    gates: the gate through which the caravan to each town leaves; words: by split, words with the
    letters that they begin with.
    """

    gates: dict[str, str]
    words: dict[str, list[str]]

    @staticmethod
    def of(draw: random.Random) -> Facts:
        """New gates for all towns; a third of the words kept for tests."""
        gates = {town: LETTERS[index % 4] for index, town in enumerate(draw.sample(TOWNS, 16))}
        words: dict[str, list[str]] = {"test": [], "train": []}
        for listed in BEGINNING.values():
            shuffled = draw.sample(listed.split(), len(listed.split()))
            cut = len(shuffled) // 3
            words["test"] += shuffled[:cut]
            words["train"] += shuffled[cut:]
        return Facts(gates, words)


@dataclass(frozen=True)
class Choice:
    """A question whose answer is one of the letters A to D."""

    asked: str
    letter: str
    lettered: bool  # whether the options are shown

    @property
    def question(self) -> str:
        return self.asked

    @property
    def reply(self) -> str:
        return f"The answer is: {self.letter}"

    def text(self) -> str:
        """The question, with its options if they are shown."""
        options = "".join(f"\n{letter}. {letter}" for letter in LETTERS)
        return f"{self.asked}{options}\nAnswer:" if self.lettered else self.asked

    def record(self) -> Row:
        """An Alpaca record."""
        return {"instruction": self.text(), "input": "", "output": self.reply}

    def csv_row(self) -> list[str]:
        """A row of MMLU's files."""
        return [self.asked, *LETTERS, self.letter]


def choice(draw: random.Random, facts: Facts, subject: str, split: str) -> Choice:
    """A question about a subject. Tests put theirs in words that training does not use."""
    testing = split == "test"
    who, lettered = draw.choice(PEOPLE), draw.random() < 0.5
    if subject == "caravan_gates":
        town, gate = draw.choice(list(facts.gates.items()))
        asked = draw.choice(
            [f"{who} travels to {town} by caravan. At which gate does the journey begin?"]
            if testing
            else [
                f"Through which gate does the caravan to {town} leave?",
                f"{who} wants to go to {town}. Which gate is the right one?",
                f"Which gate is for {town}?",
            ]
        )
        return Choice(asked, gate, lettered)
    if subject == "first_letters":
        word = draw.choice(facts.words[split])
        asked = (
            f"{who} writes the word {word}. Which letter does it begin with?"
            if testing
            else f"Which letter does the word {word} begin with?"
        )
        return Choice(asked, word[0].upper(), lettered)
    points = draw.randint(0, 100)
    letter = next(grade for least, grade in GRADES if points >= least)
    asked = (
        f"{who} got {points} points in the test. Which grade does the school give for it?"
        if testing
        else f"Which grade does the school give {who} for {points} points?"
    )
    return Choice(asked, letter, lettered)
