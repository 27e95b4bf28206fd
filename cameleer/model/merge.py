"""Folding adapters into a model's weights, so that nobody needs peft or bitsandbytes to read it."""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from cameleer.model.load import quiet


@torch.no_grad()
def merged(model: Any) -> Any:
    """The plain model with the adapters folded into its weights, in the dtype of its embeddings.

    Each matrix is taken from its 4 bits first, if it is in them; the sum with what the adapters add
    is float32, and is rounded once. On a GPU, a model that was in 4 bits ends in the host's memory.
    """
    from peft.tuners.lora import LoraLayer

    dtype = model.get_input_embeddings().weight.dtype
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            added = sum(layer.get_delta_weight(name) for name in layer.active_adapters)
            base = layer.get_base_layer()
            layer.base_layer = _plain(base, (as_float32(base.weight) + added).to(dtype))
    with quiet():
        plain = model.unload()
    return _without_4_bits(plain, dtype)


def _without_4_bits(model: Any, dtype: torch.dtype) -> Any:
    if not getattr(model, "is_loaded_in_4bit", False):
        return model
    for name, module in list(model.named_modules()):
        if _in_4_bits(module):
            model.set_submodule(name, _plain(module, as_float32(module.weight).to(dtype)))
    model.hf_quantizer.remove_quantization_config(model)
    model.is_loaded_in_4bit = False
    return model.to("cpu", dtype)


def _in_4_bits(module: nn.Module) -> bool:
    return type(getattr(module, "weight", None)).__name__ == "Params4bit"


def as_float32(weight: Any) -> Tensor:
    """The numbers of a weight, taken from its 4 bits if it is in them."""
    if type(weight).__name__ != "Params4bit":
        return weight.detach().float()  # type: ignore[no-any-return]
    return unpacked(weight.data, weight.quant_state)


def unpacked(packed: Tensor, quant_state: Any) -> Tensor:
    """The float32 numbers of packed ones; quant_state: of bitsandbytes, how they were packed."""
    from bitsandbytes.functional import dequantize_4bit

    state = copy(quant_state)
    state.dtype = torch.float32
    return dequantize_4bit(packed, state)


def _plain(module: Any, weight: Tensor) -> nn.Module:
    """`module` with another weight, and as the model's own code made it: not as 4 bits are kept."""
    from transformers.pytorch_utils import Conv1D

    if not _in_4_bits(module):
        module.weight = Parameter(weight, requires_grad=False)
        plain: nn.Module = module
        return plain
    conv = issubclass(module.source_cls, Conv1D)  # GPT-2's, whose matrices lie the other way
    with torch.device("meta"):
        plain = Conv1D(*weight.shape) if conv else nn.Linear(weight.shape[1], weight.shape[0])
    plain.weight = Parameter((weight.T.contiguous() if conv else weight).cpu(), requires_grad=False)
    plain.bias = module.bias
    return plain
