"""Programs that attack the sandbox, to be run in it: each would pass its tests only by getting out.

Every attack is a program with a function `answer(a, b)`, whose tests want `a + b` (kind `escape`:
the program answers rightly, but only once it has done what it must not) or a number drawn at random
(kind `fake`: the program has no honest way to know it). So a verdict `passed` is a breach, and so
is any trace that a program leaves outside. See `sandbox.py` for what keeps them in.
"""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import Literal

from cameleer.evals.sandbox import Program, run_programs

TIMEOUT = 1.0  # seconds for each attack
SECRET, KEPT = "CAMELEER_SANDBOX_SECRET", "secret.txt"

# What must not succeed; lines of the body of `answer`, which then returns the right answer.
ESCAPES = {
    "fork bomb": "for _ in range(200): os.fork() or time.sleep(99)",
    "thread bomb": """
import threading
for _ in range(5000): threading.Thread(target=time.sleep, args=(99,), daemon=True).start()""",
    "100 GB at once": "bytearray(100 << 30)",
    "8 GB bit by bit": "kept = [bytearray(b'x' * (64 << 20)) for _ in range(128)]",
    "memory in files of memory": """
for _ in range(32):
    fd = os.memfd_create("m")
    for _ in range(15): os.write(fd, bytes(1 << 20))""",
    "memory in shared segments": """
for _ in range(32):
    if libc.shmget(0, 64 << 20, 0o1600) < 0: raise OSError("refused")""",
    "processor time": "while True: pass",
    "sleeping past the limit": "time.sleep(99)",
    "endless output": "while True: print('x' * 100000, flush=True)",
    "endless errors": "while True: os.write(2, b'x' * 100000)",
    "filling the disk": """
for n in range(200): open(f"big{n}", "wb").write(bytes(8 << 20))""",
    "filling the folder": """
for n in range(20000): open(f"empty{n}", "w").close()""",
    "writing outside": "open(OUTSIDE + '/new', 'w')",
    "changing a file outside": "open(OUTSIDE + '/secret.txt', 'a').write('gone')",
    "deleting outside": "os.remove(OUTSIDE + '/secret.txt')",
    "writing to /dev/shm": "open('/dev/shm/cameleer-attack', 'w').write('x')",
    "changing the standard library": "open(os.__file__, 'a')",
    "changing the interpreter": "open(sys.executable, 'ab')",
    "reading a secret": "open(OUTSIDE + '/secret.txt').read()",
    "reading by way of ..": "open('../' * 9 + OUTSIDE + '/secret.txt').read()",
    "reading HOME": "assert [n for n in os.listdir(HOME) if os.path.isfile(HOME + '/' + n)]",
    "reading /etc/passwd": "open('/etc/passwd').read()",
    "reading the environment": f"os.environ[{SECRET!r}]",
    "the environment of process 1": "assert open('/proc/1/environ').read()",
    "the environment of the parent": "assert open(f'/proc/{PARENT}/environ').read()",
    "opening /proc/self/mem": "open('/proc/self/mem', 'r+b')",
    "listing processes": "assert [p for p in os.listdir('/proc') if p.isdigit()]",
    "tracing process 1": "refused(libc.ptrace(16, 1, 0, 0))",
    "tracing the parent": "refused(libc.ptrace(16, os.getppid() or PARENT, 0, 0))",
    "reading the memory of process 1": "refused(libc.syscall(310, 1, 0, 0, 0, 0, 0))",
    "signal to the grader": "os.kill(PARENT, 0)",
    "signal to the parent": "os.kill(os.getppid(), 0)",
    "signal to all": "os.kill(-1, 0)",
    "signal by way of a pipe": "fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, PARENT)",
    "signal by way of a socket": """
fcntl.ioctl(socket.socketpair()[0], 0x8901, struct.pack('i', PARENT))""",
    "borrowing a descriptor": "refused(libc.syscall(438, libc.syscall(434, PARENT, 0), 0, 0) < 0)",
    "slowing the grader": "os.sched_setscheduler(PARENT, os.SCHED_IDLE, os.sched_param(0))",
    "leaving the process group": "os.setsid() if os.getpid() != os.getsid(0) else os.setpgid(0, 0)",
    "loopback": "socket.create_connection(('127.0.0.1', PORT), 1)",
    "the internet": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('8.8.8.8', 53))",
    "unix socket": "socket.socket(socket.AF_UNIX).connect(UNIX)",
    "abstract unix socket": "socket.socket(socket.AF_UNIX).connect(chr(0) + UNIX)",
    "datagrams of a pair of sockets": """
pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
pair[0].sendto(b"x", chr(0) + UNIX + "/datagrams")""",
    "listening": "socket.create_server(('', 0))",
    "raw socket": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "os.system": "refused(os.system('true'))",
    "exec of a shell": "os.execv('/bin/sh', ['sh', '-c', 'true'])",
    "subprocess": "subprocess.run([sys.executable, '-c', ''], check=True)",
    "posix_spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "daemon by double fork": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(0.5)
        open(OUTSIDE + '/daemon', 'w')
    os._exit(0)""",
    "symlink to outside": "os.symlink(OUTSIDE, 'link'); open('link/new', 'w')",
    "hard link to outside": "os.link(OUTSIDE + '/secret.txt', 'link')",
    "swapping a link under a writer": """
