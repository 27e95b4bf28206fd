"""Evaluations side by side: what flips and why, grading anew, and the page that shows it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.evals.browse import (
    Answered,
    average,
    compare,
    compare_all,
    entries_of,
    find_evaluations,
    read,
    reasons,
    regraded,
    select,
    twin_entries,
)
from cameleer.results import items_page
from cameleer.results.items_page import write_page
from cameleer.results.store import Evaluation

EVIL = '</script><script>alert("x")</script><!-- \u2028 &amp; <b>'
SHOTS = "Answer the following questions.\n\n" + "Question: one and one?\nAnswer: 2\n\n" * 20


def row(number: int, score: float | None, output: str = "so 7", **more: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "item": f"gsm/{number}",
        "group": "",
        "score": score,
        "extracted": ["7"],
        "target": "7",
        "outputs": [output],
        "logprobs": [],
        "finish": ["stop"],
        "prompt_tokens": 9,
        "new_tokens": 3,
        "seconds": 0.1,
        "values": {},
        "note": "",
        "prompt": f"{SHOTS}Question: number {number}?\nAnswer:",
    }
    return plain | more


def folder_of(path: Path, rows: list[dict[str, Any]], **told: Any) -> Path:
    """An evaluation as `eval run` leaves it."""
    path.mkdir(parents=True)
    scores = [one["score"] for one in rows if one["score"] is not None]
    said: dict[str, Any] = {"benchmark": "gsm", "setting": "cot", "rule": "fixed", "n": len(rows)}
    if scores:
        said |= {"value": sum(scores) / len(scores), "low": 0.0, "high": 1.0}
    (path / "scores.json").write_text(json.dumps(said | told))
    (path / "manifest.json").write_text("{}")
    (path / "samples.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def answered(path: Path, rows: list[dict[str, Any]], **told: Any) -> Answered:
    return read(Evaluation(folder_of(path, rows, **told)))


def test_what_flips_and_why(tmp_path: Path) -> None:
    a = answered(tmp_path / "a", [row(n, 0.0) for n in range(7)])
    changed = [
        row(0, 0.0),
        row(1, 1.0, "so 8"),
        row(2, 1.0, extracted=["8"]),
        row(3, 1.0),
        row(4, 1.0, "so on", finish=["length"], prompt="Q"),
        row(5, 0.5, "none", note="no answer found"),
        row(9, 1.0),
    ]
    found = compare(a, answered(tmp_path / "b", changed))
    assert found.left_out == (1, 1)
    assert [twin.outcome for twin in found.twins] == ["same", *["better"] * 5]
    assert [twin.why for twin in found.twins] == [
        [],
        ["output differs"],
        ["extraction differs"],
        ["comparison differs"],
        ["prompt differs", "output differs", "cut at length in B only"],
        ["output differs", "no answer found in B only"],
    ]
    assert found.paired
    assert (found.paired.better, found.paired.worse, found.paired.same) == (5, 0, 1)
    assert found.paired.difference == pytest.approx(4.5 / 6)
    assert reasons(found.flips)[0] == ("output differs", 3, 0)


def test_where_lower_is_better_a_fall_is_better(tmp_path: Path) -> None:
    a = answered(tmp_path / "a", [row(n, 1.0) for n in range(30)], lower_is_better=True)
    b = answered(tmp_path / "b", [row(n, 0.0) for n in range(30)], lower_is_better=True)
    (found,) = compare_all([(a, b)])
    assert found.paired
    assert found.paired.difference == -1
    assert found.verdict == "better"
    assert {twin.outcome for twin in found.twins} == {"better"}
    assert select(b, None, ["right"], None) == list(b.rows)


def test_comparisons_made_together_are_corrected_and_averaged(tmp_path: Path) -> None:
    half = [row(n, float(n % 2)) for n in range(40)]
    more = [row(n, float(n % 2 or n < 12)) for n in range(40)]
    pairs = [
        (answered(tmp_path / f"a{i}", half, benchmark=f"x{i}"),
         answered(tmp_path / f"b{i}", more, benchmark=f"x{i}"))
        for i in range(3)
    ]  # fmt: skip
    found = compare_all(pairs)
    (alone,) = compare_all(pairs[:1])
    assert alone.paired
    assert alone.p_holm == alone.paired.p
    assert [one.p_holm for one in found] == pytest.approx([3 * alone.paired.p] * 3)
    mean = average(found)
    assert mean
    assert mean.difference == pytest.approx(6 / 40)
    assert average(found[:1]) is None


def test_shared_items_of_a_mean_over_groups_weigh_by_the_groups_that_are_left(
    tmp_path: Path,
) -> None:
    def rows(count: int, right: float) -> list[dict[str, Any]]:
        each, few = (count + 2) / (2 * count), (count + 2) / 4
        a = [row(n, right, group="a", weight=each) for n in range(count)]
        return a + [row(100 + n, 0.0, group="b", weight=few) for n in range(2)]

    small = answered(tmp_path / "a", rows(2, 0.0), macro=True)
    large = answered(tmp_path / "b", rows(8, 1.0), macro=True)
    found = compare(small, large)
    assert found.paired
    assert found.paired.difference == pytest.approx(0.5)
    found = compare(large, small)
    assert found.paired
    assert found.paired.difference == pytest.approx(-0.5)


def test_other_benchmarks_cannot_be_compared(tmp_path: Path) -> None:
    a = answered(tmp_path / "a", [row(0, 1.0)])
    b = answered(tmp_path / "b", [row(0, 1.0)], setting="direct")
    with pytest.raises(UserError, match="a is gsm:cot, b is gsm:direct"):
        compare(a, b)


def test_answers_without_scores_are_shown_not_compared(tmp_path: Path) -> None:
    a = answered(tmp_path / "a", [row(0, None, "one")])
    found = compare(a, answered(tmp_path / "b", [row(0, None, "two")]))
    assert (found.paired, found.verdict, found.flips) == (None, "no score", [])
    assert [entry["pairs"] for entry in twin_entries(found)] == [[[None, 2]]]
    with pytest.raises(UserError, match="gsm:cot has no score"):
        regraded(a, "paper", None)


def test_recorded_outputs_are_graded_by_the_other_rule(tmp_path: Path) -> None:
    native = tmp_path / "data" / "eval" / "gsm"
    native.mkdir(parents=True)
    lines = [{"question": f"Q{n}?", "answer": "so\n#### 18"} for n in range(3)]
    (native / "test.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    run = answered(
        tmp_path / "a",
        [
            row(0, 1.0, "18.0", extracted=["18"]),
            row(1, 1.0, "18", extracted=["18"]),
            row(2, 0.0, "none", extracted=[None], note="no answer found"),
        ],
    )
    paper = regraded(run, "paper", tmp_path / "data")
    found = compare(run, paper)
    # The paper's code compares without punctuation, so 18.0 is 180.
    assert [twin.outcome for twin in found.twins] == ["worse", "same", "same"]
    assert found.flips[0].why == ["extraction differs"]
    assert paper.rows["gsm/0"]["outputs"] == ["18.0"]
    assert (paper.name, paper.scores["rule"]) == ("rule paper", "paper")


@pytest.mark.real_data
def test_decimals_turn_every_second_answer_of_gsm_by_the_papers_rule(
    real_data: Path, tmp_path: Path
) -> None:
    rows = []
    lines = (real_data / "eval" / "gsm" / "test.jsonl").read_text().splitlines()
    for number, line in enumerate(lines):
        reasoning, _, gold = json.loads(line)["answer"].rpartition("#### ")
        said = f"{gold}.00" if number % 2 else f"{reasoning}So the answer is {gold}."
        rows.append(row(number, 1.0, said, extracted=[gold.replace(",", "")]))
    run = answered(tmp_path / "gold", rows)
    assert not compare(run, regraded(run, "fixed", real_data)).flips
    found = compare(run, regraded(run, "paper", real_data))
    assert [twin.a["item"] for twin in found.flips] == [f"gsm/{n}" for n in range(1, 1319, 2)]
    assert reasons(found.flips) == [("extraction differs", 0, 659)]


def test_evaluations_are_found_in_a_run_and_in_a_study(tmp_path: Path) -> None:
    one = folder_of(tmp_path / "runs" / "gsm-cot", [row(0, 1.0)])
    assert [found.folder for found in find_evaluations(one)] == [one]
    assert [found.folder for found in find_evaluations(tmp_path / "runs")] == [one]
    assert [found.folder for found in find_evaluations(tmp_path)] == [one]


def test_what_is_not_finished_is_said(tmp_path: Path) -> None:
    folder_of(tmp_path / ".gsm-cot.partial", [row(0, 1.0)])
    with pytest.raises(UserError, match=r"samples\.jsonl here.*not finished"):
        find_evaluations(tmp_path)


def embedded(page: str, name: str) -> Any:
    """What a page holds as JSON."""
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page)
    assert found
    return json.loads(found[1])


def test_the_page_holds_every_item_as_it_was_and_asks_for_nothing(tmp_path: Path) -> None:
    rows = [row(n, float(n % 2), f"say {n} {EVIL}") for n in range(30)]
    rows.append(row(30, 0.5, "odd", prompt=f"another {EVIL}", logprobs=[-1.23456]))
    run = answered(tmp_path / "a", rows)
    path = tmp_path / "page.html"
    entries = entries_of(run, select(run, None, [], None))
    assert write_page(path, EVIL, [EVIL], ["A"], entries) == (31, 0)
    page = path.read_text()
    held, begun = embedded(page, "entries"), embedded(page, "beginnings")
    assert [entry["k"] for entry in held] == list(run.rows)
    for entry, one in zip(held, rows, strict=True):
        (side,) = entry["sides"]
        number, rest = side["p"]
        assert (begun[number] if number >= 0 else "") + rest == one["prompt"]
        assert side["o"] == one["outputs"]
    assert [entry["w"] for entry in held[:2]] == ["wrong", "right"]
    assert held[-1]["w"] == "partly"
    # The twenty examples are there once, and no text of a model is markup or script.
    assert page.count("one and one") == 20
    bare = re.sub(r'(?s)<script type="application/json".*?</script>', "", page)
    assert "alert(" not in bare.replace("&lt;script&gt;alert(", "")
    assert page.count("<script") == 5
    assert not re.search(r'(src|href)="(?!#)|@import|url\(', page)


def test_a_page_that_would_be_too_large_says_what_it_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(items_page, "PAGE_BYTES", 5000)
    run = answered(tmp_path / "a", [row(n, 0.0, "word " * 5000) for n in range(9)])
    shown, left_out = write_page(
        tmp_path / "page.html", "t", [], ["A"], entries_of(run, list(run.rows))
    )
    assert (shown, left_out) == (1, 8)
    page = (tmp_path / "page.html").read_text()
    assert "The last 8 items are not on this page" in page
    (entry,) = embedded(page, "entries")
    assert "[… 19,000 characters, in samples.jsonl …]" in entry["sides"][0]["o"][0]


def test_of_a_comparison_what_flips_comes_first(tmp_path: Path) -> None:
    a = answered(tmp_path / "a", [row(n, 0.0) for n in range(4)])
    b = answered(tmp_path / "b", [row(n, float(n == 2)) for n in range(4)])
    entries = list(twin_entries(compare(a, b)))
    assert [(entry["k"], entry["pairs"]) for entry in entries[:2]] == [
        ("gsm/2", [[1, 8]]),
        ("gsm/0", [[0, 0]]),
    ]
    assert [side["s"] for side in entries[0]["sides"]] == [0.0, 1.0]
