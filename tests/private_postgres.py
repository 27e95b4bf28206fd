"""A PostgreSQL server of the tests' own: in a temporary folder, on a socket there, then gone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",  # the tests kill clients, never the server
    "synchronous_commit": "off",
    "autovacuum": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "log_min_messages": "fatal",
}
STARTED = 30.0  # seconds that it may take


def programs() -> Path:
    """The folder with initdb and postgres, of the newest version; else the test is skipped."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve())
    if not found:
        pytest.skip("PostgreSQL's server is not installed")
    return max(found).parent


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of an empty database of the server's; `emptied` empties it again."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    bin, folder = programs(), Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # short: a socket's
    run: Any = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if os.geteuid() == 0:  # it will not run as root
        shutil.chown(folder, "nobody", "nogroup")
        run |= {"user": "nobody", "group": "nogroup", "extra_groups": []}
    server = None
    try:
        made: list[str | Path] = [
            bin / "initdb",
            "-D",
            folder / "data",
            "-U",
            "cameleer",
            "-A",
            "trust",
        ]
        subprocess.run([*made, "--no-sync", "-E", "UTF8", "--locale=C"], check=True, **run)
        settings = [word for key, value in SETTINGS.items() for word in ("-c", f"{key}={value}")]
        command: list[str | Path] = [bin / "postgres", "-D", folder / "data", "-k", folder]
        server = subprocess.Popen([*command, *settings], **run)
        _wait_for(partial(_ready, bin, folder), server)
        yield f"postgresql://cameleer@/postgres?host={folder}"
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)  # ends connections too
            server.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def emptied(url: str) -> str:
    """The same URL; what the database held is gone, and so is who was connected to it."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return url


def _ready(bin: Path, folder: Path) -> bool:
    where: list[str | Path] = ["-h", folder, "-U", "cameleer", "-d", "postgres"]
    return subprocess.run([bin / "pg_isready", "-q", *where], check=False).returncode == 0


def _wait_for(ready: Any, server: subprocess.Popen[str]) -> None:
    given_up = time.monotonic() + STARTED
    while not ready():
        if server.poll() is not None or time.monotonic() > given_up:
            pytest.skip("PostgreSQL's server does not start here")
        time.sleep(0.05)