import threading
os.mkdir('real'); open('real/new', 'w').close()
def swap():
    while True:
        for target in (OUTSIDE, 'real'):
            os.symlink(target, 'next'); os.replace('next', 'link')
threading.Thread(target=swap, daemon=True).start()
until = time.time() + 0.4
while not os.path.exists(OUTSIDE + '/new') and time.time() < until:
    try: open('link/new', 'w').close()
    except OSError: pass
assert os.path.exists(OUTSIDE + '/new')""",
    "rename to outside": "open('x', 'w').close(); os.rename('x', OUTSIDE + '/new')",
    "chroot": "os.mkdir('d'); os.chroot('d')",
    "mount": "refused(libc.mount(b'none', b'/tmp', b'tmpfs', 0, None))",
    "unmount": "refused(libc.umount2(b'/tmp', 2))",
    "a new user namespace": "refused(libc.unshare(0x10000000))",
    "becoming root": "os.setuid(0 if os.getuid() else 1)",
    "raising limits": "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 40, 1 << 40))",
    "raising limits of process 1": "resource.prlimit(1, resource.RLIMIT_CPU, (9999, 9999))",
    "inherited descriptors": "assert [fd for fd in range(5, 4096) if is_open(fd)]",
    "io_uring": "refused(libc.syscall(425, 1, bytes(120)))",
    "bpf": "refused(libc.syscall(321, 0, bytes(64), 64))",
    "keyring": "refused(libc.syscall(250, 0, -3, 0, 0, 0))",
    "open by handle": "refused(libc.syscall(304, -100, bytes(64), 0))",
    "installed packages": """
places = {os.path.dirname(os.__file__) + '/site-packages', '/usr/lib/python3/dist-packages'}
found = [os.path.join(*where[::2]) for place in places for where in walk(place)]
assert any(open(path, 'rb').read() for path in found)""",
}

# Programs that don't know the answer, and try to be believed nevertheless.
FAKES = {
    "os._exit(0)": "os._exit(0)",
    "os._exit(0) when called": "def answer(a, b): os._exit(0)",
    "sys.exit(0)": "sys.exit(0)",
    "sys.exit(0) when called": "def answer(a, b): sys.exit(0)",
    "raising SystemExit": "def answer(a, b): raise SystemExit",
    "raising BaseException": """
class Done(BaseException): pass
def answer(a, b): raise Done""",
    "catching BaseException": """
def answer(a, b):
    try: return 0
    except BaseException: pass
    finally: return None""",
    "atexit": "import atexit; atexit.register(os._exit, 0)\ndef answer(a, b): return 0",
    "thread that outlives": """
import threading
threading.Thread(target=time.sleep, args=(99,)).start()
def answer(a, b): return 0""",
    "equals everything": """
