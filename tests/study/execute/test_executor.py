"""The loop over tasks and the executor of one machine, with toy tasks in processes of their own."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cameleer.core.errors import UserError
from cameleer.study.execute import apart
from cameleer.study.execute import local as here
from cameleer.study.execute.apart import Apart, End, Job, Place, begin, last_lines
from cameleer.study.execute.executor import Course, State
from cameleer.study.execute.local import Local, Machine, Share
from cameleer.study.execute.tasks import Task
from tests.study.execute.toy import toy_study

MACHINE = Machine(cores=2, gpus=(), memory=8.0)
MEET = """
import pathlib, time
folder = pathlib.Path({folder!r})
(folder / {me!r}).touch()
until = time.monotonic() + 60
while not (folder / {other!r}).exists():
    assert time.monotonic() < until, "alone"
    time.sleep(0.01)
"""


def toy(name: str, code: str = "", needs: Sequence[str] = (), computes: bool = True) -> Task:
    """A task `train NAME` that runs `code`."""
    before = tuple(f"train {need}" for need in needs)
    return Task(name, "train", lambda: Job(exec, (code, {})), before, computes)


def local(machine: Machine = MACHINE, **share: int) -> Local:
    return Local(machine, lambda _: Share(**share), preload=())


def course(tasks: Sequence[Task], executor: Local, folder: Path, retries: int = 0) -> Course:
    return Course(tasks, lambda: executor, folder, retries)


def states(found: Course) -> dict[str, str]:
    return {one.task.of: one.state for one in found.states.values()}


def meeting(folder: Path) -> list[Task]:
    """Two tasks, each of which ends only if the other runs beside it."""
    place = str(folder)
    return [
        toy("a", MEET.format(folder=place, me="a", other="b")),
        toy("b", MEET.format(folder=place, me="b", other="a")),
    ]


# ---- one machine


def test_tasks_that_fit_run_side_by_side(tmp_path: Path) -> None:
    assert course(meeting(tmp_path), local(cores=1), tmp_path).to_the_end() == {}


@pytest.mark.parametrize("own", [Share(cores=2), Share(memory=5.0), Share(cores=1, memory=4.5)])
def test_what_does_not_fit_beside_waits(own: Share, tmp_path: Path) -> None:
    executor = Local(MACHINE, lambda _: own, preload=())
    tasks = [toy("a"), toy("b")]
    assert executor.room(tasks[0])
    executor.running["train a"] = (tasks[0], None)  # type: ignore[assignment]
    executor.shares["train a"] = own
    assert not executor.room(tasks[1])


def test_no_more_than_the_workers_that_were_asked_for(tmp_path: Path) -> None:
    executor = Local(MACHINE, lambda _: Share(), workers=1, preload=())
    executor.running["train a"] = (toy("a"), None)  # type: ignore[assignment]
    executor.shares["train a"] = Share()
    assert not executor.room(toy("b"))


def test_one_task_at_a_time_for_which_a_server_works(tmp_path: Path) -> None:
    executor = local()
    executor.running["train a"] = (toy("a", computes=False), None)  # type: ignore[assignment]
    executor.shares["train a"] = Share()
    assert not executor.room(toy("b", computes=False))
    assert executor.room(toy("b"))


def test_a_task_larger_than_the_machine_runs_alone_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    big = Local(MACHINE, lambda _: Share(cores=9, memory=20 * 2**30), preload=())
    assert course([toy("a")], big, tmp_path).to_the_end() == {}
    assert "about 20.0 GiB of memory are needed, 0.0 are there at most" in capsys.readouterr().err


def test_each_task_gets_gpus_of_its_own(tmp_path: Path) -> None:
    tell = "import os; (folder / ({me!r} + '.gpu')).write_text(os.environ['CUDA_VISIBLE_DEVICES'])"
    tasks = [
        toy(name, MEET.format(folder=str(tmp_path), me=name, other=other) + tell.format(me=name))
        for name, other in (("a", "b"), ("b", "a"))
    ]
    machine = Machine(4, ("3", "GPU-8f"), 8.0)
    assert course(tasks, local(machine, gpus=1), tmp_path).to_the_end() == {}
    seen = {(tmp_path / f"{name}.gpu").read_text() for name in "ab"}
    assert seen == {"3", "GPU-8f"}


def shares(monkeypatch: pytest.MonkeyPatch, gpus: tuple[str, ...], **changes: Any) -> Share:
    """What a training of 1 GB of weights takes of a machine of eight cores."""
    monkeypatch.setattr(here, "cores", lambda: 8)
    monkeypatch.setattr(here, "visible_gpus", lambda: gpus)
    task = Task("a", "evaluate", lambda: None, weights=2**30)
    return here.this_machine(toy_study(**changes)).share(task)


def test_what_a_stage_takes_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shares(monkeypatch, ()) == Share(8)  # all cores: alone, whatever memory it takes
    three = shares(monkeypatch, (), threads=3)
    assert three == Share(3, memory=4 * 2**30, threads=3)  # 2 GiB besides two copies of 1
    two_gpus = shares(monkeypatch, ("0", "1"))
    assert two_gpus == Share(4, 1, 4 * 2**30, 4)
    assert shares(monkeypatch, ("0", "1"), threads=1).threads == 1
    four = shares(monkeypatch, tuple("0123"), executor={"gpus_per_stage": 2})
    assert (four.cores, four.gpus) == (4, 2)
    with pytest.raises(UserError, match=r"gpus_per_stage.*2 are wanted, this machine has 1"):
        shares(monkeypatch, ("0",), executor={"gpus_per_stage": 2})


def test_the_gpus_that_this_machine_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "GPUS", ("no-such-device*",))
    assert here.visible_gpus() == ()  # torch is not even asked
    monkeypatch.setattr(here, "GPUS", ("null",))
    monkeypatch.setattr(here, "asked_apart", lambda _: (8, 2))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert here.visible_gpus() == ("0", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-8f")
    assert here.visible_gpus() == ("3", "GPU-8f")
    monkeypatch.setattr(here, "asked_apart", lambda _: (8, 0))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert here.visible_gpus() == ()


def test_settings_of_another_kind_of_executor_are_refused() -> None:
    with pytest.raises(ValidationError, match="address is of a Ray cluster"):
        toy_study(executor={"address": "auto"})
    with pytest.raises(ValidationError, match="memory is of this machine"):
        toy_study(executor={"kind": "ray", "memory": 4})


# ---- failures


def test_a_failure_ends_its_own_cell_alone_and_shows_its_last_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = "import sys\nfor n in range(30): print('line', n, file=sys.stderr)\n1 / 0"
    tasks = [toy("bad", lines), toy("after", needs=["bad"]), toy("good")]
    found = course(tasks, local(cores=2), tmp_path)
    assert found.to_the_end() == {"bad": "ZeroDivisionError: division by zero"}
    assert states(found) == {"bad": "failed", "after": "skipped", "good": "done"}
    said = capsys.readouterr().err
    assert "line 29" in said
    assert "line 5\n" not in said
    assert str(tmp_path / "logs/train--bad.log") in said
    assert "line 5\n" in (tmp_path / "logs/train--bad.log").read_text()


def test_what_the_user_has_to_mend_is_told_without_a_traceback(tmp_path: Path) -> None:
    code = "from cameleer.core.errors import UserError\nraise UserError('no such model', hint='x')"
    found = course([toy("a", code)], local(), tmp_path)
    assert found.to_the_end() == {"a": "no such model (x)"}
    assert "Traceback" not in (tmp_path / "logs/train--a.log").read_text()


def test_out_of_memory_is_said_as_such(tmp_path: Path) -> None:
    found = course([toy("a", "raise MemoryError('no room for 3 tensors')")], local(), tmp_path)
    assert found.to_the_end()["a"].startswith("out of memory: ")


def killing(folder: Path, times: int) -> str:
    """Code that is killed so many times, and then gets through."""
    return (
        f"import os, pathlib\nmarks = pathlib.Path({str(folder)!r}) / 'marks'\n"
        "marks.open('a').write('.')\n"
        f"if len(marks.read_text()) <= {times}: os.kill(os.getpid(), 9)"
    )


@pytest.mark.parametrize(("times", "retries"), [(1, 1), (2, 1), (1, 0), (2, 2)])
def test_a_killed_process_is_tried_again(times: int, retries: int, tmp_path: Path) -> None:
    found = course([toy("a", killing(tmp_path, times))], local(), tmp_path, retries)
    failed = found.to_the_end()
    assert (tmp_path / "marks").read_text() == "." * min(times + 1, retries + 1)
    if times <= retries:
        assert failed == {}
    else:
        assert "was killed (SIGKILL); was there enough memory?" in failed["a"]


def test_the_kernel_killed_it_as_memory_ran_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = tmp_path / "vmstat"
    counter.write_text("nr_free_pages 5\noom_kill 3\n")
    monkeypatch.setattr(apart, "VMSTAT", counter)
    code = f"open({str(counter)!r}, 'w').write('oom_kill 4')\nimport os; os.kill(os.getpid(), 9)"
    failed = course([toy("a", code)], local(), tmp_path).to_the_end()
    assert "ran out of memory" in failed["a"]


def test_a_second_try_runs_alone(tmp_path: Path) -> None:
    executor = local()
    executor.tries["train a"] = 1
    executor.running["train b"] = (toy("b"), None)  # type: ignore[assignment]
    assert not executor.room(toy("a"))
    executor.running = {"train a": (toy("a"), None)}  # type: ignore[dict-item]
    executor.tries["train a"] = 2
    assert not executor.room(toy("b"))


def test_warnings_of_a_process_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "from cameleer.core.console import note, warn\nnote('quiet')\nwarn('2 rows were dropped')"
    )
    course([toy("a", code)], local(), tmp_path).to_the_end()
    said = capsys.readouterr().err
    assert "warning: a: 2 rows were dropped" in said
    assert "quiet" not in said


def test_what_is_said_of_many_is_said_once_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "from cameleer.core.console import warn\nwarn('few groups')\nwarn('only {}')"
    tasks = [toy(name, code.format(name)) for name in "abcdef"]
    one_by_one = Local(MACHINE, lambda _: Share(), workers=1, preload=())
    course(tasks, one_by_one, tmp_path).to_the_end()
    said = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert said == [
        "warning: a: few groups",
        *(f"warning: {name}: only {name}" for name in "abcdef"),
        "warning: the same was said of b, c, d and 2 more: few groups",
    ]


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has asked after is a zombie."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def test_interrupted_nothing_is_left_running(tmp_path: Path) -> None:
    below = "import os, subprocess, time\nchild = subprocess.Popen(['sleep', '300'])\n"
    write = f"open({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}} ')\n"
    tasks = [toy("a", below + write + "time.sleep(300)")]

    def interrupt(_: Sequence[State]) -> None:
        if (tmp_path / "pids").exists() and (tmp_path / "pids").read_text().endswith(" "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Course(tasks, local, tmp_path, 0, interrupt).to_the_end()
    pids = [int(one) for one in (tmp_path / "pids").read_text().split()]
    until = time.monotonic() + 30
    while not all(map(gone, pids)):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_process_lives_on_if_its_server_is_killed_and_is_ended(tmp_path: Path) -> None:
    from multiprocessing import forkserver

    job = Job(exec, ("import time; time.sleep(300)", {}))
    one = Apart(job, Place(tmp_path / "a.log", preload=()))
    server: int = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    os.kill(server, signal.SIGKILL)
    end = one.end()
    assert end.killed
    until = time.monotonic() + 30
    while not gone(one.process.pid):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_server_killed_while_it_begins_a_process_is_begun_anew(tmp_path: Path) -> None:
    from multiprocessing import forkserver

    job, place = Job(exec, ("pass", {})), Place(tmp_path / "a.log", preload=())
    assert Apart(job, place).end() == End()
    server: int = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    os.kill(server, signal.SIGSTOP)
    Timer(0.5, os.kill, (server, signal.SIGKILL)).start()
    assert Apart(job, place).end() == End()


def test_a_server_is_asked_again_until_the_kernel_has_ended_it() -> None:
    class Refused:
        tries = 0

        def start(self) -> None:
            self.tries += 1
            if self.tries < 4:
                raise ConnectionRefusedError

    process: Any = Refused()
    begin(process)
    assert process.tries == 4
    process.tries = -10_000
    with pytest.raises(ConnectionRefusedError):
        begin(process, patience=0.05)


def test_the_end_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    assert last_lines(log) == []
    log.write_text("".join(f"{n} {'x' * 900}\n" for n in range(100)))
    assert [line.split()[0] for line in last_lines(log)] == [str(n) for n in range(90, 100)]


# ---- the loop, with an executor of numbers alone


class Numbers:
    """Ends tasks in a random order, in the ways foreseen for them; holds what may never be."""

    def __init__(self, ends: dict[str, list[str]], seats: int, draw: random.Random) -> None:
        self.ends, self.seats, self.draw = ends, seats, draw
        self.running: list[str] = []
        self.begun: Counter[str] = Counter()
        self.done: set[str] = set()

    def room(self, task: Task) -> bool:
        return len(self.running) < self.seats

    def begin(self, task: Task, job: Job, log: Path) -> None:
        assert set(task.needs) <= self.done
        assert task.name not in self.running
        self.running.append(task.name)
        self.begun[task.name] += 1

    def ended(self, seconds: float) -> dict[str, End]:
        name = self.running.pop(self.draw.randrange(len(self.running)))
        how = self.ends[name][min(self.begun[name], len(self.ends[name])) - 1]
        if how == "done":
            self.done.add(name)
        return {name: End(None if how == "done" else how, killed=how == "killed")}

    def close(self) -> None:
        assert not self.running


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_every_task_comes_to_the_end_that_its_needs_allow(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 8))
    retries = data.draw(st.integers(0, 2))
    ways = st.sampled_from(["done", "killed", "broken"])
    ends = {f"train {n}": data.draw(st.lists(ways, min_size=1, max_size=4)) for n in range(count)}
    tasks = []
    for n in range(count):
        needs = data.draw(st.sets(st.integers(0, n - 1))) if n else set()
        tasks.append(toy(str(n), needs=[str(need) for need in needs]))
    draw = random.Random(data.draw(st.integers()))
    executor = Numbers(ends, data.draw(st.integers(1, 3)), draw)
    found = Course(tasks, lambda: executor, Path("/nowhere"), retries)
    failed = found.to_the_end()
    expected: dict[str, str] = {}
    for task in tasks:  # the rule, told anew
        if any(expected[need] != "done" for need in task.needs):
            expected[task.name] = "skipped"
            continue
        tries = (ends[task.name] + [ends[task.name][-1]] * 3)[: retries + 1]
        last = next((how for how in tries if how != "killed"), "killed")
        expected[task.name] = "done" if last == "done" else "failed"
    assert {one.task.name: one.state for one in found.states.values()} == expected
    assert {f"train {name}" for name in failed} == {
        name for name, state in expected.items() if state == "failed"
    }
