"""What attention computes, whatever kernel does it: who sees whom, and scores made into weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

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


def visible(queries: Tensor, keys: Tensor, window: int | None) -> Tensor:
    """Whether a token at one position sees one at another; both broadcast against each other."""
    seen = keys <= queries
    return seen if window is None else seen & (keys > queries - window)


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
