"""About how much of a machine's memory a task holds, so that tasks side by side fit into it."""

from __future__ import annotations

from pathlib import Path

from cameleer.core.console import note, warn
from cameleer.study.execute.apart import asked_apart
from cameleer.study.execute.tasks import Task
from cameleer.train.config import TrainConfig

GIB = 2**30
MEMINFO = Path("/proc/meminfo")
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
ASKING = 0.3 * GIB  # of a process that asks a server
COMPUTING = 2 * GIB  # libraries, prompts and what is computed of them, besides the weights
COPIES = 2.0  # of the weights, while they are loaded
STATE = 9.0  # of bf16 weights: what training keeps beside and with them, where no plan can be made


def held_by(task: Task, on_gpu: bool) -> float:
    """Bytes of the machine's memory, of which a GPU's is no part."""
    if not task.computes:
        return ASKING
    if task.config is None or (on_gpu and not task.config.offload_optimizer):
        return COMPUTING + COPIES * task.weights
    if on_gpu:
        return COMPUTING + STATE * task.weights
    return _planned(task.config, task.weights)


def warn_too_large(task: Task, need: float, most: float) -> None:
    """Say that a task is begun where there is less memory than it will probably hold."""
    need, most = need / GIB, most / GIB
    warn(f"{task.name}: about {need:.1f} GiB of memory are needed, {most:.1f} are there at most")


def available() -> float:
    """Bytes that processes of this machine may still take."""
    found = [float("inf")]
    if MEMINFO.is_file():
        facts = dict(line.split(":") for line in MEMINFO.read_text().splitlines())
        found.append(float(facts["MemAvailable"].split()[0]) * 1024)
    found += [float(said) for file in LIMITS if (said := _said(file)).isdigit()]
    return min(found)


def _said(file: Path) -> str:
    return file.read_text().strip() if file.is_file() else ""


_plans: dict[str, float] = {}


def _planned(config: TrainConfig, weights: int) -> float:
    """What the planner of `train plan` says; data and seed change it little."""
    key = config.model_dump_json(exclude={"data", "seed"})
    if key not in _plans:
        try:
            _plans[key] = asked_apart(planned_memory, config)
        except Exception as error:  # a model's own code may say anything on shapes without numbers
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            note(f"its memory is guessed from its weights, as training cannot be planned: {said}")
            _plans[key] = COMPUTING + STATE * weights
    return _plans[key]


def planned_memory(config: TrainConfig) -> float:
    """Bytes that a training holds at most on this machine's processor."""
    import torch

    from cameleer.train.hardware import this_device
    from cameleer.train.plan import planner

    work = planner(config, this_device(torch.device("cpu")), tokens=1e6)
    return work.as_configured().memory.total
