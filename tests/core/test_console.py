"""The console: results on stdout, everything else on stderr, plain where there is no terminal."""

from __future__ import annotations

import json
import threading

import pytest

from cameleer.core.console import emit_json, kept_told, note, progress, table, warn


def test_notes_and_warnings_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    note("[bold]3 kept[/bold] " + "x" * 300)
    warn("[1, 2] dropped")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"[bold]3 kept[/bold] {'x' * 300}\nwarning: [1, 2] dropped\n"


def test_json_is_one_line_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({"text": "é\n", "n": 1})
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.count("\n") == 1
    assert json.loads(said.out) == {"text": "é\n", "n": 1}
    assert "é" in said.out


def test_table_is_plain_text_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    table("", ["name", "count", "what"], [["a", 1, "x"], ["bb", 20, "[y]"]])
    said = capsys.readouterr()
    assert said.err == ""
    assert "\x1b" not in said.out
    words = [line.split() for line in said.out.splitlines()]
    assert words == [["name", "count", "what"], ["a", "1", "x"], ["bb", "20", "[y]"]]


def test_plain_progress_speaks_seldom(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("cameleer.core.console.time.monotonic", lambda: clock[0])
    with progress("train", 100, 10) as ticker:
        for _ in range(20):
            clock[0] += 1
            ticker.advance(info="loss 1.0")
    # 16 steps in 16 s: one a second, and 74 of 100 are left.
    assert capsys.readouterr().err == "train: 26/100, 1/s, 74 s left loss 1.0\n"
    assert ticker.count == 30


def test_a_long_unit_of_work_is_told_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cameleer.core.console.PLAIN_SECONDS", 0.0)
    asked, threads = threading.Event(), set[str]()

    def status() -> str:
        threads.add(threading.current_thread().name)
        asked.set()
        return "3 of 8 outputs"

    with progress("gsm", 8) as ticker:
        with kept_told(ticker, status, seconds=0.001):
            assert asked.wait(10)
        told = capsys.readouterr().err
        ticker.advance(8)
    assert "gsm: 0/8" in told
    assert "3 of 8 outputs" in told
    assert threads == {"progress"}
    assert "progress" not in {thread.name for thread in threading.enumerate()}
