"""Leaving for namespaces: a user, network, processes and a root folder of the cage's own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct

from .kernel import libc, machine

DISK = "size=32m,nr_inodes=1024,mode=0700"  # of the folder that a program may write to
INSIDE = "/tmp"  # that folder's name inside

NEW_USER = 0x10000000  # unshare(2), as the others
SPACES = {
    "netns": 0x40000000,
    "ipcns": 0x08000000,
    "utsns": 0x04000000,
    "pidns": 0x20000000,
    "mountns": 0x00020000,
}
BIND, RECURSIVE, PRIVATE, NO_SUID, NO_DEVICE, NO_EXEC = 1 << 12, 1 << 14, 1 << 18, 2, 4, 8
READ_ONLY, DETACH, AT_FOLDER, AT_ALL = 1, 2, -100, 0x8000  # mount_setattr(2), umount2(2)
MOUNT_SET_ATTRIBUTES, PIVOT_ROOT = 442, (155, 41)
NOBODY = 65534


def leave(folder: str, readable: list[str], hidden: list[str], without: list[str]) -> list[str]:
    """Leave for namespaces of its own; the names of those that were granted.

    A user namespace is what lets an ordinary user have the others. As root without one, and without
    a root folder of its own, the process becomes `nobody`.
    """
    user, group = os.geteuid(), os.getegid()
    granted = []
    if "userns" not in without and libc.unshare(NEW_USER) == 0 and _mapped(user, group):
        granted.append("userns")
    wanted = {name: flag for name, flag in SPACES.items() if name not in without}
    granted += [name for name, flag in wanted.items() if libc.unshare(flag) == 0]
    if "mountns" in granted and not _own_root(folder, readable, hidden):
        granted.remove("mountns")
    if user == 0 and not {"userns", "mountns"} & set(granted) and _become_nobody():
        granted.append("nobody")
    return granted


def _mapped(user: int, group: int) -> bool:
    """Keep one's own numbers in the new user namespace, without which no file can be made."""
    try:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            handle = os.open(f"/proc/self/{name}", os.O_WRONLY)
            os.write(handle, text.encode())
            os.close(handle)
    except OSError:
        return False
    return True


def _own_root(folder: str, readable: list[str], hidden: list[str]) -> bool:
    """A root folder that holds what is readable, two devices and an empty folder to write in.

    It is built before it is entered: if any of it is refused, the old one stays.
    """

    def mount(source: str, place: str, kind: str | None, flags: int, options: str = "") -> bool:
        texts = (source.encode(), place.encode(), kind.encode() if kind else None)
        return bool(libc.mount(*texts, ctypes.c_ulong(flags), options.encode() or None) == 0)

    strict = NO_SUID | NO_DEVICE | NO_EXEC
    if not (
        mount("none", "/", None, PRIVATE | RECURSIVE)
        and mount("none", folder, "tmpfs", NO_SUID, "size=1m,mode=0755")
    ):
        return False
    for path in (*sorted(readable), "/dev/null", "/dev/urandom"):
        place = folder + path
        if not os.path.exists(path) or os.path.exists(place):  # noqa: PTH110
            continue
        if os.path.isdir(path):  # noqa: PTH112
            os.makedirs(place)  # noqa: PTH103
        else:
            os.makedirs(os.path.dirname(place), exist_ok=True)  # noqa: PTH103, PTH120
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY))
        if not mount(path, place, None, BIND | RECURSIVE):
            return False
    if not all(mount("none", folder + path, "tmpfs", strict) for path in hidden):
        return False
    os.makedirs(folder + INSIDE, exist_ok=True)  # noqa: PTH103
    wanted = struct.pack("=QQQQ", READ_ONLY | NO_SUID, 0, 0, 0)
    root = folder.encode()
    if libc.syscall(
        MOUNT_SET_ATTRIBUTES, AT_FOLDER, root, AT_ALL, wanted, ctypes.c_size_t(32)
    ) or not mount("none", folder + INSIDE, "tmpfs", strict, DISK):
        return False
    old = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    os.chdir(folder)
    column = (machine() or (0, 0))[0]
    if libc.syscall(PIVOT_ROOT[column], b".", b".") or libc.umount2(b".", DETACH):
        os.fchdir(old)
        return False
    os.close(old)
    os.chdir(INSIDE)
    return True


def _become_nobody() -> bool:
    """Give up being root, if the standard library can still be read then."""
    try:
        os.seteuid(NOBODY)
        with open(os.__file__, "rb"):  # noqa: PTH123
            pass
    except OSError:
        with contextlib.suppress(OSError):
            os.seteuid(0)
        return False
    os.seteuid(0)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    return True
