"""AdamW over float32 weights whatever the model's are kept in, and the learning-rate schedule.

A bf16 number has 8 bits: at a learning rate of 2e-5 most updates are smaller than half a step of
the weight and would be rounded away. So each bf16 parameter has a float32 master that is updated,
and is rounded anew after each step. Parameters that are float32 are their own masters. Where
memory is short, masters are lent for the step only and rounded back by chance (rounding.py), the
moments are kept in 8 bits, paged, or in the host's memory (optim_bytes.py says what each costs).

On many ranks each has the rows of a weight that FSDP gave it, as plain tensors: every optimizer
works there as on one rank. Only the norm of the gradients is taken over all; and a state's tensors
say whose rows they are, so that another number of ranks can cut it anew (checkpoint.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from cameleer.core.errors import UserError
from cameleer.model.bnb import bitsandbytes
from cameleer.train.block_scales import by_block, by_row, dequantised
from cameleer.train.config import TrainConfig, TrainSettings
from cameleer.train.optim_bytes import BLOCK, BUCKET, SMALL
from cameleer.train.parallel import cut_like, first_row, norm_of_all, own_rows
from cameleer.train.rounding import stochastically_rounded

KEPT = ("step", "exp_avg", "exp_avg_sq", "state1", "state2", "absmax1", "absmax2")
SCALES = {"absmax1", "absmax2"}


@dataclass(frozen=True)
class _Weight:
    """A parameter of the model and the float32 master of the rows of it that this rank has.

    A master that is not `kept` holds numbers only while its bucket is updated: those of the
    parameter, copied to float32, or shared if they are float32 already.
    """

    name: str
    parameter: Parameter
    master: Parameter
    kept: bool

    @property
    def rows(self) -> Tensor:
        """The parameter's rows of this rank, in its own memory."""
        return own_rows(self.parameter)

    @property
    def columns(self) -> int:
        """Numbers of a row."""
        return self.parameter.shape[1:].numel()

    @property
    def truth(self) -> Tensor:
        """What the next step starts from."""
        return self.master.detach() if self.kept else self.rows

    def lend(self) -> None:
        if not self.kept:
            self.master.data = self.rows.to(self.master.device, torch.float32)

    def round_back(self, key: str) -> None:
        """Have the parameter follow its master; by chance if it is all that is kept."""
        if self.kept:
            self.rows.copy_(self.master)
        elif self.parameter.dtype != torch.float32:
            first = first_row(self.parameter) * self.columns
            self.rows.copy_(stochastically_rounded(self.master, f"{key} {self.name}", first))

    def take_back(self) -> None:
        if not self.kept:
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
        for adamw, bucket in self.buckets:
            for group in adamw.param_groups:
                group["lr"] = learning_rate
            for weight in bucket:
                gradient, weight.parameter.grad = weight.parameter.grad, None
                if gradient is not None and weight.rows.numel():  # kernels may not take no rows
                    weight.lend()
                    weight.master.grad = own_rows(gradient).to(weight.master.device, torch.float32)
            adamw.step()
            for weight in bucket:
                if weight.master.grad is not None:
                    weight.master.grad = None
                    weight.round_back(f"{self.seed} {self.steps}")
                    weight.take_back()
        return norm

    def _clip(self, max_norm: float | None) -> float:
        found = [w.parameter for _, w in self.weights() if w.parameter.grad is not None]
        gradients = [own_rows(p.grad) for p in found if p.grad is not None]
        norms = [torch.linalg.vector_norm(g, dtype=torch.float32) for g in gradients]
        norm = norm_of_all(torch.linalg.vector_norm(torch.stack(norms)), found[0])
        if max_norm is not None and norm > max_norm:
            torch._foreach_mul_(gradients, (max_norm / norm).item())
        return float(norm)

    def unround(self) -> None:
        """Have the parameters be their masters, in float32, once no more steps are to come.

        For one rank: on many, the parameters are FSDP's; `masters` tells what they would be.
        """
        for _, weight in self.weights():
            if weight.kept:
                weight.parameter.data = weight.master.data

    def masters(self) -> dict[str, Tensor]:
        """What the parameters are before they are rounded, by name, cut over the ranks as they."""
        return {w.name: cut_like(w.parameter, w.truth) for _, w in self.weights()}

    def state(self) -> dict[str, Tensor]:
        """All that the optimizer knows, masters included, by name: what resuming needs.

        Its own tensors, so that a state can be read right into them, but for numbers and scales.
        """
        state = {"steps": torch.tensor(self.steps)}
        state |= {f"master.{name}": master for name, master in self.masters().items()}
        for adamw, weight in self.weights():
            for key, value in adamw.state[weight.master].items():
                if key in SCALES:
                    value = by_row(value, len(weight.rows), weight.columns)
                if key in KEPT:
                    value = torch.as_tensor(value)
                    cut = cut_like(weight.parameter, value) if value.ndim else value
                    state[f"{key}.{weight.name}"] = cut
        return state

    @torch.no_grad()
    def begin(self, names: Collection[str]) -> None:
        """Have moments, of zeros, for the weights of these names, so that `state` has them all."""
        for adamw, weight in self.weights():
            if weight.name in names and not adamw.state[weight.master]:
                _begin(adamw, weight)

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> bool:
        """Take up a state, onto the devices of the weights; those follow from the masters.

        Returns whether moments in 8 bits had to be rounded anew, for ranks that cut them elsewhere.
        """
        self.steps = int(state["steps"])
        self.begin({w.name for _, w in self.weights() if f"step.{w.name}" in state})
        anew = False
        for adamw, weight in self.weights():
            weight.truth.copy_(own_rows(state[f"master.{weight.name}"]))
            if weight.kept:
                weight.rows.copy_(weight.master)
            own = adamw.state[weight.master]
            read = {key: own_rows(state[f"{key}.{weight.name}"]) for key in KEPT if key in own}
            for key, value in read.items():
                if key == "step" and not isinstance(own[key], Tensor):
                    own[key] = int(value)
                elif key not in SCALES:
                    own[key].copy_(value)
            for which in "12":
                if f"absmax{which}" in own:
                    anew |= _scale(own, which, read[f"absmax{which}"], weight.columns)
        return anew


