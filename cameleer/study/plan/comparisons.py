"""What a study compares, and the smallest difference that each comparison can show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cameleer.core.errors import UserError
from cameleer.evals.benchmark import benchmark_named
from cameleer.results.detectable import (
    MOST_SEEDS,
    Assumed,
    Contrast,
    Halved,
    difference,
    effects,
    halved,
    holm_strictest,
)
from cameleer.study.plan.asked import Asked
from cameleer.study.plan.material import Material
from cameleer.study.study import Study

Row = dict[str, Any]
Count = tuple[str, Contrast, int]
"""What is compared, how, and how many such comparisons there are on each benchmark."""


def comparisons(
    study: Study,
    asked: Mapping[str, Asked | None],
    material: Mapping[str, Material],
    assumed: Assumed,
) -> tuple[list[Row], list[str]]:
    """Rows for each kind of comparison and each scored benchmark; and why some are not there.

    smallest: in score (0..1), of one comparison by itself; corrected: where Holm's correction is
    strictest, at the level 5 % / family, so that one is sure to be seen among as many as the report
    makes. halved_by: see `results.detectable.Halved`; halve: the same in words.
    """
    kinds, notes = _kinds(study, material)
    scored = {
        label: one
        for label, one in asked.items()
        if one is not None and one.items > 1 and benchmark_named(label).setting.scored
    }
    rows = []
    for family in kinds:
        every = sum(count for _, _, count in family) * len(scored)
        for what, contrast, count in family:
            for label, one in scored.items():
                told = {"comparison": what, "of": count, "benchmark": label, "family": every}
                rows.append(told | _row(contrast, one, len(study.seeds), every, assumed))
    return rows, notes


def _kinds(study: Study, material: Mapping[str, Material]) -> tuple[list[list[Count]], list[str]]:
    """The comparisons of each family; a family is what the report corrects together."""
    models, bases = len(study.mixtures) * len(study.ways()), len(study.bases)
    kinds = [[("a tuned model against its base", difference(base=True), models * bases)]]
    if models > 1:
        pairs = models * (models - 1) // 2
        kinds.append([("two tuned models", difference(base=False), pairs)])
    held = {mixture.name: material[mixture.name].sources for mixture in study.mixtures}
    try:
        found = effects(held)
    except UserError as error:
        return kinds, [f"Effects of single sources cannot be told: {error}"]
    kinds.append([(f"the effect of {name}", contrast, 1) for name, contrast in found.items()])
    lost = sorted({name for one in held.values() for name in one} - found.keys())
    notes = [f"These mixtures do not tell the effects of {', '.join(lost)} apart"] if lost else []
    return kinds, notes


def _row(contrast: Contrast, asked: Asked, seeds: int, family: int, assumed: Assumed) -> Row:
    alone = contrast.smallest(asked.independent, seeds, assumed=assumed)
    strict = contrast.smallest(asked.independent, seeds, holm_strictest(family), assumed)
    given = (asked.items, asked.independent, asked.there, seeds)
    by = halved(contrast, *given, assumed)
    return {
        "items": asked.items,
        "there": asked.there,
        "independent": round(asked.independent, 1),
        "seeds": seeds,
        "smallest": round(alone, 4),
        "corrected": round(strict, 4),
        "halved_by": asdict(by),
        "halve": _words(by, asked),
    }


def _words(by: Halved, asked: Asked) -> str:
    """What would halve the smallest difference, in words."""
    seeds = f"{by.seeds} seeds" if by.seeds else ""
    if by.items and by.items <= asked.there:
        return f"{by.items:,} items" + (f", or {seeds}" if seeds else "")
    only = f"the benchmark has only {asked.there:,} items"
    if by.both:
        return f"{by.both[0]:,} items and {by.both[1]} seeds"
    if seeds:
        return f"{seeds} ({only})" if by.items else f"{seeds} (more items do not help)"
    return f"out of reach: {only}, and {MOST_SEEDS} seeds are too few"
