"""How long a study's models and judges will take to answer, and what servers will charge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from cameleer.core.artifact import Stage
from cameleer.core.console import silence
from cameleer.core.errors import UserError
from cameleer.engines.registry import Chosen
from cameleer.engines.server import Limits
from cameleer.evals.asking import EvalSpec
from cameleer.evals.benchmark import benchmark_named
from cameleer.study.budget import Cost
from cameleer.study.grid import Grid, Work
from cameleer.study.judging import Case, answered, cases, judging_of
from cameleer.study.plan.asked import Asked, Tokens, asked, seconds, tokens_of
from cameleer.study.plan.judge_work import JudgeWork
from cameleer.study.plan.piece import Machine, Piece
from cameleer.study.plan.spent import Took, took
from cameleer.study.plan.trainings import tokenizer_of
from cameleer.train.hardware import GIB
from cameleer.train.plan import in_bf16, model_config
from cameleer.train.plan_memory import on_meta

FEW = 8  # answers of a benchmark; fewer tell nothing of their speed
BATCH = 64  # texts that are written at a time, where an engine doesn't say
MEASURED, ESTIMATED = "measured on {} answers", "estimated from the hardware"


@dataclass(frozen=True)
class Reckoned:
    """What all of a stage's answers cost. by: what that comes from; fits: whether the model's
    weights do, None where none are loaded; unknown: what cannot be told, or ""."""

    cost: Cost
    by: str
    fits: bool | None = None
    memory: float | None = None
    unknown: str = ""


class Answering:
    """What the models of a study and its judges will be asked."""

    def __init__(self, grid: Grid, machine: Machine) -> None:
        self.grid, self.machine = grid, machine
        self.asked = lru_cache(None)(self._asked)
        self.tokenizer = lru_cache(None)(tokenizer_of)
        self.weights = lru_cache(None)(_weights)
        self.judged: dict[str, Stage] = {}
        self.heard: set[str] = set()

    def pieces(self) -> list[Piece]:
        """Every evaluation, then every judging."""
        found = [self._evaluation(work, label) for work in self.grid.works for label in work.evals]
        judges = {one.name: JudgeWork(self.grid, one) for one in self.grid.study.judges}
        return found + [self._judging(one, judges[one.judge.name]) for one in cases(self.grid)]

    def of(self, work: Work, label: str) -> Asked | None:
        """What an evaluation asks; None where that is seen only while it is asked."""
        if hasattr(benchmark_named(label).module, "run"):
            return None
        base = self.grid.bases.get(work.cell.base.name)
        return self.asked(work.evals[label][0].model_dump_json(), base)

    def _asked(self, spec: str, base: Path | None) -> Asked:
        tokenizer, read = self.tokenizer(base) if base else None, EvalSpec.model_validate_json(spec)
        silence(read.benchmark in self.heard)  # in another format it warns of the same
        try:
            return asked(read, self.grid.data, tokenizer)
        finally:
            self.heard.add(read.benchmark)
            silence(False)

    @cached_property
    def measured(self) -> dict[tuple[str, str], Took]:
        """What models of a base took for answers to a benchmark so far, by (base, label)."""
        found: dict[tuple[str, str], Took] = {}
        for work in self.grid.works if self.machine.here else ():
            for label, (_, stage) in work.evals.items():
                name = (work.cell.base.name, label)
                found[name] = found.get(name, Took()) + took(stage)
        return {name: one for name, one in found.items() if one.rows >= FEW}

    def _evaluation(self, work: Work, label: str) -> Piece:
        """The plan of one evaluation. What is answered counts as done."""
        stage, ask, task = work.evals[label][1], self.of(work, label), f"evaluate {work.cell.name}"
        facts: dict[str, Any] = {"model": work.cell.name, "benchmark": label}
        if ask is None:
            told = Reckoned(Cost(), "", unknown="its prompts are made while they are asked")
            return self._piece(task, lambda: stage, work.chosen, told, 0.0, facts)
        base = self.grid.bases.get(work.cell.base.name)
        measured = self.measured.get((work.cell.base.name, label))
        model = str(base) if base else work.chosen.model
        told = self._reckon(work.chosen, model, ask.tokens, ask.items, measured)
        done = 1.0 if stage.done() else min(1.0, took(stage).rows / ask.items)
        facts |= {"items": ask.items, **_counts(ask.tokens)}
        return self._piece(task, lambda: stage, work.chosen, told, 1 - done, facts)

    def _judging(self, case: Case, judge: JudgeWork) -> Piece:
        """The plan of one judging, of which only what is left is told."""
        facts: dict[str, Any] = {"model": case.work.cell.name, "judge": case.judge.name}
        task, chosen = f"judge {case.name}", case.judge.chosen()
        try:
            left = judge.of(case)
        except UserError as error:
            told = Reckoned(Cost(), "", unknown=f"cannot be judged: {error.message}")
            return self._piece(task, lambda: None, chosen, told, 0.0, facts)
        tokens = tokens_of(left.requests, None)
        told = self._reckon(chosen, chosen.model, tokens, len(left.requests), None)
        facts |= {"comparisons": left.comparisons, "requests": len(left.requests)}
        facts |= _counts(tokens)
        return self._piece(task, lambda: self._stage(case), chosen, told, 1.0, facts)

    def _stage(self, case: Case) -> Stage | None:
        """A judging's stage, once there are answers that can be compared."""
        if case.name not in self.judged:
            try:
                if answered(self.grid, case):
                    self.judged[case.name] = judging_of(self.grid, case)[1]
            except UserError:
                return None
        return self.judged.get(case.name)

    def _piece(
        self,
        task: str,
        stage: Callable[[], Stage | None],
        chosen: Chosen,
        told: Reckoned,
        share: float,
        facts: dict[str, Any],
    ) -> Piece:
        """share: of all answers that are left."""
        facts = {**facts, **told.cost.facts(), "rate_by": told.by, "fits": told.fits}
        facts["memory_gib"] = told.memory and round(told.memory / GIB, 3)
        server, unknown = limits_of(chosen), told.unknown if share else ""
        return Piece(task, stage, self.machine, 1, server, told.cost * share, facts, unknown)

    def _reckon(
        self, chosen: Chosen, model: str, tokens: Tokens, requests: int, measured: Took | None
    ) -> Reckoned:
        """What answers cost; measured: what such answers took."""
        server = limits_of(chosen)
        hours = requests * measured.seconds / measured.rows / 3600 if measured else 0.0
        by = MEASURED.format(measured.rows) if measured else ESTIMATED
        if server is not None:
            dollars = server.dollars(tokens.prompt, tokens.new or requests)
            unknown = "" if measured or not requests else "how fast its server answers"
            cost = Cost(hours / server.concurrency, 0.0, dollars, requests)
            return Reckoned(cost, by if measured else "", unknown=unknown)
        if getattr(chosen.module, "BY_NAME", False):
            return Reckoned(Cost(), "recorded")
        hardware = self.machine.hardware
        bf16 = in_bf16(getattr(chosen.options, "precision", "auto"), hardware)
        try:
            weights = self.weights(model)
        except UserError as error:
            return Reckoned(self.machine.cost(hours), by, unknown=error.message)
        memory = weights * (2 if bf16 else 4) + hardware.process
        if not measured:
            batch = getattr(chosen.options, "batch_size", BATCH)
            hours = seconds(tokens, weights, bf16, batch, hardware) / 3600
        return Reckoned(self.machine.cost(hours), by, memory <= hardware.memory, memory)


def limits_of(chosen: Chosen) -> Limits | None:
    """How a server is asked, where one answers."""
    return chosen.options if isinstance(chosen.options, Limits) else None


def _counts(tokens: Tokens) -> dict[str, int]:
    return {
        "prompt_tokens": tokens.prompt,
        "new_tokens": tokens.new,
        "new_tokens_at_most": tokens.most,
    }


def _weights(model: str) -> int:
    """How many weights a model has."""
    return sum(one.numel() for one in on_meta(model_config(model)[0], True).parameters())
