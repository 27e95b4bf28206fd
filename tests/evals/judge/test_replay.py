"""Released verdicts scored again: as the leaderboard prints them, and from the command line."""

from __future__ import annotations

import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from cameleer.cli import main
from cameleer.core.errors import UserError
from cameleer.evals.judge.outputs import read_annotations, read_outputs
from cameleer.evals.judge.replay import (
    COMPARED,
    compared,
    points,
    read_leaderboard,
    replay,
    same,
    tallied,
)

MODELS = ("text_davinci_001", "alpaca-7b", "vicuna-13b", "tulu-2-dpo-7b", "gpt4", "phi-2-sft")


def written(path: Path, preferences: list[Any], **changes: Any) -> Path:
    rows = [
        {
            "instruction": f"say {number}", "output_1": "short one", "generator_1": "ref",
            "output_2": "a rather " * (1 + number % 3) + "long one", "generator_2": path.stem,
            "annotator": "judge", "preference": preference,
        } | changes
        for number, preference in enumerate(preferences)
    ]  # fmt: skip
    path.write_text(json.dumps(rows))
    return path


def test_counts_are_alpaca_evals() -> None:
    told = tallied([2, 2, 1, 1.5, 1.5, 1.8, None])
    points = [1, 1, 0, 0.5, 0.5, 0.8]
    assert told.win_rate == pytest.approx(100 * statistics.fmean(points))
    assert told.standard_error == pytest.approx(100 * statistics.stdev(points) / math.sqrt(6))
    assert (told.n_wins, told.n_draws, told.n_losses) == (3, 2, 1)
    assert (told.n_total, told.n_null) == (6, 1)
    assert told.discrete_win_rate == pytest.approx(100 * (3 + 1) / 6)
    assert told.low < told.win_rate < told.high
    with pytest.raises(UserError, match="no row has a verdict"):
        tallied([None, None])


def test_one_verdict_has_no_standard_error() -> None:
    assert tallied([2.0]).standard_error is None


@pytest.mark.parametrize(
    ("printed", "ours", "equal"),
    [
        ("566", 566, True),
        ("566", 567, False),
        ("82.11180124", 82.111801242236, True),
        ("82.11180124", 82.11180129, False),
        ("70.43478260869566", 70.43478260869565, True),
        ("70.43478260869566", 70.43478260869, False),
        ("1.5", None, False),
    ],
)
def test_same_to_the_last_printed_digit(printed: str, ours: float | None, equal: bool) -> None:
    assert same(printed, ours) is equal


def test_answers_come_from_files_where_verdicts_hold_none(tmp_path: Path) -> None:
    path = written(tmp_path / "ours.json", [2, 1, 0], output_1=None, output_2=None)
    [bare] = replay([read_annotations(path)], {})
    assert (bare.avg_length, bare.counts, bare.controlled) == (None, None, None)
    assert "3 of 3 answers of ours are in no file" in bare.notes
    rows = [{"instruction": f"say {n}", "output": "x" * n, "generator": "ours"} for n in range(2)]
    (tmp_path / "out.json").write_text(json.dumps(rows))
    [filled] = replay([read_annotations(path)], {"ours": read_outputs(tmp_path / "out.json")})
    assert filled.avg_length == 0  # of 0 and 1 characters, without fraction
    assert f"1 of 3 instructions judged are not in {tmp_path / 'out.json'}" in filled.notes
    assert "1 of 3 answers of ours are in no file" in filled.notes