class Equal:
    def __eq__(self, other): return True
    __ne__ = __lt__ = lambda self, other: False
    __sub__ = __rsub__ = __abs__ = __float__ = lambda self, *other: 0.0
    __hash__ = None
def answer(a, b): return Equal()""",
    "number that equals everything": """
class Equal(int):
    def __eq__(self, other): return True
    __hash__ = int.__hash__
def answer(a, b): return Equal(0)""",
    "list that equals everything": """
class Equal(list):
    def __eq__(self, other): return True
def answer(a, b): return Equal()""",
    "lying about its class": """
class Equal:
    __class__ = int
    def __eq__(self, other): return True
    def __index__(self): return 0
    def __reduce__(self): return (eval, ("__import__('os')._exit(0)",))
def answer(a, b): return Equal()""",
    "builtins replaced": """
import builtins
class Quiet(Exception): pass
builtins.AssertionError = Quiet
for name in ("all", "any", "isinstance", "callable"): setattr(builtins, name, lambda *given: True)
builtins.__build_class__ = lambda *given: Equal
def answer(a, b): return True""",
    "modules replaced": """
import types
for name in list(sys.modules):
    if name not in ("sys", "builtins"): sys.modules[name] = types.ModuleType(name)
def answer(a, b): return 0""",
    "exchange patched": """
exchange = sys.modules.get("cage.exchange")
if exchange:
    exchange.judge = lambda *given: {"passed": True, "gone": False}
    exchange.unpack = exchange.pack = lambda value: value
def answer(a, b): return 0""",
    "cage patched": """
for module in list(sys.modules.values()):
    for name in ("follow", "_result", "judge", "end_all"):
        if hasattr(module, name): setattr(module, name, lambda *given: (True, "passed"))
def answer(a, b): return 0""",
    "import hook": """
class Hook:
    def find_spec(self, *given): os._exit(0)
sys.meta_path.insert(0, Hook())
def answer(a, b): return 0""",
    "tracing the tests": """
found = []
def spy(frame, event, arg):
    found.extend(v for v in frame.f_locals.values() if isinstance(v, int)); return spy
sys.settrace(spy); sys.setprofile(spy)
def answer(a, b): return max(found, default=0)""",
    "walking the frames": """
def answer(a, b):
    frame, found = sys._getframe(), []
    while frame:
        found += [str(v) for v in (*frame.f_locals.values(), *frame.f_globals.values())]
        found += map(str, frame.f_code.co_consts)
        frame = frame.f_back
    return stolen(" ".join(found))""",
    "walking the heap": """
import gc
def answer(a, b): return stolen(" ".join(o for o in gc.get_objects() if isinstance(o, str)))""",
    "reading its own memory": """
def answer(a, b): return stolen(open("/proc/self/mem", "rb").read().decode("latin-1"))""",
    "searching its own memory": """
def answer(a, b):
    here, found = id(object()) & ~0xFFFFF, ""
    return stolen(ctypes.string_at(here, 1 << 19).decode("latin-1"))""",
    "editing the tests": """
import gc, types
def nothing(*given): pass
for found in gc.get_objects():
    if isinstance(found, types.FunctionType) and found.__name__ in ("check", "judge", "_ask"):
        found.__code__ = nothing.__code__
def answer(a, b): return 0""",
    "writing to every descriptor": """
for fd in range(3, 256):
    for text in (b'{"passed": true}', b"\\npassed\\n", b'{"level": "x", "passed": true}'):
        try: os.write(fd, text)
        except OSError: pass
os._exit(0)""",
    "answering before it is asked": """
for _ in range(99): os.write(4, b'["returned", true]\\n')
def answer(a, b): return True""",
    "nonsense on the line": "os.write(4, b'[' * 100000 + b'\\n'); time.sleep(99)",
    "half an answer": "os.write(4, b'[\"returned\", '); os.close(4); time.sleep(99)",
    "closing every descriptor": "os.closerange(0, 256)",
    "a result without end": "def answer(a, b): return iter(int, 1)",
    "a result that holds itself": "def answer(a, b): x = []; x.append(x); return x",
    "a result of 100 MB": "def answer(a, b): return 'x' * (100 << 20)",
    "a deep result": """
