"""The cells of a study and their stages, told without doing any of the work."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cameleer.core.artifact import Stage, require_unchanged
from cameleer.core.files import read_json, write_json
from cameleer.data.miniature import miniature_stage
from cameleer.data.mix.build import mix_stage
from cameleer.data.mix.config import MixConfig
from cameleer.engines.engine import Engine
from cameleer.engines.registry import Chosen
from cameleer.evals.asking import EvalSpec
from cameleer.evals.runner import eval_stage
from cameleer.model.load import load_tokenizer, model_fingerprint, model_folder
from cameleer.model.size import parameters
from cameleer.study.licences import licences
from cameleer.study.study import Base, Method, Reference, Study, cell_name, label_of, row_name
from cameleer.train.config import TrainConfig

Failed = dict[str, str]
"""Why something failed, by its name."""


@dataclass(frozen=True)
class Cell:
    """One model of the grid: a base as it is (no mixture), or tuned on a mixture with a seed; or a
    reference.

    method: how, where the study sets several ways side by side.
    """

    base: Base | Reference
    mixture: MixConfig | None = None
    method: Method | None = None
    seed: int | None = None

    @property
    def name(self) -> str:
        if self.mixture is None or self.seed is None or isinstance(self.base, Reference):
            return self.base.name
        return cell_name(self.base, self.mixture, self.method, self.seed)

    @property
    def row(self) -> str | None:
        """What the report calls it beside others of its base: the mixture, and how, if told."""
        return None if self.mixture is None else row_name(self.mixture, self.method)


@dataclass(frozen=True)
class Work:
    """A cell's stages. `config` and `train` are None for what is asked as it is. chosen: what
    answers; identity: of its answers."""

    cell: Cell
    mix: Stage | None
    config: TrainConfig | None
    train: Stage | None
    chosen: Chosen
    identity: dict[str, Any]
    evals: dict[str, tuple[EvalSpec, Stage]]

    def stages(self) -> Iterator[Stage]:
        """All stages that are the cell's own, in order."""
        if self.train is not None:
            yield self.train
        for _, stage in self.evals.values():
            yield stage

    def done(self) -> bool:
        return all(stage.done() for stage in self.stages())

    def engine(self) -> Engine:
        """What answers, ready to; the model must have been trained."""
        return self.chosen.open(self.identity)


def cells(study: Study) -> list[Cell]:
    """Every base first as it is, then on every mixture, in every way, with every seed; then all
    references."""
    found = []
    for base in study.bases:
        tuned = itertools.product(study.mixtures, study.ways(), study.seeds)
        found += [Cell(base), *(Cell(base, *one) for one in tuned)]
    return found + [Cell(reference) for reference in study.references]


Find = Callable[[str], tuple[Path, str]]
"""Gives the folder and fingerprint of MODEL."""


def model_here(model: str) -> tuple[Path, str]:
    """Those of a model on this machine, fetched if it must be."""
    folder = model_folder(model)
    return folder, model_fingerprint(folder)


