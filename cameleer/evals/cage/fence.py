"""The fence around files: Landlock, which an ordinary user may put up."""

from __future__ import annotations

import ctypes
import os
import stat
import struct

from .kernel import libc

LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446  # the same on both
RIGHTS_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
READ_FILE, READ_FOLDER, WRITE_FILE = 1 << 2, 1 << 3, 1 << 1


def around(path: str, hidden: list[str]) -> list[str]:
    """The paths below `path`, or itself, that hold all of it but what is hidden."""
    if path in hidden:
        return []
    if not any(one.startswith(f"{path}/") for one in hidden):
        return [path]
    inner = [entry.path for entry in os.scandir(path) if not entry.is_symlink() or entry.is_file()]
    return [one for entry in inner for one in around(entry, hidden)]


def fence_files(readable: list[str], hidden: list[str], writable: str | None) -> bool:
    """Landlock: all in `writable`, reading below `readable` but not `hidden`, nothing else."""
    version = libc.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    rights = RIGHTS_BY_VERSION[max(known for known in RIGHTS_BY_VERSION if known <= version)]
    wanted = ctypes.create_string_buffer(struct.pack("=Q", rights), 8)
    rules = libc.syscall(LANDLOCK_CREATE, wanted, ctypes.c_size_t(8), 0)
    if rules < 0:
        return False
    device = READ_FILE | WRITE_FILE
    paths = [("/dev/null", device), ("/dev/urandom", READ_FILE)]
    paths += [(writable, rights)] if writable else []
    paths += [(path, READ_FOLDER) for path in readable]
    paths += [(one, READ_FILE) for path in readable for one in around(path, hidden)]
    for path, allowed in paths:
        try:
            here = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        if not stat.S_ISDIR(os.fstat(here).st_mode):
            allowed &= device
        beneath = ctypes.create_string_buffer(struct.pack("=Qi", allowed, here), 12)
        libc.syscall(LANDLOCK_ADD, rules, 1, beneath, 0)
        os.close(here)
    done = bool(libc.syscall(LANDLOCK_RESTRICT, rules, 0) == 0)
    os.close(rules)
    return done
