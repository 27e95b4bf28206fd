"""Verbs of `cameleer eval` that read what was recorded: show, diff."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cameleer.cli.options import DataOption, Json, Rule, out_file
from cameleer.cli.sandbox import AllowCode
from cameleer.core.console import emit_json, note, table, warn
from cameleer.core.errors import UserError, unknown

if TYPE_CHECKING:
    from cameleer.evals.browse import Answered, Comparison, Twin
    from cameleer.results.stats import Paired

CELL = 60  # characters of a text in a table
Page = Annotated[
    Path | None, typer.Option("--html", help="Write a page to browse, filter and search.")
]
Most = Annotated[int, typer.Option(min=1, help="List so many items at most.")]


def show(
    folder: Annotated[Path, typer.Argument(help="-o of `eval run`, or eval/ of a study.")],
    item: Annotated[str | None, typer.Option(help="Show one item whole: its key.")] = None,
    wrong: Annotated[bool, typer.Option("--wrong", help="List items not scored full.")] = False,
    right: Annotated[bool, typer.Option("--right", help="List items scored full.")] = False,
    flipped: Annotated[
        bool, typer.Option("--flipped", help="List items that the other rule scores otherwise.")
    ] = False,
    group: Annotated[str | None, typer.Option(help="List items of this group only.")] = None,
    limit: Most = 20,
    html: Page = None,
    data: DataOption = None,
    allow_code_execution: AllowCode = None,
    json: Json = False,
) -> None:
    """Read an evaluation item by item: what was asked, said, read out, and how it scored.

    Every number in scores.json and in a study's report is the mean of these items: give the folder
    that the report names beside the number.

    Example: `cameleer eval show runs/camels/eval/llama--gsm-cot-75b72de2 --wrong --html wrong.html`
    """
    from cameleer.evals.browse import (
        compare_all,
        find_evaluations,
        other_rule,
        read,
        regraded,
        select,
    )

    runs = [read(evaluation) for evaluation in find_evaluations(folder)]
    if flipped:
        _allow(runs, allow_code_execution)
        pairs = [(run, regraded(run, other_rule(run), data)) for run in runs if run.items]
        _compared(f"{folder} by both rules", compare_all(pairs), limit, html, json)
        return
    verdicts = ["right"] * right + ["wrong", "partly"] * wrong
    chosen = [(run, select(run, item, verdicts, group)) for run in runs]
    if item is not None and not any(keys for _, keys in chosen):
        known = [key for run in runs for key in run.rows]
        raise unknown("item", item, known, f"cameleer eval show {folder} --right --wrong")
    groups = {str(row.get("group", "")) for run in runs for row in run.rows.values()}
    if group is not None and group not in groups:
        raise unknown("group", group, groups, f"cameleer eval show {folder}")
    listed = item is not None or wrong or right or group is not None
    if html is not None:
        _page_of(html, folder, chosen, json)
    elif json:
        rows = [run.rows[key] for run, keys in chosen for key in keys] if listed else []
        emit_json({"folder": str(folder), "scores": [run.scores for run in runs], "items": rows})
    elif item is not None:
        for run, keys in chosen:
            for key in keys:
                _tell_item(run, key)
    elif listed:
        _list_items(chosen, limit)
    else:
        _summary(runs)


def diff(
    a: Annotated[Path, typer.Argument(help="-o of `eval run`.")],
    b: Annotated[Path | None, typer.Argument(help="Another one, to compare with A.")] = None,
    rule: Annotated[
        Rule | None, typer.Option(help="Compare A with itself as graded by this rule.")
    ] = None,
    limit: Most = 20,
    html: Page = None,
    data: DataOption = None,
    allow_code_execution: AllowCode = None,
    json: Json = False,
) -> None:
    """Compare two evaluations, or two rules of one, item by item: which items flip, and why.

    Differences are paired and corrected over all benchmarks compared (Holm). With --rule nothing
    is asked again: the recorded outputs are graded by the other rule.

    Example: `cameleer eval diff evals/base evals/dolly --html flips.html`
    """
    from cameleer.evals.browse import compare_all, find_evaluations, read, regraded

    if (b is None) == (rule is None):
        raise UserError("give either a second folder or --rule", hint="see `eval diff --help`")
    first = [read(one, _told_apart(a, one.folder)) for one in find_evaluations(a)]
    if b is None:
        assert rule is not None
        _allow(first, allow_code_execution)
        pairs = [(run, regraded(run, rule.value, data)) for run in first if run.items]
    else:
        second = [read(one, _told_apart(b, one.folder)) for one in find_evaluations(b)]
        pairs = _matched(a, first, b, second)
    title = f"{a} against {b if b else f'rule {rule.value if rule else None}'}"
    _compared(title, compare_all(pairs), limit, html, json)


def _told_apart(given: Path, folder: Path) -> str:
    """A name by which evaluations of the same benchmark are told apart."""
    return folder.resolve().relative_to(given.resolve().parent).as_posix()


def _allow(runs: Sequence[Answered], said: bool | None) -> None:
    """Grading anew runs the programs that were recorded, where the benchmark is of programs."""
    from cameleer.evals.consent import allow_code, told

    allow_code([run.benchmark for run in runs], told(said), None, recorded=True)


def _matched(
    a: Path, first: Sequence[Answered], b: Path, second: Sequence[Answered]
) -> list[tuple[Answered, Answered]]:
    """The evaluations of two folders by benchmark; what only one has is said and left out."""
    sides = []
    for folder, runs in ((a, first), (b, second)):
        by_benchmark = {run.benchmark: run for run in runs}
        if len(by_benchmark) < len(runs):
            hint = "give the folder of one evaluation: " + ", ".join(run.name for run in runs[:3])
            raise UserError("holds several evaluations of one benchmark", file=folder, hint=hint)
        sides.append(by_benchmark)
    shared = [name for name in sides[0] if name in sides[1]]
    if not shared:
        raise UserError(f"{a} and {b} have no benchmark in common", hint="`eval show` lists them")
    for name in sides[0].keys() ^ sides[1].keys():
        warn(f"{name} is in {a if name in sides[0] else b} only: left out")
    pairs = [(sides[0][name], sides[1][name]) for name in shared]
    apart = [one.benchmark for one, other in pairs if not one.rows.keys() & other.rows.keys()]
    if len(apart) < len(pairs):  # else comparing says that nothing can be
        for name in apart:
            warn(f"{name}: no item is in both, as with other limits: left out")
        pairs = [pair for pair in pairs if pair[0].benchmark not in apart]
    return pairs


def _summary(runs: Sequence[Answered]) -> None:
    """The scores, and of a single evaluation its groups and what did not go as meant."""
    rows = [
        [run.name, run.benchmark, run.scores.get("rule", ""), len(run.rows), *_score(run.scores)]
        for run in runs
    ]
    table("", ["evaluation", "benchmark", "rule", "items", "score", "95 % interval"], rows)
    if len(runs) > 1:
        return
    (run,) = runs
    if run.items and run.scores.get("groups"):
        groups = run.scores["groups"].items()
        rows = [[name, facts["n"], *_score(facts)] for name, facts in groups]
        table("\ngroups", ["group", "items", "score", "95 % interval"], rows)
    counts = {f"ended by {how}": n for how, n in (run.scores.get("finish") or {}).items()}
    rows = [[what, count] for what, count in {**counts, **run.scores.get("notes", {})}.items()]
    if rows:
        table("\noutputs and notes", ["what", "number"], rows)
    note("--wrong or --right lists items, --item KEY shows one, --html PAGE shows all")


def _score(facts: dict[str, Any]) -> list[str]:
    if "value" not in facts:
        return ["", "answers only, no score"]
    return [f"{100 * facts['value']:.1f}", f"{100 * facts['low']:.1f} to {100 * facts['high']:.1f}"]


def _list_items(chosen: Sequence[tuple[Answered, list[str]]], limit: int) -> None:
    rows = [
        [
            key,
            _number(row.get("score")),
            _cell((row.get("extracted") or [None])[0]),
            _cell(row.get("target")),
            _told(row),
        ]
        for run, keys in chosen
        for key, row in ((key, run.rows[key]) for key in keys)
    ]
    table("", ["item", "score", "read as", "gold", "notes"], rows[:limit])
    _left(len(rows), limit)


def _left(count: int, limit: int) -> None:
    if count > limit:
        note(f"{limit} of {count:,} items; --limit shows more, --html PAGE all of them")


def _told(row: dict[str, Any]) -> str:
    cut = "cut at the length limit" if "length" in (row.get("finish") or []) else ""
    return "; ".join(filter(None, [cut, str(row.get("note") or "")]))


def _number(score: float | None) -> str:
    return "" if score is None else f"{score:.3g}"


def _cell(value: Any) -> str:
    from cameleer.core.files import to_json
    from cameleer.core.text import visible

    text = "nothing" if value is None else value if isinstance(value, str) else to_json(value)
    text = visible(" ".join(text.split()))
    return text if len(text) <= CELL else f"{text[: CELL - 2]} …"


def _tell_item(run: Answered, key: str) -> None:
    """One item, whole."""
    from cameleer.core.console import out
    from cameleer.core.files import to_json
    from cameleer.core.text import visible

    row = dict(run.rows[key])
    outputs, prompt = row.pop("outputs"), row.pop("prompt", "")
    parts = [("prompt", prompt)]
    parts += [(f"output {number}", text) for number, text in enumerate(outputs, 1)]
    for name, text in parts:
        out.print(f"── {name}", style="bold", markup=False)
        out.print(visible(text), markup=False)
    out.print(f"── {run.name}", style="bold", markup=False)
    for name, value in row.items():
        text = value if isinstance(value, str) else to_json(value)
        out.print(f"{name}: {visible(text)}", markup=False)


def _page_of(
    html: Path, folder: Path, chosen: Sequence[tuple[Answered, list[str]]], json: bool
) -> None:
    """Write the page of an evaluation's items, or of several evaluations'."""
    from cameleer.evals.browse import entries_of
    from cameleer.results.items_page import write_page

    facts = []
    for run, keys in chosen:
        score, interval = _score(run.scores)
        said = f"{score} ({interval})" if score else interval
        rule, form = run.scores.get("rule", ""), run.scores.get("format", "")
        some = "" if len(keys) == len(run.rows) else f", {len(keys):,} on this page"
        facts.append(
            f"{run.benchmark}: {said}, {len(run.rows):,} items{some}; rule {rule}, format {form}; "
            f"{run.name}"
        )
    several = len({run.benchmark for run, _ in chosen}) < len(chosen)
    entries = (
        entry
        for run, keys in chosen
        for entry in entries_of(run, keys, f"{run.benchmark} {run.name}" if several else "")
    )
    _say_page(html, write_page(out_file(html), str(folder), facts, ["A"], entries), json)


def _say_page(html: Path, written: tuple[int, int], json: bool) -> None:
    shown, left_out = written
    if left_out:
        warn(f"{left_out:,} items are not on the page, which would be too large to open")
    if json:
        emit_json({"page": str(html), "items": shown, "left_out": left_out})
    else:
        note(f"wrote {shown:,} items to {html}")


def _compared(
    title: str, found: Sequence[Comparison], limit: int, html: Path | None, json: bool
) -> None:
    from cameleer.evals.browse import average, twin_entries
    from cameleer.results.items_page import write_page

    if not found:
        raise UserError("nothing here has a score: there is nothing to compare")
    for one in found:
        if any(one.left_out):
            warn(
                f"{one.a.benchmark}: {one.left_out[0]:,} items are in {one.a.name} only, "
                f"{one.left_out[1]:,} in {one.b.name} only; they are left out"
            )
    over_all = average(found)
    if html is not None:
        facts = [_in_words(one) for one in found]
        entries = (entry for one in found for entry in twin_entries(one))
        _say_page(html, write_page(out_file(html), title, facts, ["A", "B"], entries), json)
    elif json:
        emit_json(_facts(title, found, over_all))
    else:
        _tell_comparisons(found, over_all, limit)


def _in_words(one: Comparison) -> str:
    head = f"{one.a.benchmark}: A is {one.a.name}, B is {one.b.name}; {len(one.twins):,} items"
    if one.paired is None:
        return f"{head}; nothing is scored"
    p = one.paired
    lower = ", lower is better" if one.a.lower_is_better else ""
    moved = f"{_signed(p.difference)} points ({_signed(p.low)} to {_signed(p.high)}{lower})"
    flips = f"{len(one.flips):,} items flip"
    return f"{head}; B − A {moved}, p {one.p_holm:.3g}: {one.verdict}; {flips}"


def _signed(value: float) -> str:
    text = f"{100 * value:+.1f}"
    return "0.0" if text[1:] == "0.0" else text


def _line(name: str, paired: Paired, p_holm: float, verdict: str, lower: bool) -> list[Any]:
    better, worse = (paired.worse, paired.better) if lower else (paired.better, paired.worse)
    interval = f"{_signed(paired.low)} to {_signed(paired.high)}"
    ps = [f"{paired.p:.3g}", f"{p_holm:.3g}"]
    moved = [_signed(paired.difference), interval, *ps]
    return [name, paired.n, *moved, better, worse, paired.same, verdict]


def _tell_comparisons(found: Sequence[Comparison], over_all: Paired | None, limit: int) -> None:
    from cameleer.evals.browse import DETECTABLE, reasons

    rows = []
    for one in found:
        if one.paired is None:
            rows.append([one.a.benchmark, len(one.twins), *[""] * 7, "no score"])
            continue
        lower = one.a.lower_is_better
        rows.append(_line(one.a.benchmark, one.paired, one.p_holm, one.verdict, lower))
    if over_all is not None:
        seen = over_all.p < DETECTABLE
        verdict = "no detectable difference"
        verdict = ("better" if over_all.difference > 0 else "worse") if seen else verdict
        rows.append(_line("mean of them", over_all, over_all.p, verdict, False))
    head = ["benchmark", "items", "B − A", "95 % interval", "p", "p (Holm)"]
    table("", [*head, "better", "worse", "same", "verdict"], rows)
    flips = [twin for one in found for twin in one.flips]
    if not flips:
        note("no item is scored otherwise")
        return
    why = [list(row) for row in reasons(flips)]
    table("\nwhat differs in items that flip", ["what", "better in B", "worse in B"], why)
    table("\nitems that flip", ["item", "A", "B", "read in A", "read in B", "gold", "why"],
          [_flip(twin) for twin in flips[:limit]])  # fmt: skip
    _left(len(flips), limit)


def _flip(twin: Twin) -> list[str]:
    read = [_cell((row.get("extracted") or [None])[0]) for row in (twin.a, twin.b)]
    scores = [_number(row.get("score")) for row in (twin.a, twin.b)]
    return [twin.a["item"], *scores, *read, _cell(twin.a.get("target")), ", ".join(twin.why)]


def _facts(title: str, found: Sequence[Comparison], over_all: Paired | None) -> dict[str, Any]:
    """A comparison as JSON."""
    from dataclasses import asdict

    from cameleer.evals.browse import reasons

    comparisons = [
        {
            "benchmark": one.a.benchmark,
            "a": one.a.name,
            "b": one.b.name,
            "items": len(one.twins),
            "left_out": list(one.left_out),
            **({**asdict(one.paired), "p_holm": one.p_holm} if one.paired else {}),
            "lower_is_better": one.a.lower_is_better,
            "verdict": one.verdict,
            "why": [
                {"what": what, "better": better, "worse": worse}
                for what, better, worse in reasons(one.flips)
            ],
            "flips": [
                {
                    "item": twin.a["item"],
                    "a": {"score": twin.a["score"], "extracted": twin.a["extracted"]},
                    "b": {"score": twin.b["score"], "extracted": twin.b["extracted"]},
                    "why": twin.why,
                }
                for twin in one.flips
            ],
        }
        for one in found
    ]
    mean = asdict(over_all) if over_all else None
    return {"compared": title, "comparisons": comparisons, "mean": mean}
