"""The loss: the sum over supervised tokens that F.cross_entropy has, and its gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cameleer.model.attention import NAME, Documents, positions
from cameleer.model.load import load_model
from cameleer.train.loss import ROWS, SHAPES, _CrossEntropy, supervised_loss

LENGTHS = [9, 30, 2, 14]


@pytest.fixture(scope="module")
def models(tiny_model: Callable[[str], Path]) -> tuple[Any, Any]:
    """The same float32 model with our attention and with the eager one."""
    folder = tiny_model("llama")
    ours, theirs = (load_model(folder, torch.float32, name) for name in (NAME, "eager"))
    return ours, theirs


def batch() -> tuple[Tensor, Tensor]:
    """ids [1, tokens] and supervised [tokens] of four documents, never their first tokens."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 320, (1, sum(LENGTHS)), generator=draw)
    supervised = torch.rand(sum(LENGTHS), generator=draw) < 0.5
    supervised[[0, 9, 39, 41]] = False
    supervised[40] = True  # the second of a document's two tokens
    return ids, supervised


def loss_of(model: Any, ids: Tensor, supervised: Tensor, lengths: list[int]) -> Tensor:
    """The sum of all supervised tokens, each of weight 1."""
    weights = torch.ones(int(supervised.sum()))
    total, _ = supervised_loss(
        model, ids, positions(lengths), supervised, weights, Documents(lengths)
    )
    return total


def reference(model: Any, ids: Tensor, supervised: Tensor) -> Tensor:
    """Each document on its own, labels shifted by one, -100 where nothing is learned."""
    total = torch.zeros(())
    labels = torch.where(supervised, ids[0], -100)
    parts = zip(torch.split(ids, LENGTHS, 1), torch.split(labels, LENGTHS), strict=True)
    for own, wanted in parts:
        logits = model(input_ids=own, use_cache=False).logits[0, :-1]
        total = total + F.cross_entropy(logits, wanted[1:], ignore_index=-100, reduction="sum")
    return total


def gradients(model: Any, losses: list[Tensor]) -> dict[str, Tensor]:
    model.zero_grad()
    for loss in losses:
        torch.autograd.backward(loss)
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert float((found[name] - gradient).norm() / gradient.norm()) < tolerance, name


def test_the_loss_of_a_packed_row(models: tuple[Any, Any]) -> None:
    ours, theirs = models
    ids, supervised = batch()
    found, wanted = loss_of(ours, ids, supervised, LENGTHS), reference(theirs, ids, supervised)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert_same(gradients(ours, [found]), gradients(theirs, [wanted]), 1e-4)


def test_accumulated_is_one_batch(models: tuple[Any, Any]) -> None:
    ours, _ = models
    ids, supervised = batch()
    count = int(supervised.sum())
    whole = gradients(ours, [loss_of(ours, ids, supervised, LENGTHS) / count])
    cut = sum(LENGTHS[:2])
    micro = [
        loss_of(ours, ids[:, :cut], supervised[:cut], LENGTHS[:2]) / count,
        loss_of(ours, ids[:, cut:], supervised[cut:], LENGTHS[2:]) / count,
    ]
    assert_same(gradients(ours, micro), whole, 1e-5)


def test_the_head_works_on_predictions_of_supervised_tokens_alone(models: tuple[Any, Any]) -> None:
    ours, _ = models
    ids, supervised = batch()
    seen: list[Tensor] = []
    hook = ours.lm_head.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    loss_of(ours, ids, supervised, LENGTHS)
    hook.remove()
    rows = -(-int(supervised.sum()) // SHAPES) * SHAPES
    assert [tuple(given.shape) for given in seen] == [(1, rows, 64)]


def test_tokens_after_the_last_supervised_one_change_nothing(models: tuple[Any, Any]) -> None:
    ours, _ = models
    ids, supervised = batch()
    supervised[30:39] = False  # the end of the second document
    before = loss_of(ours, ids, supervised, LENGTHS)
    wanted = gradients(ours, [before])
    ids[0, 30:39] = 5
    after = loss_of(ours, ids, supervised, LENGTHS)
    assert after.item() == before.item()
    found = gradients(ours, [after])
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_supervised_target_matters(models: tuple[Any, Any]) -> None:
    ours, _ = models
    ids, supervised = batch()
    before = loss_of(ours, ids, supervised, LENGTHS).item()
    ids[0, 40] = (ids[0, 40] + 1) % 320
    assert loss_of(ours, ids, supervised, LENGTHS).item() != pytest.approx(before, rel=1e-6)


@settings(deadline=None)
@given(
    tokens=st.sampled_from([1, 2, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS]),
    vocabulary=st.integers(1, 50),
    scale=st.sampled_from([0.0, 1.0, 30.0, 1e4]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 1000),
)
def test_cross_entropy_and_its_gradient(
    tokens: int, vocabulary: int, scale: float, dtype: torch.dtype, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = (torch.randn(tokens, vocabulary, generator=draw) * scale).to(dtype)
    targets = torch.randint(vocabulary, (tokens,), generator=draw)
    ours, theirs = logits.clone().requires_grad_(), logits.double().requires_grad_()
    weights = torch.rand(tokens, generator=draw) * (torch.rand(tokens, generator=draw) < 0.8)
    found, nll = _CrossEntropy.apply(ours, targets, weights)  # type: ignore[no-untyped-call]
    each = F.cross_entropy(theirs, targets, reduction="none")
    wanted = (each * weights.double()).sum()
    assert found.dtype == nll.dtype == torch.float32
    assert not nll.requires_grad
    torch.testing.assert_close(nll.double(), each.detach(), rtol=1e-5, atol=1e-4)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5, abs=1e-4)
    torch.autograd.backward([found * 0.5, wanted * 0.5])
    assert ours.grad is not None
    assert theirs.grad is not None
    assert ours.grad.dtype == dtype
    step = 2.0**-23 if dtype == torch.float32 else 2.0**-8  # of the larger of value and rounding
    torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=16 * step, atol=1e-6)


def test_no_gradient_is_worked_out_where_none_is_wanted() -> None:
    logits = torch.zeros(3, 4)
    targets = torch.zeros(3, dtype=torch.long)
    total, _ = _CrossEntropy.apply(logits, targets, torch.ones(3))  # type: ignore[no-untyped-call]
    assert total.item() == pytest.approx(3 * torch.log(torch.tensor(4.0)).item())
    assert not total.requires_grad
