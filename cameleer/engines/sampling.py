"""The next token of each sequence: the likeliest, or one drawn by the sequence's own generator."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from cameleer.engines.engine import Request

LIKELIEST = 512  # tokens that are put in order at first; all, where these hold too little


def generator(request: Request, sample: int, device: torch.device) -> torch.Generator | None:
    """The source of an output's random draws, told by seed, key and number of the sample."""
    if not request.temperature:
        return None
    name = f"{request.seed}/{request.key}/{sample}".encode()
    seed = int.from_bytes(hashlib.sha256(name).digest()[:7], "big")
    return torch.Generator(device).manual_seed(seed)


def next_tokens(
    logits: Tensor, requests: Sequence[Request], sources: Sequence[torch.Generator | None]
) -> list[int]:
    """Greedy where the temperature is 0, else drawn from the top-p part.

    logits: [sequences, vocabulary]. What is taken for a row does not depend on the other rows.
    """
    tokens = logits.argmax(-1)
    drawn = [row for row, source in enumerate(sources) if source is not None]
    if drawn:
        tokens[drawn] = _drawn(
            logits[drawn], [requests[row] for row in drawn], [sources[row] for row in drawn]
        )
    taken: list[int] = tokens.tolist()
    return taken


def _drawn(
    logits: Tensor, requests: Sequence[Request], sources: Sequence[torch.Generator | None]
) -> Tensor:
    """One token of each row, from the fewest that hold `top_p` of its probability."""

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=logits.device)[:, None]

    probabilities = (logits.float() / column([r.temperature for r in requests])).softmax(-1)
    top_p = column([request.top_p for request in requests])
    at = torch.cat([torch.rand(1, 1, generator=s, device=logits.device) for s in sources])
    # Sorting a vocabulary takes longer than a small model's forward pass.
    likeliest, order = probabilities.topk(min(LIKELIEST, logits.shape[1]))
    short = (likeliest.sum(-1, keepdim=True) < top_p)[:, 0]
    tokens = _inside(likeliest, order, top_p, at)
    if short.any():
        everything, order = probabilities[short].sort(descending=True)
        tokens[short] = _inside(everything, order, top_p[short], at[short])
    return tokens


def _inside(probabilities: Tensor, order: Tensor, top_p: Tensor, at: Tensor) -> Tensor:
    """The token at the share `at` of what lies within `top_p`; probabilities fall in each row.

    probabilities, order (the tokens): [rows, tokens]; top_p, at: [rows, 1].
    """
    sums = probabilities.cumsum(-1, dtype=torch.float64)
    count = (sums - probabilities < top_p).sum(-1, keepdim=True).clamp(min=1)
    reached = sums < at * sums.gather(1, count - 1)
    return order.gather(1, reached.sum(-1, keepdim=True).minimum(count - 1))[:, 0]
