"""How much arithmetic a training step is, and what share of the device's peak was used: MFU."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

# Dense bf16 products with float32 sums, in FLOP/s, from the makers' data sheets; the first name
# that is part of what torch calls the card counts.
PEAKS: tuple[tuple[str, float], ...] = (
    ("B200", 2250e12),
    ("H200", 989e12),
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("GH200", 989e12),
    ("A100", 312e12),
    ("L40S", 362e12),
    ("L4", 121e12),
    ("A10G", 70e12),
    ("A10", 125e12),
    ("RTX A6000", 155e12),
    ("RTX 4090", 165e12),
    ("RTX 3090", 71e12),
    ("MI300X", 1307e12),
    ("MI250X", 191.5e12),  # of one of its two dies, which torch shows as a card
)
SIDE = 1024  # of the square matrices whose product is timed


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of training, forward and backward; what is computed twice is not.

    token: for each token that goes through the layers; supervised: for each one that goes through
    the head; pair: for each token and one that it attends to, itself included.
    """

    token: int
    supervised: int
    pair: int

    def step(self, lengths: Iterable[int], supervised: int) -> int:
        """Of documents of these lengths with so many supervised tokens among them."""
        lengths = list(lengths)
        pairs = sum(length * (length + 1) // 2 for length in lengths)
        return self.token * sum(lengths) + self.supervised * supervised + self.pair * pairs


def training_flops(model: Any) -> Flops:
    """What training this model costs, from its weights' shapes: any device, meta included.

    A weight costs 2 operations per token forward, 2 for its input's gradient, and 2 for its own if
    it is trained (so a frozen one 4, a trained one 6). Embeddings are looked up, not multiplied;
    the head works at supervised positions alone. Attention is counted as causal: half of what
    formulas with 12 x layers x hidden x length count.
    """
    head = model.get_output_embeddings()
    looked_up = {
        id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)
    }
    body = sum(
        _passes(weight) * _elements(weight)
        for weight in model.parameters()
        if len(_shape(weight)) > 1 and id(weight) not in looked_up | {id(head.weight)}
    )
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    pair = 3 * 4 * width * config.num_hidden_layers  # scores and mean of values; backward is twice
    return Flops(body, _passes(head.weight) * _elements(head.weight), pair)


def _passes(weight: Any) -> int:
    return 6 if weight.requires_grad else 4


def _shape(weight: Any) -> tuple[int, ...]:
    """The shape of a weight; 4-bit ones lie in a flat tensor of bytes and know their own."""
    return tuple(weight.quant_state.shape if getattr(weight, "quant_state", None) else weight.shape)


def _elements(weight: Any) -> int:
    return prod(_shape(weight))


def peak_flops(device: torch.device, dtype: torch.dtype, seconds: float = 0.5) -> float:
    """FLOP/s of matrix products at most: a known card's by its data sheet, else measured now.

    seconds: how long is measured, at the threads that torch has.
    """
    if device.type == "cuda" and dtype == torch.bfloat16:
        name = torch.cuda.get_device_name(device)
        for part, peak in PEAKS:
            if part in name:
                return peak
    return measured_peak(device, dtype, seconds)


def measured_peak(device: torch.device, dtype: torch.dtype, seconds: float = 0.5) -> float:
    """FLOP/s of the fastest of some products of square matrices, after one to get warm."""
    side = SIDE if device.type == "cpu" else 8 * SIDE
    a = torch.ones(side, side, dtype=dtype, device=device)
    best, until = float("inf"), time.perf_counter() + seconds
    _timed_product(a)
    while best == float("inf") or time.perf_counter() < until:
        best = min(best, _timed_product(a))
    return 2 * side**3 / best


@torch.no_grad()
def _timed_product(a: torch.Tensor) -> float:
    began = time.perf_counter()
    a @ a
    if a.device.type == "cuda":
        torch.cuda.synchronize(a.device)
    return time.perf_counter() - began
