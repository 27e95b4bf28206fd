"""The filter of system calls: seccomp, as a program of its own small machine."""

from __future__ import annotations

import ctypes
import struct

from .kernel import libc, machine

SECCOMP, FILTER = 22, 2  # prctl(2)
THREAD = 0x00010000  # clone(2): a thread, not a process

# System calls by number on (x86_64, aarch64); None where there is none.
REFUSED = {
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    "socket": (41, 198),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "setpriority": (141, 140),
    "setrlimit": (160, 164),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "mount_setattr": (442, 442),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "open_by_handle_at": (304, 265),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    "memfd_create": (319, 279),  # files and segments of memory that no limit here counts
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "io_uring_setup": (425, 425),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "pidfd_open": (434, 434),  # what reaches into another process of the same user
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "ioprio_set": (251, 30),
    "modify_ldt": (154, None),
}
CLONE, CLONE3, PRLIMIT = (56, 220), (435, 435), (302, 261)
# Whose second argument must not be one of these: they have signals sent to any process.
ORDERS = {
    "fcntl": ((72, 25), (8, 10, 15)),  # F_SETOWN, F_SETSIG, F_SETOWN_EX
    "ioctl": ((16, 29), (0x8901, 0x8902)),  # FIOSETOWN, SIOCSPGRP
}
# Whose first argument must be 0, which is the caller itself.
SCHEDULING = {
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
}
SOCKETPAIR, STREAM, KIND = (53, 199), 1, 0xF  # other kinds of sockets can be sent to any address
EPERM, ENOSYS = 1, 38

LOAD, EQUAL, AT_LEAST, ANY_BIT, KEEP, GIVE = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
ALLOWED, REFUSING = 0x7FFF0000, 0x00050000  # the latter with an errno
NUMBER, MACHINE, FIRST, SECOND, THIRD = 0, 4, 16, 24, 32  # places of what is asked; low halves


def filter_calls() -> bool:
    """Seccomp: no new process, no signal to others, no socket, no way round the other layers."""
    known = machine()
    if known is None:
        return False
    steps = program(*known)
    code = ctypes.create_string_buffer(b"".join(steps))
    header = struct.pack("@HP", len(steps), ctypes.addressof(code))
    return bool(libc.prctl(SECCOMP, FILTER, ctypes.create_string_buffer(header), 0, 0) == 0)


def program(column: int, architecture: int) -> list[bytes]:
    """The steps of the filter: each looks at what is loaded, and may skip some of the next."""
    allow, deny = _step(GIVE, ALLOWED), _step(GIVE, REFUSING | EPERM)
    steps = [
        _step(LOAD, MACHINE),
        _step(EQUAL, architecture, true=1),
        deny,
        _step(LOAD, NUMBER),
        _step(AT_LEAST, 0x40000000, false=1),  # the x32 calls, a second door to the same house
        deny,
        # Without clone3 the C library goes back to clone, whose flags can be read here.
        *_of(CLONE3[column], _step(GIVE, REFUSING | ENOSYS)),
        *_of(CLONE[column], _step(LOAD, FIRST), _step(ANY_BIT, THREAD, true=1), deny, allow),
        # The third argument of prlimit is the new limit, if any.
        *_of(PRLIMIT[column], _step(LOAD, THIRD), _step(EQUAL, 0, true=1), deny, allow),
    ]
    kind = [_step(LOAD, SECOND), _step(KEEP, KIND), _step(EQUAL, STREAM, true=1)]
    steps += _of(SOCKETPAIR[column], *kind, deny, allow)
    for numbers, orders in ORDERS.values():
        refused = [step for order in orders for step in (_step(EQUAL, order, false=1), deny)]
        steps += _of(numbers[column], _step(LOAD, SECOND), *refused, allow)
    for numbers in SCHEDULING.values():
        steps += _of(numbers[column], _step(LOAD, FIRST), _step(EQUAL, 0, true=1), deny, allow)
    for number in (numbers[column] for numbers in REFUSED.values()):
        steps += _of(number, deny) if number is not None else []
    return [*steps, allow]


def _step(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
    """One instruction; true, false: how many of the next are skipped as the comparison ends."""
    return struct.pack("=HBBI", code, true, false, value)


def _of(number: int, *steps: bytes) -> list[bytes]:
    """Steps for one system call, which all others skip."""
    return [_step(EQUAL, number, false=len(steps)), *steps]
