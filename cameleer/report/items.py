"""Pages beside the report on which every item is read: a base's models on one benchmark each."""

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
MOST = 24  # models on a page; how each two of them differ is kept for every item
FIRST = (
    "These are too many models for one page: of the training seeds it has the first; the report's "
    "scores are over all."
)


@dataclass(frozen=True)
class ItemsPage:
    """Where the items of a base's models on a benchmark are.

    models: by what the report calls them, the names that those which have answered have on the
    page: a model of several seeds has a name for each.
    """

    base: str
    benchmark: str
    address: str
    models: dict[str, list[str]]

    def flips(self, first: str, second: str) -> str:
        """The address at which the items show that two models score otherwise; "" if not there.

        Of several seeds it leads to the first.
        """
        if not {first, second} <= self.models.keys():
            return ""
        a, b = (self.models[model][0] for model in (first, second))
        view = urlencode({"first": a, "second": b, "score": "flipped"})
        several = sum(map(len, self.models.values())) > 2
        return f"{self.address}#{view if several else 'score=flipped'}"


def write_items(study: Study, out: Path) -> list[ItemsPage]:
    """Write all the pages below the report's folder `out`."""
    chosen = [(base, benchmark) for base in study.bases for benchmark in study.benchmarks]
    several = len(study.bases) > 1
    names = unlike([f"{base} {label}" if several else label for base, label in chosen])
    pages = []
    for (base, benchmark), name in zip(chosen, names.values(), strict=True):
        models = named_runs(study, base, benchmark)
        facts = []
        if sum(map(len, models.values())) > MOST:
            models = {model: dict([next(iter(named.items()))]) for model, named in models.items()}
            facts = [FIRST]
        runs = {name: run for named in models.values() for name, run in named.items()}
        if runs:
            path = out / FOLDER / f"{name}.html"
            title = f"{study.name}: {benchmark}{f', {base}' if several else ''}"
            facts += _facts(runs, path.parent)
            names_of = {model: list(named) for model, named in models.items()}
            entries = sorted(_entries(benchmark, runs), key=_unmoved)
            write_page(path, title, facts, list(runs), entries, home="../report.html")
            pages.append(ItemsPage(base, benchmark, f"{FOLDER}/{quote(path.name)}", names_of))
    return pages


def named_runs(study: Study, base: str, benchmark: str) -> dict[str, dict[str, Evaluation]]:
    """By what the report calls them, a base's models that have answered, each by name and seed."""
    rows: dict[str, list[Cell]] = {UNTUNED: study.of(base, None)}
    rows |= {mixture: study.of(base, mixture) for mixture in study.mixtures}
    rows |= {name: study.of(name, None) for name in study.references}
    there = {
        model: {
            f"{model}, seed {cell.seed}" if len(cells) > 1 else model: cell.evals[benchmark]
            for cell in cells
            if benchmark in cell.evals
        }
        for model, cells in rows.items()
    }
    return {model: runs for model, runs in there.items() if runs}


def _facts(runs: dict[str, Evaluation], here: Path) -> Iterator[str]:
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
