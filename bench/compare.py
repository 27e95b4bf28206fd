"""Runs one system after the other, each in a process of its own, and sets them side by side.

Peak memory is the kernel's own count for the process (`ru_maxrss`). A process begins with the count
of the one that started it, so a benchmark's own process must stay slim: it never imports torch.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cameleer.core.artifact import environment
from cameleer.core.console import note, warn
from cameleer.core.errors import UserError
from cameleer.core.files import write_json

HERE = Path(__file__).resolve().parent
OUT = HERE / "out"
BUSY = 0.5  # load of a machine from which on timings are doubted
PINS = {
    "trl": ["torch==2.13.0", "transformers==5.23.0", "trl==1.16.0"],
    "lm-eval": ["torch==2.13.0", "transformers==5.23.0", "lm-eval[hf]==0.4.13"],
}


@dataclass(frozen=True)
class Ran:
    """A finished process: what its last line said, and what it took.

    wall, cpu: seconds, from start to end; peak: bytes.
    """

    said: dict[str, Any]
    wall: float
    cpu: float
    peak: int


def run(name: str, command: Sequence[str], *, work: Path, threads: int) -> Ran:
    """Run a process to its end; its last line of output must be a JSON object.

    Its streams go to `work`/NAME.out and .log. Raises UserError that names these if it fails.
    """
    note(f"{name} …")
    out, log = (work / f"{name.replace(' ', '-')}.{end}" for end in ("out", "log"))
    surroundings = _surroundings(work, threads)
    began = time.perf_counter()
    with out.open("wb") as said, log.open("wb") as told:
        process = subprocess.Popen(
            command, cwd=HERE.parent, env=surroundings, stdout=said, stderr=told
        )
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(f"{name} ended with {process.returncode}", file=log, hint="see its log")
    peak = used.ru_maxrss if sys.platform == "darwin" else used.ru_maxrss * 1024
    return Ran(_last_object(name, out), wall, used.ru_utime + used.ru_stime, peak)


def _surroundings(work: Path, threads: int) -> dict[str, str]:
    """The environment of every process: so many threads, no hub, caches of its own."""
    own = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HOME": str(work / "hf"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return kept | own


def _last_object(name: str, out: Path) -> dict[str, Any]:
    lines = out.read_text(errors="replace").rstrip().splitlines()
    try:
        said = json.loads(lines[-1])
    except (IndexError, json.JSONDecodeError):
        said = None
    if not isinstance(said, dict):
        raise UserError(f"{name} did not end with a line of JSON", file=out)
    return said


def ours(module: str, job: Path) -> list[str]:
    """The command that runs a job with our own module `bench.MODULE`."""
    return [sys.executable, "-m", f"bench.{module}", str(job)]


def theirs(python: Path, script: str, job: Path) -> list[str]:
    """The command that runs a job with `bench/SCRIPT.py` in a peer's environment."""
    return [str(python), "-P", str(HERE / f"{script}.py"), str(job)]


def job(work: Path, name: str, values: dict[str, Any]) -> Path:
    """Write down what a process is to do."""
    path = work / f"{name.replace(' ', '-')}.json"
    write_json(path, {key: str(v) if isinstance(v, Path) else v for key, v in values.items()})
    return path


def peer_python(name: str, given: Path | None) -> Path:
    """The interpreter of peer `name`: the one given, or that of an environment made for it."""
    if given is not None:
        return given.absolute()  # not resolved: a link tells the environment that it stands in
    home = OUT / "venvs" / name
    python, ready = home / "bin" / "python", home / "ready.json"
    if ready.is_file() and json.loads(ready.read_text()) == PINS[name]:
        return python
    note(f"making an environment for {name}: {', '.join(PINS[name])}")
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    pip = [str(python), "-I", "-m", "pip", "install", "--quiet", *PINS[name]]
    if subprocess.run(pip, stdout=sys.stderr).returncode:
        raise UserError(f"{name} cannot be installed", hint=f"give --{name}-python PATH")
    write_json(ready, PINS[name])
    return python


def machine(threads: int) -> dict[str, Any]:
    """What the benchmark runs on; says so if something else is at work there."""
    load = os.getloadavg()[0]
    if load > BUSY:
        warn(f"this machine is busy (load {load:.1f}): do not trust the times, only the results")
    return environment() | {
        "processor": _processor(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "threads": threads,
        "load_before": round(load, 2),
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    names = (
        [line for line in facts.read_text().splitlines() if line.startswith("model name")]
        if facts.is_file()
        else []
    )
    return names[0].partition(":")[2].strip() if names else platform.processor()


def fresh(name: str) -> Path:
    """An empty folder for a benchmark's intermediate files."""
    work = OUT / "work" / name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return work


def arguments(about: str) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(
        description=about.partition("\n")[0],
        epilog=about.partition("\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = os.environ.get("CAMELEER_REAL_DATA") or HERE.parent.parent / "shared" / "data"
    parser.add_argument(
        "--data", type=Path, default=Path(default), help="holds eval/ and instruct/ (%(default)s)"
    )
    parser.add_argument("--model", default="embedded:smollm2-135m-instruct", help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="for every system (%(default)s)")
    return parser


def answer_for(main: Callable[[], None]) -> None:
    """Run a benchmark; a user's mistake is one line and exit code 2."""
    try:
        main()
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
