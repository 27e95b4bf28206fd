"""Holding a study to its budget: it is not begun beyond it, and no task of it is.

What is under way counts as what it was planned to take, if it has taken less so far. A task is not
cut short when it takes more than was planned; servers are never asked beyond the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from cameleer.core.errors import UserError
from cameleer.engines.server import Limits
from cameleer.evals.judge.run import Judging
from cameleer.study.budget import Budget, Cost, shown, total
from cameleer.study.execute.apart import Job
from cameleer.study.execute.tasks import Task
from cameleer.study.grid import Grid, Work
from cameleer.study.plan.piece import Piece
from cameleer.study.plan.planned import StudyPlan

CAPPED = {"max_requests": "requests", "max_dollars": "dollars"}
LARGER = "give it more, and the same command goes on from here; what is done stays"


class Guard:
    """Lets tasks of a study begin that fit into its budget. Without one, it lets all."""

    def __init__(self, grid: Grid, file: Path | None = None) -> None:
        """Raises UserError if what is spent and what is planned are more than the budget; file: the
        study's, to be named in it."""
        self.budget, self.file = grid.study.budget, file
        self.pieces: Sequence[Piece] = StudyPlan(grid).pieces if self.budget else ()
        self.begun: dict[str, Cost] = {}
        self.spent: dict[int, Cost] = {}
        planned = total(piece.left for piece in self.pieces)
        if self.budget and planned != Cost():  # what is all done may still be reported
            hint = "allow more, or plan less: `cameleer study plan` shows what takes how much"
            self._require(self.budget, planned + self._taken(), "the study would take", hint)

    def over(self, tasks: Iterable[Task]) -> list[Task]:
        """The tasks, each of which raises UserError when it is to begin and would take too much."""
        if self.budget is None:
            return list(tasks)
        return [replace(task, job=partial(self._job, self.budget, task)) for task in tasks]

    def _job(self, budget: Budget, task: Task) -> Job | None:
        job = task.job()
        if job is None:
            return None
        self.begun.pop(task.name, None)  # it was asked before, and had no room, or was killed
        own = [piece for piece in self.pieces if piece.task == task.name]
        taken, planned = self._taken(), total(piece.left for piece in own)
        self._require(budget, taken + planned, f"{task.name} makes it", LARGER)
        self.begun[task.name] = total(map(self._spent, own)) + planned
        return _capped(job, budget, taken)

    def _taken(self) -> Cost:
        """What was spent, and what tasks that may have begun are planned to take."""
        found = Cost()
        for name in dict.fromkeys(piece.task for piece in self.pieces):
            own = [piece for piece in self.pieces if piece.task == name]
            spent = total(map(self._spent, own))
            going = name in self.begun and not all(id(piece) in self.spent for piece in own)
            found += spent.at_least(self.begun[name]) if going else spent
        return found

    def _spent(self, piece: Piece) -> Cost:
        """What a piece has taken; of one that is done it is looked up once."""
        if id(piece) in self.spent:
            return self.spent[id(piece)]
        cost = piece.spent()
        if piece.done():
            self.spent[id(piece)] = cost
        return cost

    def _require(self, budget: Budget, cost: Cost, when: str, hint: str) -> None:
        for field, limit, more in budget.over(cost):
            about = f"{when} {shown(field, limit + more)}, {shown(field, limit)} are allowed"
            raise UserError(about, file=self.file, field=f"budget.{field}", hint=hint)


def _capped(job: Job, budget: Budget, spent: Cost) -> Job:
    """The job; if a server is asked, no more than is left of the budget."""
    asked, *others = job.given
    if not isinstance(asked, Work | Judging) or not isinstance(asked.chosen.options, Limits):
        return job
    left = {
        option: limit - getattr(spent, field)
        for option, field in CAPPED.items()
        if (limit := getattr(budget, field)) is not None
    }
    options = asked.chosen.options
    held = _held(options, left)
    chosen = replace(asked.chosen, options=options.model_copy(update=held))
    function = partial(_within, tuple(held), job.function)
    return replace(job, function=function, given=(replace(asked, chosen=chosen), *others))


def _held(options: Limits, left: dict[str, float]) -> dict[str, float]:
    """The limits that are less than a server's own."""
    priced = bool(options.price_in or options.price_out)
    return {
        option: most
        for option, most in left.items()
        if (priced or option != "max_dollars")
        and ((own := getattr(options, option)) is None or most < own)
    }


def _within(held: tuple[str, ...], function: Callable[..., Any], *given: Any) -> Any:
    """The job; where a server may not be asked any more, the budget's field is named."""
    try:
        return function(*given)
    except UserError as error:
        for option in held:
            if option in error.message:
                field = f"budget.{CAPPED[option]}"
                raise UserError(error.message, field=field, hint=LARGER) from None
        raise
