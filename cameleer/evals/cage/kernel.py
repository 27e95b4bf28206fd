"""The kernel as the cage meets it: the C library, and what differs from machine to machine."""

from __future__ import annotations

import ctypes
import platform

libc = ctypes.CDLL(None, use_errno=True)

DEATH_SIGNAL = 1  # prctl(2)

ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""By machine: the column of tables of system calls, and the number that seccomp knows it by."""


def machine() -> tuple[int, int] | None:
    """Column and number of this machine, if it is known."""
    return ARCHITECTURES.get(platform.machine())
