"""`eval show` and `eval diff` from the command line: tables, JSON, pages, and mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cameleer.cli import main

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Run a command; returns its exit code, stdout and stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in ("eval", *words)])
        said = capfd.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return run


def write(folder: Path, right: int, of: int = 40, name: str = "gsm", **told: Any) -> Path:
    """An evaluation of `of` items of which the first `right` are right."""
    folder.mkdir(parents=True)
    rows = [
        {
            "item": f"{name}/{n}",
            "group": "ab"[n % 2],
            "score": float(n < right),
            "extracted": [str(n)],
            "target": "[red]7",
            "outputs": [f"[bold]it is {n}"],
            "finish": ["stop"],
            "prompt": "Q",
            "note": "",
        }
        for n in range(of)
    ]
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    estimate = {"value": right / of, "low": 0.0, "high": 1.0, "n": of}
    scores = {"benchmark": name, "setting": "cot", "rule": "fixed", **estimate, **told}
    scores |= {"groups": {"a": estimate, "b": estimate}, "finish": {"stop": of}, "notes": {}}
    (folder / "scores.json").write_text(json.dumps(scores))
    (folder / "manifest.json").write_text("{}")
    return folder


def test_show_tells_scores_then_items_then_one(call: Call, tmp_path: Path) -> None:
    run = write(tmp_path / "run", 30)
    code, out, err = call("show", run)
    assert code == 0
    assert "75.0" in out
    assert "ended by stop" in out
    assert "--item KEY" in err
    code, out, err = call("show", run, "--wrong", "--limit", 4)
    assert [line.split()[0] for line in out.splitlines()[1:]] == [f"gsm/{n}" for n in range(30, 34)]
    assert "[red]7" in out
    assert "4 of 10 items" in err
    code, out, _ = call("show", run, "--item", "gsm/3")
    assert "[bold]it is 3" in out
    assert "score: 1.0" in out
    code, out, _ = call("show", run, "--right", "--group", "b", "--json")
    assert len(json.loads(out)["items"]) == 15


def test_show_writes_a_page(call: Call, tmp_path: Path) -> None:
    write(tmp_path / "runs" / "one", 3)
    write(tmp_path / "runs" / "two", 9)
    code, out, _ = call("show", tmp_path / "runs", "--html", tmp_path / "p.html", "--json")
    assert (code, json.loads(out)["items"]) == (0, 80)
    assert "gsm:cot two" in (tmp_path / "p.html").read_text()


def test_an_unknown_item_is_one_line(call: Call, tmp_path: Path) -> None:
    code, _, err = call("show", write(tmp_path / "run", 3), "--item", "gsm/99")
    assert code == 2
    assert "unknown item 'gsm/99'" in err


def test_an_unknown_group_is_one_line(call: Call, tmp_path: Path) -> None:
    code, out, err = call("show", write(tmp_path / "run", 3), "--wrong", "--group", "aa")
    assert (code, out) == (2, "")
    assert "unknown group 'aa'" in err


def test_diff_pairs_benchmarks_and_says_what_only_one_has(call: Call, tmp_path: Path) -> None:
    for model, right in (("a", 10), ("b", 30)):
        write(tmp_path / model / "gsm-cot", right)
        write(tmp_path / model / "bbh-cot", 20, name="bbh")
    write(tmp_path / "b" / "more", 20, name="more")
    code, out, err = call("diff", tmp_path / "a", tmp_path / "b", "--limit", 3)
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines() if line.split()}
    assert "+50.0" in lines["gsm:cot"]
    assert lines["gsm:cot"].rstrip().endswith("better")
    assert "no detectable difference" in lines["bbh:cot"]
    assert "+25.0" in lines["mean"]
    assert "comparison differs" in out
    assert "more:cot is in" in err
    assert "3 of 20 items" in err
    code, out, _ = call("diff", tmp_path / "a", tmp_path / "b", "--json")
    facts = json.loads(out)
    gsm = next(one for one in facts["comparisons"] if one["benchmark"] == "gsm:cot")
    assert (gsm["better"], gsm["worse"], gsm["same"], len(gsm["flips"])) == (20, 0, 20, 20)
    assert facts["mean"]["difference"] == pytest.approx(0.25)
    page = tmp_path / "flips.html"
    assert call("diff", tmp_path / "a", tmp_path / "b", "--html", page)[0] == 0
    assert "+50.0 points" in page.read_text()


def test_diff_goes_on_where_a_benchmark_shares_no_item(call: Call, tmp_path: Path) -> None:
    for model in ("a", "b"):
        write(tmp_path / model / "gsm-cot", 10)
        write(tmp_path / model / "bbh-cot", 20, name="bbh")
    samples = tmp_path / "b" / "bbh-cot" / "samples.jsonl"
    samples.write_text(samples.read_text().replace('"bbh/', '"other/'))
    code, out, err = call("diff", tmp_path / "a", tmp_path / "b")
    assert code == 0
    assert "gsm:cot" in out
    assert "bbh:cot" not in out
    assert "bbh:cot: no item is in both" in err
    code, out, err = call("diff", tmp_path / "a" / "bbh-cot", tmp_path / "b" / "bbh-cot")
    assert (code, out) == (2, "")
    assert "no item is in both" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["diff", "one"], "either a second folder or --rule"),
        (["diff", "one", "two", "--rule", "paper"], "either a second folder or --rule"),
        (["diff", "both", "one"], "several evaluations of one benchmark"),
        (["diff", "one", "other"], "no benchmark in common"),
        (["show", "nowhere"], "no samples.jsonl here"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("one"), 3)
    write(Path("two"), 3)
    write(Path("other"), 3, name="bbh")
    write(Path("both/x"), 3)
    write(Path("both/y"), 3)
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
