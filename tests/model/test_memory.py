"""Layers computed twice give the same bits in less memory; what needs a GPU says so."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cameleer.core.errors import UserError
from cameleer.model import memory
from cameleer.model.adapters import LoraSpec, add_lora, load_nf4
from cameleer.model.attention import NAME, Documents, positions
from cameleer.model.dropout import quick_dropout
from cameleer.model.load import load_model
from cameleer.model.memory import Checkpointing, checkpoint_layers, layers_to_checkpoint

LENGTHS = [40, 24]
Folder = Callable[[str], Path]


def learn(model: Any) -> dict[str, Tensor]:
    """The loss of a packed row and its gradients."""
    torch.manual_seed(3)  # dropout
    ids, layout = torch.arange(3, 3 + sum(LENGTHS))[None], Documents(LENGTHS)
    out = model(input_ids=ids, position_ids=positions(LENGTHS), use_cache=False, layout=layout)
    loss = out.logits.float().log_softmax(-1).square().mean()
    loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **found}


def full(folder: Path, dtype: torch.dtype) -> Any:
    return load_model(folder, dtype, NAME).train()


def lora(folder: Path, dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    return add_lora(load_model(folder, dtype, NAME), LoraSpec(r=4, lora_dropout=0.3)).train()


def qlora(folder: Path, dtype: torch.dtype) -> Any:
    pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    model = load_nf4(folder, dtype, NAME, torch.device("cpu"))
    return add_lora(model, LoraSpec(r=4, lora_dropout=0.3)).train()


def quick_lora(folder: Path, dtype: torch.dtype) -> Any:
    model = lora(folder, dtype)
    assert quick_dropout(model) > 0
    return model


@pytest.mark.parametrize("wanted", [True, 1])
@pytest.mark.parametrize(
    ("make", "family", "dtype"),
    [
        (full, "llama", torch.float32),
        (full, "llama", torch.bfloat16),
        (full, "gpt_neox", torch.float32),
        (full, "opt", torch.float32),
        (full, "gpt2", torch.float32),
        (lora, "llama", torch.float32),
        (lora, "llama", torch.bfloat16),
        (quick_lora, "llama", torch.bfloat16),
        (qlora, "llama", torch.float32),
    ],
)
def test_the_same_bits(
    make: Any, family: str, dtype: torch.dtype, wanted: Checkpointing, tiny_model: Folder
) -> None:
    model = make(tiny_model(family), dtype)
    expected = learn(make(tiny_model(family), dtype))
    passes = [0]
    layers = memory.decoder_layers(model)
    for layer in layers:
        next(
            m for m in layer.modules() if "norm" in type(m).__name__.lower()
        ).register_forward_hook(lambda *_: passes.__setitem__(0, passes[0] + 1))
    count = checkpoint_layers(model, wanted)
    assert count == (2 if wanted is True else 1)
    found = learn(model)
    assert passes[0] == 2 + count  # those that are checkpointed ran twice
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def saved_bytes(model: Any) -> int:
    """Bytes of the distinct tensors kept between forward and backward, weights left out."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids, layout = torch.arange(3, 3 + sum(LENGTHS))[None], Documents(LENGTHS)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = model(input_ids=ids, position_ids=positions(LENGTHS), use_cache=False, layout=layout)
    del out
    return sum(kept.values())


def test_a_deep_model_keeps_less() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 192, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=320, num_hidden_layers=12, **sizes)
    config._attn_implementation = NAME
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).train()
    kept = []
    for wanted in (False, 4, 8, True):
        checkpoint_layers(model, wanted)
        kept.append(saved_bytes(model))
    none, four, eight, every = kept
    each = (none - four) / 4
    assert none - eight == pytest.approx(8 * each, rel=0.02)
    row = sum(LENGTHS) * 64 * 4  # of a layer that is checkpointed, its input is left
    assert each > 15 * row
    assert every < 0.15 * none


def test_how_many_layers() -> None:
    assert layers_to_checkpoint(True, 30) == 30
    assert layers_to_checkpoint(False, 30) == 0
    assert layers_to_checkpoint(7, 30) == 7
    assert layers_to_checkpoint("auto", 30) == 0
    assert layers_to_checkpoint("auto", 30, planned=12) == 12
    with pytest.raises(UserError, match="the model has 30 layers, not 31"):
        layers_to_checkpoint(31, 30)


def test_it_can_be_turned_off_again(tiny_model: Folder) -> None:
    model = full(tiny_model("llama"), torch.float32)
    checkpoint_layers(model, True)
    assert checkpoint_layers(model, False) == 0
    assert not any(layer.gradient_checkpointing for layer in memory.decoder_layers(model))


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is missing without a GPU")
def test_what_needs_a_gpu_says_so(tiny_model: Folder) -> None:
    with pytest.raises(UserError, match="Liger's kernels need a GPU"):
        memory.use_liger_kernel(full(tiny_model("llama"), torch.float32))
    with pytest.raises(UserError, match="TF32 is a GPU's"):
        memory.allow_tf32(True)
    memory.allow_tf32(False)


def test_liger_patches_all_but_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a stand-in for the library, whose own kernels need a GPU."""
    told: dict[str, Any] = {}
    theirs = types.SimpleNamespace(
        MODEL_TYPE_TO_APPLY_LIGER_FN={"llama": None},
        _apply_liger_kernel_to_instance=lambda **given: told.update(given),
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    installed = [True]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: installed.pop())
    monkeypatch.setattr("importlib.import_module", lambda name: theirs)
    model = types.SimpleNamespace(config=types.SimpleNamespace(model_type="llama"))
    memory.use_liger_kernel(model)
    assert told == {"model": model, "cross_entropy": False, "fused_linear_cross_entropy": False}
    model.config.model_type = "opt"
    installed[:] = [False, True]
    with pytest.raises(UserError, match="no kernels for models of type 'opt'"):
        memory.use_liger_kernel(model)
    with pytest.raises(UserError, match="liger-kernel is not installed"):
        memory.use_liger_kernel(model)
