"""The cage: what it lets through, what it does not, and that no program speaks for its tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.evals import sandbox
from cameleer.evals.attacks import ESCAPES, FAKES, Outcome, run_attacks
from cameleer.evals.sandbox import Program, Verdict, run_program, run_programs, weakness

LEVEL = sandbox.level()
SPACES = ("userns", "netns", "ipcns", "utsns", "pidns", "mountns")
granted = set(LEVEL.split("+"))


def layer(*names: str) -> pytest.MarkDecorator:
    lacking = set(names) - granted
    return pytest.mark.skipif(bool(lacking), reason=f"this kernel grants no {lacking}")


def alone(code: str) -> Program:
    return Program(code)


def test_level_is_stated_and_every_layer_described() -> None:
    assert LEVEL.startswith("process+rlimits")
    assert granted <= set(sandbox.LAYERS)


@pytest.mark.parametrize(
    "code",
    [
        "assert 1 + 1 == 2",
        "import math, re, collections, typing, hashlib, datetime, random, json, decimal, heapq",
        "import threading; t = threading.Thread(target=print); t.start(); t.join()",
        "print('x' * 10**6)",
        "import tempfile, ctypes, sqlite3, bz2, zoneinfo",
        "import os; os.urandom(8); open('/dev/null', 'w').write('x')",
        "import os\nassert set(os.environ) <= {'HOME', 'TMPDIR', 'LANG', 'LC_CTYPE'}",
    ],
)
def test_passes(code: str) -> None:
    assert run_program(alone(code)) == Verdict(True, "passed", LEVEL)


@layer("mountns")
def test_files_may_be_written_on_a_disk_of_its_own() -> None:
    code = "open('a', 'w').write('x'); assert open('a').read() == 'x'"
    assert run_program(alone(code)).passed


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("assert 1 == 2, 'no'", "AssertionError: no"),
        ("def f(:", "SyntaxError"),
        ("x = '\ud800'", "UnicodeEncodeError"),
        ("\0", "null bytes"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import os; os._exit(0)", "ended before its last line, exit status 0"),
        ("import os; os.closerange(0, 64)", "ended before its last line"),
        ("import ctypes; ctypes.string_at(0)", "killed by SIGSEGV"),
        ("input()", "EOFError"),
        ("x = 'a' * (4 << 30)", "MemoryError"),
        ("def f(n): return f(n + 1)\nf(0)", "RecursionError"),
        ("class Odd(ValueError): pass\nraise Odd('very')", "Odd: very"),
    ],
)
def test_fails(code: str, reason: str) -> None:
    verdict = run_program(alone(code))
    assert not verdict.passed
    assert verdict.reason.startswith("failed: ")
    assert reason in verdict.reason


def judged(code: str, test: str, setup: str = "") -> Verdict:
    return run_program(Program(code, test, "f", setup))


def test_tests_call_the_program_and_use_what_the_setup_defines() -> None:
    setup = "def double(x):\n    return 2 * x\n\ndef f(x):\n    "
    assert judged(f"{setup}return double(x)", "assert f(4) == double(4)", setup).passed
    # The program's own idea of a helper is its own.
    faked = "def double(x): return 0\ndef f(x): return 0"
    assert not judged(faked, "assert f(4) == double(4)", setup).passed
    assert "name 'f' is not defined" in judged("g = 1", "f(1)").reason


def test_exceptions_come_back_as_what_they_are() -> None:
    test = "try: f('x')\nexcept ValueError as error: assert 'invalid literal' in str(error)"
    assert judged("f = int", test).passed
    assert judged("class E(LookupError): pass\ndef f(x): raise E", test).reason == "failed: E"


def test_a_change_of_an_argument_stays_with_the_program() -> None:
    code = "def f(x):\n    x.clear()\n    return x"
    assert judged(code, "given = [1]; assert f(given) == [] and given == [1]").passed


@pytest.mark.parametrize("code", ["while True: pass", "import time; time.sleep(60)"])
def test_time_is_bounded(code: str) -> None:
    start = time.monotonic()
    assert run_program(alone(code), timeout=0.3) == Verdict(False, "timed out", LEVEL)
    assert time.monotonic() - start < 0.3 * 20 + 5


def test_waiting_for_a_processor_is_not_counted() -> None:
    """A program of 1.2 seconds passes in a limit of 1.6 though two others want its core."""
    here = "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    busy = [sys.executable, "-c", f"{here}print(flush=True)\nwhile 1: pass"]
    load = [subprocess.Popen(busy, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for process in load:
            assert process.stdout is not None
            process.stdout.readline()  # it is at it
        code = (
            f"{here}import time\n"
            "began = time.monotonic()\nwhile time.process_time() < 1.2: pass\n"
            "assert time.monotonic() - began > 1.7, 'not busy enough'"
        )
        assert run_program(alone(code), timeout=1.6).reason == "passed"
    finally:
        for process in load:
            process.kill()
            process.communicate()


def breaches(outcomes: list[Outcome]) -> dict[str, str]:
    return {one.attack: one.how for one in outcomes if not one.contained}


def test_every_attack_is_contained() -> None:
    if weakness(LEVEL):
        pytest.skip(f"this kernel cages only at level {LEVEL}")
    outcomes = run_attacks(timeout=0.3)
    assert len(outcomes) == len(ESCAPES) + len(FAKES) + 1
    assert breaches(outcomes) == {}


def some(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    """Only those attacks whose code or name has one of the words."""
    chosen = {n: c for n, c in ESCAPES.items() if any(w in n + c for w in words.split("|"))}
    assert len(chosen) > 4
    monkeypatch.setattr("cameleer.evals.attacks.ESCAPES", chosen)
    monkeypatch.setattr("cameleer.evals.attacks.FAKES", {})


@layer("landlock", "seccomp")
def test_files_are_safe_without_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that allows none; there not even its own folder can be written."""
    some(monkeypatch, "open(|OUTSIDE|packages|HOME")
    assert breaches(run_attacks(0.3, without=SPACES)) == {}


