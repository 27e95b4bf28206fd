"""The kinds of AdamW: 8 bits, no masters, paged and offloaded; what they keep, and resuming."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cameleer.core.errors import UserError
from cameleer.train import optim
from cameleer.train.config import TrainConfig
from cameleer.train.loop import train
from cameleer.train.optim import AdamW
from cameleer.train.optim_bytes import BLOCK, bytes_per_weight

ROUNDED = {"master_weights": "none"}
EIGHT = {"optim": "adamw_bnb_8bit"}
KINDS: list[dict[str, Any]] = [{}, ROUNDED, EIGHT, {**EIGHT, **ROUNDED}]
KINDS += [{"offload_optimizer": True}]


def settings_of(**settings: Any) -> TrainConfig:
    return TrainConfig(model="m", data=Path("d"), **settings)


class Small(nn.Module):
    """An embedding, a matrix large enough for 8 bits, a norm and a bias."""

    def __init__(self, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(100, 64, dtype=dtype)
        self.up = nn.Linear(64, 128, dtype=dtype)
        self.norm = nn.LayerNorm(128, dtype=dtype)


def set_gradients(model: nn.Module, step: int) -> None:
    draw = torch.Generator().manual_seed(100 + step)
    for weight in model.parameters():
        weight.grad = torch.randn(weight.shape, generator=draw).to(weight.dtype)


def take(made: AdamW, model: nn.Module, steps: range) -> None:
    for step in steps:
        set_gradients(model, step)
        made.step(1e-3 / (step + 1), 1.0)


def needs(kind: dict[str, Any]) -> None:
    if "8bit" in kind.get("optim", ""):
        pytest.importorskip("bitsandbytes")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_resumed_from_a_file_it_is_the_same(
    kind: dict[str, Any], dtype: torch.dtype, tmp_path: Path
) -> None:
    needs(kind)
    whole, first, second = Small(dtype), Small(dtype), Small(dtype)
    unbroken = AdamW(whole, settings_of(**kind))
    take(unbroken, whole, range(6))
    before = AdamW(first, settings_of(**kind))
    take(before, first, range(3))
    save_file(before.state(), tmp_path / "state.safetensors")
    after = AdamW(second, settings_of(**kind))
    after.load_state(load_file(tmp_path / "state.safetensors"))
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    take(after, second, range(3, 6))
    assert all(map(torch.equal, whole.parameters(), second.parameters()))
    found, wanted = after.state(), unbroken.state()
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert found[name].dtype == wanted[name].dtype
        assert torch.equal(found[name], wanted[name])


def adamw_by_hand(model: nn.Module, steps: int, decay: float) -> dict[str, Tensor]:
    """Loshchilov and Hutter's update in float64, with this file's gradients; no clipping."""
    weights = {name: p.detach().double() for name, p in model.named_parameters()}
    first = {name: torch.zeros_like(w) for name, w in weights.items()}
    second = {name: torch.zeros_like(w) for name, w in weights.items()}
    for step in range(steps):
        set_gradients(model, step)
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            gradient = parameter.grad.double()
            if parameter.ndim > 1:
                weights[name] *= 1 - 1e-3 * decay
            first[name].lerp_(gradient, 0.1)
            second[name].lerp_(gradient**2, 0.001)
            top = first[name] / (1 - 0.9 ** (step + 1))
            weights[name] -= 1e-3 * top / ((second[name] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
    return weights


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_each_kind_is_adamw(kind: dict[str, Any]) -> None:
    """Within what it rounds: nothing, bf16 weights, or moments in 8 bits; biases do not decay."""
    needs(kind)
    model = Small()
    start = {name: p.detach().double() for name, p in model.named_parameters()}
    wanted = adamw_by_hand(Small(), 20, decay=5.0)
    made = AdamW(model, settings_of(weight_decay=5.0, **kind))
    for step in range(20):
        set_gradients(model, step)
        made.step(1e-3, None)
    for name, parameter in model.named_parameters():
        truth = parameter if "master_weights" in kind else made.state()[f"master.{name}"]
        moved = (wanted[name] - start[name]).square().mean().sqrt()
        off = (truth.double() - wanted[name]).square().mean().sqrt() / moved
        steps = wanted[name].abs().mean() / 256 / moved  # of a bf16 weight, in the update's scale
        most = 5 * float(steps) if "master_weights" in kind else 1e-4  # 20 steps add by chance
        assert off < most + (0.1 if "optim" in kind and name == "up.weight" else 0.0), name


def kept_by(state: dict[str, Tensor], name: str, kinds: tuple[str, ...]) -> int:
    found = [state[f"{kind}.{name}"] for kind in kinds if f"{kind}.{name}" in state]
    return sum(tensor.nbytes for tensor in found)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("kind", KINDS[:4], ids=str)
def test_bytes_are_those_of_the_table(kind: dict[str, Any], dtype: torch.dtype) -> None:
    needs(kind)
    model, settings = Small(dtype), settings_of(**kind)
    made = AdamW(model, settings)
    set_gradients(model, 0)
    each = bytes_per_weight(settings.optim, settings.master_weights, dtype == torch.bfloat16)
    count = model.up.weight.numel()
    assert model.up.weight.nbytes == each.weight * count
    assert model.up.weight.grad is not None
    assert model.up.weight.grad.nbytes == each.gradient * count
    made.step(1e-3, None)
    masters = {name: weight.master for _, weight in made.weights() for name in [weight.name]}
    assert masters["up.weight"].nbytes == each.master * count
    state = {f"{k}.{w.name}": v for a, w in made.weights() for k, v in a.state[w.master].items()}
    moments = ("exp_avg", "exp_avg_sq", "state1", "state2", "absmax1", "absmax2")
    assert kept_by(state, "up.weight", moments) == each.moments * count
    assert kept_by(state, "embed.weight", moments) == each.embedding_moments * 100 * 64
    assert count % BLOCK == 0


def test_without_masters_the_seed_decides_and_the_step() -> None:
    def one(seed: int) -> list[Tensor]:
        model = Small()
        take(AdamW(model, settings_of(seed=seed, **ROUNDED)), model, range(2))
        return [p.detach() for p in model.parameters()]

    assert all(map(torch.equal, one(1), one(1)))
    assert not all(map(torch.equal, one(1), one(2)))


@pytest.mark.parametrize("bucket", [1 << 24, 100])
def test_buckets_change_nothing(bucket: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optim, "BUCKET", bucket)
    model, other = Small(), Small()
    take(AdamW(model, settings_of()), model, range(3))
    monkeypatch.undo()
    take(AdamW(other, settings_of()), other, range(3))
    assert all(map(torch.equal, model.parameters(), other.parameters()))


def test_a_state_is_brought_to_the_weights_device() -> None:
    model = Small(torch.float32)
    made = AdamW(model, settings_of())
    take(made, model, range(1))
    state = {name: value.to("cpu") for name, value in made.state().items()}
    after = AdamW(model, settings_of())
    after.load_state(state)
    assert {t.device for t in after.state().values()} == {model.up.weight.device}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"optim": "paged_adamw_8bit"}, "'paged_adamw_8bit' needs a GPU"),
        ({"optim": "paged_adamw_32bit"}, "'paged_adamw_32bit' needs a GPU"),
        ({**EIGHT, "offload_optimizer": True}, "cannot keep its moments in the host's memory"),
    ],
)
def test_what_cannot_be_had(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        AdamW(Small(), settings_of(**settings))


def test_without_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UserError, match="needs bitsandbytes, which is not installed"):
        AdamW(Small(), settings_of(**EIGHT))


# ---- whole runs

Make = Callable[..., TrainConfig]
Metrics = Callable[[Path], list[dict[str, Any]]]
LORA = {"r": 4, "lora_alpha": 16, "lora_dropout": 0.1}
WAYS: dict[str, dict[str, Any]] = {
    "no masters": {**ROUNDED, "precision": "bf16"},
    "8 bits": EIGHT,
    "QLoRA": {"lora": LORA, "quantization": "nf4", "learning_rate": 1e-2, "precision": "bf16"},
}


@pytest.mark.parametrize("way", WAYS)
def test_it_learns_and_goes_on_to_the_same_bits(
    way: str, config: Make, metrics: Metrics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes")
    made = config(save_steps=4, **WAYS[way])
    unbroken = train(made, tmp_path / "unbroken")
    losses = [row["loss"] for row in metrics(unbroken)]
    assert losses[-1] < losses[0] - 0.2
    step = AdamW.step

    def stopped(self: AdamW, *given: Any) -> float:
        if self.steps == 6:
            raise KeyboardInterrupt
        return step(self, *given)

    monkeypatch.setattr(AdamW, "step", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(made, tmp_path / "resumed")
    monkeypatch.undo()
    # Checkpointing may be turned on between: that gives the same bits.
    again = made.model_copy(update={"gradient_checkpointing": True})
    train(again, tmp_path / "resumed")
    one, other = (tmp_path / name / "model.safetensors" for name in ("unbroken", "resumed"))
    assert one.read_bytes() == other.read_bytes()
    assert metrics(tmp_path / "resumed") == metrics(unbroken)


def test_a_folder_of_qlora_is_a_plain_model(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes")
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from cameleer.model.adapters import load_nf4

    made = config(lora=LORA, quantization="nf4", learning_rate=1e-2)
    folder = train(made, tmp_path / "run")
    base = load_nf4(Path(made.model), torch.float32, "eager", torch.device("cpu"))
    adapted = PeftModel.from_pretrained(base, folder / "adapter").eval()
    ids = torch.arange(3, 60)[None]
    with torch.no_grad():
        wanted = adapted(ids).logits
        monkeypatch.setitem(sys.modules, "bitsandbytes", None)
        found = AutoModelForCausalLM.from_pretrained(folder)(ids).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.std()))


def test_4_bits_need_adapters() -> None:
    with pytest.raises(ValueError, match="weights in 4 bits cannot be trained: give lora too"):
        TrainConfig(model="m", data=Path("d"), quantization="nf4")
