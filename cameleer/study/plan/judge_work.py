"""What a study's judges will be asked, told before the answers that they compare are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from cameleer.engines.engine import Request
from cameleer.engines.server import Limits
from cameleer.evals.asking import EvalSpec, ask_of, items_of
from cameleer.evals.benchmark import benchmark_named
from cameleer.evals.judge.outputs import Output, Outputs
from cameleer.evals.judge.plan import PER_TOKEN, planned
from cameleer.evals.judge.run import JudgeSpec, Judging, answers_of
from cameleer.evals.judge.spec import pairwise_judge
from cameleer.evals.protocol import template_for
from cameleer.study.grid import Grid
from cameleer.study.judging import Case, answered, judging_of
from cameleer.study.plan.asked import LIKELY
from cameleer.study.plan.spent import took
from cameleer.study.study import StudyJudge, label_of


@dataclass(frozen=True)
class ToJudge:
    """What a judge compares of one model. requests: that are left; dollars: that these cost at
    most, 0 where nothing is charged."""

    comparisons: int
    requests: Sequence[Request]
    dollars: float


class JudgeWork:
    """What one judge will be asked. Answers that are not there yet are taken to be of LIKELY
    tokens."""

    def __init__(self, grid: Grid, judge: StudyJudge) -> None:
        self.grid, self.judge = grid, judge

    def of(self, case: Case) -> ToJudge:
        """Raises UserError for answers that cannot be compared."""
        if not answered(self.grid, case):
            return self.unanswered
        judging, stage = judging_of(self.grid, case)
        return self._left(judging, None if stage.done() else took(stage).rows)

    @cached_property
    def unanswered(self) -> ToJudge:
        """What is asked about a model that has not answered."""
        judge, answers = self.judge, self._answers("a model")
        if judge.against in {work.cell.name for work in self.grid.works}:
            reference = self._answers(judge.against)
        else:
            found = answers_of(judge.against, self.grid.data)
            asked = answers.by_instruction()
            shared = tuple(row for row in found.rows if row.instruction in asked)
            reference = replace(found, rows=shared)
        spec = JudgeSpec(**judge.model_dump(include=set(JudgeSpec.model_fields)))
        own = pairwise_judge(judge.judge)
        return self._left(Judging(own, judge.name, judge.chosen(), reference, answers, spec), 0)

    def _left(self, judging: Judging, done: int | None) -> ToJudge:
        """done: requests that are answered; None is all."""
        asked = [one.request for one in judging.questions(None)]
        left = [] if done is None else asked[done:]
        options = judging.chosen.options
        limits = options if isinstance(options, Limits) else None
        dollars = planned(len(judging.pairs), 0, left, {}, None, limits).dollars
        return ToJudge(len(judging.pairs), left, dollars[1] if dollars else 0.0)

    def _answers(self, name: str) -> Outputs:
        """Stand-ins for a model's answers to what the study asks."""
        spec = self._benchmark()
        benchmark = benchmark_named(spec.benchmark)
        shown = template_for(EvalSpec(benchmark=spec.benchmark).template, None)
        ask = ask_of(spec, benchmark, self.grid.data, shown, None)
        text = name.ljust(LIKELY * PER_TOKEN, ".")
        rows = [
            Output(item.key, item.meta["instruction"], text, item.group)
            for item in items_of(benchmark, ask, spec.limit)
        ]
        return Outputs(name, tuple(rows), Path(name))

    def _benchmark(self) -> EvalSpec:
        label = benchmark_named(self.judge.benchmark).label
        return next(spec for spec in self.grid.study.benchmarks if label_of(spec) == label)
