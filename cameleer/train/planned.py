"""The plan of a run that begins, and what came of it: memory and speed, planned and measured."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import torch

from cameleer.core.console import note
from cameleer.data.loader import Tokens
from cameleer.train.config import TrainConfig
from cameleer.train.hardware import GIB, Slack, this_device
from cameleer.train.pace import memory
from cameleer.train.plan import Planner
from cameleer.train.workload import workload_of


class Planned:
    """A run's plan. It is advice: if it cannot be made, a note says why and training goes on.

    checkpointed: layers that are to be computed again if the configuration leaves it to us.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: Any,
        tokens: Tokens,
        device: torch.device,
        dtype: torch.dtype,
        ranks: int,
    ) -> None:
        """model: its transformers configuration; to be called before the model itself is made."""
        self.device, self.ranks, self.checkpointed = device, ranks, 0
        self.planner: Planner | None = None
        hardware = this_device(device, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        try:
            work = workload_of(tokens, config)
            made = Planner(config, model, hardware, work, dtype == torch.bfloat16)
            made.as_configured(ranks)  # brings the model's own code, which counts below
            # What this process holds counts on a CPU; a GPU's count is of tensors alone.
            before = memory(device) if device.type == "cpu" else 0
            made.hardware = replace(hardware, process=float(before))
            self.checkpointed = made.as_configured(ranks).checkpointed
            self.planner = made
        except Exception as error:  # a model's own code may say anything on shapes without numbers
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            note(f"this run is not planned: {reason}")

    def beside(self, peak: float | None, measured: int, speed: float) -> dict[str, Any]:
        """Planned memory (of one rank) and speed (of all), and their errors; said in one line.

        peak: FLOP/s of the device, if it is known by now; measured: bytes at most; speed: tokens a
        second.
        """
        if self.planner is None or not peak or not speed:
            return {}
        made = self.planner
        if self.device.type == "cuda":  # whose count is of tensors alone
            made.hardware = replace(made.hardware, slack=Slack(0.0), adapters=Slack(0.0))
        made.hardware = replace(made.hardware, flops=peak, flops_fp32=peak)
        option = made.as_configured(self.ranks)
        gib, rate = option.memory.total / GIB, option.tokens_per_second
        found = {"memory": gib / (measured / GIB) - 1, "tokens_per_second": rate / speed - 1}
        note(
            f"planned {gib:.2f} GiB, measured {measured / GIB:.2f} ({found['memory']:+.0%}); "
            f"planned {rate:.0f} tokens/s, measured {speed:.0f} ({found['tokens_per_second']:+.0%})"
        )
        return {
            "memory_gib": round(gib, 3),
            "tokens_per_second": round(rate, 1),
            "errors": {name: round(error, 4) for name, error in found.items()},
        }
