"""What a step comes to, its loss and gradients, and how far apart two ways of it are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cameleer.train.config import Reduction
from cameleer.train.loop import Run
from cameleer.train.parallel import whole

SAMPLE = 1 << 16  # numbers of each weight's gradient that are compared, evenly spaced


@dataclass(frozen=True)
class Learned:
    """What a way of working out a step comes to: its loss, and numbers of each gradient."""

    loss: float
    gradients: dict[str, Tensor]


def gradients(model: Any) -> dict[str, Tensor]:
    """SAMPLE numbers of each gradient, evenly spaced, in float32; the gradients themselves go."""
    found = {}
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            flat = whole(weight.grad).detach().flatten()
            found[name] = flat[:: max(1, len(flat) // SAMPLE)].float().cpu().clone()
            weight.grad = None
    return found


def apart(one: Learned, other: Learned, precision: str) -> dict[str, float]:
    """Relative differences: of the losses, and of the gradients.

    In float32 the gradient is that of the weight that differs most, one with next to none being
    measured by a thousandth of the largest; rounded ones are measured over all weights.
    """
    if one.gradients.keys() != other.gradients.keys():
        return {"loss": math.inf, "gradient": math.inf}
    sizes = {name: float(gradient.norm()) for name, gradient in other.gradients.items()}
    off = {name: float((one.gradients[name] - other.gradients[name]).norm()) for name in sizes}
    floor = 1e-3 * max(sizes.values())
    worst = max(off[name] / max(size, floor, 1e-30) for name, size in sizes.items())
    overall = math.hypot(*off.values()) / max(math.hypot(*sizes.values()), 1e-30)
    return {
        "loss": abs(one.loss - other.loss) / max(abs(other.loss), 1e-30),
        "gradient": worst if precision == "fp32" else overall,
    }


def learn(run: Run, rows: list[list[int]], reduction: Reduction) -> Learned:
    """Training's own way; rows: the conversations of each micro-batch."""
    run.config = run.config.model_copy(update={"loss_reduction": reduction})
    loss, *_ = run.learn(rows)
    return Learned(loss, gradients(run.model))
