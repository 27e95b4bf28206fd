"""The cage: what it lets through, and what it does not."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from cameleer.core.errors import UserError
from cameleer.evals.sandbox import Verdict, run_program, run_programs

LEVEL = run_program("").level


def layer(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(name not in LEVEL, reason=f"this kernel grants no {name}")


def test_level_is_stated() -> None:
    assert LEVEL.startswith("process+rlimits")


@pytest.mark.parametrize(
    "program",
    [
        "assert 1 + 1 == 2",
        "import math, re, collections, typing, hashlib, datetime, random, json, decimal, heapq",
        "open('a', 'w').write('x'); assert open('a').read() == 'x'",
        "import threading; t = threading.Thread(target=print); t.start(); t.join()",
        "print('x' * 10**6)",
    ],
)
def test_passes(program: str) -> None:
    assert run_program(program) == Verdict(True, "passed", LEVEL)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("assert 1 == 2, 'no'", "AssertionError: no"),
        ("def f(:", "SyntaxError"),
        ("x = '\ud800'", "UnicodeEncodeError"),
        ("\0", "null bytes"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import os; os._exit(0)", "ended before its last line, exit status 0"),
        ("import os\nfor fd in range(64): os.write(fd, b'passed')", "Error"),
        ("import os; os.closerange(0, 64)", "ended before its last line"),
        ("import ctypes; ctypes.string_at(0)", "killed by SIGSEGV"),
        ("input()", "EOFError"),
        ("x = 'a' * (4 << 30)", "MemoryError"),
        ("f = open('big', 'wb')\nwhile True: f.write(bytes(1 << 20))", "File too large"),
        ("def f(n): return f(n + 1)\nf(0)", "RecursionError"),
        (
            "import os\nassert set(os.environ) <= {'HOME', 'TMPDIR', 'LANG', 'LC_CTYPE'}\n1 / 0",
            "Zero",
        ),
    ],
)
def test_fails(program: str, reason: str) -> None:
    verdict = run_program(program)
    assert not verdict.passed
    assert verdict.reason.startswith("failed: ")
    assert reason in verdict.reason


def test_a_report_forged_without_the_token_does_not_pass() -> None:
    forged = """
import os
for fd in range(3, 64):
    try: os.write(fd, b"passed 00000000000000000000000000000000")
    except OSError: pass
os._exit(0)
"""
    assert not run_program(forged).passed


@pytest.mark.parametrize("program", ["while True: pass", "import time; time.sleep(60)"])
def test_time_is_bounded(program: str) -> None:
    start = time.monotonic()
    assert run_program(program, timeout=0.3) == Verdict(False, "timed out", LEVEL)
    assert time.monotonic() - start < 5


@layer("seccomp")
@pytest.mark.parametrize(
    "program",
    [
        "import os\nwhile True: os.fork()",
        "import subprocess; subprocess.run(['true'])",
        "import os, signal; os.kill(os.getppid(), 0)",
        "import socket; socket.socket()",
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1, 1))",
    ],
)
def test_seccomp_refuses(program: str) -> None:
    reason = run_program(program).reason
    assert "PermissionError" in reason or "not allowed to raise" in reason


def test_loopback_is_not_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        verdict = run_program(f"import socket; socket.create_connection(('127.0.0.1', {port}), 1)")
    assert verdict.passed == ("netns" not in LEVEL and "seccomp" not in LEVEL)


@layer("landlock")
def test_landlock_keeps_other_files_out_of_sight(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("gold")
    for attempt in (
        f"import os; os.remove({str(precious)!r})",
        f"import shutil; shutil.rmtree({str(tmp_path)!r})",
        f"open({str(precious)!r}).read()",
        f"open({str(precious)!r}, 'w')",
        f"import os; os.listdir({str(Path.home())!r})",
        "open('/etc/passwd')",
    ):
        assert "PermissionError" in run_program(attempt).reason, attempt
    assert precious.read_text() == "gold"


def test_many_at_a_time_in_order_and_nothing_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # other tests have cages of their own
    verdicts = run_programs([f"assert {number} % 3" for number in range(12)])
    assert [verdict.passed for verdict in verdicts] == [number % 3 != 0 for number in range(12)]
    assert not list(tmp_path.iterdir())


def test_a_cage_that_does_not_stand_is_no_failed_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(UserError, match="the sandbox did not start: exit status 1"):
        run_program("")
