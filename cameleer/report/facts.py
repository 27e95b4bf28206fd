"""What was run, as plain tables: data, training, evaluations, breakdowns, software, warnings."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cameleer.core.artifact import MANIFEST
from cameleer.core.files import read_json, to_json
from cameleer.report.analysis import Analysis, Matrix, powers
from cameleer.report.words import MISSING, p_value, points, signed
from cameleer.results.store import Cell, Evaluation, Study

TRAINING = {
    "steps": "steps",
    "conversations": "conversations",
    "tokens": "tokens",
    "supervised_tokens": "supervised tokens",
    "cut": "cut",
    "dropped": "dropped",
    "final_loss": "final loss",
}

REASONS = ("dropped: ", "cut: ", "missing: ", "of ")  # how the counts of a source begin
LEFT_OUT = "left out, cut or missing"


@dataclass(frozen=True)
class Table:
    """A table of text. The first column heads its rows; `texts` names columns that hold words;
    strong: cells, (row, column), that are set off."""

    caption: str
    head: list[str]
    rows: list[list[str]]
    texts: tuple[str, ...] = ()
    strong: frozenset[tuple[int, int]] = frozenset()


def number(value: Any) -> str:
    """Any value of a manifest as text; what is not there is a dash."""
    if value is None or value == "":
        return MISSING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value if isinstance(value, str) else to_json(value)
    if isinstance(value, int) or (value == round(value) and abs(value) >= 100):
        return f"{round(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def duration(seconds: float | None) -> str:
    """Seconds as people say them."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def source_facts(study: Study) -> tuple[list[str], list[tuple[str, str, dict[str, Any]]]]:
    """(names of the facts, (mixture, source, facts) of each source of each mixture).

    From the manifests of the mixtures and, for supervised tokens, of the first training with each;
    of a mixture not built yet there is only what study.json declares.
    """
    facts: list[tuple[str, str, dict[str, Any]]] = []
    for mixture, declared in study.mixtures.items():
        cells = [cell for cell in study.cells if cell.mixture == mixture]
        built = next((cell.mix for cell in cells if cell.mix), None)
        sources = read_json(built / MANIFEST)["outcome"].get("sources") if built else None
        if not sources:
            sources = {name: {"declared": count} for name, count in declared.items()}
        train = next((cell.train for cell in cells if cell.train), None)
        counts = (train.outcome.get("counts") or {}) if train else {}
        for name, values in sources.items():
            tokens = counts.get(f"supervised: {name}")
            learned = {"supervised_tokens": tokens} if tokens else {}
            facts.append((mixture, name, {**values, **learned}))
    simple = [
        key
        for _, _, values in facts
        for key, value in values.items()
        if isinstance(value, int | float | str)
    ]
    return list(dict.fromkeys(simple)), facts


def data_table(study: Study) -> Table:
    """What each source gave to each mixture, as far as its manifest says; what was left out or cut,
    for whichever reason, in one column of words."""
    names, facts = source_facts(study)
    plain = [name for name in names if not _is_reason(name)]
    rows = []
    for mixture, source, values in facts:
        reasons = {name: values[name] for name in names if _is_reason(name) and values.get(name)}
        told = "; ".join(f"{name}: {number(value)}" for name, value in reasons.items())
        rows.append(
            [mixture, source, *(number(values.get(name)) for name in plain), told or MISSING]
        )
    head = ["mixture", "source", *(name.replace("_", " ") for name in plain), LEFT_OUT]
    texts = ("source", "licence", LEFT_OUT)
    return _known(Table("Instruction data in each mixture, by source", head, rows, texts))


def _is_reason(name: str) -> bool:
    """Whether a source's fact is how many rows went why, or came from which file."""
    return name.startswith(REASONS)


def difference_table(analysis: Analysis) -> Table:
    """Every mixture against its base on every benchmark, then on the averages."""
    several = len(analysis.matrices) > 1
    rows = []
    for one in [*analysis.differences, *analysis.averages]:
        pair = one.paired
        moved = [signed(pair.difference), f"{signed(pair.low)} to {signed(pair.high)}"]
        ps = [p_value(pair.p), p_value(one.p_holm)]
        name = f"{one.base}: {one.mixture}" if several else one.mixture
        rows.append([name, one.benchmark, *moved, *ps, one.verdict])
    head = ["mixture", "benchmark", "difference", "95 % interval", "p", "p (Holm)"]
    return Table(
        "Paired differences to the untuned base, in points, over the same items",
        [*head, "verdict"],
        rows,
        ("benchmark", "verdict"),
    )


