"""The kinds of AdamW on three ranks, that talk by gloo: rows cut unevenly, states cut anew."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from cameleer.train.block_scales import by_block, by_row, dequantised
from cameleer.train.checkpoint import load_state, save_state
from cameleer.train.config import TrainConfig
from cameleer.train.optim import AdamW
from cameleer.train.optim_bytes import bytes_per_weight
from cameleer.train.parallel import Ranks, joined

ROUNDED = {"master_weights": "none"}
EIGHT = {"optim": "adamw_bnb_8bit"}
KINDS: dict[str, tuple[dict[str, Any], torch.dtype]] = {
    "float32": ({}, torch.float32),
    "masters": ({}, torch.bfloat16),
    "no masters": (ROUNDED, torch.bfloat16),
    "8 bits": (EIGHT, torch.bfloat16),
    "8 bits, float32": (EIGHT, torch.float32),
    "8 bits, no masters": ({**EIGHT, **ROUNDED}, torch.bfloat16),
}
MOMENTS = ("exp_avg", "exp_avg_sq", "state1", "state2", "absmax1", "absmax2")
WORLD, HALF, ALL = 3, 3, 6


class Uneven(nn.Module):
    """Three ranks have of `tall` 44, 44 and 42 rows, of `wide` 7, 7, 6, of `few` 1, 1 and none.

    Blocks of 256 begin with a row in `wide`; in `tall` they begin elsewhere on each rank.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(100, 64, dtype=dtype)
        self.tall = nn.Linear(72, 130, dtype=dtype)
        self.wide = nn.Linear(256, 20, dtype=dtype)
        self.few = nn.Linear(8, 2, dtype=dtype)


def made(kind: str) -> tuple[Uneven, TrainConfig]:
    settings, dtype = KINDS[kind]
    return Uneven(dtype), TrainConfig(model="m", data=Path("d"), **settings)


def take(adamw: AdamW, model: nn.Module, steps: range) -> list[float]:
    """Steps with gradients that the number of the step decides; returns their norms."""
    norms = []
    for step in steps:
        draw = torch.Generator().manual_seed(100 + step)
        for weight in model.parameters():
            gradient = torch.randn(weight.shape, generator=draw).to(weight.dtype)
            if isinstance(weight, DTensor):
                gradient = distribute_tensor(gradient, weight.device_mesh, weight.placements)
            weight.grad = gradient
        norms.append(adamw.step(1e-2 / (step + 1), None))
    return norms


def whole(model: nn.Module) -> dict[str, Tensor]:
    found = {name: p.detach() for name, p in model.named_parameters()}
    return {k: v.full_tensor() if isinstance(v, DTensor) else v.clone() for k, v in found.items()}


def assert_kept(adamw: AdamW, config: TrainConfig) -> None:
    """A rank keeps for its rows what the table, by which runs are planned, says of each weight."""
    for optimizer, weight in adamw.weights():
        bf16 = weight.parameter.dtype == torch.bfloat16
        each = bytes_per_weight(config.optim, config.master_weights, bf16)
        count = weight.rows.numel()
        assert weight.master.nbytes == each.master * count
        state = optimizer.state[weight.master]
        moments = sum(t.nbytes for key, t in state.items() if key in MOMENTS)
        small = weight.name not in ("tall.weight", "wide.weight")
        blocks = 0 if small or "8bit" not in config.optim else 8  # the last block may not be full
        wanted = (each.embedding_moments if small else each.moments) * count
        assert wanted <= moments <= wanted + blocks or (count == 0 and not moments)


def _rank(rank: int, port: int, folder: Path) -> None:
    """Of each kind: unbroken, gone on for itself, and gone on for one rank; all weights saved."""
    told = {"RANK": rank, "WORLD_SIZE": WORLD, "LOCAL_RANK": rank, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in told.items()}
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    torch.set_num_threads(1)
    with joined() as ranks:
        for kind in KINDS:
            found: dict[str, Tensor] = {}
            for state in ("none", "three", "one"):
                model, config = made(kind)
                ranks.shard(model)
                adamw, begun = AdamW(model, config), 0
                if state != "none":
                    progress = load_state(folder / kind / state, adamw, ranks)
                    assert progress == {"step": HALF}
                    begun = HALF
                norms = take(adamw, model, range(begun, HALF))
                if state == "none":
                    save_state(folder / kind / "three", adamw, {"step": HALF}, ranks)
                norms += take(adamw, model, range(HALF, ALL))
                assert_kept(adamw, config)
                found |= {f"{state}.{name}": weight for name, weight in whole(model).items()}
                found[f"{state}.norms"] = torch.tensor(norms, dtype=torch.float64)
            if ranks.first:
                save_file(found, folder / kind / "found.safetensors")


