"""The nodes of a Ray cluster: what a task may take of them, and whether they can do its work."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cameleer
from cameleer.core.errors import UserError
from cameleer.evals.benchmark import benchmark_named
from cameleer.evals.consent import told
from cameleer.model.devices import threads_and_gpus
from cameleer.study.execute.apart import asked_apart
from cameleer.study.execute.local import Share
from cameleer.study.study import Study

FIELD = "executor.address"
SECONDS = 60.0  # in which a node must answer


def share_of(study: Study, nodes: Sequence[dict[str, Any]]) -> Share:
    """What one task takes of a node. Raises UserError if no node has as much."""
    held = [(int(one["Resources"].get("CPU", 0)), _gpus(one)) for one in nodes]
    with_gpus = [(cpus, gpus) for cpus, gpus in held if gpus]
    gpus = study.executor.gpus_per_stage if with_gpus else 0
    if study.threads:
        threads = study.threads
    elif with_gpus:
        threads = max(1, min(cpus * gpus // there for cpus, there in with_gpus))
    else:
        threads, _ = asked_apart(threads_and_gpus)
    if not any(cpus >= threads and there >= gpus for cpus, there in held):
        about = f"no node has {threads} cores" + (f" and {gpus} GPUs" if gpus else "")
        most = max(cpus for cpus, _ in held)
        raise UserError(about, field="threads", hint=f"they have {most} at most: set threads")
    return Share(threads, gpus, threads=threads)


def _gpus(node: dict[str, Any]) -> int:
    return int(node["Resources"].get("GPU", 0))


def require_word_on_code(study: Study) -> None:
    """UserError if nodes would run what models wrote, and nobody has said that they may: here the
    user was asked about the sandbox of this machine alone."""
    named = [benchmark_named(spec.benchmark) for spec in study.benchmarks]
    coded = sorted({one.name for one in named if getattr(one.module, "RUNS_CODE", False)})
    if coded and not told(None, study.allow_code_execution):
        raise UserError(
            f"{', '.join(coded)} runs code that a model wrote, in sandboxes of nodes that may be "
            "weaker than here",
            field="allow_code_execution",
            hint="set it to true if that is enough, or leave it out",
        )


def require_ready(ray: Any, nodes: Sequence[dict[str, Any]], seen: Sequence[Path]) -> None:
    """UserError for a node that does not see what it must, or has another Cameleer."""
    to = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    look = ray.remote(num_cpus=0, max_retries=0)(require_seen)
    asked = [
        look.options(scheduling_strategy=to(node["NodeID"], soft=False)).remote(Path.cwd(), seen)
        for node in nodes
    ]
    for node, one in zip(nodes, asked, strict=True):
        address = node["NodeManagerAddress"]
        try:
            version = ray.get(one, timeout=SECONDS)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise UserError(f"node {address}: {last_line(error)}", field=FIELD) from None
        except ray.exceptions.RayError as error:
            raise UserError(
                f"node {address} does not answer: {type(error).__name__}", field=FIELD
            ) from None
        if version != cameleer.__version__:
            about = f"node {address} has Cameleer {version}, here it is {cameleer.__version__}"
            raise UserError(about, field=FIELD, hint="install the same on all nodes")


def require_seen(folder: Path, seen: Sequence[Path]) -> str:
    """The version of Cameleer on this node; UserError for what the node does not see."""
    for path in (folder, *(folder / path for path in seen)):
        if not path.exists():
            raise UserError(
                f"node {platform.node()} does not see it",
                file=path,
                hint="study, data and base models must stand in folders that all nodes share, "
                "under the same paths",
            )
    return cameleer.__version__


def last_line(error: Exception) -> str:
    """What Ray says of a failure, without the trace before."""
    return str(error).strip().splitlines()[-1]