def power_table(analysis: Analysis) -> Table:
    """How large a difference had to be to be seen."""
    rows = []
    for one in powers(analysis):
        effects = (one.discordance, one.smallest, one.smallest_adjusted)
        rows.append([one.benchmark, one.base, f"{one.n:,}", *map(points, effects)])
    return Table(
        "Smallest difference that is detected with a power of 80 %, in points",
        ["benchmark", "base", "items' worth", "mean change", "tested alone", "within this study"],
        rows,
        ("base",),
    )


def training_table(study: Study) -> Table:
    """Every training run."""
    rows = []
    for cell in study.cells:
        if cell.mixture is None:
            continue
        outcome = cell.train.outcome if cell.train else {}
        facts = [number(outcome.get(key)) for key in TRAINING]
        where = [number(outcome.get(key)) for key in ("device", "dtype")]
        named = [cell.mixture, cell.base, number(cell.seed)]
        rows.append([*named, *facts, *where])
    head = ["mixture", "base", "seed", *TRAINING.values(), "device", "precision"]
    return _known(Table("Training runs", head, rows, ("base", "device", "precision")))


def _known(table: Table) -> Table:
    """The table without the columns in which nothing is known."""
    kept = [
        index
        for index in range(len(table.head))
        if index == 0 or any(row[index] != MISSING for row in table.rows)
    ]
    rows = [[row[index] for index in kept] for row in table.rows]
    return Table(table.caption, [table.head[index] for index in kept], rows, table.texts)


def evaluation_table(study: Study, out: Path) -> Table:
    """Every evaluation with the folder that holds its samples."""
    rows = []
    for cell in study.cells:
        for name in study.benchmarks:
            run = cell.evals.get(name)
            if run is None:
                continue
            facts = run.scores
            asked = [number(facts.get(key)) for key in ("metric", "rule", "format", "n")]
            tokens = [number(facts.get(key)) for key in ("prompt_tokens", "new_tokens")]
            time = duration(run.manifest.get("seconds"))
            rows.append([cell.label, name, *asked, *tokens, time, relative(run.folder, out)])
    head = ["model", "benchmark", "metric", "rule", "format", "items", "prompt tokens"]
    texts = ("benchmark", "metric", "rule", "format", "samples in")
    return Table("Evaluations", [*head, "new tokens", "wall time", "samples in"], rows, texts)


def relative(path: Path, out: Path) -> str:
    """A path as seen from the folder of the report."""
    return Path(os.path.relpath(path, out)).as_posix()


def group_tables(matrix: Matrix) -> list[Table]:
    """Scores by group (subject, task, language), one table for each benchmark that has groups."""
    tables = []
    for name in matrix.benchmarks:
        rows = [(row.label, score.runs) for row in matrix.rows if (score := row.scores[name])]
        groups = {label: _grouped(runs, "groups") for label, runs in rows}
        tables += _breakdown(f"{name} by group, {matrix.base}", "group", groups)
        metrics = {label: _grouped(runs, "metrics") for label, runs in rows}
        tables += _breakdown(f"{name}: further metrics, {matrix.base}", "metric", metrics)
    return tables


def _grouped(runs: Sequence[Evaluation], key: str) -> dict[str, float]:
    """Mean over seeds of the values that scores.json holds under `key`."""
    found: dict[str, list[float]] = {}
    for run in runs:
        for name, facts in (run.scores.get(key) or {}).items():
            value = facts.get("value") if isinstance(facts, dict) else facts
            if isinstance(value, int | float):
                found.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


def _breakdown(caption: str, what: str, by_model: dict[str, dict[str, float]]) -> list[Table]:
    names = sorted({name for values in by_model.values() for name in values})
    if not names:
        return []
    rows = [
        [
            name,
            *(points(values[name]) if name in values else MISSING for values in by_model.values()),
        ]
        for name in names
    ]
    return [Table(caption, [what, *by_model], rows)]


