"""What a study will take, told before it is run: tokens, memory, hours, dollars, and what it shows.

What is done is not planned but counted. Where something of the study has run on this machine, the
others are taken to be as fast; else rates are estimated from the hardware.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cameleer.evals.benchmark import benchmark_named
from cameleer.results.detectable import Assumed
from cameleer.study.budget import Cost, total
from cameleer.study.grid import Grid
from cameleer.study.plan.answering import Answering
from cameleer.study.plan.asked import Asked
from cameleer.study.plan.comparisons import comparisons
from cameleer.study.plan.material import COUNTED, materials
from cameleer.study.plan.piece import Machine, Piece
from cameleer.study.plan.trainings import way_name, ways_of
from cameleer.study.status import states
from cameleer.study.study import label_of
from cameleer.train.hardware import GIB, hardware_named

Row = dict[str, Any]


class StudyPlan:
    """The plan of a study, stage by stage."""

    def __init__(
        self,
        grid: Grid,
        hardware: str | None = None,
        ranks: int = 1,
        price: float | None = None,
    ) -> None:
        """hardware: of `cameleer train plan`, None is this machine; ranks: that train one model;
        price: dollars for an hour of each, default the budget's, or what is typical."""
        self.grid, self.study = grid, grid.study
        device = hardware_named(hardware)
        budget = self.study.budget
        budgeted = budget.price_per_gpu_hour if budget else None
        priced = next(one for one in (price, budgeted, device.price, 0.0) if one is not None)
        held = self.study.executor.gpus_per_stage if device.kind == "gpu" else 1
        self.machine = Machine(device, ranks, held, priced, hardware is None)
        with tempfile.TemporaryDirectory() as scratch:
            self.material = materials(self.grid, Path(scratch))
            self.ways = ways_of(self.grid, self.material, self.machine)
        self.answering = Answering(self.grid, self.machine)
        self.trainings = [
            self.ways[way_name(work)].piece(work)
            for work in self.grid.works
            if work.train is not None
        ]
        self.answers = self.answering.pieces()

    @property
    def pieces(self) -> list[Piece]:
        """All stages but mixtures, which take seconds."""
        return [*self.trainings, *self.answers]

    def spent(self) -> Cost:
        """What the study has taken by now."""
        return total(piece.spent() for piece in self.pieces)

    def left(self) -> Cost:
        """What is left of it, as far as that is known."""
        return total(piece.left for piece in self.pieces)

    def facts(self, assumed: Assumed | None = None) -> Row:
        """The whole plan as JSON values. smallest_difference of a benchmark: between a tuned model
        and its base, in score (0..1)."""
        spent, left = self.spent(), self.left()
        asked, given = self._asked(), assumed or Assumed()
        compared, notes = comparisons(self.study, asked, self.material, given)
        hardware = self.machine.hardware
        return {
            "name": self.study.name,
            "folder": str(self.grid.folder),
            "machine": {
                "name": hardware.name,
                "memory_gib": round(hardware.memory / GIB, 1),
                "ranks": self.machine.ranks,
                "price_per_gpu_hour": self.machine.price,
            },
            "models": states(self.grid),
            "mixtures": self._mixtures(),
            "trainings": [piece.to_row() for piece in self.trainings],
            "answers": [piece.to_row() for piece in self.answers],
            "benchmarks": [_benchmark(label, one, compared) for label, one in asked.items()],
            "judges": self._judges(),
            "comparisons": compared,
            "assumed": asdict(given),
            "notes": notes,
            "spent": spent.facts(),
            "left": left.facts(),
            "total": (spent + left).facts(),
            "unknown": sorted({piece.unknown for piece in self.pieces if piece.unknown}),
            "budget": self._budget(spent + left),
        }

    def _budget(self, cost: Cost) -> Row | None:
        budget = self.study.budget
        if budget is None:
            return None
        exceeded = [
            {"field": field, "limit": limit, "by": round(more, 6)}
            for field, limit, more in budget.over(cost)
        ]
        return {**budget.model_dump(exclude_none=True), "exceeded": exceeded}

    def _asked(self) -> dict[str, Asked | None]:
        """What each benchmark asks of the first base."""
        first = self.grid.works[0]
        labels = [label_of(spec) for spec in self.study.benchmarks]
        return {label: self.answering.of(first, label) for label in labels}

    def _mixtures(self) -> list[Row]:
        return [
            {
                "mixture": name,
                "conversations": round(sum(one.sources.values())),
                "sources": {source: round(count) for source, count in one.sources.items()},
                "by": one.how or COUNTED,
            }
            for name, one in self.material.items()
        ]

    def _judges(self) -> list[Row]:
        """What each judge will compare, and how often it is asked for what is left."""
        found = []
        for judge in self.study.judges:
            rows = [one.facts for one in self.answers if one.facts.get("judge") == judge.name]
            counts = {
                name: sum(row.get(name, 0) for row in rows)
                for name in ("comparisons", "requests", "dollars")
            }
            told = {"judge": judge.name, "against": judge.against, "models": len(rows)}
            found.append({**told, **counts})
        return found


def _benchmark(label: str, asked: Asked | None, compared: list[Row]) -> Row:
    rows = [row["smallest"] for row in compared if row["benchmark"] == label]
    scored = benchmark_named(label).setting.scored
    return {
        "benchmark": label,
        "items": asked and asked.items,
        "there": asked and asked.there,
        "smallest_difference": rows[0] if rows and scored else None,
    }
