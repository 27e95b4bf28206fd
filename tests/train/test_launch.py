"""Commands and scripts that start many ranks; what they start is tried in test_parallel.py."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.core.files import write_json
from cameleer.train.launch import Launch, Worker, rank_and_world
from tests.ray_cluster import ray_cluster

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

    def init(self, address: str, logging_level: str) -> None:
        self.joined = address

    def shutdown(self) -> None:
        self.left = self.joined

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

    def run(words: list[str], env: dict[str, str], cwd: str) -> SimpleNamespace:
        assert cwd == str(Path.cwd())
        started.append((words[1:], env["RANK"], env["WORLD_SIZE"], env["MASTER_ADDR"]))
        return SimpleNamespace(returncode=0)

    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr("cameleer.train.launch.subprocess.run", run)
    monkeypatch.setattr(Worker, "address", lambda _: "10.0.0.7:4000")
    Launch(Path("a.yaml"), [], Path("out"), 1, 2).by_ray("auto")
    words = ["-m", "cameleer.cli", "train", "run", "a.yaml", "-o", "out"]
    assert started == [(words, "0", "2", "10.0.0.7"), (words, "1", "2", "10.0.0.7")]
    assert ray.left == "auto"
    assert (ray.joined, ray.needs) == ("auto", {"num_gpus": 1, "num_cpus": 1})


@pytest.mark.parametrize(("status", "told"), [(2, "ended with 2"), (-9, "was killed by signal 9")])
def test_a_rank_that_fails_on_ray(status: int, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Worker.run
    ended = SimpleNamespace(returncode=status)
    monkeypatch.setitem(sys.modules, "ray", FakeRay())
    monkeypatch.setattr("cameleer.train.launch.subprocess.run", lambda *_, **__: ended)
    monkeypatch.setattr(Worker, "address", lambda _: "10.0.0.7:4000")
    monkeypatch.setattr(Worker, "run", lambda self, *given: partial(real, self, *given))
    monkeypatch.setattr(FakeRay, "get", lambda _, it: it[0]() if callable(it[0]) else it)
    with pytest.raises(UserError, match=rf"rank 0 of 32 {told}"):
        LAUNCH.by_ray("auto")


def test_no_cluster_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(_: Any, address: str, **__: str) -> None:
        raise ConnectionError(f"Could not find any running Ray instance at {address}.\nMore")

    monkeypatch.setattr(FakeRay, "init", init)
    monkeypatch.setitem(sys.modules, "ray", FakeRay())
    with pytest.raises(UserError, match="no Ray cluster at 'auto': Could not find"):
        LAUNCH.by_ray("auto")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(UserError, match=rf"no Ray cluster at '{nobody}': .*refused"):
            LAUNCH.by_ray(nobody)


@pytest.mark.slow
def test_two_ranks_on_a_real_ray(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They learn what two ranks learn under torchrun, bit by bit, and a rank's failure is told."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    said = [{"role": "user", "content": "a b c"}, {"role": "assistant", "content": "d e f"}]
    lines = [{"id": str(n), "source": "s", "messages": said} for n in range(8)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_json(
        tmp_path / "sft.yaml",
        {"model": str(tiny_model("llama")), "data": str(tmp_path / "data.jsonl"), "max_steps": 2},
    )
    short = ["max_seq_length=128", "gradient_accumulation_steps=1"]
    launch = Launch(tmp_path / "sft.yaml", short, tmp_path / "by ray", 1, 2)
    alone = replace(launch, output=tmp_path / "by torchrun")
    command = shlex.split(alone.torchrun())
    subprocess.run([sys.executable, "-m", "torch.distributed.run", *command[1:]], check=True)
    with ray_cluster(cpus=2, gpus=2) as address:
        launch.by_ray(address)
        wrong = replace(launch, overrides=["data=nowhere.jsonl"], output=tmp_path / "wrong")
        with pytest.raises(UserError, match=r"rank . of 2 ended with 2"):
            wrong.by_ray(address)
    one, other = (run.output / "model.safetensors" for run in (launch, alone))
    assert one.read_bytes() == other.read_bytes()


def test_ray_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'cameleer\[ray\]'"):
        LAUNCH.by_ray("auto")
