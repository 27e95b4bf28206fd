"""For every family of models: the loss of a packed row, and its gradients, are those unpacked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cameleer.model import blocks
from cameleer.model.attention import NAME, Documents, positions
from cameleer.model.load import load_model
from cameleer.model.norm import lean_norms
from cameleer.model.packing import require_packing
from cameleer.train.loss import head_in_chunks, supervised_loss
from tests.conftest import FAMILIES

LENGTHS = [9, 1, 30, 110, 1, 2, 14]


def row() -> tuple[Tensor, Tensor]:
    """ids [1, tokens]; supervised [tokens], never a document's first token."""
    draw = torch.Generator().manual_seed(3)
    ids = torch.randint(3, 320, (1, sum(LENGTHS)), generator=draw)
    supervised = torch.rand(sum(LENGTHS), generator=draw) < 0.4
    begin = 0
    for length in LENGTHS:
        supervised[begin] = False
        begin += length
    return ids, supervised


def unpacked(folder: Path) -> tuple[Tensor, dict[str, Tensor]]:
    """Each document on its own through transformers' eager attention, labels shifted by one."""
    model = load_model(folder, torch.float32, "eager")
    ids, supervised = row()
    labels = torch.where(supervised, ids[0], -100)
    total = torch.zeros(())
    for own, wanted in zip(torch.split(ids, LENGTHS, 1), torch.split(labels, LENGTHS), strict=True):
        if len(wanted) > 1:
            logits = model(input_ids=own, use_cache=False).logits[0, :-1]
            total = total + F.cross_entropy(logits, wanted[1:], ignore_index=-100, reduction="sum")
    torch.autograd.backward(total / supervised.sum())
    return total.detach(), {name: weight.grad for name, weight in model.named_parameters()}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_of_a_packed_row_is_that_of_its_documents(
    family: str, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_model(family)
    wanted, wanted_gradients = unpacked(folder)
    model = load_model(folder, torch.float32, NAME)
    require_packing(model)
    lean_norms(model)
    head_in_chunks(model)
    ids, supervised = row()
    weights = torch.full((int(supervised.sum()),), 1 / int(supervised.sum()))
    for block, keep_up_to in ((128, 1024), (16, 20)):
        monkeypatch.setattr(blocks, "BLOCK", block)
        monkeypatch.setattr(blocks, "KEEP_UP_TO", keep_up_to)
        model.zero_grad()
        loss, nll = supervised_loss(
            model, ids, positions(LENGTHS), supervised, weights, Documents(LENGTHS)
        )
        torch.autograd.backward(loss)
        torch.testing.assert_close(nll.sum(), wanted, rtol=1e-5, atol=1e-5)
        largest = max(float(one.abs().max()) for one in wanted_gradients.values())
        for name, weight in model.named_parameters():
            off = (weight.grad - wanted_gradients[name]).abs().max()
            assert off <= 2e-5 * largest, name