def _begin(adamw: Any, weight: _Weight) -> None:
    """Give a weight the state that it has before its first step."""
    weight.lend()
    own, master = adamw.state[weight.master], weight.master.detach()
    if isinstance(adamw, torch.optim.AdamW):
        own["step"] = torch.zeros((), device=master.device)
        own["exp_avg"], own["exp_avg_sq"] = torch.zeros_like(master), torch.zeros_like(master)
    else:
        adamw.init_state(adamw.param_groups[0], weight.master, 0, 0)  # it alone can page tensors
    weight.take_back()


def _scale(own: dict[str, Any], which: str, scales: Tensor, columns: int) -> bool:
    """Take up the scales of a moment in 8 bits; returns whether it had to be rounded anew."""
    codes, absmax, numbers = (own[f"{key}{which}"] for key in ("state", "absmax", "qmap"))
    scales = scales.to(absmax.device)
    as_it_was = by_block(scales, columns)
    if as_it_was is not None:
        absmax.copy_(as_it_was)
        return False
    moments = dequantised(codes.to(absmax.device), scales, numbers)
    library: Any = bitsandbytes()
    anew, told = library.functional.quantize_blockwise(moments, numbers, blocksize=BLOCK)
    codes.copy_(anew)
    absmax.copy_(told.absmax)
    return True


def _buckets(model: nn.Module, config: TrainConfig) -> Iterator[tuple[list[_Weight], int]]:
    """Weights that are updated together, with the bits of their moments.

    Counted over all ranks: each has the same buckets, and as many bits of the same weights.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    learned = {8: list[tuple[str, Parameter]](), 32: list[tuple[str, Parameter]]()}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            fit = parameter.numel() >= SMALL and id(parameter) not in embeddings
            learned[8 if fit and config.optim.endswith("8bit") else 32].append((name, parameter))
    for bits, parameters in learned.items():
        bucket: list[_Weight] = []
        held = 0
        for name, parameter in parameters:
            if bucket and held + parameter.numel() > BUCKET:
                yield bucket, bits
                bucket, held = [], 0
            bucket.append(_weight(name, parameter, config))
            held += parameter.numel()
        if bucket:
            yield bucket, bits


def _weight(name: str, parameter: Parameter, config: TrainConfig) -> _Weight:
    offload = config.offload_optimizer and parameter.device.type != "cpu"
    alike = parameter.dtype == torch.float32
    kept = offload if alike else config.master_weights == "fp32"
    device = torch.device("cpu") if offload else parameter.device
    rows = own_rows(parameter)
    numbers = rows.to(device, torch.float32) if kept else rows.new_empty(0, dtype=torch.float32)
    return _Weight(name, parameter, Parameter(numbers.to(device)), kept)


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
        groups, betas=betas, eps=eps, optim_bits=bits, min_8bit_size=0, is_paged=paged
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
