"""BBH: 27 tasks of reasoning that language models failed at, asked with three worked examples.

origin    https://github.com/suzgunmirac/BIG-Bench-Hard (bbh, cot-prompts)
licence   MIT
citation  Suzgun et al., Challenging BIG-Bench Tasks and Whether CoT Can Solve Them, 2022
size      6,511 questions; 250 a task, but 187, 146 and 178 in three of them
score     share of right answers (exact match), the mean over tasks

Direct examples keep of each worked example what follows "So the answer is", its full stop too.
No example is dropped where a prompt is long: those of geometric_shapes have 2,000 to 2,550 tokens
where every digit is one.
Settings `…-40` ask the paper's sample by either rule.
Rule `paper`: as the paper's code of November 2023. It asks 40 questions of each task: one stream of
random numbers (seed 42) goes through the tasks in the order in which the file system lists them;
here in alphabetical order. The answer stands between the first "the answer is" and the next full
stop, or is the whole output; texts are compared without case and the 32 ASCII punctuation marks, so
that signs do not count (120 targets of multistep_arithmetic_two) and of dyck_languages only the
number of brackets does. (The code of June 2023 wants "So the answer is" and else cuts the output at
its first blank line.) A blank line ends an output in plain format, as with vLLM there.
Rule `fixed`: all questions in the files' order. An output ends where it goes on with a new "Q:";
the answer follows its last "answer is" or "answer:", else it is the first line (direct) or the last
(cot). Numbers are compared as numbers, brackets as brackets, "(A)" equals "A", word lists may have
commas. Both: three questions whose options were broken at commas in the release want a text.
"""

from __future__ import annotations

import random
import re
import string
from pathlib import Path

from cameleer.core.errors import UserError
from cameleer.core.files import read_json, read_text
from cameleer.evals.benchmark import Ask, Setting
from cameleer.evals.extract import NO_ANSWER, exact_match, last_number
from cameleer.results.records import Format, Item, Score

STOP: dict[Format, tuple[str, ...]] = {"plain": ("\n\n",)}
FIXED_STOP: dict[Format, tuple[str, ...]] = {"plain": ("\n\n", "\nQ:"), "chat": ("\nQ:",)}
PAPER_SAMPLE = 40
SETTINGS = {
    name: Setting(
        about, "exact match", stop=STOP, fixed_stop=FIXED_STOP, macro=True, sample=PAPER_SAMPLE
    )
    for name, about in (
        ("cot", "examples with their reasoning"),
        ("direct", "examples with the answer alone"),
    )
}
SETTINGS |= {
    f"{name}-{PAPER_SAMPLE}": one.subset(PAPER_SAMPLE, " of each task")
    for name, one in SETTINGS.items()
}
GROUPS = 27
NATIVE = ("bbh/*.json", "cot-prompts/*.txt")

_PAPER_CUE = re.compile(r"[t|T]he answer is ")
_ANSWER = re.compile(r"\banswer\W{0,3}(?:is\b|:)[\s:*]*", re.IGNORECASE)
_NEW_QUESTION = re.compile(r"\n[^\S\n]*Q:")
_SENTENCE_END = re.compile(r"\.(?=\s|$)")
_OPTION = re.compile(r"\(?([A-Z])\)?")
_NAMED_OPTION = re.compile(r"\(([A-Z])\)")
_BARE_OPTION = re.compile(r"\W*(?:(?i:option|choice|boxed|text)\W+)*([A-Z])(?:[).:,*\]]|\W*$)")
_INTEGER = re.compile(r"[-+\N{MINUS SIGN}]?\d+(?:\.\d+)?")
_BRACKETS = "()[]{}<>"
_OPPOSITES = (("yes", "no"), ("true", "false"), ("valid", "invalid"))
_MARKS = string.punctuation + "“”‘’"


def items(ask: Ask) -> list[Item]:
    """The questions, task by task in alphabetical order: all, or the paper's 40 of each."""
    draw, size = random.Random(42), SETTINGS[ask.setting].drawn(ask)
    found: list[Item] = []
    for path in sorted((ask.data / "bbh").glob("*.json")):
        task, numbered = path.stem, list(enumerate(rows(path)))
        if size is not None and len(numbered) > size:
            numbered = draw.sample(numbered, size)
        examples = "" if ask.grading else _examples(ask, task)
        end = "\n" if ask.format == "plain" else ""
        for number, (question, target) in numbered:
            text = f"{examples}\n\nQ: {question}{end}"
            found.append(Item(f"bbh/{task}/{number}", task, text, "A:", target))
    return found


