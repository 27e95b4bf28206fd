"""Reading an evaluation item by item: what was asked, said, read out and scored; and two beside.

Every number of a report or of scores.json is the mean of rows in an evaluation's samples.jsonl.
Two evaluations of the same items, or one as two rules grade it, are laid side by side: which items
flip, and what about them differs.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cameleer.core.errors import UserError
from cameleer.core.files import write_jsonl
from cameleer.core.jsonl import read_jsonl
from cameleer.engines.engine import TOO_LONG
from cameleer.evals.recorded import grade
from cameleer.evals.runner import SAMPLES
from cameleer.results.items_page import Row, entry, gain, verdict_of, why
from cameleer.results.records import NO_ANSWER, Rule
from cameleer.results.stats import Items, Paired, holm, paired, suite_difference
from cameleer.results.store import Evaluation

DETECTABLE = 0.05


@dataclass(frozen=True)
class Answered:
    """One evaluation in memory. name: what to call it; rows: by item, as in samples.jsonl."""

    name: str
    benchmark: str
    scores: dict[str, Any]
    rows: dict[str, Row]
    items: Items | None

    @property
    def lower_is_better(self) -> bool:
        return bool(self.scores.get("lower_is_better"))


@dataclass(frozen=True)
class Twin:
    """An item as two evaluations have it. gain: how much better the second did; why: what differs
    between the two, of all that could explain another score."""

    a: Row
    b: Row
    gain: float
    why: list[str]

    @property
    def outcome(self) -> str:
        return "better" if self.gain > 0 else "worse" if self.gain < 0 else "same"


@dataclass(frozen=True)
class Comparison:
    """Two evaluations item by item. paired: b - a, None where nothing is scored; p_holm: adjusted
    over all comparisons made together; left_out: items that only the one or the other has."""

    a: Answered
    b: Answered
    twins: list[Twin]
    paired: Paired | None
    left_out: tuple[int, int]
    p_holm: float = 1.0

    @property
    def flips(self) -> list[Twin]:
        return [twin for twin in self.twins if twin.gain]

    @property
    def verdict(self) -> str:
        if self.paired is None:
            return "no score"
        if self.p_holm >= DETECTABLE:
            return "no detectable difference"
        return "better" if (self.paired.difference < 0) == self.a.lower_is_better else "worse"


def find_evaluations(folder: Path) -> list[Evaluation]:
    """The finished evaluations in a folder: itself, or those up to two levels below it."""
    for pattern in (SAMPLES, f"*/{SAMPLES}", f"*/*/{SAMPLES}"):
        found = [path.parent for path in sorted(folder.glob(pattern))]
        found = [path for path in found if not path.name.startswith(".")]
        if found:
            return [Evaluation(path) for path in found]
    left = [path.name for path in folder.glob(f".*.partial/{SAMPLES}")]
    hint = "it is not finished: give `cameleer eval run` again" if left else "give the -o of a run"
    raise UserError(f"no {SAMPLES} here, nor below", file=folder, hint=hint)


def read(evaluation: Evaluation, name: str = "") -> Answered:
    """An evaluation with all its rows. Raises UserError with file and line for a broken row."""
    scores = evaluation.scores
    items = evaluation.items if evaluation.scored else None
    label = f"{scores.get('benchmark', '')}:{scores.get('setting', '')}"
    rows = {str(row["item"]): row for _, row in read_jsonl(evaluation.folder / SAMPLES)}
    return Answered(name or evaluation.folder.name, label, scores, rows, items)


def other_rule(run: Answered) -> Rule:
    """The rule by which an evaluation was not graded."""
    return "fixed" if run.scores.get("rule") == "paper" else "paper"


def regraded(run: Answered, rule: Rule, data: Path | None) -> Answered:
    """The same outputs as another rule reads and scores them; nothing is asked again.

    data: folder of native files, as for the run. Raises UserError where nothing is scored.
    """
    if run.items is None:
        raise UserError(f"{run.benchmark} has no score: there is nothing to grade")
    with tempfile.TemporaryDirectory() as folder:
        answers = Path(folder) / "answers.jsonl"
        write_jsonl(answers, map(_recorded, run.rows.values()))
        found = {row["item"]: row for row in grade(run.benchmark, answers, data, rule)}
    rows = {key: _rescored(row, found[key]) for key, row in run.rows.items()}
    items = replace(run.items, scores={key: row["score"] for key, row in rows.items()})
    return Answered(f"rule {rule}", run.benchmark, run.scores | {"rule": rule}, rows, items)


def _recorded(row: Row) -> Row:
    kept = {name: row[name] for name in ("logprobs", "reviews", "finish") if row.get(name)}
    return {"item": row["item"], "output": row["outputs"], **kept}


def _rescored(row: Row, found: Row) -> Row:
    if row.get("note") == TOO_LONG:
        return row | {"score": found["score"], "extracted": found["extracted"]}
    missing = all(one is None for one in found["extracted"])
    note = NO_ANSWER if missing else "" if row.get("note") == NO_ANSWER else row.get("note", "")
    return row | {"score": found["score"], "extracted": found["extracted"], "note": note}


def compare(a: Answered, b: Answered) -> Comparison:
    """Two evaluations over the items that both have. Raises UserError if there are none."""
    shared = [key for key in a.rows if key in b.rows]
    if a.benchmark != b.benchmark or not shared:
        raise UserError(
            f"{a.name} is {a.benchmark}, {b.name} is {b.benchmark}: no item is in both",
            hint="compare evaluations of the same benchmark and data",
        )
    twins = [_twin(a.rows[key], b.rows[key], a.lower_is_better) for key in shared]
    left_out = (len(a.rows) - len(shared), len(b.rows) - len(shared))
    found = None
    if a.items and b.items:
        found = paired(_only(a.items, shared), _only(b.items, shared))
    return Comparison(a, b, twins, found, left_out, found.p if found else 1.0)


def compare_all(pairs: Iterable[tuple[Answered, Answered]]) -> list[Comparison]:
    """Comparisons made together, with Holm's correction over all that are scored."""
    found = [compare(a, b) for a, b in pairs]
    scored = [one for one in found if one.paired]
    adjusted = iter(holm([one.paired.p for one in scored if one.paired]))
    return [replace(one, p_holm=next(adjusted)) if one.paired else one for one in found]


