"""A page on which samples are filtered and read: of one evaluation, or of several side by side.

It needs nothing but itself. Of several evaluations two are seen at a time, which the reader
chooses: which items flip between them, and what about these differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import cameleer
from cameleer.core.files import replacing, to_json
from cameleer.core.page import page_template
from cameleer.results.records import NO_ANSWER

Row = dict[str, Any]
"""A line of samples.jsonl."""

LONGEST = 6000  # characters of a text that a page shows; what is left out is said
PAGE_BYTES = 48 * 2**20  # of samples in one page; a browser still searches so many at once
BEGINNING = 400  # characters that prompts must share for a page to keep them once
REASONS = (
    "prompt differs",
    "output differs",
    "extraction differs",
    "comparison differs",
    "cut at length in A only",
    "cut at length in B only",
    "no answer found in A only",
    "no answer found in B only",
)
"""What about an item can differ between two evaluations, A and B."""


def verdict_of(row: Row, lower_is_better: bool = False) -> str:
    """`right`, `wrong`, `partly`, or `unscored`."""
    score = row.get("score")
    if score is None:
        return "unscored"
    good = 1 - score if lower_is_better else score
    return "right" if good == 1 else "wrong" if good == 0 else "partly"


def gain(a: Row, b: Row, lower_is_better: bool = False) -> float | None:
    """How much better b did than a; None where one of them has no score."""
    if a.get("score") is None or b.get("score") is None:
        return None
    moved: float = b["score"] - a["score"]
    return -moved if lower_is_better else moved


def why(a: Row, b: Row) -> list[str]:
    """Which of REASONS an item has between two evaluations."""
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


def entry(benchmark: str, rows: Sequence[Row | None], lower_is_better: bool = False) -> Row:
    """What a page needs of an item that one or several evaluations have; None: it has it not.

    `w` is the verdict of one; of several, `pairs` has [1 better, -1 worse, 0 same or None, reasons
    as bits] of the second against the first, for each two of them.
    """
    there = next(row for row in rows if row is not None)
    told = {
        "k": there["item"],
        "b": benchmark,
        "g": there.get("group", ""),
        "t": shortened(_text(there.get("target"))),
        "sides": [None if row is None else _side(row) for row in rows],
    }
    if len(rows) == 1:
        return told | {"w": verdict_of(there, lower_is_better)}
    return told | {"pairs": [_pair(a, b, lower_is_better) for a, b in combinations(rows, 2)]}


def _pair(a: Row | None, b: Row | None, lower_is_better: bool) -> list[int | None]:
    if a is None or b is None:
        return [None, 0]
    moved = gain(a, b, lower_is_better)
    sign = None if moved is None else (moved > 0) - (moved < 0)
    return [sign, sum(1 << REASONS.index(one) for one in why(a, b))]


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
    half, left = longest // 2, len(text) - 2 * (longest // 2)
    return f"{text[:half]}\n[… {left:,} characters, in samples.jsonl …]\n{text[-half:]}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value)


def write_page(
    path: Path,
    title: str,
    facts: Sequence[str],
    sides: Sequence[str],
    entries: Iterable[Row],
    home: str = "",
) -> tuple[int, int]:
    """Write one self-contained page of entries (see `entry`); returns (shown, left out).

    sides: what the evaluations of each entry are called; home: address of the page that this one
    belongs to, if any. What is beyond PAGE_BYTES is left out; the page says so.
    """
    rows = list(entries)
    begun = _beginnings(rows)
    places = {text: index for index, text in enumerate(dict.fromkeys(begun.values()))}
    shown: list[str] = []
    size = 0
    for row in rows:
        shown.append(to_json(_told_once(row, begun, places)))
        size += len(shown[-1])
        if size > PAGE_BYTES:
            break
    html = page_template(Path(__file__).with_name("items_page.html.jinja")).render(
        title=title,
        facts=facts,
        home=home,
        several=len(sides) > 1,
        names=_inert(to_json(list(sides))),
        reasons=_inert(to_json(REASONS)),
        left_out=len(rows) - len(shown),
        version=cameleer.__version__,
        entries=_inert(f"[{','.join(shown)}]"),
        beginnings=_inert(to_json(list(places))),
    )
    with replacing(path) as handle:
        handle.write(html)
    return len(shown), len(rows) - len(shown)


def _inert(text: str) -> str:
    """JSON that can stand in a script element: nothing in it ends the element or begins another."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


Place = tuple[str, str, int]
"""A benchmark, a group of it, and an evaluation's number."""


def _beginnings(entries: Iterable[Row]) -> dict[Place, str]:
    """What the prompts of a group begin with, such as few-shot examples: to be kept once."""
    first: dict[Place, str] = {}
    found: dict[Place, str] = {}
    for one in entries:
        for number, side in enumerate(one["sides"]):
            if side is None:
                continue
            place, prompt = (one["b"], one["g"], number), side["p"]
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


def _told_once(one: Row, begun: dict[Place, str], places: dict[str, int]) -> Row:
    """The entry with each prompt as (number of its beginning in `places` or -1, the rest), or as
    the number of an earlier side that has the same."""
    known: dict[str, int] = {}
    sides: list[Row | None] = []
    for number, side in enumerate(one["sides"]):
        if side is None or side["p"] in known:
            sides.append(side and side | {"p": known[side["p"]]})
            continue
        prompt = side["p"]
        known[prompt] = number
        text = begun.get((one["b"], one["g"], number), "")
        if text and prompt.startswith(text):
            cut = [places[text], shortened(prompt[len(text) :])]
        else:
            cut = [-1, shortened(prompt)]
        sides.append(side | {"p": cut})
    return one | {"sides": sides}
