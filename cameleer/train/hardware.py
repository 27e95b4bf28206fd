"""What training runs on: this machine, or a kind of card by name, as far as a plan must know."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cameleer.core.errors import unknown
from cameleer.train.flops import PEAKS, measured_peak, peak_flops

GIB = 2**30
PRICED = "2025-10"  # when the prices below were typical of rented cards; renters' prices move


@dataclass(frozen=True)
class Slack:
    """What an allocator holds beyond the tensors, as shares of them.

    dropped: of what each step makes and drops; workspace: of the part of it that is gone within a
    layer, besides; weights: of the weights, whose gradients come and go between other things;
    layers: of what all layers make on their way forward, kept or made again.
    """

    dropped: float
    workspace: float = 0.0
    weights: float = 0.0
    layers: float = 0.0


@dataclass(frozen=True)
class Hardware:
    """One device, as one rank uses it.

    flops, flops_fp32: FLOP/s of dense matrix products in bf16 and float32 at most; memory: bytes;
    bandwidth: of its memory, bytes/s; link: to the other ranks, bytes/s one way; price: US dollars
    an hour, None where nothing is rented; efficiency: share of `flops` that a training step reaches
    (see EFFICIENCY); process: bytes that are held before the model is there (the libraries; on a
    GPU their kernels and handles); kernels: most that oneDNN makes for the shapes that it meets;
    slack: what the allocator holds beyond the tensors; adapters: the same with adapters, where a
    processor's joins freed pieces (see .heap); dropout: seconds for a number in a pass, where that
    is more than memory takes.
    """

    name: str
    kind: str
    flops: float
    flops_fp32: float
    memory: float
    bandwidth: float
    link: float
    price: float | None
    efficiency: float
    process: float
    kernels: float
    slack: Slack
    adapters: Slack
    dropout: float = 0.0

    def facts(self) -> dict[str, Any]:
        """All of it, for JSON; a price with the date at which it was typical."""
        return asdict(self) | {"priced": PRICED if self.price else None}


EFFICIENCY = {
    "H100": 0.40,  # NeMo Automodel, Llama-3-8B LoRA at 4,096 tokens: 402 of 989 TFLOP/s
    "A100": 0.50,  # torchtune, Llama-3.2-3B packed and compiled: 9,000 tokens/s
    "RTX 4090": 0.50,  # torchtune, Llama-3.1-8B LoRA: 3,083 tokens/s
    "L40S": 0.40,  # not published: as the H100's
    "MI250X": 0.35,  # not published: below the others
    "cpu": 0.54,  # dev/LOG.md: 470 tokens/s of 0.75 GFLOP where products alone reach 0.65 TFLOP/s
}
CPU_PROCESS = 0.55 * GIB
CPU_KERNELS = 0.047 * GIB
CPU_SLACK, CPU_ADAPTERS = Slack(0.28, 0.59, 0.28), Slack(0.0, layers=0.115)  # fits: dev/LOG.md
KERNELS = 2  # bytes a weight, up to that: models of few layers and a small vocabulary have fewer
GPU_PROCESS, GPU_SLACK = 0.8 * GIB, Slack(0.05)  # not measured by us
QLORA_SPEED = 0.78  # of LoRA's: weights are unpacked in each pass (torchtune, 2,413 of 3,083)


def _card(
    name: str, torch_name: str, fp32: float, gib: float, bandwidth: float, link: float, price: float
) -> Hardware:
    return Hardware(
        name=name,
        kind="gpu",
        flops=dict(PEAKS)[torch_name],
        flops_fp32=fp32,
        memory=gib * GIB,
        bandwidth=bandwidth,
        link=link,
        price=price,
        efficiency=EFFICIENCY[torch_name],
        process=GPU_PROCESS,
        kernels=0.0,
        slack=GPU_SLACK,
        adapters=GPU_SLACK,
    )


CPU = Hardware(
    name="cpu",
    kind="cpu",
    flops=0.65e12,  # two cores with AVX512-bf16 (dev/LOG.md)
    flops_fp32=0.2e12,
    memory=16 * GIB,
    bandwidth=16e9,
    link=10e9,
    price=None,
    efficiency=EFFICIENCY["cpu"],
    process=CPU_PROCESS,
    kernels=CPU_KERNELS,
    slack=CPU_SLACK,
    adapters=CPU_ADAPTERS,
    dropout=1e-9,  # dev/LOG.md
)
HARDWARE = {
    hardware.name: hardware
    for hardware in (
        _card("h100-80g", "H100", 67e12, 79.1, 3.35e12, 450e9, 2.5),
        _card("a100-80g", "A100", 19.5e12, 79.1, 2.0e12, 300e9, 1.6),
        _card("a100-40g", "A100", 19.5e12, 39.4, 1.55e12, 300e9, 1.2),
        _card("rtx4090", "RTX 4090", 82e12, 23.6, 1.0e12, 25e9, 0.4),
        _card("l40s", "L40S", 91e12, 44.4, 0.86e12, 25e9, 0.9),
        _card("mi250x", "MI250X", 47.9e12, 64.0, 1.6e12, 50e9, 1.0),  # one of its two dies
        CPU,
    )
}
"""Cards by the makers' data sheets; memory as torch shows it. Prices: see PRICED."""


def hardware_named(name: str | None, dtype: torch.dtype = torch.bfloat16) -> Hardware:
    """The hardware called `name`; None is this machine, whose speed is measured for a second."""
    if name is None:
        return here(dtype)
    if name not in HARDWARE:
        raise unknown("hardware", name, HARDWARE, "cameleer train plan --help")
    return HARDWARE[name]


def here(dtype: torch.dtype = torch.bfloat16) -> Hardware:
    """This machine: its first GPU if there is one, else its processor."""
    if torch.cuda.is_available():
        return _this_gpu()
    device = torch.device("cpu")
    peak = measured_peak(device, dtype)
    return replace(
        CPU,
        name=f"this machine's processor, {torch.get_num_threads()} threads",
        flops=peak,
        flops_fp32=peak if dtype == torch.float32 else measured_peak(device, torch.float32, 0.1),
        memory=float(memory_of_this_machine()),
        bandwidth=_copying(),
    )


def this_device(device: torch.device, sharing: int = 1) -> Hardware:
    """The device of a run, its speed not measured; `sharing` ranks have this machine's memory."""
    if device.type == "cuda":
        return _this_gpu()
    return replace(CPU, memory=memory_of_this_machine() / sharing)


def _this_gpu() -> Hardware:
    facts = torch.cuda.get_device_properties(0)
    near = [card for card in HARDWARE.values() if card.kind == "gpu"]
    words = facts.name.lower().replace(" ", "")
    known = [card for card in near if card.name.split("-")[0] in words]
    like = min(known or near, key=lambda card: abs(card.memory - facts.total_memory))
    device = torch.device("cuda")
    return replace(
        like,
        name=facts.name,
        flops=peak_flops(device, torch.bfloat16),
        memory=float(facts.total_memory),
        price=like.price if known else None,
    )


def memory_of_this_machine() -> int:
    """Bytes that this process may fill: the machine's, or less where its control group says so."""
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        path = Path(file)
        if path.is_file() and (said := path.read_text().strip()).isdigit():
            most = min(most, int(said))
    return most


def _copying() -> float:
    """Bytes/s that a copy reads and writes: what bounds an optimizer's step."""
    source = torch.zeros(1 << 24)
    target, best = torch.empty_like(source), float("inf")
    for _ in range(3):
        began = time.perf_counter()
        target.copy_(source)
        best = min(best, time.perf_counter() - began)
    return 2 * source.nbytes / best