@pytest.fixture(scope="module")
def folder(workers: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What three ranks made of all kinds, after one rank left its states."""
    pytest.importorskip("bitsandbytes")
    folder = tmp_path_factory.mktemp("ranks")
    for kind in KINDS:
        model, config = made(kind)
        adamw = AdamW(model, config)
        take(adamw, model, range(HALF))
        save_state(folder / kind / "one", adamw, {"step": HALF}, Ranks())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [workers.Process(target=_rank, args=(rank, port, folder)) for rank in range(WORLD)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
    assert [rank.exitcode for rank in ranks] == [0] * WORLD
    return folder


def learned(kind: str, folder: Path) -> dict[str, dict[str, Tensor]]:
    """Weights (and norms) after all steps: on one rank, on three, and on what came of a state."""
    model, config = made(kind)
    norms = take(AdamW(model, config), model, range(ALL))
    runs = {"one": {**whole(model), "norms": torch.tensor(norms, dtype=torch.float64)}}
    model, config = made(kind)
    adamw = AdamW(model, config)
    assert load_state(folder / kind / "three", adamw, Ranks()) == {"step": HALF}
    take(adamw, model, range(HALF, ALL))
    runs["three to one"] = whole(model)
    names = {"none": "three", "three": "three to three", "one": "one to three"}
    for name, weight in load_file(folder / kind / "found.safetensors").items():
        state, _, own = name.partition(".")
        runs.setdefault(names[state], {})[own] = weight
    return runs


@pytest.mark.parametrize("kind", KINDS)
def test_three_ranks_learn_what_one_learns(kind: str, folder: Path) -> None:
    """To the bit, rounding by chance included; but where blocks of 8 bits begin elsewhere."""
    start = whole(made(kind)[0])
    runs = learned(kind, folder)
    one = runs.pop("one")
    torch.testing.assert_close(runs["three"]["norms"], one["norms"], rtol=1e-6, atol=0)
    for run, found in runs.items():
        for name in start:
            if "8 bits" in kind and name == "tall.weight":
                off = (found[name].float() - one[name].float()).square().mean().sqrt()
                moved = (one[name].float() - start[name].float()).square().mean().sqrt()
                assert off < 0.02 * moved, (run, name)
            else:
                assert torch.equal(found[name], one[name]), (run, name)


@pytest.mark.parametrize("kind", KINDS)
def test_resumed_on_as_many_ranks_it_is_the_same_to_the_bit(kind: str, folder: Path) -> None:
    runs = learned(kind, folder)
    for name, weight in runs["three to three"].items():
        wanted = runs["three"][name]
        assert torch.equal(weight, wanted[HALF:] if name == "norms" else wanted), name


# ---- the scales of blocks, by row


def by_hand(codes: Tensor, scales: Tensor, numbers: Tensor) -> Tensor:
    """Each code's number times the scale of its 256, one after the other."""
    flat = codes.flatten().tolist()
    made = [float(numbers[code]) * float(scales[at // 256]) for at, code in enumerate(flat)]
    return torch.tensor(made).view(codes.shape)


@pytest.mark.parametrize("shape", [(7, 256), (5, 512), (33, 64), (3, 1000), (900, 1), (2, 257)])
def test_scales_by_row_tell_every_number(shape: tuple[int, int]) -> None:
    draw = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8)
    scales = torch.rand(-(-codes.numel() // 256), generator=draw)
    numbers = torch.linspace(-1, 1, 256)
    rows = by_row(scales, *shape)
    back = by_block(rows, shape[1])
    assert back is not None
    assert torch.equal(back, scales)
    torch.testing.assert_close(dequantised(codes, rows, numbers), by_hand(codes, scales, numbers))
    later = by_block(rows[1:], shape[1])  # another rank has them from the second row on
    assert (later is None) == (shape[1] % 256 != 0)
    wanted = by_hand(codes, scales, numbers)[1:]
    torch.testing.assert_close(dequantised(codes[1:], rows[1:], numbers), wanted)


def test_no_rows_have_no_scales() -> None:
    rows = by_row(torch.empty(0), 0, 300)
    assert rows.shape[0] == 0
    back = by_block(rows, 300)
    assert back is not None
    assert back.shape == (0,)
