"""Running code that a model wrote, in a cage whose level is recorded.

Every program gets a process of its own (`python -I -S`: the standard library alone), an empty
folder as its working directory, no environment, no standard streams, limits on processor time,
memory, file size, open files and processes, and a wall clock that ends its whole process group.
Where the kernel grants them there are further layers; a verdict says which ones it had:

    netns     a network of its own without any interface: nothing can be reached, loopback included
    landlock  reads the standard library and the folder, writes in the folder, sees no other file
    seccomp   no new process, no signal to others, no socket, no trace, no raising of limits

What it does not do: a program that attacks the grader inside its own interpreter, say by replacing
`assert`-ed values with objects that equal everything, passes; so it does in every such harness.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cameleer.core.console import warn
from cameleer.core.cores import cores
from cameleer.core.errors import UserError

MEMORY = 1 << 30  # bytes of address space
TIMEOUT = 3.0  # seconds of wall clock, as in the paper (its Codex-Eval)
STARTUP = 30.0  # seconds that the cage itself may take on a busy machine
MOST_SAID = 4096  # bytes of a report that are read


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a program ended. reason: `passed`, `timed out` or `failed: why`; level: of the cage."""

    passed: bool
    reason: str
    level: str


def run_programs(programs: Sequence[str], timeout: float = TIMEOUT) -> list[Verdict]:
    """Run each program to its end, as many at a time as there are cores; verdicts in order.

    A program passes if it runs to its last line: leaving early, with whatever exit status, fails.
    """
    with ThreadPoolExecutor(cores()) as pool:
        verdicts = list(pool.map(lambda program: run_program(program, timeout), programs))
    for level in {verdict.level for verdict in verdicts}:
        _warn_once(level)
    return verdicts


def run_program(program: str, timeout: float = TIMEOUT, memory: int = MEMORY) -> Verdict:
    """Run one program, at most `timeout` seconds from when the cage stands."""
    folder = Path(tempfile.mkdtemp(prefix="cameleer-cage-")).resolve()
    token = secrets.token_hex(16).encode()
    try:
        source = folder / "program.py"
        source.write_text(program, encoding="utf-8", errors="surrogatepass")
        limits = [str(memory), str(int(timeout) + 2)]
        command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("cage.py"))]
        process = subprocess.Popen(
            [*command, str(folder), str(source), *limits, *_readable()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8"},
            start_new_session=True,
        )
        with process:
            try:
                return _watch(process, token, timeout)
            finally:
                _end(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _watch(process: subprocess.Popen[bytes], token: bytes, timeout: float) -> Verdict:
    """Follow the cage's report until it ends or time is up; a cage that never stood is an error."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # it died at once: the report will lack
        process.stdin.write(token)
        process.stdin.close()
    said, level, deadline = b"", "", time.monotonic() + STARTUP
    while len(said) < MOST_SAID:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
            if level:
                return Verdict(False, "timed out", level)
            break
        piece = os.read(process.stdout.fileno(), MOST_SAID)
        if not piece:
            break
        said += piece
        if not level and b"\n" in said:
            level = said.partition(b"\n")[0].decode()
            deadline = time.monotonic() + timeout
    if not level:
        _end(process)
        raise UserError(
            f"the sandbox did not start: {_ending(process.wait())}",
            hint=f"see whether `{sys.executable} -I -S -c 1` works here",
        )
    return _verdict(process, said.partition(b"\n")[2], token, level)


def _verdict(process: subprocess.Popen[bytes], result: bytes, token: bytes, level: str) -> Verdict:
    """What the report says of a program that ended; only one with the token is believed."""
    if result == b"passed " + token:
        return Verdict(True, "passed", level)
    kind, _, reason = result.decode(errors="replace").partition(" ")
    if kind != "failed":
        _end(process)
        reason = f"ended before its last line, {_ending(process.wait())}"
    return Verdict(False, f"failed: {reason}", level)


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    return f"killed by {signal.Signals(-status).name}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and all that it may have started."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            process.kill()


@cache
def _readable() -> tuple[str, ...]:
    """What a program must read to import the standard library, and nothing of the user's."""
    paths = sysconfig.get_paths()
    library = [paths["stdlib"], paths["platstdlib"], f"{sys.base_prefix}/lib"]
    system = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache"]
    return tuple(dict.fromkeys(str(Path(path).resolve()) for path in library + system))


@cache
def _warn_once(level: str) -> None:
    if "landlock" not in level or ("netns" not in level and "seccomp" not in level):
        warn(f"this kernel cages model-written code only at level {level}; use a container")
