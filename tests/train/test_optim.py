"""AdamW with float32 masters, clipping, and the learning-rate schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import Parameter, ParameterDict

from cameleer.train import optim
from cameleer.train.config import TrainConfig
from cameleer.train.optim import AdamW, learning_rate


def config(**settings: Any) -> TrainConfig:
    return TrainConfig(model="m", data=Path("d"), **settings)


def weights(dtype: torch.dtype = torch.float32) -> ParameterDict:
    draw = torch.Generator().manual_seed(0)
    shapes = {"a": (3, 5), "b": (7,), "frozen": (2,), "c": (4, 4)}
    made = {
        name: Parameter(torch.randn(shape, generator=draw).to(dtype))
        for name, shape in shapes.items()
    }
    made["frozen"].requires_grad_(False)
    return ParameterDict(made)


def set_gradients(named: ParameterDict, step: int) -> None:
    draw = torch.Generator().manual_seed(100 + step)
    for weight in named.values():
        if weight.requires_grad:
            scale = 10.0 if step % 2 else 0.01  # so that some steps are clipped and some are not
            weight.grad = (torch.randn(weight.shape, generator=draw) * scale).to(weight.dtype)


@pytest.mark.parametrize("bucket", [1 << 24, 16])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_float32_is_torchs_adamw(
    bucket: int, decay: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optim, "BUCKET", bucket)
    ours, theirs = weights(), weights()
    mine = AdamW(ours, config(weight_decay=decay, adam_beta2=0.95))
    learned = [weight for weight in theirs.values() if weight.requires_grad]
    groups = [{"params": [theirs["a"], theirs["c"]], "weight_decay": decay}]
    groups.append({"params": [theirs["b"]], "weight_decay": 0.0})  # of one dimension: a bias
    adamw = torch.optim.AdamW(groups, betas=(0.9, 0.95), foreach=False)
    for step in range(5):
        set_gradients(ours, step)
        set_gradients(theirs, step)
        rate = 1e-2 * (5 - step)
        norm = mine.step(rate, 1.0)
        wanted_norm = torch.nn.utils.clip_grad_norm_(learned, 1.0)
        for group in adamw.param_groups:
            group["lr"] = rate
        adamw.step()
        assert norm == pytest.approx(wanted_norm.item(), rel=1e-6)
        assert all(weight.grad is None for weight in ours.values())
        for name, weight in theirs.items():  # torch's clipping divides by norm + 1e-6
            torch.testing.assert_close(ours[name], weight, rtol=2e-6, atol=2e-6)
    assert torch.equal(ours["frozen"], weights()["frozen"])


def test_without_clipping_it_is_torchs_bit_for_bit() -> None:
    ours, theirs = weights(), weights()
    mine = AdamW(ours, config())
    learned = [weight for weight in theirs.values() if weight.requires_grad]
    adamw = torch.optim.AdamW(learned, lr=1e-3, weight_decay=0.0, fused=True)
    for step in range(5):
        set_gradients(ours, step)
        set_gradients(theirs, step)
        mine.step(1e-3, None)
        adamw.step()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_gradient_within_the_norm_is_not_scaled() -> None:
    ours, theirs = weights(), weights()
    for named, most in ((ours, None), (theirs, 1e9)):
        mine = AdamW(named, config())
        set_gradients(named, 0)
        mine.step(1e-3, most)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_updates_smaller_than_a_bf16_step_add_up() -> None:
    weight = Parameter(torch.ones(8, dtype=torch.bfloat16))
    mine = AdamW(ParameterDict({"w": weight}), config())
    plain = Parameter(torch.ones(8, dtype=torch.bfloat16))
    adamw = torch.optim.AdamW([plain], lr=2e-5, weight_decay=0.0)
    for _ in range(300):
        for one in (weight, plain):
            one.grad = torch.ones_like(one)
        mine.step(2e-5, None)
        adamw.step()
    master = mine.state()["master.w"]
    assert master.dtype == torch.float32
    torch.testing.assert_close(master, torch.full((8,), 1 - 300 * 2e-5), rtol=0, atol=2e-5)
    assert torch.equal(weight, master.bfloat16())
    assert weight[0].item() < 1
    assert torch.equal(plain, torch.ones_like(plain))  # what happens without masters


def test_the_state_is_all_there_is_to_know() -> None:
    def take(mine: AdamW, named: ParameterDict, steps: range) -> None:
        for step in steps:
            set_gradients(named, step)
            mine.step(1e-3 * (step + 1), 1.0)

    whole = weights(torch.bfloat16)
    unbroken = AdamW(whole, config())
    take(unbroken, whole, range(6))
    first = weights(torch.bfloat16)
    before = AdamW(first, config())
    take(before, first, range(3))
    saved = {name: value.clone() for name, value in before.state().items()}
    second = weights(torch.bfloat16)
    after = AdamW(second, config())
    after.load_state(saved)
    assert all(torch.equal(first[name], second[name]) for name in first)
    take(after, second, range(3, 6))
    assert all(torch.equal(whole[name], second[name]) for name in whole)
    found, wanted = after.state(), unbroken.state()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    kinds = ("master", "step", "exp_avg", "exp_avg_sq")
    assert set(wanted) == {"steps"} | {f"{kind}.{name}" for kind in kinds for name in "abc"}


def test_a_weight_without_a_gradient_is_left_alone() -> None:
    named = weights()
    mine = AdamW(named, config())
    set_gradients(named, 0)
    named["b"].grad = None
    mine.step(1e-2, 1.0)
    assert torch.equal(named["b"], weights()["b"])
    assert not torch.equal(named["a"], weights()["a"])
    again = AdamW(named, config())
    again.load_state(mine.state())
    assert again.state().keys() == mine.state().keys()


@pytest.mark.parametrize(
    ("steps", "settings", "rates"),
    [
        # 10 steps, 20 % warm-up: 2 steps up to the peak, then a line that would reach 0 at step 10.
        (
            10,
            {"warmup_ratio": 0.2},
            [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125],
        ),
        (4, {"warmup_ratio": 0.0}, [1.0, 0.75, 0.5, 0.25]),
        (4, {"warmup_ratio": 1.0}, [0.25, 0.5, 0.75, 1.0]),
        (4, {"warmup_ratio": 0.5, "lr_scheduler_type": "constant"}, [0.5, 1.0, 1.0, 1.0]),
        (1, {}, [1.0]),
        (3, {"warmup_ratio": 0.03}, [1.0, 2 / 3, 1 / 3]),
    ],
)
def test_rates_worked_out_by_hand(steps: int, settings: dict[str, Any], rates: list[float]) -> None:
    made = config(learning_rate=1e-3, **settings)
    found = [learning_rate(step, steps, made) for step in range(steps)]
    assert found == pytest.approx([1e-3 * rate for rate in rates])
