"""Arithmetic of a training step: beside torch's own count of what it really multiplies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cameleer.model.adapters import LoraSpec, add_lora
from cameleer.model.load import load_model
from cameleer.train.flops import PEAKS, Flops, measured_peak, peak_flops, training_flops

LENGTH = 40


def counted(model: Any) -> int:
    """What torch's counter sees in one forward and backward pass; every position has logits."""
    ids = torch.arange(LENGTH)[None]
    model.get_input_embeddings().register_forward_hook(lambda *given: given[-1].requires_grad_())
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, use_cache=False).logits.float().sum().backward()
    return int(counter.get_total_flops())


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt_neox", "opt", "gpt2"])
def test_a_step_is_what_torch_counts(tiny_model: Callable[[str], Path], family: str) -> None:
    model = load_model(tiny_model(family), torch.float32, "eager")
    found = training_flops(model)
    weights = found.token * LENGTH + found.supervised * LENGTH
    square = found.pair * LENGTH**2  # eager attention multiplies what the mask hides, too
    assert counted(model) == weights + square


def test_frozen_weights_cost_two_thirds(tiny_model: Callable[[str], Path]) -> None:
    plain = load_model(tiny_model("llama"), torch.float32, "eager")
    full = training_flops(plain)
    adapted = add_lora(plain, LoraSpec(r=4, lora_dropout=0.0))
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    found = training_flops(adapted)
    assert found.token == full.token * 2 // 3 + 6 * trained
    assert found.supervised == full.supervised * 2 // 3
    assert counted(adapted) == (found.token + found.supervised + found.pair * LENGTH) * LENGTH


def test_nothing_needs_to_be_in_memory(tiny_model: Callable[[str], Path]) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tiny_model("qwen2")
    with torch.device("meta"):
        shape = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    assert training_flops(shape) == training_flops(load_model(folder, torch.float32, "eager"))


def test_documents_attend_to_themselves_alone() -> None:
    flops = Flops(token=100, supervised=10, pair=1)
    assert flops.step([1, 3], supervised=2) == 400 + 20 + (1 + 6)


def test_the_peak_of_a_known_card_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H100 PCIe": 756e12, "NVIDIA L40S": 362e12}
    for name, peak in names.items():
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _, name=name: name)
        assert peak_flops(torch.device("cuda"), torch.bfloat16) == peak
    assert [part for part, _ in PEAKS].index("L40S") < [part for part, _ in PEAKS].index("L4")


def test_the_peak_of_a_processor_is_measured() -> None:
    found = measured_peak(torch.device("cpu"), torch.float32, seconds=0.0)
    assert 1e9 < found < 1e13
