"""What a study's judges compare: a stage for each model and judge, once the answers are there."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cameleer.core.artifact import Stage
from cameleer.core.errors import UserError
from cameleer.evals.benchmark import benchmark_named
from cameleer.evals.judge.outputs import Outputs, read_outputs
from cameleer.evals.judge.run import JudgeSpec, Judging, answers_of
from cameleer.evals.judge.spec import pairwise_judge
from cameleer.study.grid import Grid, Work
from cameleer.study.study import StudyJudge


@dataclass(frozen=True)
class Case:
    """A judge and the model that it compares with the judge's reference."""

    judge: StudyJudge
    work: Work

    @property
    def name(self) -> str:
        return f"{self.work.cell.name}--{self.judge.name}"


def cases(grid: Grid) -> list[Case]:
    """Every judge with every model but its own reference."""
    return [
        Case(judge, work)
        for judge in grid.study.judges
        for work in grid.works
        if work.cell.name != judge.against
    ]


def judging_of(grid: Grid, case: Case) -> tuple[Judging, Stage]:
    """What is to be asked, and the stage of it; the answers must be there (see `answered`).

    Models go by the names of their cells. Raises UserError for answers that cannot be compared.
    """
    declared, answers = case.judge, _answers(case.work, case.judge)
    reference = _reference(grid, case.judge)
    spec = JudgeSpec(**declared.model_dump(include=set(JudgeSpec.model_fields)))
    judging = Judging(
        pairwise_judge(declared.judge), declared.name, declared.chosen(), reference, answers, spec
    )
    return judging, grid.placed(judging.stage(grid.folder / "judge" / case.name))


def answered(grid: Grid, case: Case) -> bool:
    """Whether both models have answered."""
    sides = [case.work, *(one for one in grid.works if one.cell.name == case.judge.against)]
    return all(_stage(work, case.judge).done() for work in sides)


def _stage(work: Work, judge: StudyJudge) -> Stage:
    """The evaluation in which a model writes what is judged."""
    return work.evals[benchmark_named(judge.benchmark).label][1]


def _answers(work: Work, judge: StudyJudge) -> Outputs:
    return replace(read_outputs(_stage(work, judge).folder), generator=work.cell.name)


def _reference(grid: Grid, judge: StudyJudge) -> Outputs:
    """What all are compared with."""
    for work in grid.works:
        if work.cell.name == judge.against:
            return _answers(work, judge)
    try:
        return answers_of(judge.against, grid.data)
    except UserError as error:
        names = ", ".join(work.cell.name for work in grid.works)
        hint = f"{error.hint}; models of this study: {names}" if error.hint else f"models: {names}"
        raise UserError(error.message, file=error.file, field="against", hint=hint) from None
