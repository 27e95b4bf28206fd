"""Judgements gathered from several places, with the texts that they are about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cameleer.core.console import warn
from cameleer.core.errors import unknown
from cameleer.core.files import read_json
from cameleer.results.judgements import read_judgements
from cameleer.results.records import Judgement
from cameleer.results.store import UNTUNED, Cell, Evaluation, Study

ANNOTATIONS = "annotations.json"
"""What a judging leaves beside its judgements: both answers to each item, in AlpacaEval's form."""


@dataclass
class Judged:
    """What judges and people said.

    prompts: by item. outputs: by item and the model's name, as the judgements have it.
    """

    judgements: list[Judgement] = field(default_factory=list)
    prompts: dict[str, str] = field(default_factory=dict)
    outputs: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def models(self) -> set[str]:
        return {name for one in self.judgements for name in (one.a, one.b)}

    def add(self, other: Judged) -> None:
        """Take in what another place holds; of a text that both have, this one stays."""
        self.judgements += other.judgements
        self.prompts = other.prompts | self.prompts
        self.outputs = other.outputs | self.outputs

    def hear(self, model: str, answers: Iterable[tuple[str, str, str]]) -> None:
        """Take in a model's answers, (item, prompt, output) each; texts that are there stay."""
        for item, prompt, output in answers:
            self.prompts.setdefault(item, prompt)
            self.outputs.setdefault((item, model), output)

    def hear_evaluation(self, model: str, run: Evaluation) -> None:
        """Take in what a model answered to the judged items in an evaluation of ours."""
        rows = run.samples({one.item for one in self.judgements})
        self.hear(model, ((item, str(row.get("prompt", "")), str((row.get("outputs") or [""])[0]))
                          for item, row in rows.items()))  # fmt: skip

    @classmethod
    def read(cls, place: Path) -> Judged:
        """The judgements of a file or folder, and the texts in the annotations beside them.

        Annotations stand in the order of the items. Raises UserError for what is no judgement.
        """
        judged = cls(read_judgements(place))
        path = (place if place.is_dir() else place.parent) / ANNOTATIONS
        rows = read_json(path) if path.is_file() else []
        items = list(dict.fromkeys(one.item for one in judged.judgements))
        if rows and len(rows) != len(items):
            warn(f"{path}: {len(rows)} verdicts for {len(items)} items; their texts are not shown")
            return judged
        for item, row in zip(items, rows, strict=False):
            for side in ("1", "2"):
                text, model = row.get(f"output_{side}"), row.get(f"generator_{side}")
                if isinstance(text, str):
                    judged.hear(str(model), [(item, str(row.get("instruction", "")), text)])
        return judged

    def named(self, known: Mapping[str, str], same: Mapping[str, str]) -> tuple[Judged, list[str]]:
        """The same with each model under the name that `known` gives for what it was called.

        same: what the user says of further names, as name to name. Returns as well the names that
        are not known, and stay as they are. Raises UserError for a name in `same` that is nobody's.
        """
        for given, meant in same.items():
            if given not in self.models:
                raise unknown("judged model", given, self.models, "cameleer judge compare --json")
            if meant not in known and meant not in self.models:
                everyone = {*known, *self.models}
                raise unknown("model", meant, everyone, "cameleer judge compare --json")
        called = {name: same.get(name, name) for name in self.models}
        names = {name: known.get(meant, meant) for name, meant in called.items()}
        judgements = [replace(one, a=names[one.a], b=names[one.b]) for one in self.judgements]
        outputs = {(item, names.get(model, known.get(model, model))): text
                   for (item, model), text in self.outputs.items()}  # fmt: skip
        strange = sorted(name for name, meant in called.items() if meant not in known)
        return Judged(judgements, dict(self.prompts), outputs), strange


def study_names(study: Study) -> tuple[dict[str, str], dict[str, str]]:
    """(the run that each name stands for, the model that each run is one of) of a study's cells.

    A run is a cell, by its label. It may also be called by the beginning of its evaluations'
    folders (`BASE--MIXTURE--sSEED`), by what names it in outputs.json (`generator`), and, if it is
    the only run of its model, by the model's name. A name that would fit two runs stands for none.
    """
    names: dict[str, set[str]] = {}
    models = {cell.label: model_name(study, cell) for cell in study.cells}
    for cell in study.cells:
        called = {cell.label, *_folder_names(cell), *_generators(cell)}
        if list(models.values()).count(models[cell.label]) == 1:
            called.add(models[cell.label])
        for name in called:
            names.setdefault(name, set()).add(cell.label)
    return {name: min(runs) for name, runs in names.items() if len(runs) == 1}, models


def model_name(study: Study, cell: Cell) -> str:
    """What the report calls a cell's model, whatever its seed."""
    if cell.reference:
        return cell.base
    row = cell.mixture or UNTUNED
    return row if len(study.bases) == 1 else f"{cell.base}: {row}"


def _folder_names(cell: Cell) -> set[str]:
    found = set()
    for label, run in cell.evals.items():
        name, there, _ = run.folder.name.rpartition(f"--{label.replace(':', '-')}-")
        found |= {run.folder.name, *([name] if there else [])}
    return found


def _generators(cell: Cell) -> set[str]:
    configs = [run.manifest.get("config") or {} for run in cell.evals.values()]
    engines = [config.get("engine") for config in configs if isinstance(config, dict)]
    return {str(one["model"]) for one in engines if isinstance(one, dict) and one.get("model")}