class Grid:
    """A study's stages under its folder. Made only once the data is there: it is fingerprinted."""

    def __init__(self, study: Study, folder: Path, find: Find = model_here) -> None:
        self.study, self.folder = study, folder
        self.data = data_stage(study, folder).folder if study.miniature else study.data
        self.mixes = {mixture.name: self._mix(mixture) for mixture in study.mixtures}
        found = {base.name: find(base.model) for base in study.bases}
        self.bases = {name: path for name, (path, _) in found.items()}
        self.prints = {name: fingerprint for name, (_, fingerprint) in found.items()}
        self.works = [self._work(cell) for cell in cells(study)]
        self.touched: dict[str, Stage] = {}
        """By mixture, which test items it holds; put here when it has been searched."""

    def _mix(self, mixture: MixConfig) -> Stage:
        folder = self.folder / "mix" / mixture.name
        return self.placed(mix_stage(mixture, self.data, folder, load_tokenizer))

    def placed(self, stage: Stage) -> Stage:
        """The stage in a folder that bears its fingerprint: another setting is another folder."""
        name = f"{stage.folder.name}-{stage.fingerprint[:8]}"
        return Stage(stage.kind, stage.folder.with_name(name), stage.config, stage.inputs)

    def _work(self, cell: Cell) -> Work:
        mix = config = train = None
        if isinstance(cell.base, Reference):
            chosen = cell.base.chosen(self.study)
            identity = chosen.identity()
            return Work(cell, None, None, None, chosen, identity, self._evals(cell, identity))
        base, model = self.bases[cell.base.name], self.prints[cell.base.name]
        folder = base
        if cell.mixture is not None and cell.seed is not None:
            mix = self.mixes[cell.mixture.name]
            settings = self.study.train_settings(cell.base, cell.method, cell.seed).model_dump()
            config = TrainConfig.model_validate(
                {**settings, "model": str(base), "data": mix.folder}
            )
            inputs = {"model": model, "data": mix.fingerprint}
            place = self.folder / "train" / cell.name
            train = self.placed(Stage("train", place, config.deciding(), inputs))
            folder, model = train.folder, train.fingerprint
        chosen = self.study.engine.chosen(str(folder), self.study.rule)
        identity = chosen.identity(model)
        return Work(cell, mix, config, train, chosen, identity, self._evals(cell, identity))

    def require_unchanged(self) -> None:
        """Raise UserError if a finished stage's files are not those that it wrote."""
        for work in self.works:
            for stage in work.stages():
                if stage.done():
                    require_unchanged(stage.folder)

    def _evals(self, cell: Cell, identity: dict[str, Any]) -> dict[str, tuple[EvalSpec, Stage]]:
        untuned = cell.mixture is None and not isinstance(cell.base, Reference)
        found = {}
        for declared in self.study.benchmarks:
            label, spec = label_of(declared), declared
            if untuned and declared.format is None:
                spec = declared.model_copy(update={"format": self.study.base_format})
            folder = self.folder / "eval" / f"{cell.name}--{label.replace(':', '-')}"
            found[label] = (spec, self.placed(eval_stage(spec, identity, self.data, folder)))
        return found

    def write_index(
        self, failed: dict[str, str], judgings: Sequence[Stage] = (), unjudged: Failed | None = None
    ) -> None:
        """Write study.json, which says where each cell's results stand; the report reads it."""
        judged = [{"folder": self._relative(stage)} for stage in judgings]
        index = {**self._index(failed), "judgings": judged, "unjudged": unjudged or {}}
        write_json(self.folder / "study.json", index)

    def _relative(self, stage: Stage | None) -> str | None:
        return None if stage is None else stage.folder.relative_to(self.folder).as_posix()

    def _index(self, failed: dict[str, str]) -> dict[str, Any]:
        study, relative = self.study, self._relative
        return {
            "name": study.name,
            "about": study.about,
            "bases": [
                {
                    "name": base.name,
                    "about": base.about,
                    "parameters": parameters(self.bases[base.name]),
                }
                for base in study.bases
            ],
            "references": [{"name": one.name, "about": one.about} for one in study.references],
            "mixtures": [
                {
                    "name": row_name(mixture, method),
                    "sources": self._sources(mixture),
                    "touched": relative(self.touched.get(mixture.name)),
                }
                for mixture, method in itertools.product(study.mixtures, study.ways())
            ],
            "benchmarks": [label_of(spec) for spec in study.benchmarks],
            "cells": [
                {
                    "base": work.cell.base.name,
                    "reference": isinstance(work.cell.base, Reference),
                    "mixture": work.cell.row,
                    "seed": work.cell.seed,
                    "mix": relative(work.mix),
                    "train": relative(work.train),
                    "evals": {label: relative(stage) for label, (_, stage) in work.evals.items()},
                    "failed": failed.get(work.cell.name),
                }
                for work in self.works
            ],
            "licences": licences(study, self.bases),
            "study": study.model_dump(mode="json"),
            "declared": study.model_dump(mode="json", exclude_unset=True),
        }

    def _sources(self, mixture: MixConfig) -> dict[str, int]:
        stage = self.mixes[mixture.name]
        if not stage.done():
            return {}
        sources = read_json(stage.folder / "manifest.json")["outcome"]["sources"]
        return {name: facts["taken"] for name, facts in sources.items()}


def data_stage(study: Study, folder: Path) -> Stage:
    """The stage that writes the miniature world of a study that has one."""
    assert study.miniature is not None
    return miniature_stage(study.miniature, folder / "data")
