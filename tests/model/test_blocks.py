"""Attention in blocks of queries is attention, and so are its gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cameleer.model import blocks
from cameleer.model.blocks import causal_attention

HEADS, GROUP, DIM = 2, 3, 8


def plain(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None) -> Tensor:
    """Softmax over the keys that a query sees, one query after the other."""
    heads, documents, _, tokens, _ = q.shape
    k, v = (x.view(heads, documents, tokens, -1) for x in (k, v))
    mixed = []
    for at in range(tokens):
        seen = slice(0 if window is None else max(0, at - window + 1), at + 1)
        scores = torch.einsum("hngd,hntd->hngt", q[:, :, :, at], k[:, :, seen]) * scale
        mixed.append(torch.einsum("hngt,hntd->hngd", scores.softmax(-1), v[:, :, seen]))
    return torch.stack(mixed, 3)


def made(documents: int, tokens: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(tokens)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=dtype).requires_grad_()

    q = normal(HEADS, documents, GROUP, tokens, DIM)
    return q, normal(HEADS * documents, tokens, DIM), normal(HEADS * documents, tokens, DIM)


@given(
    documents=st.integers(1, 3),
    tokens=st.integers(1, 70),
    block=st.sampled_from([16, 24, 128]),
    keep_up_to=st.sampled_from([0, 1024]),
    window=st.sampled_from([None, 1, 7, 16, 40]),
)
def test_is_attention(
    documents: int, tokens: int, block: int, keep_up_to: int, window: int | None
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK", block)
        patch.setattr(blocks, "KEEP_UP_TO", keep_up_to)
        given_ = made(documents, tokens, torch.float64)
        upstream = torch.randn(given_[0].shape, dtype=torch.float64)
        results = []
        for attend in (plain, causal_attention):
            mixed = attend(*given_, 0.3, window)
            results.append((mixed, *torch.autograd.grad(mixed, given_, upstream)))
        for wanted, found in zip(*results, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("tokens", [130, 700])
def test_in_bf16_its_gradients_are_as_near_as_the_fused_kernels(tokens: int) -> None:
    q, k, v = made(1, tokens, torch.float32)
    upstream = torch.randn(q.shape).bfloat16()

    def results(attend: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        own = [x.detach().bfloat16().to(dtype).requires_grad_() for x in (q, k, v)]
        mixed = attend(*own)
        return [mixed, *torch.autograd.grad(mixed, own, upstream.to(dtype))]

    def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        heads = q[:, 0].flatten(0, 1)[None]
        mixed = torch.nn.functional.scaled_dot_product_attention(
            heads, k[None], v[None], is_causal=True, scale=0.3, enable_gqa=True
        )
        return mixed.view(q.shape)

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return causal_attention(q, k, v, 0.3)

    truth = results(fused, torch.float64)
    for name, wanted, peer, found in zip(
        ("mixed", "q", "k", "v"),
        truth,
        results(fused, torch.bfloat16),
        results(ours, torch.bfloat16),
        strict=True,
    ):
        error, of_peer = ((x.double() - wanted).norm() / wanted.norm() for x in (found, peer))
        assert error < max(2 * of_peer, 0.006), name


def test_what_nobody_sees_is_not_computed() -> None:
    """Of a document of 1,024 tokens 9/16 of the scores are, of one with a window fewer still."""

    def computed(tokens: int, window: int | None) -> int:
        made = blocks.blocks(tokens, window)
        return sum((one.end - one.begin) * (one.end - one.first) for one in made)

    assert computed(1024, None) == 1024 * 1024 * 9 // 16
    assert computed(1024, 128) < 1024 * (128 + 128 + 128)
    for tokens in range(1, 700, 13):
        made = list(blocks.blocks(tokens, None))
        assert [one.begin for one in made[1:]] == [one.end for one in made[:-1]]
        assert (made[0].begin, made[-1].end) == (0, tokens)


def test_long_documents_keep_no_weights() -> None:
    kept: list[int] = []

    def count(x: Tensor) -> Tensor:
        kept.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
        for tokens in (blocks.KEEP_UP_TO, blocks.KEEP_UP_TO + 1):
            kept.clear()
            causal_attention(*made(1, tokens, torch.float32), 0.3)
            scores = HEADS * GROUP * tokens**2
            inputs = (GROUP + 2) * HEADS * tokens * DIM
            assert sum(kept) - inputs < 0.6 * scores
            assert (sum(kept) == inputs) == (tokens > blocks.KEEP_UP_TO)
