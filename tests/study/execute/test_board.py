"""The board of a study under way: rows, what is drawn, what is said elsewhere, and from where."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cameleer.core.artifact import only_worker
from cameleer.core.errors import UserError
from cameleer.study.execute import board
from cameleer.study.execute.board import Board, board_now, drawn, progress_of, rows_of
from cameleer.study.execute.executor import State
from cameleer.study.execute.tasks import Task

BEAT = {
    "pid": 7,
    "host": "vm",
    "memory_gib": 1.26,
    "what": "train",
    "done": 12,
    "total": 48,
    "rate": 0.5,
    "seconds_left": 72,
    "info": "loss 2.1",
}


def state(of: str, kind: str, how: str, folder: Path, beat: dict[str, Any] | None = None) -> State:
    log = folder / "logs" / f"{kind}--{of}.log"
    log.parent.mkdir(exist_ok=True)
    if beat:
        log.with_suffix(".json").write_text(json.dumps(beat))
    return State(Task(of, kind, lambda: None), log, how, tries=1)


def text(rows: Sequence[dict[str, Any]], most: int = 99) -> list[str]:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(drawn(rows, most))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_a_row_is_of_the_stage_that_matters(tmp_path: Path) -> None:
    states = [
        state("a", "train", "done", tmp_path),
        state("a", "evaluate", "running", tmp_path, BEAT),
        state("b", "train", "failed", tmp_path),
        state("b", "evaluate", "skipped", tmp_path),
        state("c", "train", "waiting", tmp_path),
        state("c", "evaluate", "waiting", tmp_path),
        state("d", "train", "done", tmp_path),
        state("d", "evaluate", "done", tmp_path),
    ]
    rows = rows_of(states, {"evaluate a": 31.4})
    assert [(row["model"], row["state"], row["stage"]) for row in rows] == [
        ("a", "running", "evaluate"),
        ("b", "failed", "train"),
        ("c", "waiting", "train"),
        ("d", "done", "train"),
    ]
    assert (rows[0]["done"], rows[0]["seconds"], rows[1]["log"]) == (12, 31, str(states[2].log))
    shown = text(rows)
    assert shown[1].split() == ["a", "evaluate", "train", "━" * 4, "12/48",
                                "0.5/s", "72", "s", "1.3", "GiB", "loss", "2.1"]  # fmt: skip
    assert shown[2].split() == ["b", "failed"]
    assert shown[3].split() == ["c", "waiting", "(train)"]
    assert shown[-1] == "1 done, 1 waiting, 1 failed, 1 running"


def test_where_rows_have_no_room_those_under_way_come_first(tmp_path: Path) -> None:
    hows = ["done"] * 5 + ["waiting"] * 5 + ["running", "failed"]
    states = [state(f"m{n}", "train", how, tmp_path) for n, how in enumerate(hows)]
    shown = text(rows_of(states, {}), most=3)
    assert [line.split()[0] for line in shown[1:-1]] == ["m5", "m10", "m11"]
    assert shown[-1] == "5 done, 5 waiting, 1 failed, 1 running"


def test_progress_in_words() -> None:
    assert progress_of({}) == "not begun yet"
    assert progress_of(BEAT) == "train, 12/48, 0.5/s, 72 s left, 1.3 GiB"
    loading = {"pid": 7, "memory_gib": 0.5}
    assert progress_of(loading) == "begun, 0.5 GiB"
    hours = {**BEAT, "seconds_left": 9000}
    assert "2.5 h left" in progress_of(hours)


def test_lines_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "PLAIN_SECONDS", -1.0)
    shown = Board(tmp_path)
    one = state("a", "train", "waiting", tmp_path, BEAT)
    said = []
    for how in ("waiting", "running", "running", "done", "done"):
        one.state = how
        shown.show([one])
        said.append(capsys.readouterr().err)
    assert said[0] == said[4] == ""
    assert said[1] == "train a (1 of 1)\n"
    assert said[2] == "train a: train, 12/48, 0.5/s, 72 s left, 1.3 GiB\n"
    assert said[3] == "train a: done in 0 s\n"


def test_another_terminal_sees_the_board_of_a_run_under_way(tmp_path: Path) -> None:
    assert board_now(tmp_path) is None
    shown = Board(tmp_path)
    with shown.kept():
        assert board_now(tmp_path) is None  # nothing is shown yet
        shown.show([state("a", "train", "running", tmp_path, BEAT)])
        rows = board_now(tmp_path)
        assert rows is not None
        assert (rows[0]["model"], rows[0]["done"]) == ("a", 12)
    assert board_now(tmp_path) is None


def test_a_study_is_run_by_one_command_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cameleer.core.artifact.PATIENCE", 0.1)
    with (
        Board(tmp_path).kept(),
        pytest.raises(UserError, match="another process is at work"),
        Board(tmp_path).kept(),
    ):
        pass
    with only_worker(tmp_path / "logs"):
        assert board_now(tmp_path) is None


def test_it_is_watched_until_the_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [rows_of([state("a", "train", "running", tmp_path, BEAT)], {}), None]
    monkeypatch.setattr(board, "board_now", lambda _: frames.pop(0))
    board.watch(tmp_path)
    assert frames == []
    assert "12/48" in capsys.readouterr().err


def test_status_tells_what_runs_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cameleer.cli import main
    from cameleer.study import status

    file = tmp_path / "s.yaml"
    file.write_text(
        "name: s\nbases: [{name: b, model: org/b}]\nbenchmarks: [mmlu:0-shot]\n"
        "mixtures: [{name: cot, parts: [{source: cot}]}]\n"
    )
    models = [{"model": "b", "train": "–", "evals": {"mmlu:0-shot": "to do"}}]
    monkeypatch.setattr(status, "status", lambda *_: {"models": models})
    shown = Board(tmp_path)
    with shown.kept():
        shown.show([state("b", "evaluate", "running", tmp_path, BEAT)])
        capsys.readouterr()
        for words in ([], ["--json"]):
            with pytest.raises(SystemExit) as ended:
                main(["study", "status", str(file), "-o", str(tmp_path), *words])
            assert ended.value.code == 0
            said = capsys.readouterr().out
            assert "12/48" in said if not words else json.loads(said)["running"][0]["done"] == 12
