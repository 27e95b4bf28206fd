"""AdamW over float32 weights whatever the model's are kept in, and the learning-rate schedule.

A bf16 number has 8 bits: at a learning rate of 2e-5 most updates are smaller than half a step of
the weight and would be rounded away. So each bf16 parameter has a float32 master that is updated,
and is rounded anew after each step. Parameters that are float32 are their own masters. Where
memory is short, masters are lent for the step only and rounded back by chance (rounding.py), the
moments are kept in 8 bits, paged, or in the host's memory (optim_bytes.py says what each costs).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import Parameter

from cameleer.core.errors import UserError
from cameleer.model.bnb import bitsandbytes
from cameleer.train.config import TrainConfig, TrainSettings
from cameleer.train.optim_bytes import BUCKET
from cameleer.train.rounding import stochastically_rounded

KEPT = ("step", "exp_avg", "exp_avg_sq", "state1", "state2", "absmax1", "absmax2")


@dataclass(frozen=True)
class _Weight:
    """A parameter of the model and its float32 master: itself, one of its own, or one that is lent.

    A lent master holds numbers only while its bucket is updated.
    """

    name: str
    parameter: Parameter
    master: Parameter
    lent: bool

    @property
    def truth(self) -> Parameter:
        """What the next step starts from."""
        return self.parameter if self.lent else self.master

    def lend(self) -> None:
        if self.lent:
            self.master.data = self.parameter.detach().to(self.master.device, torch.float32)

    def take_back(self) -> None:
        if self.lent:
            self.master.data = self.master.data.new_empty(0)


class AdamW:
    """AdamW by the name `config.optim`, some weights at a time to keep float32 gradients small."""

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        """model: its parameters that need a gradient are learned; config: see TrainSettings.

        Weights of one dimension, that is biases and those of norms, do not decay (paper's code,
        which names them). Raises UserError for what cannot be had on the model's device.
        """
        self.seed, self.steps = config.seed, 0
        self.buckets: list[tuple[torch.optim.Optimizer, list[_Weight]]] = []
        for bucket, bits in _buckets(model, config):
            self.buckets.append((_adamw(bucket, bits, config), bucket))

    def weights(self) -> Iterator[tuple[torch.optim.Optimizer, _Weight]]:
        """Every weight with the optimizer that keeps its state."""
        for adamw, bucket in self.buckets:
            for weight in bucket:
                yield adamw, weight

    @torch.no_grad()
    def step(
        self,
        learning_rate: float,
        max_norm: float | None,
        check: Callable[[float], None] = lambda _: None,
    ) -> float:
        """Clip, update, round back and clear the gradients; returns the norm before clipping.

        check: is told that norm before any weight is changed, and may raise.
        """
        norm = self._clip(max_norm)
        check(norm)
        self.steps += 1
        draw: torch.Generator | None = None
        for adamw, bucket in self.buckets:
            for group in adamw.param_groups:
                group["lr"] = learning_rate
            for weight in bucket:
                gradient, weight.parameter.grad = weight.parameter.grad, None
                if gradient is not None:
                    weight.lend()
                    weight.master.grad = gradient.to(weight.master.device, torch.float32)
            adamw.step()
            for weight in bucket:
                learned, weight.master.grad = weight.master.grad is not None, None
                if learned and weight.lent:
                    draw = draw or self._draw(weight.master.device)
                    weight.parameter.copy_(_rounded(weight.master, draw))
                    weight.take_back()
                elif learned and weight.master is not weight.parameter:
                    weight.parameter.copy_(weight.master)
        return norm

    def _clip(self, max_norm: float | None) -> float:
        found = [weight.parameter.grad for _, weight in self.weights()]
        gradients = [gradient for gradient in found if gradient is not None]
        norm = torch.linalg.vector_norm(
            torch.stack([torch.linalg.vector_norm(g, dtype=torch.float32) for g in gradients])
        )
        if isinstance(norm, DTensor):
            norm = norm.full_tensor()
        if max_norm is not None and norm > max_norm:
            torch._foreach_mul_(gradients, (max_norm / norm).item())
        return float(norm)

    def _draw(self, device: torch.device) -> torch.Generator:
        """The random numbers of a step, told by its number alone: a resumed run draws the same."""
        return torch.Generator(device).manual_seed(self.seed * 1_000_003 + self.steps)

    def unround(self) -> None:
        """Have the parameters be their masters, in float32, once no more steps are to come."""
        for _, weight in self.weights():
            if not weight.lent:
                weight.parameter.data = weight.master.data

    def state(self) -> dict[str, Tensor]:
        """All that the optimizer knows, masters included, by name: what resuming needs."""
        state = {"steps": torch.tensor(self.steps)}
        for adamw, weight in self.weights():
            state[f"master.{weight.name}"] = weight.truth.detach()
            for key, value in adamw.state[weight.master].items():
                if key in KEPT:
                    state[f"{key}.{weight.name}"] = torch.as_tensor(value)
        return state

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up a state, onto the devices of the weights; those follow from the masters."""
        self.steps = int(state["steps"])
        for adamw, weight in self.weights():
            weight.truth.copy_(state[f"master.{weight.name}"])
            if weight.truth is not weight.parameter:
                weight.parameter.copy_(weight.truth)
            own = {
                key: state[f"{key}.{weight.name}"]
                for key in KEPT
                if f"{key}.{weight.name}" in state
            }
            weight.lend()
            adamw.state[weight.master] = _taken_up(adamw, weight.master, own)
            weight.take_back()


