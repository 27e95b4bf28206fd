"""Processes that never outlive the command that started them, nor does what they started."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROGRAM = """
import subprocess, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from cameleer.core.cores import end_with_parent


def work():
    below = "import subprocess, time; p = subprocess.Popen(['sleep', '60']); " \\
        "print(p.pid, flush=True); time.sleep(60)"
    subprocess.run([sys.executable, "-c", below])


if __name__ == "__main__":
    with ProcessPoolExecutor(1, get_context("spawn"), end_with_parent) as pool:
        pool.submit(work).result()
"""


def sleeps(process: str) -> bool:
    try:
        return "sleep" in Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return False


def until(done: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


def test_what_a_killed_commands_processes_started_ends_with_them(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = subprocess.Popen(
        [sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert command.stdout
    last = command.stdout.readline().strip()
    until(lambda: sleeps(last), "it has not begun")
    command.kill()
    command.wait()
    until(lambda: not sleeps(last), "it lives on")
