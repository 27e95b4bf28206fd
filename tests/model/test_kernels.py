"""Every kernel gives what attention is by its definition; which one is taken where, and is it said.

On a machine without a GPU FlashAttention is replaced by a slow restatement of what torch documents
for it, which also looks at what it is handed; flex runs uncompiled.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from cameleer.model import kernels
from cameleer.model.attention import NAME, Documents, Prefix, positions
from cameleer.model.kernels import Flex, Kernel, OneByOne, Varlen, kernel_for
from cameleer.model.load import load_model
from cameleer.model.scoring import Scoring
from cameleer.model.stacks import Stacks

HEADS, KV_HEADS, HEAD_DIM = 4, 2, 8
FLEX = "torch.nn.attention.flex_attention"


def by_definition(
    q: Tensor, k: Tensor, v: Tensor, how: Scoring, lengths: list[int], prefix: tuple[Tensor, Tensor]
) -> Tensor:
    """Query by query and head by head: softmax of scores of what it may see, times values."""
    rows = []
    begin = 0
    for length in lengths:
        for place in range(length):
            heads = []
            for head in range(HEADS):
                shared = head // (HEADS // KV_HEADS)
                keys, values = (
                    torch.cat([past[shared], own[0, shared, begin : begin + place + 1]])
                    for past, own in zip(prefix, (k, v), strict=True)
                )
                if how.window is not None:
                    keys, values = keys[-how.window :], values[-how.window :]
                scores = keys @ q[0, head, begin + place] * how.scale
                if how.softcap is not None:
                    scores = how.softcap * torch.tanh(scores / how.softcap)
                heads.append(scores.softmax(0) @ values)
            rows.append(torch.stack(heads))
        begin += length
    return torch.stack(rows, 1)[None]


def documented_varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    starts_q: Tensor,
    starts_k: Tensor,
    longest_q: int,
    longest_k: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> Tensor:
    """varlen_attn as its documentation has it, and strict about what it is handed."""
    tokens = len(q)
    assert (q.shape, k.shape, v.shape) == ((tokens, HEADS, 8), (tokens, 2, 8), (tokens, 2, 8))
    assert q.stride(-1) == k.stride(-1) == v.stride(-1) == 1
    assert starts_q.dtype == starts_k.dtype == torch.int32
    starts = starts_q.tolist()
    assert starts == starts_k.tolist() == sorted(set(starts))
    assert (starts[0], starts[-1]) == (0, tokens)
    assert longest_q == longest_k == max(end - begin for begin, end in pairwise(starts))
    assert enable_gqa
    left, right = window_size
    assert right == 0
    out = []
    for begin, end in pairwise(starts):
        at = torch.arange(end - begin)
        back = at[:, None] - at
        hidden = (back < 0) | ((back > left) if left >= 0 else torch.zeros_like(back) > 0)
        keys, values = (x[begin:end].repeat_interleave(2, 1) for x in (k, v))
        scores = torch.einsum("qhd,khd->hqk", q[begin:end], keys) * scale
        weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
        out.append(torch.einsum("hqk,khd->qhd", weights, values))
    return torch.cat(out)


lengths_of_rows = st.lists(st.integers(1, 40), min_size=1, max_size=5)


@settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lengths=lengths_of_rows,
    window=st.sampled_from([None, 1, 7, 30]),
    softcap=st.sampled_from([None, 1.5]),
    past=st.sampled_from([0, 5]),
)
@pytest.mark.parametrize("kernel", [Stacks, OneByOne, Flex, Varlen])
def test_a_kernel_is_attention_by_its_definition(
    kernel: type[Kernel],
    lengths: list[int],
    window: int | None,
    softcap: float | None,
    past: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernels, "varlen_attn", documented_varlen)
    # torch refuses gradients of flex on a CPU, though it has them, uncompiled.
    monkeypatch.setattr(f"{FLEX}._validate_device", lambda *_: None)
    monkeypatch.setattr(f"{FLEX}._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    if kernel is OneByOne:
        softcap = None
    if kernel is Varlen:
        softcap, past = None, 0
    how = Scoring(0.4, window, softcap)
    draw = torch.Generator().manual_seed(sum(lengths))

    def leaves(*shape: int) -> Tensor:
        made = torch.randn(shape, generator=draw, dtype=torch.float32) * 2
        return made.requires_grad_()

    tokens = sum(lengths)
    q, k, v = (leaves(1, heads, tokens, HEAD_DIM) for heads in (HEADS, KV_HEADS, KV_HEADS))
    before = leaves(KV_HEADS, past, HEAD_DIM), leaves(KV_HEADS, past, HEAD_DIM)
    found = kernel(lengths, q, past)(q, k, v, how, before if past else None)
    wanted = by_definition(q, k, v, how, lengths, before)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    weights = torch.randn(wanted.shape, generator=draw)
    ours, theirs = (torch.autograd.grad((x * weights).sum(), (q, k, v)) for x in (found, wanted))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)


CPU, CUDA = torch.device("cpu"), torch.device("cuda")
PLAIN = Scoring(1.0)
CHOICES: list[tuple[dict[str, Any], type[Kernel]]] = [
    ({"device": CPU}, Stacks),
    ({"device": CPU, "longest": 5000}, Stacks),
    ({"device": CPU, "longest": 5000, "past": 10}, OneByOne),
    ({"device": CPU, "longest": 5000, "how": Scoring(1.0, dropout=0.1)}, OneByOne),
    ({"device": CPU, "longest": 5000, "how": Scoring(1.0, softcap=50.0)}, Stacks),
    ({}, Varlen),
    ({"dtype": torch.float16}, Varlen),
    ({"how": Scoring(1.0, window=4096)}, Varlen),
    ({"head_dim": 256}, Varlen),
    ({"dtype": torch.float32}, Flex),
    ({"head_dim": 100}, Flex),
    ({"head_dim": 512}, Flex),
    ({"head_dim": 256, "capability": (8, 9)}, Flex),
    ({"capability": (7, 5), "dtype": torch.float16}, Flex),
    ({"past": 100}, Flex),
    ({"how": Scoring(1.0, softcap=50.0)}, Flex),
    ({"how": Scoring(1.0, dropout=0.1)}, OneByOne),
    ({"how": Scoring(1.0, softcap=50.0, dropout=0.1)}, Stacks),
]


@pytest.mark.parametrize(("facts", "wanted"), CHOICES, ids=str)
def test_the_choice(
    facts: dict[str, Any], wanted: type[Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual: dict[str, Any] = {"device": CUDA, "dtype": torch.bfloat16, "head_dim": 64, "how": PLAIN}
    asked = {"longest": 100, "past": 0, "capability": (9, 0), **usual, **facts}
    capability = asked.pop("capability")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert kernel_for(**asked) is wanted


def test_the_choice_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    kernels._tell.cache_clear()
    for dtype in (torch.bfloat16, torch.float32) * 3:
        kernel_for(CUDA, dtype, 64, PLAIN, longest=100, past=0)
    kernel_for(CPU, torch.float32, 64, PLAIN, longest=100, past=0)
    assert capsys.readouterr().err.splitlines() == [
        "attention over rows of documents: Varlen",
        "attention over rows of documents: Flex, for FlashAttention lacks float32",
    ]


@pytest.mark.parametrize("kernel", [Stacks, OneByOne])
@pytest.mark.parametrize("past", [0, 5])
def test_dropped_weights_are_made_up_for(kernel: type[Kernel], past: int) -> None:
    torch.manual_seed(0)
    lengths, tokens = [30, 50], 80
    q, k = torch.randn(1, HEADS, tokens, HEAD_DIM), torch.randn(1, KV_HEADS, tokens, HEAD_DIM)
    v = torch.ones(1, KV_HEADS, tokens, HEAD_DIM)
    before = (torch.randn(KV_HEADS, past, HEAD_DIM), torch.ones(KV_HEADS, past, HEAD_DIM))
    attend, how = kernel(lengths, q, past), Scoring(0.3, dropout=0.25)
    drawn = [attend(q, k, v, how, before if past else None) for _ in range(20)]
    assert not torch.equal(drawn[0], drawn[1])
    if not past:  # the first token sees itself alone: all or nothing
        first = torch.stack(drawn)[:, 0, :, 0, 0].flatten()
        assert ((first == 0) | (first == 1 / 0.75)).all()
        assert 0 < (first == 0).sum() < len(first)
    assert torch.stack(drawn).mean() == pytest.approx(1.0, abs=0.02)


def test_a_models_attention_dropout_is_applied_and_told_by_the_seed(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(tiny_model("gpt2"), torch.float32, NAME)
    for layer in model.transformer.h:
        layer.attn.attn_dropout.p = 0.3
    ids = torch.arange(3, 43)[None]

    def logits(seed: int) -> Tensor:
        torch.manual_seed(seed)
        layout, at = Documents([25, 15]), positions([25, 15])
        found: Tensor = model(input_ids=ids, position_ids=at, use_cache=False, layout=layout).logits
        return found

    still = logits(1)
    assert torch.equal(still, logits(2))  # not while evaluating
    model.train()
    for stack_up_to in (512, 1):  # in stacks, and in the fused kernel
        monkeypatch.setattr(kernels, "STACK_UP_TO", stack_up_to)
        assert torch.equal(logits(1), logits(1))
        assert not torch.equal(logits(1), logits(2))
        assert not torch.equal(logits(1), still)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("past", [0, 130])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("window", [None, 50])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_on_a_gpu_as_on_the_cpu(
    dtype: torch.dtype, window: int | None, softcap: float | None, past: int
) -> None:
    for lengths in ([200, 1, 77], [40, 300], [513]):
        tokens, how = sum(lengths), Scoring(0.125, window, softcap)
        made = [torch.randn(1, heads, tokens, 64) for heads in (8, 2, 2)]
        prefix = [torch.randn(2, past, 64) for _ in range(2)]
        out, back = {}, {}
        for device in ("cpu", "cuda"):
            q, k, v = (x.to(device, dtype).requires_grad_() for x in made)
            keys, values = (x.to(device, dtype) for x in prefix)
            layout = Documents(lengths, Prefix([keys], [values]) if past else None)
            mixed = layout.attend(0, q, k, v, how)
            weights = torch.randn(mixed.shape, generator=torch.Generator().manual_seed(0))
            grads = torch.autograd.grad((mixed * weights.to(device)).sum(), (q, k, v))
            out[device], back[device] = mixed.cpu().float(), [x.cpu().float() for x in grads]
        near = 0.03 if dtype == torch.bfloat16 else 1e-3
        torch.testing.assert_close(out["cuda"], out["cpu"], rtol=near, atol=near)
        for mine, other in zip(back["cuda"], back["cpu"], strict=True):
            torch.testing.assert_close(mine, other, rtol=near, atol=near * 5)
