"""LoRA and QLoRA: what is trained and in which numbers, and weights with adapters folded in."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cameleer.core.errors import UserError
from cameleer.model.adapters import LoraSpec, add_lora, load_nf4
from cameleer.model.attention import NAME, Documents, positions
from cameleer.model.load import load_model
from cameleer.model.merge import merged
from cameleer.model.packing import require_packing
from tests.conftest import FAMILIES

CPU = torch.device("cpu")
LENGTHS = [20, 12]
Folder = Callable[[str], Path]


def logits(model: Any) -> Tensor:
    ids = torch.arange(3, 3 + sum(LENGTHS))[None]
    at, layout = positions(LENGTHS), Documents(LENGTHS)
    found: Tensor = model(input_ids=ids, position_ids=at, use_cache=False, layout=layout).logits
    return found


def adapted(model: Any, **spec: Any) -> Any:
    """With adapters that have learned something."""
    torch.manual_seed(1)
    made = add_lora(model, LoraSpec(r=4, lora_dropout=0.0, **spec))
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape).mul(0.1).to(parameter.dtype)
    return made.eval()


def quantised(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    pytest.importorskip("bitsandbytes")
    return load_nf4(folder, dtype, NAME, CPU)


def plain(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    return load_model(folder, dtype, NAME)


@pytest.mark.parametrize("load", [plain, quantised])
@pytest.mark.parametrize("family", FAMILIES)
def test_merged_is_the_model_with_adapters(family: str, load: Any, tiny_model: Folder) -> None:
    model = adapted(load(tiny_model(family)))
    with torch.no_grad():
        wanted, bare = logits(model), logits(load(tiny_model(family)))
        found = logits(merged(model))
    assert (wanted - bare).std() > 0.05 * wanted.std()  # the adapters do something
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.std()))


@pytest.mark.parametrize("load", [plain, quantised])
def test_in_bf16_the_sum_is_rounded_once(load: Any, tiny_model: Folder) -> None:
    rounded, whole = (adapted(load(tiny_model("llama"), torch.bfloat16)) for _ in range(2))
    for made in (rounded, whole):
        torch.manual_seed(2)
        for parameter in made.parameters():
            if parameter.requires_grad:  # masters, as at the end of a run
                parameter.data = torch.randn(parameter.shape).mul(0.1)
    found, wanted = merged(rounded).state_dict(), merged(whole.float()).state_dict()
    assert {weight.dtype for weight in found.values()} == {torch.bfloat16}
    assert {weight.dtype for weight in wanted.values()} == {torch.float32}
    assert all(torch.equal(found[name], wanted[name].bfloat16()) for name in wanted)


def test_a_merged_4_bit_model_is_plain(tiny_model: Folder, tmp_path: Path) -> None:
    model = merged(adapted(quantised(tiny_model("llama"))))
    assert {type(module).__name__ for module in model.modules()}.isdisjoint({"Linear4bit"})
    model.save_pretrained(tmp_path)
    assert "quantization" not in (tmp_path / "config.json").read_text()
    with torch.no_grad():
        assert torch.equal(logits(plain(tmp_path)), logits(model.eval()))


def test_4_bits_are_nf4_with_scales_in_8_bits(tiny_model: Folder) -> None:
    model = quantised(tiny_model("llama"))
    layer = model.model.layers[0].mlp.up_proj
    state = layer.weight.quant_state
    assert (state.quant_type, state.nested, state.absmax.dtype) == ("nf4", True, torch.uint8)
    assert layer.weight.numel() == 64 * 96 / 2
    assert layer.compute_dtype == torch.float32
    assert type(model.lm_head).__name__ == "Linear"
    # NF4's 16 values are denser near 0; rounding to them costs a tenth of a normal weight.
    from bitsandbytes.functional import dequantize_4bit

    base = plain(tiny_model("llama")).model.layers[0].mlp.up_proj.weight
    error = (dequantize_4bit(layer.weight.data, state) - base).square().mean().sqrt() / base.std()
    assert 0.05 < error < 0.12


def test_gradients_flow_after_a_pass_without(tiny_model: Folder) -> None:
    """The packing check runs without gradients; bitsandbytes would repack weights in it."""
    model = quantised(tiny_model("llama"), torch.bfloat16)
    require_packing(model)
    made = add_lora(model, LoraSpec(r=4)).train()
    torch.autograd.backward(logits(made).float().square().mean())
    learned = {name: p.grad for name, p in made.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in learned)
    assert all(grad is not None for grad in learned.values())
    assert all(
        grad.abs().sum() > 0
        for name, grad in learned.items()
        if "lora_B" in name and grad is not None
    )
    first = next(
        grad for name, grad in learned.items() if "layers.0.self_attn.q_proj.lora_B" in name
    )
    assert first is not None
    assert first.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_adapters_compute_in_the_models_dtype(dtype: torch.dtype, tiny_model: Folder) -> None:
    for load in (plain, quantised):
        made = add_lora(load(tiny_model("llama"), dtype), LoraSpec(r=4))
        assert {p.dtype for p in made.parameters() if p.requires_grad} == {dtype}


def test_rank_stabilised_adapters_weigh_more(tiny_model: Folder) -> None:
    one, other = (
        adapted(plain(tiny_model("llama")), lora_alpha=16, use_rslora=use) for use in (False, True)
    )
    layer = "base_model.model.model.layers.0.mlp.up_proj"
    plainly, stabilised = (m.get_submodule(layer).get_delta_weight("default") for m in (one, other))
    torch.testing.assert_close(stabilised, plainly * math.sqrt(4))


def test_an_adapter_would_part_a_tied_head(tiny_model: Folder) -> None:
    model = plain(tiny_model("llama, as many key heads"))
    with pytest.raises(UserError, match="the model's head is its embeddings"):
        add_lora(model, LoraSpec(target_modules=["lm_head"]))
