"""Reading what a study left on disk: study.json, the folders of its cells, their items' scores.

STUDY/study.json names the bases, mixtures, references, benchmarks and cells; a cell names the
folders (relative to STUDY) of its mixture, its training and its evaluations. A folder that is not
there yet, or has no manifest, is unfinished: it reads as None, never as a score of 0.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cameleer.core.artifact import MANIFEST, require_unchanged
from cameleer.core.errors import UserError
from cameleer.core.files import read_json
from cameleer.core.jsonl import read_jsonl
from cameleer.results.stats import Items

STUDY = "study.json"
UNTUNED = "base, untuned"  # what a base as it is goes by, beside its mixtures


@dataclass(frozen=True)
class Evaluation:
    """One benchmark's finished evaluation of one model."""

    folder: Path

    @cached_property
    def scores(self) -> dict[str, Any]:
        """What scores.json holds: value, low, high, n, groups, metrics, finish, notes, …"""
        return _object(self.folder / "scores.json")

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return _object(self.folder / MANIFEST)

    @property
    def scored(self) -> bool:
        """Whether there is a score; answers may only be written, for a judge or people."""
        return "value" in self.scores

    @property
    def lower_is_better(self) -> bool:
        return bool(self.scores.get("lower_is_better"))

    @cached_property
    def items(self) -> Items:
        """Score of every item by its key, with weights, clusters and strata, from samples.jsonl.

        Groups are strata where the score is a mean over them.
        """
        path = self.folder / "samples.jsonl"
        items: dict[str, float] = {}
        weights, clusters, groups = {}, {}, {}
        for line, row in read_jsonl(path):
            key, score = row.get("item"), row.get("score")
            if not isinstance(key, str):
                raise UserError("is missing or not text", file=path, line=line, field="item")
            if not isinstance(score, int | float) or not 0 <= score <= 1:
                raise UserError("is not a number in 0..1", file=path, line=line, field="score")
            if key in items:
                raise UserError(f"item '{key}' is there twice", file=path, line=line)
            items[key] = float(score)
            weights[key] = _weight(row, path, line)
            clusters[key], groups[key] = str(row.get("cluster", "")), str(row.get("group", ""))
        if not items:
            raise UserError("holds no samples", file=path, hint="run the evaluation again")
        return Items(items, weights, clusters, groups if self.scores.get("macro") else {})

    @cached_property
    def items_upward(self) -> Items:
        """The items with 1 less the score where lower is better, so that means over benchmarks
        make sense."""
        if not self.lower_is_better:
            return self.items
        return replace(self.items, scores={k: 1 - v for k, v in self.items.scores.items()})

    def samples(self, keys: Collection[str]) -> dict[str, dict[str, Any]]:
        """The whole rows of some items, by key."""
        rows = read_jsonl(self.folder / "samples.jsonl")
        return {row["item"]: row for _, row in rows if row["item"] in keys}


@dataclass(frozen=True)
class Train:
    """One finished training run."""

    folder: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return _object(self.folder / MANIFEST)

    @property
    def outcome(self) -> dict[str, Any]:
        outcome: dict[str, Any] = self.manifest.get("outcome") or {}
        return outcome

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """Rows of metrics.jsonl: step, loss, supervised_tokens, …; none if it is not there."""
        path = self.folder / "metrics.jsonl"
        return [row for _, row in read_jsonl(path)] if path.is_file() else []


@dataclass(frozen=True)
class Cell:
    """A base model with one mixture and seed, or untuned (both None), and what came of it.

    reference: `base` is no base, but a model that is asked the same.
    """

    base: str
    mixture: str | None
    seed: int | None
    train: Train | None
    mix: Path | None
    evals: dict[str, Evaluation]
    failed: str | None
    reference: bool = False

    @property
    def label(self) -> str:
        if self.reference:
            return self.base
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.base} · {self.mixture or 'untuned'}{seed}"


