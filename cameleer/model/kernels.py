"""Ways to compute attention over a row of documents: which does what, where, and how fast.

- `Stacks`: documents of similar length as batched matrix products. On a CPU, for lengths up to some
  hundreds, two to three times as fast as the fused kernel (dev/LOG.md). Can do everything.
- `OneByOne`: torch's fused kernel on each document. Cannot cap scores.
- `Varlen`: one call of FlashAttention for the whole row, on CUDA, in 16 bits.
- `Flex`: one compiled kernel for the whole row, on CUDA, where FlashAttention cannot.

`kernel_for` is the one place that chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.attention.varlen import varlen_attn

from cameleer.core.console import note

STACK_UP_TO = 512  # tokens; rows with documents twice as long go to the fused kernel
STACK_SCORES = 1 << 25  # most scores (heads x tokens x tokens) that one stack may hold
SHAPES = 16  # stacks are as long as a multiple of it: each shape needs kernels of its own
PADDING = 1.25  # of documents in one stack, how much longer the longest may be than the shortest

KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Scoring:
    """How a query's product with a key becomes a weight.

    scale: the product's factor; window: a token attends to so many, itself counted, None to all
    before it; softcap: scores are squeezed into -softcap..softcap by tanh; dropout: the share of
    weights that is set to zero, the others made up for it.
    """

    scale: float
    window: int | None = None
    softcap: float | None = None
    dropout: float = 0.0


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
        long = longest > 2 * STACK_UP_TO and how.softcap is None
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


def visible(queries: Tensor, keys: Tensor, window: int | None) -> Tensor:
    """Whether a token at one position sees one at another; both broadcast against each other."""
    seen = keys <= queries
    return seen if window is None else seen & (keys > queries - window)


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


class Stacks:
    """Documents of a row sorted by length into stacks [count, longest], the short ones padded.

    A padded place repeats token 0. It comes after its document's own tokens, so that the causal
    mask hides it from them; its own output is left behind, and its gradient is set to zero.

    places: [padded tokens] which token of the row stands there; back: [tokens] where each token
    went; padding: the padded places.
    """

    def __init__(self, lengths: Sequence[int], q: Tensor, _past: int) -> None:
        starts = list(accumulate(lengths, initial=0))
        self.shapes: list[tuple[int, int]] = []
        places: list[Tensor] = []
        back = torch.empty(starts[-1], dtype=torch.long)
        filled = 0
        for group in _groups(lengths, heads=q.shape[1]):
            longest = -(-lengths[group[0]] // SHAPES) * SHAPES
            self.shapes.append((len(group), longest))
            for index in group:
                length = lengths[index]
                own = torch.arange(starts[index], starts[index] + length)
                places.append(F.pad(own, (0, longest - length), value=-1))
                back[own] = torch.arange(filled, filled + length)
                filled += longest
        where = torch.cat(places)
        self.padding = (where < 0).nonzero()[:, 0].to(q.device)
        self.places, self.back = where.clamp(min=0).to(q.device), back.to(q.device)

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, how: Scoring, before: KeysValues | None
    ) -> Tensor:
        nothing = self.padding[:0]
        sizes = [count * longest for count, longest in self.shapes]
        q, k, v = (_pick(x[0], self.places, self.back, nothing) for x in (q, k, v))
        split_q, split_k, split_v = (torch.split(x, sizes, 1) for x in (q, k, v))
        parts = zip(self.shapes, split_q, split_k, split_v, strict=True)
        mixed = torch.cat([_stack(*part, how, before) for part in parts], 1)
        return _pick(mixed, self.back, self.places, self.padding)[None]


def _groups(lengths: Sequence[int], heads: int) -> list[list[int]]:
    """Indices of documents of similar length, longest first; each group makes one stack."""
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        longest = lengths[groups[-1][0]] if groups else 0
        scores = (len(groups[-1]) + 1) * heads * longest**2 if groups else 0
        if not groups or scores > STACK_SCORES or longest > PADDING * lengths[index] + 8:
            groups.append([])
        groups[-1].append(index)
    return groups


def _stack(
    shape: tuple[int, int],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    how: Scoring,
    before: KeysValues | None,
) -> Tensor:
    """Causal attention of a stack [count, longest] of documents, as batched products.

    q [heads, count x longest, head_dim], k and v [kv_heads, …]. The heads that share a key head
    are laid one under the other, so that keys are never repeated; nor is what stands before.
    """
    (count, longest), head_dim, kv_heads = shape, q.shape[-1], k.shape[0]
    group = q.shape[0] // kv_heads
    q = q.view(kv_heads, group, count, longest, head_dim).transpose(1, 2)
    q = q.reshape(kv_heads * count, group * longest, head_dim)
    k = k.reshape(kv_heads * count, longest, head_dim)
    v = v.reshape(kv_heads * count, longest, head_dim)
    past = 0 if before is None else before[0].shape[1]
    at = torch.arange(past + longest, device=q.device)
    seen = visible(at[past:, None], at if how.window else at[past:], how.window)
    mask = torch.zeros(seen.shape, dtype=q.dtype, device=q.device)
    mask = mask.masked_fill_(~seen, float("-inf")).repeat(group, 1)[None]
    own, hidden = mask[..., -longest:], mask[..., :-longest] if how.window else None
    if how.softcap is None:
        scores = torch.baddbmm(own, q, k.transpose(1, 2), alpha=how.scale)
    else:
        scores = capped(torch.bmm(q * how.scale, k.transpose(1, 2)), how) + own
    mixed = weigh(scores, v, q * how.scale, how, before, hidden)
    mixed = mixed.view(kv_heads, count, group, longest, head_dim).transpose(1, 2)
    return mixed.reshape(kv_heads * group, count * longest, head_dim)


def capped(scores: Tensor, how: Scoring) -> Tensor:
    """Scores squeezed by tanh, where the model does so."""
    return scores if how.softcap is None else torch.tanh(scores / how.softcap) * how.softcap


def weigh(
    scores: Tensor,
    v: Tensor,
    scaled_q: Tensor,
    how: Scoring,
    before: KeysValues | None,
    hidden: Tensor | None,
) -> Tensor:
    """Softmax over a prefix's keys and a batch's own, then the mean of values by its weights.

    scores: [kv_heads x documents, queries, own keys], capped and masked; v: [kv_heads x documents,
    own keys, head_dim]; scaled_q: [kv_heads x documents, queries, head_dim]; hidden: what is added
    to the prefix's scores, [kv_heads x documents or 1, queries, past]. The prefix is one matrix
    product for all documents, whatever their number.
    """
    if before is None:
        return torch.bmm(_dropped(scores.softmax(-1), how), v)
    keys, values = before
    flat = scaled_q.view(len(keys), -1, scaled_q.shape[-1])
    past = capped(torch.bmm(flat, keys.transpose(1, 2)).view(*scores.shape[:2], -1), how)
    past = past if hidden is None else past + hidden
    weights = _dropped(torch.cat([past, scores], -1).softmax(-1), how)
    seen = keys.shape[1]
    mixed = torch.bmm(weights[..., seen:], v)
    past = weights[..., :seen].reshape(len(keys), -1, seen)
    return mixed.add_(torch.bmm(past, values).view_as(mixed))


def _dropped(weights: Tensor, how: Scoring) -> Tensor:
    return F.dropout(weights, how.dropout) if how.dropout else weights


def _pick(x: Tensor, index: Tensor, back: Tensor, unused: Tensor) -> Tensor:
    """`x.index_select(1, index)`, whose gradient is picked through `back` instead of added up.

    Right because every place that matters is picked once: row i of x went to `back[i]`, unless i is
    one of `unused`, whose gradient is zero.
    """
    picked: Tensor = _Pick.apply(x, index, back, unused)  # type: ignore[no-untyped-call]
    return picked


class _Pick(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, back: Tensor, unused: Tensor) -> Tensor:
        ctx.save_for_backward(back, unused)
        return x.index_select(1, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        back, unused = ctx.saved_tensors
        return grads[0].index_select(1, back).index_fill_(1, unused, 0), None, None, None
