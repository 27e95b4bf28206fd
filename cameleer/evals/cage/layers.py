"""What each of the two processes puts up for itself, one layer after the other."""

from __future__ import annotations

import ctypes
import resource
import signal
import struct

from .calls import filter_calls
from .fence import fence_files
from .kernel import DEATH_SIGNAL, libc
from .namespaces import INSIDE

NO_NEW_PRIVILEGES, DUMPABLE = 38, 4  # prctl(2)


def cage(
    memory: int,
    seconds: int,
    granted: list[str],
    readable: list[str],
    hidden: list[str],
    without: list[str],
) -> list[str]:
    """What each of the two processes puts up for itself; all layers that there are."""
    libc.prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    drop_capabilities()
    layers = ["process", "rlimits", *granted]
    fence = (readable, [], INSIDE) if "mountns" in granted else (readable, hidden, None)
    if "landlock" not in without and fence_files(*fence):
        layers.append("landlock")
    limit_resources(memory, seconds, granted)
    libc.prctl(DUMPABLE, 0, 0, 0, 0)  # nobody looks into this process, or attaches to it
    if "seccomp" not in without and filter_calls():
        layers.append("seccomp")
    return layers


def drop_capabilities() -> None:
    """Keep no capability, of a namespace or of root."""
    version = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
    libc.capset(version, ctypes.create_string_buffer(24))


def limit_resources(memory: int, seconds: int, granted: list[str]) -> None:
    """Bound memory, processor time, file size, open files, processes; no core dump.

    Without a disk of its own no byte can be written to a file. Processes are counted only in a user
    namespace: elsewhere all of the user's count.
    """
    limits = [
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 16 << 20 if "mountns" in granted else 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ]
    if "userns" in granted:
        limits.append((resource.RLIMIT_NPROC, 64))
    for what, most in limits:
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))
