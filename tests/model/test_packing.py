"""Models whose packed rows would be wrong are turned away when they are loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cameleer.core.errors import UserError
from cameleer.model.attention import NAME
from cameleer.model.load import load_model
from cameleer.model.packing import require_packing, room

GOOD = ["llama", "qwen2", "qwen2, window of 16", "qwen3", "mistral", "mistral, window of 16"]
GOOD += ["gpt_neox", "opt", "gpt2", "gemma", "gemma2", "gemma3_text", "olmo", "olmo2", "phi3"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", GOOD)
def test_these_pass(name: str, dtype: torch.dtype, tiny_model: Callable[[str], Path]) -> None:
    model = load_model(tiny_model(name), dtype, NAME)
    before = torch.get_rng_state()
    require_packing(model)
    assert model.config._attn_implementation == NAME
    assert torch.equal(torch.get_rng_state(), before)  # a resumed run draws the same numbers


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("qwen2_moe, window of 16", "'qwen2_moe': no layer asks for the window of 16 that it has"),
        ("gpt_oss", "'gpt_oss': the model's attention has a 's_aux', which packed rows lack"),
        ("bloom", "'bloom': two documents in a row are off by"),
        ("mamba", "'mamba': two documents in a row are off by"),
    ],
)
def test_these_would_be_wrong_without_a_word(
    name: str, says: str, tiny_model: Callable[[str], Path]
) -> None:
    model = load_model(tiny_model(name), torch.float32, NAME)
    with pytest.raises(UserError, match=f"packing is not supported for models of type {says}"):
        require_packing(model)


@pytest.mark.parametrize("name", ["llama", "opt", "gpt2", "mistral, window of 16"])
def test_room(name: str, tiny_model: Callable[[str], Path]) -> None:
    assert room(load_model(tiny_model(name), torch.float32, NAME)) == 256