@layer("landlock", "seccomp")
def test_processes_and_sockets_are_safe_without_namespaces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    some(monkeypatch, "PARENT|UNIX|PORT|socket")
    assert breaches(run_attacks(0.3, without=SPACES)) == {}


def test_pairs_of_sockets_and_pipes_still_serve_a_program() -> None:
    """An event loop wakes itself by such a pair; a pipe may be told not to wait."""
    code = (
        "import asyncio, os\nasync def f(): await asyncio.sleep(0.01); return 1\n"
        "assert asyncio.run(f()) == 1\nos.set_blocking(os.pipe()[0], False)"
    )
    assert run_program(alone(code)).reason == "passed"


@layer("mountns", "pidns")
def test_files_are_safe_by_namespaces_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    some(monkeypatch, "OUTSIDE + '/s|link|packages|HOME|PORT|UNIX|PARENT, 0|proc/|mount")
    assert breaches(run_attacks(0.3, without=("landlock", "seccomp"))) == {}


def test_fakes_fail_by_two_processes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cameleer.evals.attacks.ESCAPES", {})
    kept = {name: code for name, code in FAKES.items() if "os.kill" not in code}
    monkeypatch.setattr("cameleer.evals.attacks.FAKES", kept)
    assert breaches(run_attacks(0.3, without=(*SPACES, "landlock", "seccomp"))) == {}


def test_no_process_outlives_a_program_that_may_start_some() -> None:
    """Without any layer a daemon can be forked: it is found and killed with the others."""
    mark = f"31.{os.getpid()}"
    code = f"""
import os
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: os.execv("/bin/sleep", ["sleep", "{mark}"])
        os._exit(0)
"""
    for without in ((*SPACES, "landlock", "seccomp"), ("landlock", "seccomp", "mountns")):
        assert run_program(alone(code), without=without).reason == "passed"
        running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
        assert not [line for line in running if mark.encode() in line]


def test_the_cage_falls_with_its_owner(tmp_path: Path) -> None:
    script = (
        "import cameleer.evals.sandbox as s\n"
        "s.run_program(s.Program('import time\\nwhile True: time.sleep(1)'), timeout=60)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    owner = subprocess.Popen([sys.executable, "-c", script], env=environment)
    try:
        _until(lambda: _cages(tmp_path))
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    _until(lambda: not _cages(tmp_path))
    _until(lambda: not list(tmp_path.iterdir()))


def _cages(folder: Path) -> list[bytes]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes())
        except OSError:
            continue
    return [line for line in lines if f"{folder}/cameleer-cage-".encode() in line]


def _until(true: Any) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_many_at_a_time_in_order_and_nothing_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # other tests have cages of their own
    verdicts = run_programs([alone(f"assert {number} % 3") for number in range(12)])
    assert [verdict.passed for verdict in verdicts] == [number % 3 != 0 for number in range(12)]
    assert _cages(tmp_path)
    sandbox.dismiss()
    assert not list(tmp_path.iterdir())
    _until(lambda: not _cages(tmp_path))


def test_a_large_program_reaches_the_cage_whole() -> None:
    assert run_program(alone(f"x = {'y' * 300_000!r}\nassert len(x) == 300_000")).passed
    assert run_program(alone("#" * (17 << 20))).reason == "failed: a program of over 16 MiB"


def test_a_cage_that_does_not_stand_is_no_failed_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(UserError, match="the sandbox did not start: exit status 1"):
        run_program(alone(""))


def test_weakness_is_told_in_words() -> None:
    assert weakness("process+rlimits+mountns+netns+pidns") == ""
    assert weakness("process+rlimits+landlock+seccomp") == ""
    assert weakness("process+rlimits+seccomp") == "files"
    assert weakness("process+rlimits") == "files and the network and other processes"
