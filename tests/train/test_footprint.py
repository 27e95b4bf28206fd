"""What a step holds, traced without numbers, beside what a real step makes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from cameleer.model.adapters import LoraSpec, add_lora
from cameleer.model.attention import NAME, Documents, positions
from cameleer.model.dropout import quick_dropout
from cameleer.model.memory import checkpoint_layers
from cameleer.model.norm import lean_norms
from cameleer.train import loss
from cameleer.train.footprint import Counting, Footprint, Held, Part, most_held, trace
from cameleer.train.plan_memory import on_meta

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2, "intermediate_size": 352},
    "gpt_neox": {"intermediate_size": 512},
    "opt": {"ffn_dim": 512, "word_embed_proj_dim": 128},
}
LENGTHS = [60, 100, 96] * 2
LEARNED = 300


def config_of(family: str) -> Any:
    sizes = {"hidden_size": 128, "num_hidden_layers": 6, "num_attention_heads": 4}
    return AutoConfig.for_model(family, vocab_size=2000, **sizes, **FAMILIES[family])


def really(config: Any, bf16: bool, lora: LoraSpec | None, again: bool) -> int:
    """Most bytes of tensors that a real forward and backward pass makes."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=NAME)
    model.get_output_embeddings().in_chunks = True
    if lora:
        model = add_lora(model, lora)
    lean_norms(model)
    quick_dropout(model)
    checkpoint_layers(model, again)
    model.train()
    tokens = sum(LENGTHS)
    mask = torch.zeros(tokens, dtype=torch.bool)
    mask[1 : LEARNED + 1] = True
    ids = torch.randint(2000, (1, tokens))
    count = Counting("cpu", before=[*model.parameters(), *model.buffers()])
    with count:
        total, _ = loss.supervised_loss(
            model, ids, positions(LENGTHS), mask, torch.ones(LEARNED), Documents(LENGTHS)
        )
        torch.autograd.backward(total)
    return count.peak


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("bf16", "lora"), [(True, None), (False, None), (True, LoraSpec(r=4))])
@pytest.mark.parametrize("again", [True, False])
def test_traced_is_what_a_real_step_makes(
    family: str, bf16: bool, lora: LoraSpec | None, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(family)
    real = really(config, bf16, lora, again)
    monkeypatch.setitem(loss.CHUNK, "meta", loss.CHUNK["cpu"])
    monkeypatch.setitem(loss.BLOCK, "meta", loss.BLOCK["cpu"])
    model = on_meta(config, bf16, lora)
    quick_dropout(model)
    checkpoint_layers(model, again)
    found = trace(model, sum(LENGTHS), LEARNED, Held(LENGTHS))
    assert most_held(found, found, 6 * again, 0.0).total == pytest.approx(real, rel=0.025)


def test_two_lengths_tell_every_other() -> None:
    short, middle, long = (
        trace(on_meta(config_of("llama"), True), tokens, tokens // 2, Held(None))
        for tokens in (256, 512, 1024)
    )
    told = short.scaled(middle, 1024)
    assert told.tokens == 1024
    for name, part in long.parts.items():
        assert told.parts[name].left == pytest.approx(part.left, rel=0.01), name
        assert told.parts[name].peak == pytest.approx(part.peak, rel=0.01), name


def made(layer: float, back: float, gradients: float) -> Footprint:
    """A footprint of five layers: each keeps `layer`, and `back` more while it goes back."""
    freed = Part(gradients - layer, back, gradients)
    kept = Part(layer, layer + 1, 0)
    parts = {"first": kept, "layer": kept, "last": kept, "head": Part(3, 4, 0)}
    parts |= {"last back": Part(gradients - layer - 3, back, gradients)}
    parts |= {"layer back": freed, "first back": freed}
    return Footprint(64, 3, parts)


def test_the_most_is_held_when_the_way_back_begins() -> None:
    found = most_held(made(10, 7, 0), made(10, 7, 0), 0, 0.0)
    assert (found.activations, found.loss, found.workspace) == (50, 3, 7)


def test_gradients_pile_up_on_the_way_back() -> None:
    found = most_held(made(10, 7, 20), made(10, 7, 20), 0, 0.0)
    assert (found.gradients, found.activations, found.workspace) == (80, 10, 7)
    assert most_held(made(10, 7, 20), made(10, 7, 20), 0, 100.0).gradients == 100
    assert most_held(made(10, 7, 20), made(10, 7, 20), 0, 0.0, ranks=4).gradients < 20


def test_checkpointing_some_layers_lies_between_none_and_all() -> None:
    plain, again = made(10, 7, 0), made(1, 17, 0)
    totals = [most_held(plain, again, layers, 0.0).total for layers in range(6)]
    assert totals[0] == 60
    assert totals[5] == 5 + 3 + 17
    assert totals[:5] == sorted(totals[:5], reverse=True)


def test_what_layers_make_is_the_same_wherever_the_most_is_held() -> None:
    found = made(10, 7, 20)
    assert found.made == 50
    assert most_held(found, found, 0, 0.0).activations < found.made
