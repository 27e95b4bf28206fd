"""Tasks of lm-eval (EleutherAI, MIT licence), any of them: `lm_eval:hellaswag`, `lm_eval:arc_easy`.

The name of the setting is a task, a group or a tag of lm-eval 0.4.13 (extra `lm-eval`), or of a
YAML file in the folder that `--data` names. Data come from where the task says, mostly the Hugging
Face hub, under their own licences. Prompts, filters, metrics and means are lm-eval's; the engine,
the log, resuming and intervals are ours. The rule makes no difference: there is no paper's code.

Format `plain` is lm-eval's default; `chat` is its `--apply_chat_template`, with our template. Other
than in lm-eval, a prompt that does not fit the model's context is an error, not cut at its front,
and `--limit` draws documents from the whole task, where lm-eval takes the first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cameleer.core.errors import UserError
from cameleer.evals.benchmark import Ask, Setting
from cameleer.results.records import Item, Score

ANY = Setting("any task of lm-eval by its name", "as the task says", format="plain")
SETTINGS: dict[str, Setting] = {"TASK": ANY}
NATIVE: tuple[str, ...] = ()


def setting(name: str) -> Setting:
    """The setting for a task of any name; whether lm-eval knows it is seen when it is asked."""
    if not name or name == "TASK":
        raise UserError("lm_eval wants the name of a task", hint="such as lm_eval:hellaswag")
    return ANY


def folder(data: Path | None) -> Path:
    """Where tasks are looked for besides lm-eval's own."""
    from cameleer.evals.lm_eval.tasks import tasks_folder

    return tasks_folder(data)


def inputs(name: str, home: Path) -> dict[str, str]:
    """What decides a task's questions."""
    from cameleer.evals.lm_eval.tasks import task_inputs

    return task_inputs(name, home)


def run(*given: Any) -> Any:
    """The task's own run, in place of the one that asks items and grades answers."""
    from cameleer.evals.lm_eval.run import LmEvalRun

    return LmEvalRun(*given)


def items(_ask: Ask) -> list[Item]:
    """Not to be had: lm-eval makes its prompts while it asks them."""
    raise UserError("prompts of lm-eval tasks are seen in samples.jsonl of `cameleer eval run`")


def grade(_item: Item, _outputs: list[str], _ask: Ask) -> Score:
    """Not to be had: lm-eval scores what it asked itself."""
    raise UserError("recorded outputs of lm-eval tasks are not graded here; use lm-eval's log")
