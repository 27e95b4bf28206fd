"""Pages beside the report on which every item is read: a base's models on one benchmark each.

Of several seeds they hold the first, and each page says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from cameleer.core.jsonl import read_jsonl
from cameleer.report.facts import number, relative
from cameleer.report.figures import unlike
from cameleer.report.words import interval, points
from cameleer.results.items_page import Row, entry, write_page
from cameleer.results.stats import suite_mean
from cameleer.results.store import UNTUNED, Cell, Evaluation, Study

FOLDER = "items"


@dataclass(frozen=True)
class ItemsPage:
    """Where the items of a base's models on a benchmark are; models: those that have answered."""

    base: str
    benchmark: str
    address: str
    models: list[str]

    def flips(self, first: str, second: str) -> str:
        """The address at which the items show that two models score otherwise; "" if not there."""
        if not {first, second} <= set(self.models):
            return ""
        view = urlencode({"first": first, "second": second, "score": "flipped"})
        return f"{self.address}#{view if len(self.models) > 2 else 'score=flipped'}"


def write_items(study: Study, out: Path) -> list[ItemsPage]:
    """Write all the pages below the report's folder `out`."""
    chosen = [(base, benchmark) for base in study.bases for benchmark in study.benchmarks]
    several = len(study.bases) > 1
    names = unlike([f"{base} {label}" if several else label for base, label in chosen])
    pages = []
    for (base, benchmark), name in zip(chosen, names.values(), strict=True):
        runs = first_runs(study, base, benchmark)
        if runs:
            path = out / FOLDER / f"{name}.html"
            title = f"{study.name}: {benchmark}{f', {base}' if several else ''}"
            facts = [*_facts(study, base, runs, path.parent)]
            entries = sorted(_entries(benchmark, runs), key=_unmoved)
            write_page(path, title, facts, list(runs), entries, home="../report.html")
            pages.append(ItemsPage(base, benchmark, f"{FOLDER}/{quote(path.name)}", list(runs)))
    return pages


def first_runs(study: Study, base: str, benchmark: str) -> dict[str, Evaluation]:
    """By what the report calls them, a base's models with their first seed that has answered."""
    rows: dict[str, list[Cell]] = {UNTUNED: study.of(base, None)}
    rows |= {mixture: study.of(base, mixture) for mixture in study.mixtures}
    rows |= {name: study.of(name, None) for name in study.references}
    found = {
        model: next((cell.evals[benchmark] for cell in cells if benchmark in cell.evals), None)
        for model, cells in rows.items()
    }
    return {model: run for model, run in found.items() if run}


def _facts(study: Study, base: str, runs: dict[str, Evaluation], here: Path) -> Iterator[str]:
    if any(len(study.of(base, mixture)) > 1 for mixture in study.mixtures):
        yield "Of the training seeds this page has the first; the report's scores are over all."
    for model, run in runs.items():
        said = "no score"
        if run.scored:
            found = suite_mean([{"": run.items}])
            said = f"{points(found.value)} ({interval(found)})"
        asked = [f"{key} {number(run.scores.get(key))}" for key in ("rule", "format")]
        yield f"{model}: {said}; {', '.join(asked)}; {relative(run.folder, here)}"


def _entries(benchmark: str, runs: dict[str, Evaluation]) -> Iterator[Row]:
    """Every item that any of the models has, in the order of the first."""
    prompts: dict[str, str] = {}  # most are asked the same: one text in memory is enough
    rows: list[dict[str, Row]] = []
    for run in runs.values():
        own: dict[str, Row] = {}
        for _, row in read_jsonl(run.folder / "samples.jsonl"):
            prompt = str(row.get("prompt", ""))
            own[str(row["item"])] = row | {"prompt": prompts.setdefault(prompt, prompt)}
        rows.append(own)
    lower = any(run.lower_is_better for run in runs.values())
    for key in dict.fromkeys(key for own in rows for key in own):
        yield entry(benchmark, [own.get(key) for own in rows], lower)


def _unmoved(one: Row) -> bool:
    """Whether all models score alike: such items are the ones that a full page leaves out."""
    return len({side["s"] for side in one["sides"] if side}) < 2
