"""What each data set of a study did: its finished models as the statistics of effects take them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any

from cameleer.core.errors import UserError
from cameleer.results.effects import Attribution, By, Tuned, attribute
from cameleer.results.stats import Run
from cameleer.results.store import Study

CLEAR = 0.05  # an effect is told for what it is where its adjusted p is below


@dataclass(frozen=True)
class Told:
    """What the data sets did to one base by one way of training ("" where the study has but one).

    found: None where their effects cannot be told, and `why` says why.
    """

    base: str
    way: str
    found: Attribution | None
    why: str = ""

    @property
    def title(self) -> str:
        return f"{self.base}, {self.way}" if self.way else self.base


def attributions(study: Study, *, by: By = "amount") -> list[Told]:
    """The effects on every base by every way of training, or why they cannot be told."""
    told = []
    for base in study.bases:
        for way, mixtures in study.ways.items():
            try:
                told.append(Told(base, way, attribution(study, base, by=by, only=mixtures)))
            except UserError as error:
                why = f"{error.message}; {error.hint}" if error.hint else error.message
                told.append(Told(base, way, None, why))
    return told


def attribution(
    study: Study, base: str, *, by: By = "amount", only: Collection[str] | None = None
) -> Attribution:
    """What the finished models of one base in a study say; notes tell how many were left out.

    only: the mixtures to go by, such as those of one way of training; default all. Raises UserError
    as `attribute` does, and where no tuned model is finished or nothing is scored.
    """
    tuned, untuned, absent = tuned_runs(study, base, only)
    found = attribute(tuned, untuned, by=by)
    left = f"{absent} models are not finished, or failed: they are left out." if absent else ""
    return replace(found, notes=(*found.notes, *([left] if left else [])))


def tuned_runs(
    study: Study, base: str, only: Collection[str] | None = None
) -> tuple[list[Tuned], Run | None, int]:
    """(the finished runs of a base, the untuned base's, how many others are not finished).

    Scores are told upward: 1 less the score where lower is better. Raises UserError where no tuned
    model is finished, or no benchmark is scored.
    """
    tuned, untuned, absent = [], None, 0
    scored = [name for name in study.benchmarks if _is_scored(study, name)]
    for cell in study.cells:
        if cell.base != base or cell.reference:
            continue
        if only is not None and cell.mixture is not None and cell.mixture not in only:
            continue
        if any(name not in cell.evals for name in scored):
            absent += 1
            continue
        run = {name: cell.evals[name].items_upward for name in scored}
        if cell.mixture is None:
            untuned = run
        else:
            tuned.append(Tuned(cell.mixture, study.mixtures[cell.mixture], run))
    if not tuned:
        raise UserError(f"no tuned model of '{base}' is finished", file=study.folder)
    if not scored:
        raise UserError("no benchmark of the study is scored", file=study.folder)
    return tuned, untuned, absent


def effect_rows(found: Attribution) -> list[dict[str, Any]]:
    """The effects as rows for a table, in the order source, benchmark; `clear`: p_holm < 0.05."""
    return [
        {**asdict(one), "clear": one.p_holm < CLEAR}
        for source in found.sources
        for one in found.effects
        if one.source == source
    ]


def _is_scored(study: Study, benchmark: str) -> bool:
    there = [cell.evals[benchmark] for cell in study.cells if benchmark in cell.evals]
    return any(one.scored for one in there)
