"""The inside of the sandbox: run as a script in a process of its own, it cages itself, then runs.

    python -I -S cage.py FOLDER PROGRAM MEMORY SECONDS READABLE...

It says on its standard output, which the program never sees, first the level that it reached, then
either `passed` with the token that it reads from its standard input only once the program has
ended, or `failed` with the reason. See `sandbox.py` for what each layer keeps out.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import stat
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)

NEW_USER, NEW_NET, NEW_IPC = 0x10000000, 0x40000000, 0x08000000  # unshare(2)
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2  # prctl(2)
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
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "io_uring_setup": (425, 425),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
}
CLONE, CLONE3, PRLIMIT = (56, 220), (435, 435), (302, 261)
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
EPERM, ENOSYS = 1, 38

LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446  # the same on both
RIGHTS_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
READ_FILE, READ_FOLDER, WRITE_FILE = 1 << 2, 1 << 3, 1 << 1


def limit_resources(memory: int, seconds: int) -> None:
    """Bound memory, processor time, file size, open files, processes; no core dump."""
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 16 << 20),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def leave_network() -> bool:
    """Move into a network of its own, which has not even a loopback that is up."""
    return any(libc.unshare(new) == 0 for new in (NEW_USER | NEW_NET | NEW_IPC, NEW_NET))


def fence_files(folder: str, readable: list[str]) -> bool:
    """Landlock: everything in `folder`, reading below `readable`, nothing else."""
    version = libc.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    rights = RIGHTS_BY_VERSION[max(known for known in RIGHTS_BY_VERSION if known <= version)]
    wanted = ctypes.create_string_buffer(struct.pack("=Q", rights), 8)
    rules = libc.syscall(LANDLOCK_CREATE, wanted, ctypes.c_size_t(8), 0)
    if rules < 0:
        return False
    device = READ_FILE | WRITE_FILE
    paths = [(folder, rights), ("/dev/null", device), ("/dev/urandom", READ_FILE)]
    paths += [(path, READ_FILE | READ_FOLDER) for path in readable]
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


def _instruction(code: int, true: int, false: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, true, false, value)


def filter_calls() -> bool:
    """Seccomp: no new process, no signal to others, no socket, no way round the other layers."""
    known = ARCHITECTURES.get(platform.machine())
    if known is None:
        return False
    column, architecture = known
    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000  # the latter with an errno
    steps = [
        _instruction(load, 0, 0, 4),
        _instruction(equal, 1, 0, architecture),
        _instruction(give, 0, 0, refuse | EPERM),
        _instruction(load, 0, 0, 0),
        _instruction(at_least, 0, 1, 0x40000000),  # the x32 calls, a second door to the same house
        _instruction(give, 0, 0, refuse | EPERM),
        # Without clone3 the C library goes back to clone, whose flags can be read here.
        _instruction(equal, 0, 1, CLONE3[column]),
        _instruction(give, 0, 0, refuse | ENOSYS),
        _instruction(equal, 0, 4, CLONE[column]),
        _instruction(load, 0, 0, 16),  # first argument, low half
        _instruction(any_bit, 1, 0, THREAD),
        _instruction(give, 0, 0, refuse | EPERM),
        _instruction(give, 0, 0, allow),
        _instruction(equal, 0, 4, PRLIMIT[column]),
        _instruction(load, 0, 0, 32),  # third argument: the new limit, if any
        _instruction(equal, 1, 0, 0),
        _instruction(give, 0, 0, refuse | EPERM),
        _instruction(give, 0, 0, allow),
    ]
    for number in (numbers[column] for numbers in REFUSED.values()):
        if number is not None:
            steps += [_instruction(equal, 0, 1, number), _instruction(give, 0, 0, refuse | EPERM)]
    steps.append(_instruction(give, 0, 0, allow))
    code = ctypes.create_string_buffer(b"".join(steps))
    header = struct.pack("@HP", len(steps), ctypes.addressof(code))
    return bool(libc.prctl(SECCOMP, FILTER, ctypes.create_string_buffer(header), 0, 0) == 0)


def cage(folder: str, memory: int, seconds: int, readable: list[str]) -> str:
    """Put up every layer that this kernel grants, and say which they are."""
    level = ["process", "rlimits"]
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if leave_network():
        level.append("netns")
    if fence_files(folder, readable):
        level.append("landlock")
    limit_resources(memory, seconds)
    if filter_calls():
        level.append("seccomp")
    return "+".join(level)


def main() -> None:
    """Cage this process, run the program, report, and end without running anything of its own."""
    folder, path, memory, seconds, *readable = sys.argv[1:]
    with open(path, encoding="utf-8", errors="surrogatepass") as handle:  # noqa: PTH123
        source = handle.read()
    token, report = os.dup(0), os.dup(1)
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    level = cage(folder, int(memory), int(seconds), readable)
    os.write(report, f"{level}\n".encode())
    try:
        exec(compile(source, "program", "exec"), {"__name__": "program"})
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        os.write(report, f"failed {reason[:200]}".encode(errors="replace"))
    else:
        signal.alarm(0)
        os.write(report, b"passed " + os.read(token, 64))
    os._exit(0)


if __name__ == "__main__":
    main()