def average(comparisons: Sequence[Comparison]) -> Paired | None:
    """The difference of the means over benchmarks; 1 less the score counts where lower is better.

    None for fewer than two benchmarks with scores.
    """
    runs: tuple[dict[str, Items], dict[str, Items]] = ({}, {})
    for one in comparisons:
        shared = [str(twin.a["item"]) for twin in one.twins]
        for run, side in zip(runs, (one.a, one.b), strict=True):
            if side.items:
                run[one.a.benchmark] = _only(side.items, shared, side.lower_is_better)
    return suite_difference([runs[0]], [runs[1]]) if len(runs[0]) > 1 else None


def _only(items: Items, keys: Sequence[str], flipped: bool = False) -> Items:
    """Some of the items; where strata weigh the same, they still do."""
    scores = {key: 1 - items.scores[key] if flipped else items.scores[key] for key in keys}
    if len(keys) == len(items.scores) or not items.strata:
        return replace(items, scores=scores)
    sizes = Counter(items.strata[key] for key in keys)
    weights = {key: len(keys) / (len(sizes) * sizes[items.strata[key]]) for key in keys}
    return replace(items, scores=scores, weights=weights)


def _twin(a: Row, b: Row, lower_is_better: bool) -> Twin:
    return Twin(a, b, gain(a, b, lower_is_better) or 0.0, why(a, b))


def reasons(twins: Iterable[Twin]) -> list[tuple[str, int, int]]:
    """(what differs, items better, items worse in the second), the most frequent first."""
    better: Counter[str] = Counter()
    worse: Counter[str] = Counter()
    for twin in twins:
        (better if twin.gain > 0 else worse).update(twin.why if twin.gain else [])
    order = sorted({*better, *worse}, key=lambda why: (-better[why] - worse[why], why))
    return [(why, better[why], worse[why]) for why in order]


def select(
    run: Answered, item: str | None, verdicts: Collection[str], group: str | None
) -> list[str]:
    """Keys of the items that are the one asked for, have one of the verdicts, are of the group."""
    return [
        key
        for key, row in run.rows.items()
        if (item is None or key == item)
        and (not verdicts or verdict_of(row, run.lower_is_better) in verdicts)
        and (group is None or row.get("group") == group)
    ]


def entries_of(run: Answered, keys: Iterable[str], label: str = "") -> Iterable[Row]:
    """What a page needs of items of an evaluation. label: in place of the benchmark's."""
    for key in keys:
        yield entry(label or run.benchmark, [run.rows[key]], run.lower_is_better)


def twin_entries(comparison: Comparison) -> Iterable[Row]:
    """What a page needs of each item of a comparison, those that flip first."""
    a = comparison.a
    for twin in sorted(comparison.twins, key=lambda twin: not twin.gain):
        yield entry(a.benchmark, [twin.a, twin.b], a.lower_is_better)
