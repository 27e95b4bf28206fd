"""How fast a run goes and what it holds: tokens a second, MFU, memory, time left."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from cameleer.train.flops import peak_flops, training_flops

PROBE = 0.5  # seconds at most in which a processor's peak is measured
STATM = Path("/proc/self/statm")


class Pace:
    """Measures steps; the share of the peak (MFU) is that of all ranks, taken to be alike."""

    def __init__(
        self, model: Any, device: torch.device, dtype: torch.dtype, ranks: int = 1
    ) -> None:
        self.flops, self.device, self.dtype = training_flops(model), device, dtype
        self.ranks = ranks
        self.peak: float | None = None
        self.steps, self.seconds = 0, 0.0

    def measured(
        self, lengths: Iterable[int], supervised: int, tokens: int, seconds: float, left: int
    ) -> dict[str, float]:
        """What a step's row says; lengths, supervised, tokens: what all ranks learned in the step;
        left: steps that follow. Memory is this rank's."""
        if self.peak is None:  # no longer than a step is: a tiny model's run is not held up
            self.peak = peak_flops(self.device, self.dtype, min(seconds, PROBE))
        self.steps, self.seconds = self.steps + 1, self.seconds + seconds
        flops = self.flops.step(lengths, supervised)
        rate = flops / seconds / self.ranks
        if rate > self.peak:  # it was measured while others were at work
            self.peak = max(rate, peak_flops(self.device, self.dtype, PROBE))
        return {
            "tokens_per_second": round(tokens / seconds, 1),
            "flops": flops,
            "mfu": round(rate / self.peak, 4),
            "memory_gib": round(memory(self.device) / 2**30, 3),
            "peak_memory_gib": round(peak_memory(self.device) / 2**30, 3),
            "seconds": round(seconds, 3),
            "seconds_left": round(left * self.seconds / self.steps, 1),
        }


def memory(device: torch.device) -> int:
    """Bytes held now: on the GPU, or by this process."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    if STATM.exists():
        return int(STATM.read_text().split()[1]) * resource.getpagesize()
    return peak_memory(device)


def peak_memory(device: torch.device) -> int:
    """Most bytes held so far: on the GPU, or by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
