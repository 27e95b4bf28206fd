"""Whether code that a model wrote may be run: the user says so, or the cage is whole.

What was said counts most: an option, else `CAMELEER_ALLOW_CODE`, else the study's file. Where
nothing was said, a user at a terminal is asked, once a command. Where nobody can be asked, a
pipeline must neither hang nor run a model's code in the open: the work goes on, with a warning that
names the level, only where the sandbox keeps out files, network and other processes. Grading
recorded outputs goes on at any level: the user has the programs in hand, and asked to run them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from cameleer.core.console import warn
from cameleer.core.errors import UserError
from cameleer.evals.benchmark import benchmark_named
from cameleer.evals.sandbox import level, weakness

VARIABLE = "CAMELEER_ALLOW_CODE"
_WORDS = {"": None, "1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def allow_code(
    labels: Sequence[str],
    said: bool | None,
    ask: Callable[[str], bool] | None,
    how: str = "--allow-code-execution",
    recorded: bool = False,
) -> None:
    """Return if the benchmarks of these labels may be graded here; raise UserError if not.

    said: by option or file, None where nothing was; ask: puts a question to the user, None where
    nobody is there; how: what allows it, for the hint; recorded: outputs are there already.
    Benchmarks that run no code need no permission, and nothing is tried for them.
    """
    named = (benchmark_named(label) for label in labels)
    coded = ", ".join(sorted({one.name for one in named if getattr(one.module, "RUNS_CODE", 0)}))
    if not coded:
        return
    if said is False:
        raise UserError(
            f"{coded} runs code that a model wrote, which is not allowed here",
            hint=f"leave it out, or give {how} or {VARIABLE}=1",
        )
    weak = weakness(level())
    door = f"leaves it {weak}" if weak else "keeps it from files, network and processes"
    where = f"{coded} runs code that a model wrote; the sandbox here {door} ({level()})"
    if said is None and ask is not None and not ask(f"{where}. Run it?"):
        raise UserError(f"{coded} was not allowed to run code", hint=f"leave it out, or give {how}")
    if said is None and ask is None and weak and not recorded:
        raise UserError(
            where, hint=f"give {how} or {VARIABLE}=1 if that is enough, or leave it out"
        )
    if weak or (said is None and ask is None):
        warn(where)


def told(option: bool | None, file: bool | None = None) -> bool | None:
    """What was said: the option's word, else the variable's, else the file's."""
    if option is not None:
        return option
    word = os.environ.get(VARIABLE, "").strip().lower()
    if word not in _WORDS:
        raise UserError(f"{VARIABLE} is '{word}'", hint="give 1 or 0")
    return file if _WORDS[word] is None else _WORDS[word]