def test_other_answers_than_those_judged_are_told(tmp_path: Path) -> None:
    path = written(tmp_path / "ours.json", [2, 1, 0])
    rows = [{"instruction": f"say {n}", "output": "short one", "generator": "ref"} for n in (0, 1)]
    rows.append({"instruction": "say 2", "output": "changed", "generator": "ref"})
    (tmp_path / "ref.json").write_text(json.dumps(rows))
    reference = read_outputs(tmp_path / "ref.json")
    [found] = replay([read_annotations(path)], {}, reference)
    assert found.notes == [
        f"1 of 3 answers judged as ref's are others than those in {tmp_path / 'ref.json'}:"
        " what was judged counts"
    ]
    other = [{"instruction": "never", "output": "x"}]
    (tmp_path / "other.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match="none of its instructions was judged"):
        replay([read_annotations(path)], {}, read_outputs(tmp_path / "other.json"))


def test_the_same_model_twice_is_a_mistake(tmp_path: Path) -> None:
    one = read_annotations(written(tmp_path / "ours.json", [2, 1]))
    with pytest.raises(UserError, match="2 annotation files judge ours by judge"):
        replay([one, one], {})


def test_the_best_comes_first_and_the_board_gives_others(tmp_path: Path) -> None:
    files = [written(tmp_path / f"{n}.json", [2] * n + [1] * (9 - n)) for n in (3, 8, 5)]
    found = replay([read_annotations(file) for file in files], {})
    assert [one.annotations.b for one in found] == ["8", "5", "3"]
    (tmp_path / "more.json").write_text(json.dumps([{"instruction": "?", "output": "a b c"}]))
    more = read_outputs(tmp_path / "more.json")
    dots = points(found, {"new": more}, {"new": {"win_rate": "50.5", "standard_error": "1"}})
    assert [(dot.model, dot.printed) for dot in dots][-1] == ("new", True)
    assert (dots[-1].unique, dots[-1].low, dots[-1].high) == pytest.approx((3, 48.54, 52.46))
    assert [dot.model for dot in points(found, {"new": more}, {})] == ["8", "5", "3"]


def test_a_leaderboard_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "board.csv"
    path.write_text("model,score\ngpt,3\n")
    with pytest.raises(UserError, match=r"board.csv:1: field 'win_rate': is no column"):
        read_leaderboard(path)
    path.write_text(",win_rate,n_wins\ngpt,many,3\n")
    with pytest.raises(UserError, match=r"board.csv:2: field 'win_rate': 'many' is no number"):
        read_leaderboard(path)
    path.write_text(",win_rate,n_wins\ngpt,3\n")
    with pytest.raises(UserError, match=r"board.csv:2: has 2 columns, the first line 3"):
        read_leaderboard(path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(["judge", "replay", *arguments])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def test_one_file_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "ours.json", [2, 1, 0, 2, None])
    code, out, _ = run(capsys, str(path), "--json")
    told = json.loads(out)
    assert code == 0
    assert (told["n_wins"], told["n_draws"], told["n_losses"], told["n_total"]) == (2, 1, 1, 4)
    assert told["win_rate"] == 62.5
    assert told["lc_fit"] == "joint"
    for key in ("standard_error", "avg_length", "lc_win_rate", "unique_tokens"):
        assert isinstance(told[key], int | float)


def test_several_files_are_a_table_beside_the_board(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(written(tmp_path / f"m{n}.json", [2] * n + [1] * (9 - n))) for n in (3, 8)]
    board = tmp_path / "board.csv"
    board.write_text(",win_rate,n_wins,n_wins_base\nm3,33.3333,3,5\n")
    code, out, err = run(capsys, *files, "--leaderboard", str(board))
    assert code == 0
    assert out.index("m8") < out.index("m3")
    assert "not on it" in out
    assert "n_wins_base 5, not 6" in " ".join(out.split())
    assert "single marks" in err


def test_a_figure_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(written(tmp_path / "ours.json", [2, 1, 2]))
    code, _, _ = run(capsys, file, "--figure", str(tmp_path / "f.svg"))
    assert code == 0
    assert (tmp_path / "f.svg").read_text().startswith("<svg")
    code, _, err = run(capsys, file, "--figure", str(tmp_path / "f.pdf"))
    assert code == 2
    assert "does not end in .svg" in err


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cut.json"
    path.write_text('[{"instruction": "Hi", "pref')
    code, out, err = run(capsys, str(path))
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: .*cut.json:1: broken JSON: .*\n", err)


@pytest.fixture(scope="module")
def released(real_data: Path) -> Path:
    return real_data / "eval" / "alpaca_eval"


@pytest.mark.real_data
def test_the_leaderboard_of_six_models_to_the_last_digit(released: Path) -> None:
    board = read_leaderboard(
        released / "leaderboards" / "data_AlpacaEval" / "alpaca_eval_gpt4_leaderboard.csv"
    )
    files = [released / "results" / m / "alpaca_eval_gpt4" / "annotations.json" for m in MODELS]
    found = replay([read_annotations(file) for file in files], {})
    assert len(found) == 6
    for one in found:
        assert compared(one, board[one.annotations.b]) == dict.fromkeys(COMPARED, True)
        assert one.tallied.low < one.tallied.win_rate < one.tallied.high
        assert one.notes == []
    rates = [one.tallied.win_rate for one in found]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.real_data
def test_length_control_beside_the_leaderboards(released: Path) -> None:
    """Without the published inputs: alike where lengths overlap, and in the same order."""
    files = [released / "results" / m / "alpaca_eval_gpt4" / "annotations.json" for m in MODELS]
    found = {
        one.annotations.b: one for one in replay([read_annotations(file) for file in files], {})
    }
    printed = {"text_davinci_001": 20.57, "alpaca-7b": 26.29, "vicuna-13b": 50.00}
    for model, rate in printed.items():
        controlled = found[model].controlled
        assert controlled is not None
        assert controlled[1] < rate < controlled[2]
    order = sorted(found, key=lambda model: -(found[model].controlled or (0.0,))[0])
    assert order == [
        "gpt4", "tulu-2-dpo-7b", "vicuna-13b", "phi-2-sft", "alpaca-7b", "text_davinci_001"
    ]  # fmt: skip