@dataclass(frozen=True)
class Study:
    """A study's declaration and its cells, in the order declared.

    bases, references: name to a line about it; mixtures: name to its sources and their
    conversations. judgings: folders of what judges say of the models' answers, as far as they are
    finished; unjudged: why the others failed, by judge and model. generated: whether the questions
    are a miniature world's; published: whether published models may be shown beside. methods: the
    ways of training that are set side by side, if any; parameters: of bases, as far as known.
    touched: by mixture, the folder that says which test items it holds (see results.touched).
    licences: of bases and benchmarks, each with `name`, `kind`, `licence` and what it `asks`;
    declared: the study's file, as far as it was said.
    """

    folder: Path
    name: str
    about: str
    started: str
    bases: dict[str, str]
    mixtures: dict[str, dict[str, int]]
    benchmarks: list[str]
    cells: list[Cell]
    references: dict[str, str] = field(default_factory=dict)
    judgings: list[Path] = field(default_factory=list)
    unjudged: dict[str, str] = field(default_factory=dict)
    generated: bool = False
    published: bool = True
    methods: list[str] = field(default_factory=list)
    parameters: dict[str, int] = field(default_factory=dict)
    touched: dict[str, Path] = field(default_factory=dict)
    licences: list[dict[str, str]] = field(default_factory=list)
    declared: dict[str, Any] = field(default_factory=dict)

    @property
    def ways(self) -> dict[str, list[str]]:
        """The mixtures of each way of training; all of them by "" where there is but one."""
        return {
            way: [name for name in self.mixtures if name.endswith(f" ({way})")]
            for way in self.methods
        } or {"": list(self.mixtures)}

    def of(self, base: str, mixture: str | None) -> list[Cell]:
        """The cells of a base and a mixture, one for each seed."""
        return [cell for cell in self.cells if (cell.base, cell.mixture) == (base, mixture)]

    def stages(self) -> list[Path]:
        """The folders of all finished stages, each once."""
        found: list[Path] = []
        for cell in self.cells:
            found += [cell.mix] if cell.mix else []
            found += [cell.train.folder] if cell.train else []
            found += [run.folder for run in cell.evals.values()]
        return list(dict.fromkeys([*found, *self.judgings, *self.touched.values()]))

    def require_unchanged(self) -> None:
        """Raise UserError if a stage's files are not those that it wrote."""
        for folder in self.stages():
            require_unchanged(folder)


def read_study(folder: Path) -> Study:
    """The study in a folder. Raises UserError if study.json is missing or broken."""
    path = folder / STUDY
    if not path.is_file():
        raise UserError(
            "no study here: study.json is missing",
            file=folder,
            hint="`cameleer study run` makes it",
        )
    record = _object(path)
    try:
        declared = record.get("study") or {}
        return Study(
            folder=folder,
            name=str(record["name"]),
            about=str(record.get("about") or ""),
            started=str(record.get("started") or ""),
            bases=_abouts(record["bases"]),
            mixtures={mix["name"]: mix.get("sources") or {} for mix in record["mixtures"]},
            benchmarks=list(record["benchmarks"]),
            cells=[_cell(folder, cell) for cell in record["cells"]],
            references=_abouts(record.get("references") or []),
            judgings=[
                found
                for one in record.get("judgings") or []
                if (found := _finished(folder, one["folder"]))
            ],
            unjudged=dict(record.get("unjudged") or {}),
            generated=_generated(declared),
            published=declared.get("published") is not False,
            licences=list(record.get("licences") or []),
            declared=record.get("declared") or declared,
            methods=[method["name"] for method in declared.get("methods") or []],
            parameters={
                base["name"]: count for base in record["bases"] if (count := base.get("parameters"))
            },
            touched={
                mix["name"]: found
                for mix in record["mixtures"]
                if (found := _finished(folder, mix.get("touched")))
            },
        )
    except KeyError as error:
        raise UserError("is missing", file=path, field=str(error.args[0])) from None
    except (TypeError, AttributeError):
        raise UserError("is not laid out as a study", file=path) from None


def _generated(declared: dict[str, Any]) -> bool:
    """Whether a study says that its data is a miniature world, or its data folder does."""
    if declared.get("miniature"):
        return True
    manifest = Path(declared.get("data") or "") / MANIFEST
    return manifest.is_file() and _object(manifest).get("kind") == "miniature"


def _abouts(models: list[dict[str, Any]]) -> dict[str, str]:
    return {model["name"]: model.get("about") or "" for model in models}


def _cell(folder: Path, record: dict[str, Any]) -> Cell:
    train = _finished(folder, record.get("train"))
    found = {
        label: _finished(folder, below) for label, below in (record.get("evals") or {}).items()
    }
    return Cell(
        base=record["base"],
        mixture=record["mixture"],
        seed=record.get("seed"),
        train=Train(train) if train else None,
        mix=_finished(folder, record.get("mix")),
        evals={label: Evaluation(below) for label, below in found.items() if below},
        failed=record.get("failed"),
        reference=bool(record.get("reference")),
    )


def _finished(folder: Path, below: str | None) -> Path | None:
    """A stage's folder, or None where it is not finished."""
    return folder / below if below and (folder / below / MANIFEST).is_file() else None


def _weight(row: dict[str, Any], path: Path, line: int) -> float:
    weight = row.get("weight", 1.0)
    if not isinstance(weight, int | float) or not 0 < weight < float("inf"):
        raise UserError("is not a number above 0", file=path, line=line, field="weight")
    return float(weight)


def _object(path: Path) -> dict[str, Any]:
    record = read_json(path)
    if not isinstance(record, dict):
        raise UserError("is not a JSON object", file=path, line=1)
    return record