def grade(item: Item, outputs: list[str], ask: Ask) -> Score:
    """Whether the answer read out of an output is the target, as the rule compares them."""
    target = str(item.target)
    if ask.rule == "paper":
        named = [_paper_answer(output) for output in outputs]
        said: list[str | None] = [
            (output if found is None else found).strip()
            for found, output in zip(named, outputs, strict=True)
        ]
        right = [exact_match(one or "", target) for one in said]
        cot = ask.setting.startswith("cot")
        missing = all(one is None for one in named) if cot else not any(said)
    else:
        said = [read(answer_of(output, ask.setting), target) for output in outputs]
        gold = read(target, target)
        right = [one is not None and one == gold for one in said]
        missing = all(one is None for one in said)
    return Score(sum(right) / len(right), list(said), note=NO_ANSWER if missing else "")


def _paper_answer(output: str) -> str | None:
    """What stands between the first "the answer is" and a full stop of the same line, or None."""
    for line in output.split("\n"):
        cue = _PAPER_CUE.search(line)
        end = line.find(".", cue.end()) if cue else -1
        if cue and end >= 0:
            return line[cue.end() : end]
    return None


def answer_of(output: str, setting: str) -> str:
    """The stretch of an output that holds its answer, by rule `fixed`; "" if there is none."""
    own = _NEW_QUESTION.split(output, maxsplit=1)[0]
    named = list(_ANSWER.finditer(own))
    lines = (own[named[-1].end() :] if named else own).strip().splitlines()
    if not lines:
        return ""
    # Reasoning that names no answer may still end in it, whatever its last line starts with.
    if setting.startswith("cot") and not named:
        return lines[-1].strip()
    return _SENTENCE_END.split(lines[0], maxsplit=1)[0].strip()


def read(text: str, target: str) -> str | None:
    """An answer in the one form in which answers of the target's kind are compared, or None."""
    if _OPTION.fullmatch(target):
        option = _NAMED_OPTION.search(text) or _BARE_OPTION.match(text)
        return f"({option[1]})" if option else None
    if _INTEGER.fullmatch(target):
        return last_number(text)
    if not target.strip(_BRACKETS + " "):
        return " ".join(sign for sign in text if sign in _BRACKETS) or None
    for pair in _OPPOSITES:
        if target.lower() in pair:
            return next((word for word in re.findall(r"\w+", text.lower()) if word in pair), None)
    words = [word.strip(_MARKS) for word in re.split(r"[\s,;]+", text.lower())]
    return " ".join(filter(None, words)) or None


def rows(path: Path) -> list[tuple[str, str]]:
    """The questions of a task with their targets."""
    file = read_json(path)
    examples = file.get("examples") if isinstance(file, dict) else None
    if not isinstance(examples, list):
        raise UserError("is missing or not a list", file=path, field="examples")
    found = []
    for number, row in enumerate(examples):
        for field in ("input", "target"):
            if not isinstance(row, dict) or not isinstance(row.get(field), str):
                wrong = f"is missing or not text in record {number}"
                raise UserError(wrong, file=path, field=field)
        found.append((row["input"], row["target"]))
    if not found:
        raise UserError("is empty", file=path, field="examples", hint="fetch it again")
    return found


def _examples(ask: Ask, task: str) -> str:
    """What a task is, and its worked examples; the file's first two lines are no part of it."""
    path = ask.data / "cot-prompts" / f"{task}.txt"
    text = "\n".join(read_text(path).split("\n")[2:])
    if "Q:" not in text:
        raise UserError("holds no worked examples", file=path, hint="fetch it again")
    if ask.setting.startswith("direct"):
        blocks = text.split("\n\n")
        text = "\n\n".join(_short(one, path) if one.startswith("Q:") else one for one in blocks)
    return text.strip()


def _short(example: str, path: Path) -> str:
    """A worked example without its reasoning."""
    question, cue, reasoning = example.partition("\nA:")
    _, named, answer = reasoning.rpartition("So the answer is")
    if not cue or not named:
        wrong = 'an example lacks "A:" or "So the answer is"'
        raise UserError(wrong, file=path, hint=f"it starts: {example[:60]!r}")
    return f"{question.strip()}\nA: {answer.strip()}"
