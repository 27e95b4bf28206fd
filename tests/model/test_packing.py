"""Models whose packed rows would be wrong are turned away when they are loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cameleer.core.errors import UserError
from cameleer.model.attention import NAME, Documents, positions
from cameleer.model.load import load_model
from cameleer.model.packing import require_packing, room

GOOD = ["llama", "qwen2", "mistral", "mistral, window of 16", "gpt_neox", "opt", "gpt2"]


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
        ("gemma2", "'gemma2': the model's attention has a 'softcap'"),
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


def test_room(tiny_model: Callable[[str], Path]) -> None:
    def of(name: str) -> int | None:
        return room(load_model(tiny_model(name), torch.float32, NAME))

    assert of("llama") == of("opt") == of("gpt2") == of("mistral") == 256
    assert of("mistral, window of 16") == 16


def test_a_document_longer_than_the_window_is_an_error(tiny_model: Callable[[str], Path]) -> None:
    model = load_model(tiny_model("mistral, window of 16"), torch.float32, NAME)
    ids = torch.arange(3, 20)[None]

    def forward(lengths: list[int]) -> None:
        at, layout = positions(lengths), Documents(lengths)
        model(input_ids=ids, position_ids=at, use_cache=False, layout=layout)

    forward([16, 1])
    with pytest.raises(UserError, match="17 tokens is longer than the 16"):
        forward([17])
