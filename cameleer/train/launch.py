"""Starting many ranks: what torchrun tells a process, and how a cluster is told to run torchrun."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cameleer.core.cluster import ray_at
from cameleer.core.errors import UserError

PORT = 29500
BEFORE_THE_END = 300  # seconds; Slurm says so long before time is up that a job ends


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many there are, as torchrun says; (0, 1) without it."""
    if "MASTER_ADDR" not in os.environ:
        return 0, 1
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class Launch:
    """A fine-tuning run on several machines that share the folders of its configuration and result.

    nodes: machines; gpus: of each, one rank for every one (without GPUs: processes); config,
    overrides, output: as `train run` takes them.
    """

    config: Path
    overrides: Sequence[str]
    output: Path
    nodes: int
    gpus: int

    @property
    def run(self) -> list[str]:
        """The words of `train run`."""
        return ["train", "run", str(self.config), *self.overrides, "-o", str(self.output)]

    def torchrun(self) -> str:
        """The command for one machine alone."""
        words = ["torchrun", "--standalone", f"--nproc-per-node={self.gpus}"]
        return shlex.join([*words, "-m", "cameleer.cli", *self.run])

    def sbatch(self) -> str:
        """A script for Slurm: one task on each machine, which meet at the first one's address.

        It asks to be told before its time is up, and then to be queued again; the run goes on from
        its last state, as it does after a machine has failed.
        """
        return SBATCH.format(
            name=shlex.quote(self.output.name),
            nodes=self.nodes,
            gpus=self.gpus,
            before=BEFORE_THE_END,
            port=PORT,
            run=shlex.join(["-m", "cameleer.cli", *self.run]),
        )

    def by_ray(self, address: str) -> None:
        """Run it on a Ray cluster, one process for each GPU, and wait for its end."""
        ray = ray_at(address, "ray")
        world = self.nodes * self.gpus
        kind = ray.remote(num_gpus=1, num_cpus=1)(Worker)
        workers = [kind.remote() for _ in range(world)]
        place = ray.get(workers[0].address.remote())
        given = world, place, self.run, str(Path.cwd())
        runs = [worker.run.remote(rank, *given) for rank, worker in enumerate(workers)]
        try:
            ray.get(runs)
        except Exception as error:  # Ray wraps it; as the first rank fails the others are let go
            reason = str(error).strip().splitlines()[-1]
            hint = "its own words are above; the same command goes on from here"
            raise UserError(reason.rpartition("Error: ")[2], field="ray", hint=hint) from None
        finally:
            ray.shutdown()


SBATCH = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node={gpus}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@{before}
# Add what your cluster wants: --partition, --account, --time, --cpus-per-task.
set -euo pipefail
trap 'scontrol requeue "$SLURM_JOB_ID"' USR1
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-8}}"
srun torchrun --nnodes={nodes} --nproc-per-node={gpus} --rdzv-backend=c10d \\
    --rdzv-id="$SLURM_JOB_ID" --rdzv-endpoint="$first:{port}" \\
    {run} &
wait $!
"""


class Worker:
    """A process of Ray's, which shows it one GPU."""

    def address(self) -> str:
        """Where others can meet this one."""
        with socket.socket() as free:
            free.bind(("", 0))
            return f"{socket.gethostbyname(socket.gethostname())}:{free.getsockname()[1]}"

    def run(self, rank: int, world: int, place: str, words: Sequence[str], folder: str) -> None:
        """One rank, to its end: what torchrun would tell it is set, and off it goes.

        folder: where the command was given, as paths are relative to that; Ray works elsewhere.
        """
        host, _, port = place.rpartition(":")
        told: dict[str, Any] = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": 0}
        told |= {"MASTER_ADDR": host, "MASTER_PORT": port}
        environment = os.environ | {name: str(value) for name, value in told.items()}
        command = [sys.executable, "-m", "cameleer.cli", *words]
        status = subprocess.run(command, env=environment, cwd=folder).returncode
        if status:
            how = f"was killed by signal {-status}" if status < 0 else f"ended with {status}"
            raise RuntimeError(f"rank {rank} of {world} {how}")
