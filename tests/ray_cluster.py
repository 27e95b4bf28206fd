"""A Ray cluster of this machine alone, of one node or several, for as long as a test takes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

START = "start --block --disable-usage-stats --object-store-memory 100000000"
HEAD = "--head --node-ip-address 127.0.0.1 --include-dashboard=false --port"


@contextmanager
def ray_cluster(cpus: int, gpus: int = 0) -> Iterator[str]:
    """The address of one node that is said to have so many CPUs and GPUs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with _started(*HEAD.split(), str(port), "--num-cpus", str(cpus), "--num-gpus", str(gpus)):
        _wait_for(port)
        yield f"127.0.0.1:{port}"


@contextmanager
def ray_node(address: str, cpus: int) -> Iterator[subprocess.Popen[bytes]]:
    """A further node of the cluster at `address`, whose power can be cut."""
    with _started("--address", address, "--num-cpus", str(cpus)) as node:
        yield node


def cut_power(node: subprocess.Popen[bytes]) -> None:
    """Kill a node and all that runs on it, at once."""
    for pid in reversed(_below(node.pid)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _below(pid: int) -> list[int]:
    """A process and those that it started, and theirs."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # a thread that has just ended
            for child in map(int, children.read_text().split()):
                found += _below(child)
    return found


@contextmanager
def _started(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """`ray start` with these words and no output, until it is left."""
    ray = shutil.which("ray", path=str(Path(sys.executable).parent))
    if ray is None:
        pytest.skip("ray is not installed (pip install 'cameleer[ray]')")
    command = [ray, *START.split(), *words]
    node = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"RAY_worker_niceness": "0"},
        start_new_session=True,
    )
    try:
        yield node
    finally:
        node.terminate()
        node.wait(60)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "Ray does not listen"
            time.sleep(0.1)
