"""A piece of a study's plan: one stage, what it has taken, and what is left of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cameleer.core.artifact import Stage
from cameleer.engines.server import Limits
from cameleer.study.budget import Cost
from cameleer.study.plan.spent import Took, took
from cameleer.train.hardware import Hardware


@dataclass(frozen=True)
class Machine:
    """What a plan reckons with: a device, how many of it train one model, how many a stage has at
    least, dollars for an hour of each, and whether it is this machine's, on which rates are
    measured."""

    hardware: Hardware
    ranks: int
    devices: int
    price: float
    here: bool

    def cost(self, hours: float, ranks: int = 1) -> Cost:
        """Of hours in which so many devices work."""
        held = hours * max(ranks, self.devices)
        return Cost(hours, held, held * self.price)


@dataclass(frozen=True)
class Piece:
    """One stage of the plan. task: that does it, as execute.tasks names it; stage: None while it
    cannot be told, as of a judge before there are answers; ranks: devices that work at it; server:
    how one is asked that works in their place; unknown: what of it cannot be told, or ""."""

    task: str
    stage: Callable[[], Stage | None]
    machine: Machine
    ranks: int
    server: Limits | None
    left: Cost
    facts: dict[str, Any]
    unknown: str = ""

    def done(self) -> bool:
        """Whether nothing is left to do."""
        stage = self.stage()
        return stage is not None and stage.done()

    def spent(self) -> Cost:
        """What it has taken, by what is on the disk now."""
        stage = self.stage()
        return self._cost(took(stage)) if stage else Cost()

    def _cost(self, done: Took) -> Cost:
        """What steps or answers cost."""
        hours = done.seconds / 3600
        if self.server is None:
            return self.machine.cost(hours, self.ranks)
        dollars = self.server.dollars(done.prompt_tokens, done.new_tokens)
        return Cost(hours / self.server.concurrency, 0.0, dollars, done.rows)

    def to_row(self) -> dict[str, Any]:
        """All of it as JSON values."""
        costs = {"spent": self.spent().facts(), "left": self.left.facts()}
        return {"task": self.task, **self.facts, **costs, "unknown": self.unknown}
