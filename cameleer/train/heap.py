"""Keeping freed memory for the next tensor, which on a CPU is most of what the kernel has to do."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of glibc's mallopt(3)
ALL = -1
TUNED = "GLIBC_TUNABLES"
GPU = Path("/dev/nvidiactl")  # asking torch would take a second
JOINED = "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0"


def keep_freed_memory() -> bool:
    """Have the C library neither give freed memory back nor map large blocks one by one.

    A step makes and drops tensors of the same few sizes; each that is mapped anew is zeroed page by
    page. Peak memory stays the same, as every step needs it again (dev/LOG.md). Returns whether the
    C library has the setting; glibc alone does.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(MMAP_MAX, 0)) and bool(mallopt(TRIM_THRESHOLD, ALL))


def join_freed_pieces(*command: str) -> None:
    """Begin this program anew with a C library that joins freed pieces to larger ones at once.

    A tensor's address is a multiple of 64, so it is cut from a piece that is somewhat larger. glibc
    sets the crumbs beside it apart, for the next small object; while one is in use, the hole that
    the tensor leaves is too small, by that crumb, for the next of its size, and the heap grows:
    with LoRA a step held up to twice as much (dev/LOG.md). It costs a tenth of the speed; training
    all weights gains a tenth of its memory at most, and does without. The C library reads the
    setting when a program starts and at no other time. Where it is set, or the user has settings,
    returns; also where there is a GPU: tensors lie in its memory; and where this program is not
    the command line called with these words, but another one that uses it.
    """
    if _joinable() and tuple(sys.argv[1 : 1 + len(command)]) == command:
        os.environ[TUNED] = JOINED
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


@contextmanager
def pieces_joined() -> Iterator[None]:
    """Have programs that are started meanwhile join freed pieces, see `join_freed_pieces`."""
    if not _joinable():
        yield
        return
    os.environ[TUNED] = JOINED
    try:
        yield
    finally:
        del os.environ[TUNED]


def _joinable() -> bool:
    return not GPU.exists() and platform.libc_ver()[0] == "glibc" and TUNED not in os.environ
