"""`judge audit` and `judge correct` from the command line: tables, JSON, a page, and mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cameleer.cli import main
from cameleer.results.judgements import write_judgements
from cameleer.results.records import Judgement

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Run a command; returns its exit code, stdout and stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in ("judge", *words)])
        said = capfd.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A judge of 90 items with one silence, and people who labelled 30 of them."""
    judge = [
        Judgement(f"i{n}", "ref", "new", 1.0 + (n % 3 > 0) if n != 80 else None, "j", "judge")
        for n in range(90)
    ]
    people = [
        Judgement(f"i{n}", "ref", "new", 1.0 + (n % 4 > 0), "ann", "human") for n in range(0, 90, 3)
    ]
    people += [Judgement("i1", "ref", "new", 2.0, "ann", "human")]
    write_judgements(tmp_path / "judge.jsonl", judge)
    write_judgements(tmp_path / "people.jsonl", people)
    return tmp_path / "judge.jsonl", tmp_path / "people.jsonl"


def test_correct_prints_three_win_rates(call: Call, files: tuple[Path, Path]) -> None:
    judge, people = files
    code, out, err = call("correct", judge, "--labels", people)
    assert code == 0
    assert "corrected, %" in out
    assert "left out are 1 verdicts that are none" in err
    # The judge is against the model on all but one of the labelled items, and for it elsewhere.
    assert "no random part" in err


def test_correct_as_json_is_one_object(call: Call, files: tuple[Path, Path]) -> None:
    judge, people = files
    code, out, _ = call("correct", judge, "--labels", people, "--json")
    (row,) = json.loads(out)["rows"]
    assert code == 0
    assert (row["judge"], row["a"], row["b"]) == ("j", "ref", "new")
    assert (row["labels"], row["verdicts"], row["unknown"]) == (31, 89, 1)
    for name in ("judge_alone", "people_alone", "corrected"):
        assert row[name]["low"] < row[name]["value"] < row[name]["high"]
    assert row["saved"] == pytest.approx(row["effective"] - 31)


def test_too_few_labels_are_told(call: Call, files: tuple[Path, Path], tmp_path: Path) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text("".join(files[1].read_text().splitlines(keepends=True)[:5]))
    code, _out, err = call("correct", files[0], "--labels", few)
    assert code == 0
    assert "5 labelled items are too few: 20 are needed" in err


def test_audit_as_json_and_as_a_page(call: Call, files: tuple[Path, Path], tmp_path: Path) -> None:
    judge, people = files
    page = tmp_path / "audit.html"
    code, out, _ = call("audit", judge, "--labels", people, "--html", page, "--json")
    assert code == 0
    report = json.loads(out)
    assert [one["judge"] for one in report["judges"]] == ["j"]
    assert report["leaderboard"][0]["beats"] is False  # no texts, no order: no dummy to beat
    assert "Agreement with the labels" in page.read_text()


def test_audit_tells_what_it_cannot(call: Call, files: tuple[Path, Path]) -> None:
    code, out, err = call("audit", files[0])
    assert code == 0
    assert "Order and consistency" in out
    assert "the order shown is not known of 89 of 89 verdicts" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["audit", "nowhere.jsonl"], "no such file"),
        (["audit", "{judge}", "--own", "j"], "is not JUDGE=MODEL"),
        (["audit", "{judge}", "--own", "j=gpt4"], "judged no model 'gpt4'"),
        (["correct", "{judge}"], "--labels"),
        (["correct", "{judge}", "--labels", "{empty}"], "labelled nothing that was judged"),
    ],
)
def test_mistakes_are_one_line(
    call: Call, files: tuple[Path, Path], tmp_path: Path, words: list[str], said: str
) -> None:
    (tmp_path / "empty.jsonl").touch()
    known = {"judge": files[0], "empty": tmp_path / "empty.jsonl"}
    code, _, err = call(*(word.format(**known) for word in words))
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
