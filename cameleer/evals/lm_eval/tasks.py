"""The package lm-eval, which is an extra, and what it knows of tasks."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import redirect_stdout
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cameleer.core.errors import UserError, unknown
from cameleer.core.files import sha256_file


def package(part: str = "") -> Any:
    """A module of lm-eval; UserError if it is not installed."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # its bars; ours tell how far it is
    try:
        return importlib.import_module(f"lm_eval{part}")
    except ImportError as error:
        hint = "pip install 'cameleer[lm-eval]'"
        raise UserError(f"lm-eval cannot be imported: {error}", hint=hint) from None


def tasks_folder(data: Path | None) -> Path:
    """Where tasks are looked for besides lm-eval's own: what the user gave, else nowhere else."""
    return data or Path(package().__file__).parent / "tasks"


@cache
def _manager(folder: Path) -> Any:
    own = package().__file__ and folder == tasks_folder(None)
    return package(".tasks").TaskManager(include_path=None if own else str(folder))


def task_inputs(task: str, folder: Path) -> dict[str, str]:
    """What decides a task's questions: lm-eval's version, or the files beside a task of one's own.

    Raises UserError for a name that lm-eval does not know.
    """
    index = _manager(folder).task_index
    if task not in index:
        raise unknown("task of lm-eval", task, index, "lm-eval ls tasks")
    inputs = {"lm_eval": version("lm_eval")}
    file = index[task].yaml_path
    if file is not None and Path(file).is_relative_to(folder) and folder != tasks_folder(None):
        beside = sorted(one for one in Path(file).parent.iterdir() if one.is_file())
        inputs |= {one.name: sha256_file(one) for one in beside}
    return inputs


def load(name: str, folder: Path) -> Any:
    """A task or group with its data; what it prints goes to stderr, what it misses is one line."""
    try:
        with redirect_stdout(sys.stderr):
            return _manager(folder).load([name])
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"lm-eval cannot load {name}: {reason}") from error
