"""AdamW with float32 master weights behind bf16 ones, and the learning-rate schedule.

A bf16 number has 8 bits: at a learning rate of 2e-5 most updates are smaller than half a step of
the weight and would be rounded away. So each bf16 parameter has a float32 master that is updated,
and is rounded anew after each step. Parameters that are float32 are their own masters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from cameleer.train.config import TrainConfig

BUCKET = 1 << 24  # weights whose float32 gradients exist at a time: 64 MiB


@dataclass(frozen=True)
class _Weight:
    """A parameter of the model, and its float32 master (itself, if it is float32)."""

    name: str
    parameter: Parameter
    master: Parameter


class MasterAdamW:
    """torch's fused AdamW over float32 masters, some weights at a time to keep gradients small."""

    def __init__(self, named: Iterable[tuple[str, Parameter]], config: TrainConfig) -> None:
        """named: the model's parameters; those that need no gradient are left out."""
        self.buckets: list[tuple[torch.optim.AdamW, list[_Weight]]] = []
        for bucket in _buckets(named):
            adamw = torch.optim.AdamW(
                [weight.master for weight in bucket],
                betas=(config.adam_beta1, config.adam_beta2),
                eps=config.adam_epsilon,
                weight_decay=config.weight_decay,
                fused=True,
            )
            self.buckets.append((adamw, bucket))

    def weights(self) -> Iterator[tuple[torch.optim.AdamW, _Weight]]:
        """Every weight with the AdamW that keeps its state."""
        for adamw, bucket in self.buckets:
            for weight in bucket:
                yield adamw, weight

    @torch.no_grad()
    def step(self, learning_rate: float, max_norm: float | None) -> float:
        """Clip, update, round back and clear the gradients; returns the norm before clipping."""
        found = [weight.parameter.grad for _, weight in self.weights()]
        gradients = [gradient for gradient in found if gradient is not None]
        norm = torch.linalg.vector_norm(
            torch.stack([torch.linalg.vector_norm(g, dtype=torch.float32) for g in gradients])
        )
        if max_norm is not None and norm > max_norm:
            torch._foreach_mul_(gradients, (max_norm / norm).item())
        for adamw, bucket in self.buckets:
            adamw.param_groups[0]["lr"] = learning_rate
            for weight in bucket:
                gradient, weight.parameter.grad = weight.parameter.grad, None
                weight.master.grad = None if gradient is None else gradient.float()
            adamw.step()
            for weight in bucket:
                weight.master.grad = None
                if weight.master is not weight.parameter:
                    weight.parameter.copy_(weight.master)
        return float(norm)

    @torch.no_grad()
    def unround(self) -> None:
        """Give the parameters, made float32 meanwhile, their masters' values."""
        for _, weight in self.weights():
            weight.parameter.copy_(weight.master)

    def state(self) -> dict[str, Tensor]:
        """All that the optimizer knows, masters included, by name: what resuming needs."""
        state = {}
        for adamw, weight in self.weights():
            state[f"master.{weight.name}"] = weight.master.detach()
            for key, value in adamw.state[weight.master].items():
                state[f"{key}.{weight.name}"] = value
        return state

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up a state; the model's own weights follow from the masters."""
        for adamw, weight in self.weights():
            weight.master.copy_(state[f"master.{weight.name}"])
            weight.parameter.copy_(weight.master)
            keys = [
                key for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}.{weight.name}" in state
            ]
            adamw.state[weight.master] = {key: state[f"{key}.{weight.name}"] for key in keys}


def _buckets(named: Iterable[tuple[str, Parameter]]) -> Iterator[list[_Weight]]:
    bucket: list[_Weight] = []
    held = 0
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        if bucket and held + parameter.numel() > BUCKET:
            yield bucket
            bucket, held = [], 0
        own = parameter.dtype == torch.float32
        master = parameter if own else Parameter(parameter.detach().float())
        bucket.append(_Weight(name, parameter, master))
        held += parameter.numel()
    if bucket:
        yield bucket


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """The rate of optimizer step `step` (from 0) of `steps`.

    Linear warm-up over `warmup_ratio` of the steps, then linear decay towards 0 (the paper's
    Appendix D). Unlike transformers' schedule, the first step's rate is not 0 and no step is lost.
    """
    warmup = round(config.warmup_ratio * steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.lr_scheduler_type == "constant":
        return config.learning_rate
    return config.learning_rate * (steps - step) / max(1, steps - warmup)
