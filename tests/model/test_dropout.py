"""Quick dropout: the chance that was asked for, the same numbers on the way back, torch's seeds."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cameleer.model.dropout import quick_dropout

TYPES = [torch.float32, torch.bfloat16]


def quick(p: float) -> nn.Dropout:
    module = nn.Dropout(p)
    assert quick_dropout(module) == 1
    return module


def drop(module: nn.Module, x: Tensor, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    out: Tensor = module(x)
    return out


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_numbers_are_kept_with_the_chance_asked_for_and_made_larger(
    p: float, dtype: torch.dtype
) -> None:
    x = torch.rand(1000, 1001, dtype=torch.float32).add_(0.5).to(dtype)
    out = drop(quick(p), x)
    kept = out != 0
    spread = (p * (1 - p) / x.numel()) ** 0.5
    assert abs(float(kept.float().mean()) - (1 - p)) < 5 * spread
    torch.testing.assert_close(
        out[kept],
        (x[kept].double() / (1 - p)).to(dtype),
        rtol=1e-2 if dtype is torch.bfloat16 else 1e-4,
        atol=0,
    )
    assert float(out.double().mean() / x.double().mean()) == pytest.approx(
        1, abs=8 * spread / (1 - p)
    )


def test_neighbours_are_dropped_independently() -> None:
    """Neighbours share 64 random bits: of each pair, in a row or a column, both stay by chance."""
    kept = drop(quick(0.5), torch.ones(2000, 2000)) != 0
    for one, other in (
        (kept[:, 1:], kept[:, :-1]),
        (kept[:, 4:], kept[:, :-4]),
        (kept[1:], kept[:-1]),
    ):
        assert float((one & other).float().mean()) == pytest.approx(0.25, abs=5 * 0.43 / 2000)


@pytest.mark.parametrize("dtype", TYPES)
def test_gradients_come_through_what_was_kept_alone(dtype: torch.dtype) -> None:
    x = torch.rand(3, 7, 33, dtype=dtype).add_(0.5).requires_grad_()
    out = drop(quick(0.3), x)
    torch.autograd.backward(out, torch.ones_like(out))
    assert x.grad is not None
    assert torch.equal(x.grad != 0, out != 0)
    assert sorted(set(x.grad.flatten().tolist())) == pytest.approx(
        [0, 1 / 0.7], rel=1e-2 if dtype is torch.bfloat16 else 1e-5
    )


def test_seeds_are_torchs() -> None:
    x = torch.ones(64, 65)
    module = quick(0.5)
    first = drop(module, x)
    assert not torch.equal(module(x), first)  # the next call
    assert torch.equal(drop(module, x), first)
    assert not torch.equal(drop(module, x, seed=1), first)
    assert torch.equal(drop(module, x.T.contiguous().T), first)  # however it lies in memory


def test_a_generator_that_is_taken_up_goes_on() -> None:
    module, x = quick(0.5), torch.ones(64, 65)
    drop(module, x)
    state = torch.get_rng_state()
    expected = [module(x), module(x)]
    torch.set_rng_state(state)
    assert all(torch.equal(module(x), one) for one in expected)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 4095])
def test_any_size(size: int) -> None:
    assert drop(quick(0.5), torch.ones(size)).shape == (size,)


def test_what_drops_nothing_or_all_is_left_to_torch() -> None:
    x = torch.ones(50)
    assert torch.equal(drop(quick(0.0), x), x)
    assert torch.equal(drop(quick(1e-6), x), drop(nn.Dropout(1e-6), x))
    assert torch.equal(drop(quick(1.0), x), torch.zeros(50))
    assert torch.equal(drop(quick(0.5).eval(), x), x)
    module: Any = nn.Dropout(0.5, inplace=True)
    quick_dropout(module)
    assert drop(module, x) is x


def test_only_plain_dropouts_are_replaced() -> None:
    model = nn.Sequential(nn.Dropout(0.1), nn.Dropout2d(0.1), nn.Sequential(nn.Dropout(0.2)))
    assert quick_dropout(model) == 2
    again = copy.deepcopy(model)
    x = torch.ones(2, 3, 4, 5)
    assert torch.equal(drop(again, x), drop(model, x))


def test_nothing_is_kept_for_the_way_back() -> None:
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    x = torch.ones(100, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        quick(0.5)(x)
    assert kept == []
