"""Ways to compute attention over a row of documents: which does what, where, and how fast.

- `Stacks`: documents of similar length as batched matrix products, a block of queries at a time: on
  a CPU two to five times as fast as the fused kernel (dev/LOG.md). Can do everything.
- `OneByOne`: torch's fused kernel on each document. Cannot cap scores.
- `Varlen`: one call of FlashAttention for the whole row, on CUDA, in 16 bits.
- `Flex`: one compiled kernel for the whole row, on CUDA, where FlashAttention cannot.

`kernel_for` is the one place that chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.attention.varlen import varlen_attn

from cameleer.core.console import note
from cameleer.model.scoring import KeysValues, Scoring, visible
from cameleer.model.stacks import Stacks

STACK_UP_TO = 1024  # tokens of a document, where all its scores are held at once


class Kernel(Protocol):
    """Attention over rows of documents of the same lengths."""

    def __init__(self, lengths: Sequence[int], q: Tensor, past: int, /) -> None:
        """lengths: of the documents; q: an example of queries; past: tokens before each document.

        Whatever the layers of a model share is made here, once per row.
        """

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, how: Scoring, before: KeysValues | None, /
    ) -> Tensor:
        """q [1, heads, tokens, head_dim], k and v [1, kv_heads, tokens, head_dim] to q's shape.

        before: keys and values [kv_heads, past, head_dim] that every document sees whole.
        """


def kernel_for(
    device: torch.device,
    dtype: torch.dtype,
    head_dim: int,
    how: Scoring,
    *,
    longest: int,
    past: int,
) -> type[Kernel]:
    """The fastest kernel that can do it; on CUDA it is told once. longest: document, in tokens."""
    if device.type != "cuda":
        whole = bool(how.softcap or how.dropout or past)  # then stacks hold all scores at once
        long = longest > STACK_UP_TO and whole and how.softcap is None
        return OneByOne if long else Stacks
    lacking = _varlen_lacks(device, dtype, head_dim, how, past)
    chosen: type[Kernel] = Varlen
    if lacking:
        chosen = Flex
    if how.dropout:  # neither of the two drops weights
        chosen = OneByOne if how.softcap is None else Stacks
    _tell(chosen.__name__, lacking)
    return chosen


def _varlen_lacks(
    device: torch.device, dtype: torch.dtype, head_dim: int, how: Scoring, past: int
) -> str:
    """Why FlashAttention cannot do it, in a few words; empty if it can."""
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        return f"compute capability {major}.{minor}"
    if dtype not in (torch.bfloat16, torch.float16):
        return str(dtype).removeprefix("torch.")
    most = 256 if (major, minor) in ((8, 0), (9, 0), (10, 0)) else 192  # of its backward pass
    if head_dim % 8 or head_dim > most:
        return f"heads of {head_dim}"
    for lacking, there in (
        ("dropout", how.dropout),
        ("capped scores", how.softcap),
        ("a shared beginning", past),
    ):
        if there:
            return lacking
    return ""


@cache
def _tell(kernel: str, lacking: str) -> None:
    why = f", for FlashAttention lacks {lacking}" if lacking else ""
    note(f"attention over rows of documents: {kernel}{why}")


class OneByOne:
    """The fused kernel on each document; split, unlike slicing, has one cheap gradient."""

    def __init__(self, lengths: Sequence[int], _q: Tensor, _past: int) -> None:
        self.lengths = list(lengths)

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, how: Scoring, before: KeysValues | None
    ) -> Tensor:
        mixed = []
        parts = zip(*(torch.split(x, self.lengths, 2) for x in (q, k, v)), strict=True)
        for own_q, own_k, own_v in parts:
            if before is not None:
                own_k = torch.cat([before[0][None], own_k], 2)
                own_v = torch.cat([before[1][None], own_v], 2)
            mask, own, keys = None, own_q.shape[2], own_k.shape[2]
            if keys > own or (how.window is not None and keys > how.window):
                at = torch.arange(keys, device=q.device)
                mask = visible(at[keys - own :, None], at, how.window)
            mixed.append(
                F.scaled_dot_product_attention(
                    own_q,
                    own_k,
                    own_v,
                    attn_mask=mask,
                    is_causal=mask is None,
                    scale=how.scale,
                    dropout_p=how.dropout,
                    enable_gqa=q.shape[1] != k.shape[1],
                )
            )
        return torch.cat(mixed, 2)


class Varlen:
    """FlashAttention over the whole row, told by where documents begin."""

    def __init__(self, lengths: Sequence[int], q: Tensor, _past: int) -> None:
        starts = list(accumulate(lengths, initial=0))
        self.starts = torch.tensor(starts, dtype=torch.int32).to(q.device, non_blocking=True)
        self.longest = max(lengths)

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, how: Scoring, _before: KeysValues | None
    ) -> Tensor:
        query, key, value = (x[0].transpose(0, 1) for x in (q, k, v))
        mixed = varlen_attn(
            query,
            key,
            value,
            self.starts,
            self.starts,
            self.longest,
            self.longest,
            scale=how.scale,
            # It counts the tokens to the left, without the token itself.
            window_size=(-1 if how.window is None else how.window - 1, 0),
            enable_gqa=q.shape[1] != k.shape[1],
        )
        assert isinstance(mixed, Tensor)
        return mixed.transpose(0, 1)[None]


class Flex:
    """Attention by a mask that says of each pair of tokens whether one sees the other.

    document: [tokens] which one a token belongs to; at: [past + tokens] position in it, those of
    what stands before first; they belong to document -1, which all see.
    """

    def __init__(self, lengths: Sequence[int], q: Tensor, past: int) -> None:
        document = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
        at = torch.cat([torch.arange(past + length)[past:] for length in lengths])
        self.document = document.to(q.device)
        self.key_document = F.pad(document, (past, 0), value=-1).to(q.device)
        self.at = at.to(q.device)
        self.key_at = torch.cat([torch.arange(past), at]).to(q.device)
        self.masks: dict[int | None, BlockMask] = {}

    def _mask(self, window: int | None) -> BlockMask:
        document, key_document, at, key_at = self.document, self.key_document, self.at, self.key_at

        def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            shared = (key_document[key] == document[query]) | (key_document[key] < 0)
            return shared & visible(at[query], key_at[key], window)

        make = _compiled(create_block_mask, at.device.type)
        mask: BlockMask = make(sees, None, None, len(at), len(key_at), device=at.device)
        return mask

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, how: Scoring, before: KeysValues | None
    ) -> Tensor:
        if how.window not in self.masks:
            self.masks[how.window] = self._mask(how.window)
        if before is not None:
            k, v = (torch.cat([x[None], own], 2) for x, own in zip(before, (k, v), strict=True))
        mixed: Tensor = _compiled(flex_attention, q.device.type)(
            q,
            k,
            v,
            score_mod=None if how.softcap is None else _capping(how.softcap),
            block_mask=self.masks[how.window],
            scale=how.scale,
            enable_gqa=q.shape[1] != k.shape[1],
        )
        return mixed


@cache
def _compiled(function: Callable[..., Any], device: str) -> Callable[..., Any]:
    """`function` compiled for CUDA; as it is elsewhere, which is slow and good for tests."""
    return torch.compile(function) if device == "cuda" else function


@cache
def _capping(softcap: float) -> Callable[..., Tensor]:
    def squeezed(score: Tensor, _batch: Tensor, _head: Tensor, _q: Tensor, _k: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return squeezed
