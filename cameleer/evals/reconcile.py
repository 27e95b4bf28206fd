"""Our samples beside lm-eval's of the same benchmark: which items score otherwise there, and why.

Read is what `lm-eval … --log_samples` writes (samples_TASK_TIME.jsonl of lm-eval 0.4). Items are
matched by their prompts where these are equal, by number where the task is the same, else by the
runs of words that the document and one of our prompts have in common and few other prompts have.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cameleer.core.errors import UserError, unknown
from cameleer.core.jsonl import read_jsonl

WORDS = 5  # of a run that tells documents apart
LEAST = 0.5  # of the runs of one of a document's texts must be in the prompt it is matched with
WORD = re.compile(r"\w+")
CAUSES = {
    "prompt": "asked with another prompt, and answered otherwise",
    "output": "same prompt, other output",
    "extraction": "same output, another answer read out of it",
    "grading": "same answer read out, scored otherwise",
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """An item as both asked it. cause: one of CAUSES where the scores differ, else ""."""

    item: str
    document: int
    ours: float
    theirs: float
    cause: str
    same_prompt: bool
    texts: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Reconciled:
    """All pairs, and what had no counterpart: our items, their documents."""

    metric: str
    pairs: list[Pair]
    only_ours: list[str]
    only_theirs: list[int]

    def counts(self) -> dict[str, Any]:
        """What is said in a line: how many match, agree, and differ by which cause."""
        flips = Counter(pair.cause for pair in self.pairs if pair.cause)
        return {
            "metric": self.metric,
            "matched": len(self.pairs),
            "only_ours": len(self.only_ours),
            "only_theirs": len(self.only_theirs),
            "same_prompt": sum(pair.same_prompt for pair in self.pairs),
            "ours": _mean(pair.ours for pair in self.pairs),
            "theirs": _mean(pair.theirs for pair in self.pairs),
            "same_score": sum(not pair.cause for pair in self.pairs),
            "flips": {cause: flips[cause] for cause in CAUSES if flips[cause]},
        }


def reconcile(
    folder: Path, theirs: Path, metric: str | None = None, filters: str | None = None
) -> Reconciled:
    """Pair the samples of our evaluation in `folder` with those of lm-eval's file.

    metric, filters: which of theirs to compare with; None takes the first in the file. Raises
    UserError for files that cannot be read, or that have no item in common.
    """
    ours = _ours(folder)
    told, metric = _theirs(theirs, metric, filters)
    found = _matches(ours, told)
    if not found:
        hint = "are they of the same benchmark?"
        raise UserError(f"has no item in common with {folder}", file=theirs, hint=hint)
    pairs = [_pair(ours[item], told[document], metric) for item, document in found.items()]
    taken = set(found.values())
    return Reconciled(
        metric,
        pairs,
        [item for item in ours if item not in found],
        [document for document in told if document not in taken],
    )


def _ours(folder: Path) -> dict[str, Row]:
    path = folder / "samples.jsonl"
    if not path.is_file():
        raise UserError("holds no samples.jsonl", file=folder, hint="give one benchmark's folder")
    rows = {row["item"]: row for _, row in read_jsonl(path)}
    if any(row.get("score") is None for row in rows.values()):
        raise UserError("has items without a score", file=path)
    return rows


def _theirs(path: Path, metric: str | None, filters: str | None) -> tuple[dict[int, Row], str]:
    """lm-eval's lines by document, of one filter, and the metric's name."""
    found: dict[int, Row] = {}
    names: dict[str, None] = {}
    for line, row in read_jsonl(path):
        missing = [key for key in ("doc_id", "arguments", "resps", "metrics") if key not in row]
        if missing:
            hint = "a file of lm-eval's --log_samples is wanted"
            raise UserError("is missing", file=path, line=line, field=missing[0], hint=hint)
        names[str(row.get("filter", "none"))] = None
        filters = filters or next(iter(names))
        metric = metric or row["metrics"][0]
        if str(row.get("filter", "none")) != filters:
            continue
        if not isinstance(row.get(metric), int | float):
            known = [name for name in row["metrics"] if isinstance(row.get(name), int | float)]
            raise unknown("metric with a number for each item", metric, known, f"head {path}")
        found[int(row["doc_id"])] = row
    if not found:
        raise unknown("filter", str(filters), names, f"head {path}")
    assert metric is not None
    return found, metric


# ---- which of their documents is which of our items


def _matches(ours: dict[str, Row], theirs: dict[int, Row]) -> dict[str, int]:
    """Our items' documents: by equal prompts, then by number in one task, then by words."""
    by_prompt: dict[str, list[int]] = defaultdict(list)
    for document, row in theirs.items():
        by_prompt[_prompt(row)].append(document)
    found = {}
    for item, row in ours.items():
        same = by_prompt.get(row["prompt"].strip(), [])
        numbered = item.rpartition("/")[2]
        if item.startswith("lm_eval/") and numbered.isdigit() and int(numbered) in theirs:
            found[item] = int(numbered)
        elif len(same) == 1:
            found[item] = same[0]
    left = {item: row for item, row in ours.items() if item not in found}
    taken = set(found.values())
    asked = {document: row for document, row in theirs.items() if document not in taken}
    return {**found, **_by_words(left, asked)}


