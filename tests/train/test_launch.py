"""Commands and scripts that start many ranks; what they start is tried in test_parallel.py."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.train.launch import Launch, Worker, rank_and_world

LAUNCH = Launch(Path("sft.yaml"), ["learning_rate=1e-5"], Path("models/my tulu"), 4, 8)

SCRIPT = """\
#!/bin/bash
#SBATCH --job-name='my tulu'
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@300
# Add what your cluster wants: --partition, --account, --time, --cpus-per-task.
set -euo pipefail
trap 'scontrol requeue "$SLURM_JOB_ID"' USR1
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-8}"
srun torchrun --nnodes=4 --nproc-per-node=8 --rdzv-backend=c10d \\
    --rdzv-id="$SLURM_JOB_ID" --rdzv-endpoint="$first:29500" \\
    -m cameleer.cli train run sft.yaml learning_rate=1e-5 -o 'models/my tulu' &
wait $!
"""


def test_the_script_for_slurm() -> None:
    assert LAUNCH.sbatch() == SCRIPT
    checked = subprocess.run(["bash", "-n"], input=SCRIPT, text=True, capture_output=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_without_torchrun_there_is_one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")  # some clusters set it for every job
    assert rank_and_world() == (0, 1)
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("RANK", "3")
    assert rank_and_world() == (3, 4)


class FakeRay:
    """What of Ray's interface is used, in this process; remote calls are done at once."""

    def init(self, address: str) -> None:
        self.joined = address

    def remote(self, **needs: float) -> Any:
        self.needs = needs

        def wrap(kind: Any) -> Any:
            def made() -> Any:
                worker = kind()
                calls = {
                    name: SimpleNamespace(remote=getattr(worker, name))
                    for name in ("address", "run")
                }
                return SimpleNamespace(**calls)

            return SimpleNamespace(remote=made)

        return wrap

    def get(self, value: Any) -> Any:
        return value


def test_ray_starts_every_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    ray, started = FakeRay(), []

    def run(words: list[str], env: dict[str, str], cwd: str, check: bool) -> None:
        assert check
        assert cwd == str(Path.cwd())
        started.append((words[1:], env["RANK"], env["WORLD_SIZE"], env["MASTER_ADDR"]))

    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr("cameleer.train.launch.subprocess.run", run)
    monkeypatch.setattr(Worker, "address", lambda _: "10.0.0.7:4000")
    Launch(Path("a.yaml"), [], Path("out"), 1, 2).by_ray("auto")
    words = ["-m", "cameleer.cli", "train", "run", "a.yaml", "-o", "out"]
    assert started == [(words, "0", "2", "10.0.0.7"), (words, "1", "2", "10.0.0.7")]
    assert (ray.joined, ray.needs) == ("auto", {"num_gpus": 1, "num_cpus": 1})


def test_a_rank_that_fails_on_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(words: list[str], **_: Any) -> None:
        raise subprocess.CalledProcessError(2, words[1:3])

    real = Worker.run
    monkeypatch.setitem(sys.modules, "ray", FakeRay())
    monkeypatch.setattr("cameleer.train.launch.subprocess.run", run)
    monkeypatch.setattr(Worker, "address", lambda _: "10.0.0.7:4000")
    monkeypatch.setattr(Worker, "run", lambda self, *given: partial(real, self, *given))
    monkeypatch.setattr(FakeRay, "get", lambda _, it: it[0]() if callable(it[0]) else it)
    with pytest.raises(UserError, match=r"a rank failed: .* returned non-zero exit status 2"):
        LAUNCH.by_ray("auto")


def test_no_cluster_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(_: Any, address: str) -> None:
        raise ConnectionError(f"Could not find any running Ray instance at {address}.\nMore")

    monkeypatch.setattr(FakeRay, "init", init)
    monkeypatch.setitem(sys.modules, "ray", FakeRay())
    with pytest.raises(UserError, match=r"no Ray cluster at '10\.0\.0\.1:6379': Could not"):
        LAUNCH.by_ray("10.0.0.1:6379")


def test_ray_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'cameleer\[ray\]'"):
        LAUNCH.by_ray("auto")