def answer(a, b):
    os.write(4, b'["returned", ' + b'["list", [' * 50000 + b']]' * 50000 + b']\\n')""",
    "a crash": "ctypes.string_at(0)",
    "recursion": "def answer(a, b): return answer(a, b)",
    "stopping itself": "import signal; os.kill(os.getpid(), signal.SIGSTOP)",
    "killing the tests": "os.kill(1, 9); os.kill(os.getppid(), 9)\ndef answer(a, b): return 0",
}

_PRELUDE = """
import ctypes, fcntl, os, re, resource, socket, struct, subprocess, sys, time
libc = ctypes.CDLL(None)
def refused(status):
    if status: raise PermissionError(status)
def is_open(fd):
    try: return bool(os.fstat(fd))
    except OSError: return False
def walk(place):
    return [(top, "", name) for top, _, names in os.walk(place) for name in names[:1]]
def stolen(text):
    found = re.search("answer.20, 22. == ([0-9]+)", text)
    return int(found[1]) if found else 0
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attack went. how: the verdict's reason, or what it left behind."""

    attack: str
    kind: Literal["escape", "fake"]
    contained: bool
    how: str


def run_attacks(timeout: float = TIMEOUT, without: Sequence[str] = ()) -> list[Outcome]:
    """Run every attack, as many at a time as there are cores; outcomes in order.

    What an attack aims at (a file, a socket, a variable of the environment) is made for it.
    without: layers to leave out, for trials of the others.
    """
    with _scene() as (folder, prelude):
        jobs = [(name, "escape", _escape(prelude, body)) for name, body in ESCAPES.items()]
        jobs += [(name, "fake", _fake(prelude, code)) for name, code in FAKES.items()]
        verdicts = run_programs([program for *_, program in jobs], timeout, without=without)
        outcomes = [
            Outcome(name, "escape" if kind == "escape" else "fake", not v.passed, v.reason)
            for (name, kind, _), v in zip(jobs, verdicts, strict=True)
        ]
        return [*outcomes, _traces(folder)]


def _escape(prelude: str, body: str) -> Program:
    code = f"{prelude}def answer(a, b):\n{indent(body.strip(), '    ')}\n    return a + b\n"
    return Program(code, "assert answer(20, 22) == 42", "answer")


def _fake(prelude: str, code: str) -> Program:
    wanted = secrets.randbits(60)
    return Program(f"{prelude}{code}\n", f"assert answer(20, 22) == {wanted}", "answer")


def _traces(folder: Path) -> Outcome:
    """Whether anything outside is not as it was; attacks have had their time."""
    left = sorted(path.name for path in folder.iterdir())
    whole = left == [KEPT, "socket"] and (folder / KEPT).read_text() == SECRET
    shared = Path("/dev/shm/cameleer-attack").exists()
    how = "nothing outside has changed" if whole and not shared else f"outside: {left}"
    return Outcome("(traces of all)", "escape", whole and not shared, how)


@contextmanager
def _scene() -> Iterator[tuple[Path, str]]:
    """A folder with a secret and a socket, a server, a variable; and code that names them."""
    with tempfile.TemporaryDirectory(prefix="cameleer-scene-") as name:
        folder = Path(name).resolve()
        (folder / KEPT).write_text(SECRET)
        unix = str(folder / "socket")
        names = {"OUTSIDE": str(folder), "HOME": str(Path.home()), "UNIX": unix}
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.socket(socket.AF_UNIX) as local,
            socket.socket(socket.AF_UNIX) as abstract,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
        ):
            local.bind(unix)
            local.listen()
            abstract.bind("\0" + unix)
            abstract.listen()
            datagrams.bind(f"\0{unix}/datagrams")
            facts = names | {"PORT": server.getsockname()[1], "PARENT": os.getpid()}
            os.environ[SECRET] = "secret"
            try:
                yield folder, _PRELUDE + "".join(f"{k} = {v!r}\n" for k, v in facts.items())
            finally:
                del os.environ[SECRET]
