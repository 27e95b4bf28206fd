r"""The inside of the sandbox: a process that puts up the layers, runs a program, and keeps time.

    python -I -S -c "…; import cage, exchange; …; cage.main()" \
        FOLDER MEMORY SECONDS READABLE HIDDEN WITHOUT

For each job it forks a process, which leaves for namespaces of its own and forks twice: the tests'
process, the first of a new process namespace, then the program's. Each cages itself further and
forgets what is not its own; the program never holds the tests, in memory or otherwise (see
`exchange.py`). On standard input come jobs, lines of JSON that only the tests' process reads; on
standard output go verdicts, lines too.
Arguments are JSON; the last three are lists: paths to read, paths among them to hide, and layers to
leave out, for trials of the others.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import platform
import resource
import select
import signal
import stat
import struct
import sys
import time
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)

STARTUP = 30.0  # seconds that the cage itself may take on a busy machine
PATIENCE = 20  # times the limit, by the wall clock, however busy the machine
TICK = 0.05  # seconds between looks at the clock
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
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2  # prctl(2)
DEATH_SIGNAL, DUMPABLE, SUBREAPER = 1, 4, 36
BIND, RECURSIVE, PRIVATE, NO_SUID, NO_DEVICE, NO_EXEC = 1 << 12, 1 << 14, 1 << 18, 2, 4, 8
READ_ONLY, DETACH, AT_FOLDER, AT_ALL = 1, 2, -100, 0x8000  # mount_setattr(2), umount2(2)
MOUNT_SET_ATTRIBUTES, PIVOT_ROOT = 442, (155, 41)
NOBODY = 65534
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
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
EPERM, ENOSYS = 1, 38

LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446  # the same on both
RIGHTS_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
READ_FILE, READ_FOLDER, WRITE_FILE = 1 << 2, 1 << 3, 1 << 1


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
    column = ARCHITECTURES.get(platform.machine(), (0, 0))[0]
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


def _instruction(code: int, true: int, false: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, true, false, value)


def filter_calls() -> bool:
    """Seccomp: no new process, no signal to others, no socket, no way round the other layers."""
    known = ARCHITECTURES.get(platform.machine())
    if known is None:
        return False
    column, architecture = known
    load, equal, at_least, any_bit, keep, give = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
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
        _instruction(equal, 0, 5, SOCKETPAIR[column]),
        _instruction(load, 0, 0, 24),  # second argument
        _instruction(keep, 0, 0, KIND),
        _instruction(equal, 1, 0, STREAM),
        _instruction(give, 0, 0, refuse | EPERM),
        _instruction(give, 0, 0, allow),
    ]
    for numbers, orders in ORDERS.values():
        steps += [_instruction(equal, 0, 2 + 2 * len(orders), numbers[column])]
        steps += [_instruction(load, 0, 0, 24)]
        for order in orders:
            steps += [_instruction(equal, 0, 1, order), _instruction(give, 0, 0, refuse | EPERM)]
        steps += [_instruction(give, 0, 0, allow)]
    for numbers in SCHEDULING.values():
        steps += [_instruction(equal, 0, 4, numbers[column]), _instruction(load, 0, 0, 16)]
        steps += [_instruction(equal, 1, 0, 0), _instruction(give, 0, 0, refuse | EPERM)]
        steps += [_instruction(give, 0, 0, allow)]
    for number in (numbers[column] for numbers in REFUSED.values()):
        if number is not None:
            steps += [_instruction(equal, 0, 1, number), _instruction(give, 0, 0, refuse | EPERM)]
    steps.append(_instruction(give, 0, 0, allow))
    code = ctypes.create_string_buffer(b"".join(steps))
    header = struct.pack("@HP", len(steps), ctypes.addressof(code))
    return bool(libc.prctl(SECCOMP, FILTER, ctypes.create_string_buffer(header), 0, 0) == 0)


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


def keep_only(*kept: int) -> list[int]:
    """Close all descriptors but these and the standard ones; the new numbers, from 3 on."""
    high = [os.dup2(one, 100 + index) for index, one in enumerate(kept)]
    low = [os.dup2(one, 3 + index) for index, one in enumerate(high)]
    os.closerange(3 + len(kept), 1 << 16)
    return low


class Clock:
    """The time that two processes had, that which they waited for a processor not counted.

    So a program's limit is the same on a busy machine as on an idle one. proc: the folder /proc of
    the world outside, open.
    """

    def __init__(self, proc: int, processes: tuple[int, ...]) -> None:
        self.proc, self.processes = proc, processes
        self.began, self.waited = time.monotonic(), self._waiting()

    def over(self, seconds: float) -> bool:
        passed = time.monotonic() - self.began
        waited = self._waiting() - self.waited if passed > seconds else 0.0
        return passed - waited > seconds or passed > seconds * PATIENCE

    def _waiting(self) -> float:
        waited = 0
        for process in self.processes:
            with contextlib.suppress(OSError):
                handle = os.open(f"{process}/schedstat", os.O_RDONLY, dir_fd=self.proc)
                waited += int(os.read(handle, 100).split()[1])
                os.close(handle)
        return waited / 1e9


def follow(report: int, proc: int, checker: int, program: int, seconds: float) -> dict[str, Any]:
    """Read the tests' process's report until it ends or time is up, and end both processes."""
    poll = select.poll()
    poll.register(report, select.POLLIN)
    poll.register(0, 0)  # tells when nobody is there any more who could want to know
    said, clock, until = b"", None, time.monotonic() + STARTUP
    timed_out = False
    while not timed_out:
        ready = dict(poll.poll(TICK * 1000))
        if 0 in ready:
            break
        if report in ready:
            piece = os.read(report, 1 << 16)
            said += piece
            if not piece:
                break
        if clock is None and b"\n" in said:
            clock = Clock(proc, (checker, program))
        timed_out = clock.over(seconds) if clock else time.monotonic() > until
    if clock is None:
        return {"level": None, "reason": "it did not stand in time" if timed_out else "it fell"}
    level, _, result = said.partition(b"\n")
    passed, reason = (False, "timed out") if timed_out else _result(result, program)
    return {"level": level.decode(), "passed": passed, "reason": reason}


def _result(said: bytes, program: int) -> tuple[bool, str]:
    """What the tests' process says of the program, as (passed, reason)."""
    result = json.loads(said) if said else {"reason": "its tests ended early"}
    if result.get("passed"):
        return True, "passed"
    return False, f"failed: {_ending(program) if result.get('gone') else result['reason']}"


