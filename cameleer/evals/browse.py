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

import cameleer
from cameleer.core.errors import UserError
from cameleer.core.files import replacing, to_json, write_jsonl
from cameleer.core.jsonl import read_jsonl
from cameleer.core.page import page_template
from cameleer.engines.engine import TOO_LONG
from cameleer.evals.extract import NO_ANSWER
from cameleer.evals.recorded import grade
from cameleer.evals.runner import SAMPLES
from cameleer.results.records import Rule
from cameleer.results.stats import Items, Paired, holm, paired, suite_difference
from cameleer.results.store import Evaluation

Row = dict[str, Any]

LONGEST = 6000  # characters of a text that a page shows; what is left out is said
PAGE_BYTES = 48 * 2**20  # of samples in one page; a browser still searches so many at once
BEGINNING = 400  # characters that prompts must share for a page to keep them once
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
    sign = -1 if a.lower_is_better else 1
    twins = [_twin(a.rows[key], b.rows[key], sign) for key in shared]
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


def _twin(a: Row, b: Row, sign: int) -> Twin:
    scored = a.get("score") is not None and b.get("score") is not None
    gain = sign * (b["score"] - a["score"]) if scored else 0.0
    return Twin(a, b, gain, _why(a, b))


def _why(a: Row, b: Row) -> list[str]:
    """What about an item differs between two evaluations."""
    found = []
    if a.get("prompt") != b.get("prompt"):
        found.append("prompt differs")
    if a["outputs"] != b["outputs"]:
        found.append("output differs")
    elif a.get("extracted") != b.get("extracted"):
        found.append("extraction differs")
    elif a.get("score") != b.get("score"):
        found.append("comparison differs")
    for what, test in (("cut at length", _cut), ("no answer found", _unanswered)):
        if test(a) != test(b):
            found.append(f"{what} in {'A' if test(a) else 'B'} only")
    return found


def _cut(row: Row) -> bool:
    return "length" in (row.get("finish") or [])


def _unanswered(row: Row) -> bool:
    return row.get("note") == NO_ANSWER


def reasons(twins: Iterable[Twin]) -> list[tuple[str, int, int]]:
    """(what differs, items better, items worse in the second), the most frequent first."""
    better: Counter[str] = Counter()
    worse: Counter[str] = Counter()
    for twin in twins:
        (better if twin.gain > 0 else worse).update(twin.why if twin.gain else [])
    order = sorted({*better, *worse}, key=lambda why: (-better[why] - worse[why], why))
    return [(why, better[why], worse[why]) for why in order]


def verdict_of(row: Row, lower_is_better: bool = False) -> str:
    """`right`, `wrong`, `partly`, or `unscored`."""
    score = row.get("score")
    if score is None:
        return "unscored"
    good = 1 - score if lower_is_better else score
    return "right" if good == 1 else "wrong" if good == 0 else "partly"


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


def write_page(
    path: Path,
    title: str,
    facts: Sequence[str],
    sides: Sequence[str],
    entries: Iterable[Row],
) -> tuple[int, int]:
    """Write one self-contained page of `entries` (see `entry`); returns (shown, left out).

    sides: what the one or two evaluations of each entry are called. What is beyond PAGE_BYTES is
    left out; the page says so.
    """
    rows = list(entries)
    begun = _beginnings(rows)
    texts = list(dict.fromkeys(begun.values()))
    shown: list[str] = []
    size = 0
    for row in rows:
        shown.append(to_json(_told_once(row, begun, texts)))
        size += len(shown[-1])
        if size > PAGE_BYTES:
            break
    page = page_template(Path(__file__).with_name("browse.html.jinja"))
    html = page.render(
        title=title,
        facts=facts,
        two=len(sides) == 2,
        names=_inert(to_json(list(sides))),
        left_out=len(rows) - len(shown),
        version=cameleer.__version__,
        entries=_inert(f"[{','.join(shown)}]"),
        beginnings=_inert(to_json(texts)),
    )
    with replacing(path) as handle:
        handle.write(html)
    return len(shown), len(rows) - len(shown)


def _inert(text: str) -> str:
    """JSON that can stand in a script element: nothing in it ends the element or begins another."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _beginnings(entries: Iterable[Row]) -> dict[tuple[str, str, int], str]:
    """What the prompts of a group begin with, such as few-shot examples: to be kept once."""
    first: dict[tuple[str, str, int], str] = {}
    found: dict[tuple[str, str, int], str] = {}
    for entry in entries:
        for number, side in enumerate(entry["sides"]):
            place, prompt = (entry["b"], entry["g"], number), side["p"]
            if place in first and place not in found:
                shared = first[place][: _shared(first[place], prompt)]
                whole = shared[: shared.rfind("\n") + 1]
                found[place] = whole if len(whole) >= BEGINNING else ""
            first.setdefault(place, prompt)
    return {place: text for place, text in found.items() if text}


def _shared(a: str, b: str) -> int:
    """Characters that two texts have in common at their beginning."""
    unequal = (index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return next(unequal, min(len(a), len(b)))


def _told_once(entry: Row, begun: dict[tuple[str, str, int], str], texts: list[str]) -> Row:
    """The entry with each prompt as (number of its beginning in `texts` or -1, the rest), and a
    second one that is the same as None."""
    sides: list[Row] = []
    for number, side in enumerate(entry["sides"]):
        if number and side["p"] == entry["sides"][0]["p"]:
            sides.append(side | {"p": None})
            continue
        text, prompt = begun.get((entry["b"], entry["g"], number), ""), side["p"]
        if text and prompt.startswith(text):
            cut = [texts.index(text), shortened(prompt[len(text) :])]
        else:
            cut = [-1, shortened(prompt)]
        sides.append(side | {"p": cut})
    return entry | {"sides": sides}


def entries_of(run: Answered, keys: Iterable[str], label: str = "") -> Iterable[Row]:
    """What a page needs of items of an evaluation. label: in place of the benchmark's."""
    for key in keys:
        row = run.rows[key]
        verdict = verdict_of(row, run.lower_is_better)
        yield _entry(label or run.benchmark, row, [row], verdict, [])


def twin_entries(comparison: Comparison) -> Iterable[Row]:
    """What a page needs of each item of a comparison, those that flip first."""
    for twin in sorted(comparison.twins, key=lambda twin: not twin.gain):
        outcome = twin.outcome if comparison.paired else "unscored"
        yield _entry(comparison.a.benchmark, twin.a, [twin.a, twin.b], outcome, twin.why)


def _entry(benchmark: str, row: Row, sides: Sequence[Row], outcome: str, why: list[str]) -> Row:
    return {
        "k": row["item"],
        "b": benchmark,
        "g": row.get("group", ""),
        "t": shortened(_text(row.get("target"))),
        "w": outcome,
        "y": why,
        "sides": [_side(side) for side in sides],
    }


def _side(row: Row) -> Row:
    extracted = row.get("extracted") or []
    return {
        "s": row.get("score"),
        "x": [None if one is None else shortened(_text(one), 600) for one in extracted],
        "o": [shortened(output) for output in row["outputs"]],
        "f": list(row.get("finish") or []),
        "n": row.get("note", ""),
        "v": row.get("values") or {},
        "r": row.get("reviews") or {},
        "l": [round(one, 3) for one in row.get("logprobs") or []],
        "i": [row.get("prompt_tokens", 0), row.get("new_tokens", 0)],
        "p": row.get("prompt", ""),
    }


def shortened(text: str, longest: int = LONGEST) -> str:
    """The text, or its beginning and end with a word on how much is left out between."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters, in {SAMPLES} …]\n{text[-half:]}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value)
