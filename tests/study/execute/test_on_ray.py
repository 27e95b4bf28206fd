"""What a Ray cluster is asked for, and what is told of its nodes; a real one is in test_study."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cameleer
from cameleer.core.errors import UserError
from cameleer.study.execute import on_ray
from cameleer.study.execute.apart import End, Job, Place
from cameleer.study.execute.local import Share
from cameleer.study.execute.nodes import require_seen, require_word_on_code, share_of
from cameleer.study.execute.on_ray import OnRay
from cameleer.study.execute.tasks import Task
from tests.study.execute.toy import toy_study


class RayTaskError(Exception):
    pass


class RayError(Exception):
    pass


class OutOfMemoryError(RayError):
    pass


class Remote:
    """A remote function of `FakeRay`, which is called when its end is asked for."""

    def __init__(self, ray: "FakeRay", function: Callable[..., Any]) -> None:
        self.ray, self.function = ray, function

    def options(self, **wants: Any) -> "Remote":
        self.ray.wants.append(wants)
        return self

    def remote(self, *given: Any) -> Callable[[], Any]:
        return lambda: self.function(*given)


class FakeRay:
    """What of Ray is used, in this process."""

    exceptions = sys.modules[__name__]

    def __init__(self, **resources: float) -> None:
        self.resources, self.wants, self.closed = resources, list[dict[str, Any]](), False

    def remote(self, function: Any = None, **_: Any) -> Any:
        return Remote(self, function) if function else lambda it: Remote(self, it)

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"memory": 3e9}}]

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def wait(self, asked: list[Any], timeout: float, num_returns: int) -> tuple[list[Any], Any]:
        return asked[:num_returns], None

    def get(self, asked: Callable[[], Any], timeout: float = 0) -> Any:
        return asked()

    def shutdown(self) -> None:
        self.closed = True


def node(cpus: float, gpus: float = 0) -> dict[str, Any]:
    return {"Resources": {"CPU": cpus, "GPU": gpus}, "Alive": True}


def test_what_one_task_takes_of_a_node() -> None:
    share = share_of(toy_study(threads=4), [node(2), node(8)])
    assert (share.cores, share.gpus, share.threads) == (4, 0, 4)
    share = share_of(toy_study(), [node(64, 8), node(4)])
    assert (share.cores, share.gpus) == (8, 1)
    share = share_of(toy_study(executor={"kind": "ray", "gpus_per_stage": 2}), [node(64, 8)])
    assert (share.cores, share.gpus) == (16, 2)


def test_a_task_that_no_node_has_room_for() -> None:
    with pytest.raises(UserError, match=r"'threads': no node has 16 cores \(they have 8 at most"):
        share_of(toy_study(threads=16), [node(8), node(2)])
    with pytest.raises(UserError, match="no node has 2 cores and 4 GPUs"):
        share_of(toy_study(threads=2, executor={"kind": "ray", "gpus_per_stage": 4}), [node(8, 2)])


def test_nodes_run_code_of_models_only_if_that_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAMELEER_ALLOW_CODE", raising=False)
    coded = ["mmlu:0-shot", "codex_humaneval:pass@1"]
    require_word_on_code(toy_study())
    require_word_on_code(toy_study(benchmarks=coded, allow_code_execution=True))
    for said in (None, False):
        with pytest.raises(UserError, match="'allow_code_execution': codex_humaneval runs code"):
            require_word_on_code(toy_study(benchmarks=coded, allow_code_execution=said))


def test_a_node_must_see_the_study(tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    seen = (Path("here"), tmp_path)
    assert require_seen(tmp_path, seen) == cameleer.__version__
    with pytest.raises(UserError, match=rf"{tmp_path}/there: node .* does not see it"):
        require_seen(tmp_path, (*seen, Path("there")))
    end = on_ray._on_node(Job(print), Place(tmp_path / "x.log", folder=tmp_path), [Path("there")])
    assert "does not see it" in str(end.why)


def executor(ray: FakeRay, tmp_path: Path, workers: int | None = None) -> OnRay:
    return OnRay(ray, Share(2, 1), Place(Path(), 2, folder=tmp_path, preload=()), [], workers)


def test_as_many_tasks_as_the_cluster_has_room_for(tmp_path: Path) -> None:
    task = Task("a", "evaluate", lambda: None)
    for cpus, gpus, workers, room in ((8, 3, None, 3), (4, 9, None, 2), (8, 8, 1, 1), (1, 1, 5, 1)):
        on = executor(FakeRay(CPU=cpus, GPU=gpus), tmp_path, workers)
        on.running = {str(n): (task, None) for n in range(room - 1)}
        assert on.room(task)
        on.running["last"] = (task, None)
        assert not on.room(task)


def ended(on: OnRay, task: Task, how: Callable[[], Any]) -> End:
    on.running[task.name] = (task, how)
    return on.ended(0)[task.name]


def raising(error: Exception) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


def test_what_an_end_on_the_cluster_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on, done = executor(FakeRay(), tmp_path), Task("a", "train", lambda: None)
    assert ended(on, done, End) == End()
    assert ended(on, done, lambda: End("no such model")) == End("no such model")
    lost = ended(on, done, raising(RayError("the node died")))
    assert lost.killed
    assert "is lost" in str(lost.why)
    assert "ran out of memory" in str(ended(on, done, raising(OutOfMemoryError())).why)
    wrong = ended(on, done, raising(RayTaskError("trace\nModuleNotFoundError: cameleer")))
    assert wrong == End("a node cannot run it: ModuleNotFoundError: cameleer")
    monkeypatch.setattr(on_ray, "SEEN", 0.0)
    unseen = Task("a", "train", lambda: Job(print))  # to be done yet, as far as is seen here
    assert "is not to be seen here" in str(ended(on, unseen, End).why)


def test_a_task_runs_apart_on_its_node_with_what_it_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ray = FakeRay(CPU=2, GPU=1)
    on = executor(ray, tmp_path)
    task = Task("a", "evaluate", lambda: None, weights=10**9)
    code = "import os; open('told', 'w').write(os.getcwd())"
    on.begin(task, Job(exec, (code, {})), tmp_path / "logs/a.log")
    assert ray.wants[0]["num_cpus"] == 2
    assert ray.wants[0]["num_gpus"] == 1
    assert ray.wants[0]["memory"] == 3 * 10**9
    assert "about 3.9 GiB of memory are needed, 2.8 are there at most" in capsys.readouterr().err
    assert on.ended(1) == {"evaluate a": End()}
    assert (tmp_path / "told").read_text() == str(tmp_path)
    on.close()
    assert ray.closed


def test_servers_are_asked_from_here(tmp_path: Path) -> None:
    ray = FakeRay(CPU=2)
    on = executor(ray, tmp_path)
    task = Task("a", "judge", lambda: None, computes=False)
    assert on.room(task)
    on.begin(task, Job(print), tmp_path / "a.log")
    until = time.monotonic() + 100
    while not (found := on.ended(1)):
        assert time.monotonic() < until
    assert found == {"judge a": End()}
    assert ray.wants == []


def test_ray_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from cameleer.core.cluster import ray_at

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"'executor.address'.*pip install 'cameleer\[ray\]'"):
        ray_at("auto", "executor.address")


@pytest.mark.slow
def test_what_is_started_here_keeps_to_this_machine() -> None:
    pytest.importorskip("ray", reason="ray is not installed (pip install 'cameleer[ray]')")
    code = (
        "from cameleer.core.cluster import ray_at\n"
        "ray = ray_at(None, 'x', log_to_driver=False)\n"
        "print([node['NodeManagerAddress'] for node in ray.nodes()])\n"
        "import os; print(os.environ['RAY_USAGE_STATS_ENABLED'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["['127.0.0.1']", "0"], done.stderr