def _ending(program: int) -> str:
    """How the program's process ended, which closes its line a moment before; not yet reaped."""
    until = time.monotonic() + 1
    while time.monotonic() < until:
        ended = os.waitid(os.P_PID, program, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended:
            killed = ended.si_code != os.CLD_EXITED
            how = signal.Signals(ended.si_status).name if killed else ended.si_status
            return f"ended before its last line, {'killed by' if killed else 'exit status'} {how}"
        time.sleep(0.001)
    return "broke the line to its tests"


def end_all(children: tuple[int, ...], proc: int) -> None:
    """Kill the children, and whatever they started: as its parents die it becomes our child."""
    for child in children:
        os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.001)
                for child in _adopted(proc):
                    os.kill(child, signal.SIGKILL)


def _adopted(proc: int) -> list[int]:
    """Every child that we have, dead or alive, where the kernel lists them."""
    try:
        handle = os.open(f"self/task/{os.getpid()}/children", os.O_RDONLY, dir_fd=proc)
    except OSError:
        return []
    try:
        return [int(child) for child in os.read(handle, 1 << 16).split()]
    finally:
        os.close(handle)


def run_one(
    folder: str,
    memory: int,
    seconds: float,
    readable: list[str],
    hidden: list[str],
    without: list[str],
) -> bool:
    """Put up the layers, run program and tests, say how it went, and leave nothing running.

    Returns whether the cage stood. Arguments as on the command line.
    """
    parent, exchange = os.getppid(), importlib.import_module("exchange")
    proc = os.open("/proc", os.O_PATH)
    null = os.open("/dev/null", os.O_RDWR)
    granted = leave(folder, readable, hidden, without)
    libc.prctl(SUBREAPER, 1, 0, 0, 0)
    libc.prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)  # a change of user would undo it
    if os.getppid() != parent:
        return False
    (heard, report), (to_checker, by_program), (to_program, by_checker) = (
        os.pipe() for _ in range(3)
    )
    limits = (memory, int(seconds) + 2, granted, readable, hidden, without)

    def tests_process() -> None:
        says, inward, outward = keep_only(report, to_checker, by_checker)
        line = exchange.Line(inward, outward)
        job = exchange.Line(0, says).hear()
        os.dup2(1, 0)
        cage(*limits)
        level = line.hear()
        os.write(says, f"{level}\n".encode())
        os.write(says, json.dumps(exchange.judge(line, job)).encode())

    def program_process() -> None:
        os.dup2(1, 0)
        line = exchange.Line(*keep_only(to_program, by_program))
        line.say("+".join(cage(*limits)))
        with contextlib.suppress(exchange.Gone):
            exchange.serve(line)

    def forked(work: Any) -> int:
        child = os.fork()
        if child:
            return child
        try:
            os.dup2(null, 1)
            os.dup2(null, 2)
            work()
        finally:
            os._exit(0)

    checker = forked(tests_process)  # the first of its namespace: with it, all there end
    children = (checker, forked(program_process))
    for ours in (report, to_checker, by_program, to_program, by_checker):
        os.close(ours)
    verdict = follow(heard, proc, *children, seconds)
    end_all(children, proc)
    os.write(1, json.dumps(verdict).encode() + b"\n")
    return verdict["level"] is not None


def main() -> None:
    """A process for each job that comes, one after the other, until no more can come."""
    arguments = [json.loads(argument) for argument in sys.argv[1:]]
    jobs = select.poll()
    jobs.register(0, select.POLLIN)
    while jobs.poll()[0][1] & select.POLLIN:
        child = os.fork()
        if child == 0:
            stood = False
            try:
                stood = run_one(*arguments)
            finally:
                os._exit(0 if stood else 1)
        if os.waitpid(child, 0)[1]:
            break
    with contextlib.suppress(OSError):
        os.rmdir(arguments[0])  # noqa: PTH106
