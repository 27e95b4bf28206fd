"""Dropout that draws sixteen bits for a number and keeps none of them: for CPUs.

torch draws one number after the other there, which with LoRA's usual dropout before each adapter
was a third of a step, and keeps what it drew for the backward pass (dev/LOG.md).
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

STEPS = 2**16  # as many shares of the numbers can be kept


def quick_dropout(model: nn.Module) -> int:
    """Have the dropouts of a model on a CPU draw the quick way; returns how many do.

    Numbers are kept with the chance that was asked for, to 1 in 131,072. The seed of each call
    comes from torch's own generator, so that a seed gives what it gave before, and a run that is
    taken up or a layer that is computed twice drops the same numbers again.
    """
    found: list[Any] = [module for module in model.modules() if type(module) is nn.Dropout]
    for module in found:
        module.forward = MethodType(_forward, module)
    return len(found)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _forward(module: nn.Dropout, x: Tensor) -> Tensor:
    kept = round((1 - module.p) * STEPS)
    if module.inplace or not module.training or not 0 < kept < STEPS:
        return nn.Dropout.forward(module, x)
    out: Tensor = _Dropout.apply(x, kept)  # type: ignore[no-untyped-call]
    return out


class _Dropout(torch.autograd.Function):
    """x with `kept` of STEPS of its numbers, on average, made so much larger; the rest are 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: int) -> Tensor:
        ctx.kept, ctx.seed = kept, int(torch.randint(2**62, (1,)))
        return _dropped(x, ctx.kept, ctx.seed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _dropped(grads[0], ctx.kept, ctx.seed), None


def _dropped(x: Tensor, kept: int, seed: int) -> Tensor:
    chosen = torch.lt(_bits(x, seed), kept - STEPS // 2, out=torch.empty_like(x))
    return chosen.mul_(x).mul_(STEPS / kept)


def _bits(x: Tensor, seed: int) -> Tensor:
    """Sixteen random bits for each number of x, as int16 of its shape."""
    if x.is_meta:
        return torch.empty(x.shape, dtype=torch.int16, device=x.device)
    drawn = np.random.PCG64(seed).random_raw(-(-x.numel() // 4))
    return torch.from_numpy(drawn.view(np.int16)[: x.numel()]).view(x.shape)