def _taken_up(adamw: Any, master: Parameter, own: dict[str, Tensor]) -> dict[str, Any]:
    """The state of one weight as its optimizer keeps it; empty if it never had a gradient."""
    if isinstance(adamw, torch.optim.AdamW) or not own:
        return {key: value.to(master.device) for key, value in own.items()}
    adamw.init_state(adamw.param_groups[0], master, 0, 0)  # it alone can make paged tensors
    state: dict[str, Any] = adamw.state[master]
    state["step"] = int(own.pop("step"))
    for key, value in own.items():
        state[key].copy_(value)
    return state


def _rounded(master: Tensor, draw: torch.Generator) -> Tensor:
    if not isinstance(master, DTensor):
        return stochastically_rounded(master, draw)
    local = stochastically_rounded(master.to_local(), draw)
    return DTensor.from_local(
        local, master.device_mesh, master.placements, shape=master.shape, stride=master.stride()
    )


def _buckets(model: nn.Module, config: TrainConfig) -> Iterator[tuple[list[_Weight], int]]:
    """Weights that are updated together, with the bits of their moments."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    bucket: list[_Weight] = []
    held = bits = 0
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        wanted = 8 if config.optim.endswith("8bit") and id(parameter) not in embeddings else 32
        if bucket and (held + parameter.numel() > BUCKET or wanted != bits):
            yield bucket, bits
            bucket, held = [], 0
        bits = wanted
        bucket.append(_weight(name, parameter, config))
        held += parameter.numel()
    if bucket:
        yield bucket, bits


def _weight(name: str, parameter: Parameter, config: TrainConfig) -> _Weight:
    offload = config.offload_optimizer and parameter.device.type != "cpu"
    lent = config.master_weights == "none" and parameter.dtype != torch.float32
    if parameter.dtype == torch.float32 and not offload:
        return _Weight(name, parameter, parameter, False)
    device = torch.device("cpu") if offload else parameter.device
    weight = _Weight(name, parameter, Parameter(parameter.detach().to(device, torch.float32)), lent)
    weight.take_back()
    return weight


def _adamw(bucket: list[_Weight], bits: int, config: TrainSettings) -> torch.optim.Optimizer:
    plain = [weight.master for weight in bucket if weight.parameter.ndim < 2]
    decaying = [weight.master for weight in bucket if weight.parameter.ndim >= 2]
    groups: list[dict[str, Any]] = [
        {"params": masters, "weight_decay": decay}
        for masters, decay in ((decaying, config.weight_decay), (plain, 0.0))
        if masters
    ]
    betas, eps = (config.adam_beta1, config.adam_beta2), config.adam_epsilon
    if config.optim == "adamw_torch_fused":
        return torch.optim.AdamW(groups, betas=betas, eps=eps, fused=True)
    library = _bitsandbytes(config, bucket[0].parameter.device)
    paged = config.optim.startswith("paged")
    adamw: torch.optim.Optimizer = library.optim.AdamW(
        groups, betas=betas, eps=eps, optim_bits=bits, is_paged=paged
    )
    return adamw


def _bitsandbytes(config: TrainSettings, device: torch.device) -> Any:
    """The library of the 8-bit and paged optimizers, if it can do what is asked for here."""
    if config.offload_optimizer:
        raise UserError(
            f"'{config.optim}' cannot keep its moments in the host's memory",
            field="offload_optimizer",
            hint="use optim: adamw_torch_fused, or a paged optimizer without offload_optimizer",
        )
    if config.optim.startswith("paged") and device.type != "cuda":
        raise UserError(
            f"'{config.optim}' needs a GPU: it moves moments between its memory and the host's",
            field="optim",
            hint="use adamw_torch_fused or adamw_bnb_8bit",
        )
    library = bitsandbytes()
    if library is None:
        raise UserError(
            f"'{config.optim}' needs bitsandbytes, which is not installed",
            field="optim",
            hint="pip install 'cameleer[qlora]'",
        )
    return library


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
