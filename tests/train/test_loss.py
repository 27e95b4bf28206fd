"""The loss: the sum over supervised tokens that F.cross_entropy has, and its gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cameleer.model.adapters import LoraSpec, add_lora
from cameleer.model.attention import NAME, Documents, positions
from cameleer.model.load import load_model
from cameleer.train import loss
from cameleer.train.loss import SHAPES, _CrossEntropy, head_in_chunks, supervised_loss

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
    for one in losses:
        torch.autograd.backward(one)
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


def assert_itself(head: Any) -> None:
    """The head does its own work again."""
    given = torch.ones(1, head.in_features, dtype=head.weight.dtype)
    assert torch.equal(head(given), F.linear(given, head.weight, head.bias))


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
    assert not hasattr(ours.lm_head, "in_chunks")
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


SCALES = st.sampled_from([0.0, 1.0, 30.0, 1e4])
DTYPES = st.sampled_from([torch.float32, torch.bfloat16])
BLOCK = 64  # rows that are worked on at a time in these tests


def rounding(dtype: torch.dtype) -> float:
    return 2.0**-23 if dtype == torch.float32 else 2.0**-8


@given(
    tokens=st.sampled_from([1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK]),
    vocabulary=st.integers(1, 50),
    scale=SCALES,
    dtype=DTYPES,
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(loss.BLOCK, "cpu", BLOCK * vocabulary * 4)
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
    assert torch.equal(logits, ours.detach())
    step = rounding(dtype)  # of the larger of value and rounding
    torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=16 * step, atol=1e-6)


def test_no_gradient_is_worked_out_where_none_is_wanted() -> None:
    logits = torch.zeros(3, 4)
    targets = torch.zeros(3, dtype=torch.long)
    total, _ = _CrossEntropy.apply(logits, targets, torch.ones(3))  # type: ignore[no-untyped-call]
    assert total.item() == pytest.approx(3 * torch.log(torch.tensor(4.0)).item())
    assert not total.requires_grad


# ---- the head in chunks


@given(
    tokens=st.sampled_from([0, 1, SHAPES, SHAPES + 1, 3 * SHAPES, 5 * SHAPES - 3]),
    chunk=st.sampled_from([SHAPES, 2 * SHAPES, 100 * SHAPES]),
    scale=SCALES,
    dtype=DTYPES,
    bias=st.booleans(),
    frozen=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_head_and_cross_entropy_by_chunks(
    tokens: int,
    chunk: int,
    scale: float,
    dtype: torch.dtype,
    bias: bool,
    frozen: bool,
    seed: int,
) -> None:
    draw = torch.Generator().manual_seed(seed)
    head = torch.nn.Linear(12, 40, bias=bias).requires_grad_(not frozen)
    with torch.no_grad():
        for weight in head.parameters():
            weight.copy_(torch.randn(weight.shape, generator=draw) * scale)
    head = head.to(dtype)
    plain = copy.deepcopy(head).double()
    hidden = torch.randn(max(1, -(-tokens // SHAPES)) * SHAPES, 12, generator=draw).to(dtype)
    ours, theirs = hidden.clone().requires_grad_(), hidden.double().requires_grad_()
    targets = torch.randint(40, (tokens,), generator=draw)
    weights = torch.rand(tokens, generator=draw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(loss.CHUNK, "cpu", chunk * 40 * dtype.itemsize)
        found, nll = loss._fused(head, ours, targets, weights)
    each = F.cross_entropy(plain(theirs)[:tokens], targets, reduction="none")
    wanted = (each * weights.double()).sum()
    # Logits are rounded to the dtype, as those of the plain head are.
    step = rounding(dtype) * max(1.0, scale) * 40
    torch.testing.assert_close(nll.double(), each.detach(), rtol=step, atol=step)
    assert found.item() == pytest.approx(wanted.item(), rel=step, abs=step * max(1, tokens))
    torch.autograd.backward([found * 0.5, wanted * 0.5])
    assert all((weight.grad is None) == frozen for weight in head.parameters())
    if dtype == torch.float32 and scale <= 30:
        for one, other in (
            (ours, theirs),
            *zip(head.parameters(), plain.parameters(), strict=True),
        ):
            if one.grad is not None:
                assert other.grad is not None
                torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-3, atol=1e-4)


def test_in_bf16_chunks_are_hardly_worse_than_the_whole() -> None:
    """Against float64: the head's gradient is rounded once for each chunk instead of once."""
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(8 * SHAPES, 32, generator=draw).bfloat16()
    head = torch.nn.Linear(32, 200, bias=False).bfloat16()
    targets = torch.randint(200, (len(hidden),), generator=draw)
    weights = torch.full((len(hidden),), 1 / len(hidden))

    def worked_out(run: Callable[[Tensor], Any], own: torch.nn.Linear) -> list[Tensor]:
        own.weight.grad = None
        given = hidden.to(own.weight.dtype, copy=True).requires_grad_()
        torch.autograd.backward(run(given))
        assert given.grad is not None
        assert own.weight.grad is not None
        return [given.grad.double(), own.weight.grad.double()]

    exact = copy.deepcopy(head).double()
    truth = worked_out(lambda given: F.cross_entropy(exact(given), targets), exact)
    whole = worked_out(
        lambda given: _CrossEntropy.apply(head(given), targets, weights)[0],  # type: ignore[no-untyped-call]
        head,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(loss.CHUNK, "cpu", 2 * SHAPES * 200 * 2)  # four chunks
        chunks = worked_out(lambda given: loss._fused(head, given, targets, weights)[0], head)
    for mine, theirs, wanted in zip(chunks, whole, truth, strict=True):
        assert float((mine - wanted).norm()) < 1.5 * float((theirs - wanted).norm())


FAMILIES = ["llama", "llama, as many key heads", "qwen2", "gpt_neox", "opt", "gpt2"]
"""The second, opt and gpt2 use the embeddings as head."""


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lora", [False, True])
def test_a_head_in_chunks_changes_nothing(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, family: str, lora: bool
) -> None:
    model = load_model(tiny_model(family), torch.float32, NAME)
    if lora:
        model = add_lora(model, LoraSpec(r=4, lora_dropout=0.0))
    lengths = [100, 130, 26]
    ids = torch.randint(3, 320, (1, sum(lengths)), generator=torch.Generator().manual_seed(1))
    supervised = torch.ones(sum(lengths), dtype=torch.bool)
    supervised[[0, 100, 230]] = False
    monkeypatch.setitem(loss.CHUNK, "cpu", SHAPES * 320 * 4)
    seen: list[int] = []
    real = loss._cross_entropies

    def watched(logits: Tensor, *rest: Any) -> Tensor:
        seen.append(len(logits))
        return real(logits, *rest)

    monkeypatch.setattr(loss, "_cross_entropies", watched)

    def learned() -> tuple[float, dict[str, Tensor]]:
        model.zero_grad()
        total = loss_of(model, ids, supervised, lengths)
        torch.autograd.backward(total)
        named = model.named_parameters()
        return total.item(), {n: w.grad.clone() for n, w in named if w.grad is not None}

    total, wanted = learned()
    assert head_in_chunks(model)
    again, found = learned()
    assert seen == [256, 64, 64, 64, 64]
    assert_itself(model.get_output_embeddings())
    assert again == pytest.approx(total, rel=1e-6)
    assert found
    assert not lora or all("lora" in name for name in found)
    moving = {name for name, gradient in wanted.items() if gradient.norm() > 0}  # not: B is 0
    assert_same({n: found[n] for n in moving}, {n: wanted[n] for n in moving}, 1e-5)


@pytest.mark.parametrize(
    ("family", "more", "chunked"),
    [
        ("granite", {"logits_scaling": 3.0, "num_key_value_heads": 2}, True),
        ("cohere", {"num_key_value_heads": 2}, True),
        ("phi", {}, True),  # its head has a bias
        ("gemma2", {"num_key_value_heads": 2, "head_dim": 16}, False),  # its logits have a soft cap
    ],
)
def test_what_is_done_to_logits(
    family: str, more: dict[str, Any], chunked: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 320, "hidden_size": 64, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 4, "intermediate_size": 96, "pad_token_id": 2}
    config = AutoConfig.for_model(family, **sizes, **more, initializer_range=0.2)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=NAME).eval()
    ids, supervised = batch()
    before = loss_of(model, ids, supervised, LENGTHS)
    assert head_in_chunks(model) == chunked
    assert ("held whole in memory" in capsys.readouterr().err) != chunked
    after = loss_of(model, ids, supervised, LENGTHS)
    assert after.item() == pytest.approx(before.item(), rel=1e-6)


def test_a_head_with_adapters_stays_whole(tiny_model: Callable[[str], Path]) -> None:
    model = load_model(tiny_model("llama"), torch.float32, NAME)
    model = add_lora(model, LoraSpec(r=4, target_modules=["lm_head", "q_proj"]))
    assert not head_in_chunks(model)


def test_the_head_is_itself_again_after_an_error(models: tuple[Any, Any]) -> None:
    ours, _ = models
    head_in_chunks(ours)
    ids, supervised = batch()
    with pytest.raises(IndexError):
        loss_of(ours, ids + 10_000, supervised, LENGTHS)
    assert_itself(ours.lm_head)


def test_a_row_that_nothing_is_learned_of(models: tuple[Any, Any]) -> None:
    """So that every rank can take as many micro-batches as the others."""
    ours, _ = models
    ids, _ = batch()
    total = loss_of(ours, ids, torch.zeros(sum(LENGTHS), dtype=torch.bool), LENGTHS)
    assert total.item() == 0
    found = gradients(ours, [total])
    assert all(float(gradient.norm()) == 0 for gradient in found.values())
