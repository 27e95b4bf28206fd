"""Processes are measured truly, and fail with their log's name."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bench.compare import PINS, job, peer_python, run
from cameleer.core.errors import UserError
from cameleer.core.files import read_json, write_json


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_time_memory_and_last_line_of_a_process(tmp_path: Path) -> None:
    code = "import sys, time; held = bytearray(b'x') * (300 << 20); time.sleep(0.3)\n"
    code += "print('noise'); print('{\"steps\": 3}'); print('later', file=sys.stderr)"
    ran = run("some one", python(code), work=tmp_path, threads=1)
    assert ran.said == {"steps": 3}
    assert ran.wall >= 0.3
    assert ran.peak >= 300 << 20
    assert ran.cpu > 0
    assert (tmp_path / "some-one.log").read_text() == "later\n"


def test_a_process_sees_its_threads_and_nothing_of_our_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    seen = run("one", python(code), work=tmp_path, threads=3).said
    assert seen["OMP_NUM_THREADS"] == seen["MKL_NUM_THREADS"] == "3"
    assert seen["HF_HUB_OFFLINE"] == "1"
    assert seen["HF_HOME"] == str(tmp_path / "hf")
    assert "PYTHONPATH" not in seen
    assert os.environ["PYTHONPATH"] == "/somewhere"


@pytest.mark.parametrize(
    ("code", "named"),
    [("raise SystemExit(3)", "one.log"), ("print('no json')", "one.out"), ("print(1)", "one.out")],
)
def test_failures_name_the_file_to_look_at(code: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=named):
        run("one", python(code), work=tmp_path, threads=1)


def test_jobs_are_json_with_paths_as_text(tmp_path: Path) -> None:
    path = job(tmp_path, "TRL packed", {"out": tmp_path / "x", "row": 4})
    assert path.name == "TRL-packed.json"
    assert read_json(path) == {"out": str(tmp_path / "x"), "row": 4}


def test_an_environment_that_is_ready_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.compare.OUT", tmp_path)
    write_json(tmp_path / "venvs" / "trl" / "ready.json", PINS["trl"])
    assert peer_python("trl", None) == tmp_path / "venvs" / "trl" / "bin" / "python"
    given = tmp_path / "python"
    given.symlink_to(sys.executable)
    assert peer_python("trl", given) == given  # the link itself: it tells which environment it is