def _by_words(ours: dict[str, Row], theirs: dict[int, Row]) -> dict[str, int]:
    """Documents to items by the runs of words they share; a run that many have tells little."""
    holders: dict[str, set[str]] = defaultdict(set)
    for item, row in ours.items():
        for run in _runs(row["prompt"]):
            holders[run].add(item)
    likely = [
        (value, item, document)
        for document, row in theirs.items()
        for text in _texts(row["doc"])
        for item, value in _sharing(_runs(text), holders)
    ]
    found: dict[str, int] = {}
    taken: set[int] = set()
    for _, item, document in sorted(likely, key=lambda one: (-one[0], one[1], one[2])):
        if item not in found and document not in taken:
            found[item] = document
            taken.add(document)
    return found


def _sharing(runs: set[str], holders: dict[str, set[str]]) -> Iterable[tuple[str, float]]:
    """Items that have LEAST of a text's runs, and how much that says."""
    weight: dict[str, float] = defaultdict(float)
    hits: Counter[str] = Counter()
    for run in runs:
        for item in holders.get(run, ()):
            weight[item] += 1 / len(holders[run])
            hits[item] += 1
    return [(item, value) for item, value in weight.items() if hits[item] >= LEAST * len(runs)]


def _runs(text: str) -> set[str]:
    words = [word.lower() for word in WORD.findall(text)]
    return {" ".join(words[i : i + WORDS]) for i in range(max(1, len(words) - WORDS + 1))}


def _texts(value: Any) -> Iterable[str]:
    """The longer texts of a document; its question is among them."""
    if isinstance(value, str):
        return [value] if len(WORD.findall(value)) >= WORDS else []
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in _texts(part)]


# ---- why they score otherwise


def _pair(ours: Row, theirs: Row, metric: str) -> Pair:
    mine, other = float(ours["score"]), float(theirs[metric])
    same_prompt = ours["prompt"].strip() == _prompt(theirs)
    texts = {
        "prompt": (ours["prompt"], _prompt(theirs)),
        "output": (_our_output(ours), _their_output(theirs)),
        "extracted": (_plain(ours.get("extracted")), _plain(theirs.get("filtered_resps"))),
        "target": (_plain(ours.get("target")), _plain(theirs.get("target"))),
    }
    cause = ""
    if abs(mine - other) > 1e-9:
        cause = _cause(ours, theirs, same_prompt, texts)
    return Pair(ours["item"], int(theirs["doc_id"]), mine, other, cause, same_prompt, texts)


def _cause(ours: Row, theirs: Row, same_prompt: bool, texts: dict[str, tuple[str, str]]) -> str:
    if not _same_output(ours, theirs, texts["output"]):
        return "output" if same_prompt else "prompt"
    chosen = bool(ours.get("logprobs"))
    mine, other = texts["extracted"]
    return "grading" if chosen or mine.strip() == other.strip() else "extraction"


def _same_output(ours: Row, theirs: Row, outputs: tuple[str, str]) -> bool:
    scores, others = ours.get("logprobs") or [], _their_logprobs(theirs)
    if len(scores) == len(others) > 0:
        return scores.index(max(scores)) == others.index(max(others))
    return outputs[0].strip() == outputs[1].strip()


def _our_output(row: Row) -> str:
    return str(row["outputs"][0]) if row["outputs"] else ""


def _their_output(row: Row) -> str:
    """The first text that lm-eval was given, or of choices the likeliest."""
    scores = _their_logprobs(row)
    if scores:
        arguments = _arguments(row)[scores.index(max(scores))]
        return str(arguments[1]) if len(arguments) > 1 else ""
    return str(_first(row["resps"]))


def _their_logprobs(row: Row) -> list[float]:
    """Of each choice; lm-eval writes pairs (log-probability, greedy), in files as texts."""
    scores = []
    for responses in row["resps"]:
        pair = responses[0] if isinstance(responses, list) and responses else None
        if not isinstance(pair, list) or len(pair) != 2:
            return []
        scores.append(float(pair[0]))
    return scores


def _prompt(row: Row) -> str:
    arguments = _arguments(row)
    return str(arguments[0][0]).strip() if arguments and arguments[0] else ""


def _arguments(row: Row) -> list[list[Any]]:
    """lm-eval's requests of a document, each a list; in files they are objects by number."""
    told = row["arguments"]
    requests: Sequence[Any] = list(told.values()) if isinstance(told, dict) else told
    return [list(one.values()) if isinstance(one, dict) else list(one) for one in requests]


def _first(value: Any) -> Any:
    while isinstance(value, list) and value:
        value = value[0]
    return value


def _plain(value: Any) -> str:
    """A text, or the one text of lists around it."""
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    return str(_first(value)) if isinstance(value, list) and len(value) == 1 else str(value)


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)