def software_table(study: Study) -> Table:
    """Versions and machines of all finished stages, and how many stages ran with each."""
    found: Counter[tuple[str, str]] = Counter()
    for manifest in _manifests(study):
        for name, version in (manifest.get("environment") or {}).items():
            found[name, number(version)] += 1
    rows = [[name, version, str(count)] for (name, version), count in found.items()]
    return Table("Software and machine", ["what", "which", "stages"], rows, ("which",))


def seeds(study: Study) -> str:
    """The seeds of training, in words."""
    found = sorted({cell.seed for cell in study.cells if cell.seed is not None})
    return f"Seeds of training: {', '.join(map(str, found)) or 'none'}."


def _manifests(study: Study) -> list[dict[str, Any]]:
    stages = [cell.train for cell in study.cells if cell.train]
    runs = [run for cell in study.cells for run in cell.evals.values()]
    return [stage.manifest for stage in stages] + [run.manifest for run in runs]


def warnings(analysis: Analysis) -> list[str]:
    """What a reader must know before believing a number, the gravest first."""
    study = analysis.study
    found = [f"Failed: {cell.label}: {cell.failed}" for cell in study.cells if cell.failed]
    found += [f"Not judged: {name}: {why}" for name, why in study.unjudged.items()]
    found += [text for cell in study.cells if (text := _unfinished(cell, study))]
    found += analysis.warnings
    if any(
        len(matrix.runs[row.mixture]) == 1 for matrix in analysis.matrices for row in matrix.tuned
    ):
        found.append(
            "Mixtures were trained with one seed. Intervals cover the choice of items, not the "
            "luck of training: another seed can move a score by more than its interval says."
        )
    different = {row[0] for row in software_table(study).rows}
    mixed = [
        name for name in different if sum(r[0] == name for r in software_table(study).rows) > 1
    ]
    if mixed:
        found.append(
            f"Stages ran with different {', '.join(sorted(mixed))}; see the software table."
        )
    return found


def _unfinished(cell: Cell, study: Study) -> str:
    missing = [name for name in study.benchmarks if name not in cell.evals]
    if not missing or cell.failed:
        return ""
    return f"Unfinished: {cell.label}: {', '.join(missing)}."


def notes_of_all(study: Study) -> dict[str, list[str]]:
    """By benchmark, what its grader notes of every item of every model, such as the sandbox."""
    found = {}
    for name in study.benchmarks:
        runs = [cell.evals[name].scores for cell in study.cells if name in cell.evals]
        of_each = [
            {note for note, count in run["notes"].items() if count == run.get("n")}
            if isinstance(run.get("notes"), dict)
            else set()
            for run in runs
        ]
        if shared := sorted(set.intersection(*of_each) if of_each else ()):
            found[name] = shared
    return found


def trouble_table(study: Study) -> Table:
    """Outputs cut at the length limit, prompts that did not fit, and the notes of the graders.

    What these note of all items of all models stands in `notes_of_all`.
    """
    rows = []
    of_all = notes_of_all(study)
    for cell in study.cells:
        for name, run in cell.evals.items():
            facts = run.scores
            cut = (facts.get("finish") or {}).get("length")
            counts = [cut, facts.get("dropped_shots"), facts.get("too_long")]
            notes = _notes(facts.get("notes"), of_all.get(name, []))
            if any(counts) or notes:
                known = [number(count or 0) for count in counts]
                rows.append([cell.label, name, *known, notes or MISSING])
    head = ["model", "benchmark", "outputs cut at length", "items with fewer shots"]
    return Table(
        "Answers and prompts that did not go as meant, by number",
        [*head, "prompts too long", "notes of the grader (items)"],
        rows,
        ("benchmark", "notes of the grader (items)"),
    )


def _notes(notes: Any, but: Sequence[str]) -> str:
    if isinstance(notes, dict):
        return "; ".join(f"{note} ({number(n)})" for note, n in notes.items() if note not in but)
    return "; ".join(map(str, notes)) if isinstance(notes, list) else str(notes or "")
