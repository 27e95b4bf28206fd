"""Draws follow the probabilities of the top-p part, and no row minds which others stand by it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cameleer.engines.engine import Request
from cameleer.engines.sampling import LIKELIEST, generator, next_tokens

DRAWS = 4000


def drawn(chances: Tensor, *, temperature: float, top_p: float) -> Tensor:
    """How often each token is drawn, as shares."""
    source = torch.Generator().manual_seed(0)
    logits = (chances.log() * temperature).repeat(DRAWS, 1)  # divided by the temperature again
    requests = [Request("k", "", temperature=temperature, top_p=top_p)] * DRAWS
    tokens = torch.tensor(next_tokens(logits, requests, [source] * DRAWS))
    return torch.bincount(tokens, minlength=len(chances)) / DRAWS


def test_draws_follow_the_probabilities() -> None:
    shares = drawn(torch.tensor([0.05, 0.5, 0.15, 0.3]), temperature=2.0, top_p=0.9)
    # 0.5 and 0.3 do not reach 0.9, so 0.15 is in and 0.05 is out.
    wanted = torch.tensor([0.0, 0.5, 0.15, 0.3]) / 0.95
    assert shares[0] == 0
    assert float((shares - wanted).abs().max()) < 0.03


@pytest.mark.parametrize("top_p", [0.25, 0.9, 1.0])
def test_a_flat_distribution_is_drawn_from_whole(top_p: float) -> None:
    """Wider than the tokens that are put in order at first."""
    size = 4 * LIKELIEST
    chances = torch.full((size,), 1.0 / size)
    chances[7] = 0.25  # the rest shares 0.75
    chances /= chances.sum()
    shares = drawn(chances, temperature=1.0, top_p=top_p)
    assert abs(float(shares[7]) - float(chances[7]) / top_p) < 0.03 or top_p == 0.25
    seen = int((shares > 0).sum())
    # Of n tokens as probable as each other, m draws meet n (1 - (1 - 1/n)^m).
    inside = max(0.0, top_p - float(chances[7])) / float(chances[0])
    others = DRAWS * (1 - float(shares[7]))
    expected = 1 + (inside * (1 - (1 - 1 / inside) ** others) if inside > 1 else 0)
    assert abs(seen - expected) <= 0.05 * expected + 2


def test_of_one_token_nothing_else_is_drawn() -> None:
    shares = drawn(torch.tensor([0.3, 0.4, 0.3]), temperature=1.0, top_p=1e-9)
    assert shares.tolist() == [0.0, 1.0, 0.0]


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.1, 1.0]), st.sampled_from([0.3, 0.95, 1.0]))),
    st.integers(0, 2**31),
)
def test_a_row_takes_the_same_token_alone(rows: list[tuple[float, float]], seed: int) -> None:
    logits = torch.randn(len(rows), 3 * LIKELIEST, generator=torch.Generator().manual_seed(seed))
    requests = [
        Request(f"{row}", "", temperature=temperature, top_p=top_p)
        for row, (temperature, top_p) in enumerate(rows)
    ]

    def sources() -> list[torch.Generator | None]:
        return [generator(request, 0, torch.device("cpu")) for request in requests]

    alone = [
        next_tokens(logits[row : row + 1], [request], [source])[0]
        for row, (request, source) in enumerate(zip(requests, sources(), strict=True))
    ]
    assert next_tokens(logits, requests, sources()) == alone if rows else True
