"""Resuming: a run that ends after half of its steps and is begun again, beside an unbroken one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cameleer.core.console import note
from cameleer.core.jsonl import read_jsonl
from cameleer.train.loop import Run
from cameleer.train.parallel import Ranks
from cameleer.train.proof.case import LAST, Case, too_much
from cameleer.train.proof.check import Check


def resumed(case: Case, trained: int) -> Check:
    """That the resumed run is the unbroken one, to the bit; trained: weights that are trained."""
    shows, precision = "resumed = unbroken, 2 + 2 steps", case.config.precision
    if reason := too_much("trained weights", trained):
        return Check(shows, precision, None, 0, reason)
    note("proving that a run goes on as if it had never stopped")
    state, facts = _begun(case, "unbroken", LAST)
    _begun(case, "broken", LAST // 2)
    again, more = _begun(case, "broken", LAST)
    differ = sum(not torch.equal(state[name], again[name]) for name in state)
    differ += state.keys() != again.keys()
    differ += sum(a != b for a, b in zip(facts, more, strict=True)) + (len(facts) != LAST)
    return Check(shows, precision, differ, 0, "weights, moments and steps that differ by a bit")


def _begun(case: Case, name: str, stop: int) -> tuple[dict[str, Tensor], list[Any]]:
    """A run up to step `stop`: the optimizer's state, and of every step what can be compared."""
    folder = case.folder / name
    run = _Stopping(
        case.config, case.base, case.config.data, folder, case.folder / "stopped", Ranks()
    )
    run.stop = stop
    try:
        run.to_the_end()
    except _Stopped:
        return {}, []
    rows = [row for _, row in read_jsonl(folder / "metrics.jsonl")]
    facts = [(row["loss"], row["grad_norm"], row["tokens"]) for row in rows if row["step"]]
    return run.optimizer.state(), facts


class _Stopped(Exception):  # noqa: N818 (nothing went wrong)
    pass


class _Stopping(Run):
    """A run that ends before step `stop` as if killed, and that leaves no checkpoint."""

    stop = LAST

    def one_step(self, step: int, *rest: Any) -> dict[str, Any]:
        if step >= self.stop:
            raise _Stopped
        return super().one_step(step, *rest)

    def finish(self, state: dict[str, Any]) -> dict[str, Any]:
        return state
