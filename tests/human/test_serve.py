"""`cameleer annotate serve` as a user starts and stops it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cameleer.cli import main
from cameleer.core.files import write_jsonl

PROMPTS = [{"id": str(number), "prompt": f"Say {number}."} for number in range(3)]


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A campaign that was made by the command."""
    arguments = ["annotate", "new", str(tmp_path / "c")]
    for model in ("one", "two"):
        rows = [{**row, "completion": f"{row['id']} {model}"} for row in PROMPTS]
        write_jsonl(tmp_path / f"{model}.jsonl", rows)
        arguments += ["--answers", f"{model}={tmp_path / model}.jsonl"]
    run(arguments)
    capsys.readouterr()
    return tmp_path / "c"


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(str(ended.value.code))


@contextmanager
def served(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "cameleer.cli", "annotate", "serve", str(folder)]
    with subprocess.Popen(
        [*command, "--port", "0", "--json", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())["address"]
        finally:
            process.kill()


def test_it_serves_until_it_is_told_to_end(folder: Path) -> None:
    with served(folder) as (process, address):
        with urllib.request.urlopen(f"{address}/login", timeout=20) as answer:
            assert "Log in" in answer.read().decode()
            assert "server" not in {name.lower() for name in answer.headers}
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert f"annotate account {folder} add NAME --admin" in said.replace("\n", " ")
    assert "stopped" in said
    assert "warning" not in said


def test_ctrl_c_stops_it_and_an_open_address_is_warned_of(folder: Path) -> None:
    with served(folder, "--host", "0.0.0.0") as (process, address):
        port = address.rpartition(":")[2]
        urllib.request.urlopen(f"http://127.0.0.1:{port}/login", timeout=20).close()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "without encryption" in said


def test_a_port_that_is_taken_is_the_users_mistake(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert run(["annotate", "serve", str(folder), "--port", port]) == 2
    assert "address already in use" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "no.such.host.invalid"], "cannot listen"),
        (["--public-url", "example.org"], "public-url"),
    ],
)
def test_an_address_that_is_none_is_the_users_mistake(
    folder: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["annotate", "serve", str(folder), *options]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_without_a_campaign_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["annotate", "serve", str(tmp_path)]) == 2
    assert "holds no campaign" in capsys.readouterr().err


def test_it_starts_without_torch() -> None:
    said = "import sys, cameleer.human.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", said], check=False).returncode == 0
