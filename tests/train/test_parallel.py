"""Many ranks, as processes that talk by gloo: they learn what one rank learns, and go on for it."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cameleer.core.errors import UserError
from cameleer.core.files import write_json
from cameleer.model.adapters import LoraSpec
from cameleer.train.config import TrainConfig
from cameleer.train.launch import Launch
from cameleer.train.loop import train

Make = Callable[..., TrainConfig]
Metrics = Callable[[Path], list[dict[str, Any]]]


def _rank(rank: int, world: int, port: int, config: TrainConfig, folder: Path) -> None:
    told = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in told.items()}
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    torch.set_num_threads(1)
    train(config, folder)


def together(
    workers: Any, world: int, config: TrainConfig, folder: Path, steps: int | None = None
) -> None:
    """Train on so many ranks; steps: kill them all after so many, or let them end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        workers.Process(target=_rank, args=(rank, world, port, config, folder))
        for rank in range(world)
    ]
    for rank in ranks:
        rank.start()
    log = folder.with_name(f".{folder.name}.partial") / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while any(rank.is_alive() for rank in ranks):
        taken = log.read_bytes().count(b"\n") if log.exists() else 0
        failed = any(rank.exitcode for rank in ranks)
        if failed or time.monotonic() > deadline or (steps is not None and taken >= steps):
            for rank in ranks:
                rank.kill()
        time.sleep(0.002)
    for rank in ranks:
        rank.join()
    assert {rank.exitcode for rank in ranks} == ({0} if steps is None else {-9})


def furthest(one: Path, other: Path) -> float:
    a, b = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def same(metrics: Metrics, one: Path, other: Path, config: TrainConfig) -> None:
    """The same token stream, losses within float32's rounding, weights within that of an update.

    In 8 bits, that of a moment between two of its numbers: a fifth of an update at most.
    """
    for found, wanted in zip(metrics(one), metrics(other), strict=True):
        for key in ("step", "epoch", "tokens", "supervised_tokens", "learning_rate"):
            assert found[key] == wanted[key], key
        assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-5)
        assert found["grad_norm"] == pytest.approx(wanted["grad_norm"], rel=1e-4)
    most = 0.2 if "8bit" in config.optim else 0.01
    assert furthest(one, other) < most * config.learning_rate


# Adapters begin at 0, so that some gradients are no more than rounding, of which AdamW would make
# whole updates: a larger epsilon leaves them small.
ADAPTERS: dict[str, Any] = {
    "lora": LoraSpec(r=4, lora_dropout=0.0),
    "learning_rate": 1e-2,
    "adam_epsilon": 1e-5,
}
KINDS: dict[str, dict[str, Any]] = {
    "all weights": {},
    "LoRA": ADAPTERS,
    "QLoRA": {**ADAPTERS, "quantization": "nf4"},
    "8 bits": {"optim": "adamw_bnb_8bit"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_learn_what_one_learns(
    kind: str, workers: Any, config: Make, metrics: Metrics, tmp_path: Path
) -> None:
    """Steps of five rows: the second rank has fewer, and once an empty micro-batch."""
    changes = {"train_batch_rows": 5, "max_seq_length": 64, "max_steps": 6, **KINDS[kind]}
    made = config().model_copy(update=changes)
    one = train(made, tmp_path / "one")
    together(workers, 2, made, tmp_path / "two")
    same(metrics, tmp_path / "two", one, made)
    names = [{path.name for path in folder.iterdir()} for folder in (one, tmp_path / "two")]
    assert names[0] == names[1]
    settings = ["config.json"] + ["adapter/adapter_config.json"] * ("lora" in KINDS[kind])
    for name in settings:
        texts = [(tmp_path / run / name).read_text() for run in ("one", "two")]
        assert texts[0] == texts[1]


def test_a_run_goes_on_with_another_number_of_ranks(
    workers: Any, config: Make, metrics: Metrics, tmp_path: Path
) -> None:
    changes = {"train_batch_rows": 5, "max_seq_length": 64, "save_steps": 1}
    made = config().model_copy(update=changes)
    one = train(made, tmp_path / "one")
    together(workers, 2, made, tmp_path / "run", steps=3)
    together(workers, 1, made, tmp_path / "run", steps=7)
    together(workers, 2, made, tmp_path / "run")
    same(metrics, tmp_path / "run", one, made)


def test_without_masters_in_8_bits(
    workers: Any, config: Make, metrics: Metrics, tmp_path: Path
) -> None:
    """Killed on two ranks, it goes on to the same bits on two; on three, which cut it elsewhere."""
    pytest.importorskip("bitsandbytes")
    rows: dict[str, Any] = {"train_batch_rows": 5, "max_seq_length": 64, "save_steps": 2}
    made = config(optim="adamw_bnb_8bit", master_weights="none", precision="bf16", **rows)
    together(workers, 2, made, tmp_path / "unbroken")
    together(workers, 2, made, tmp_path / "run", steps=5)
    shutil.copytree(tmp_path / ".run.partial", tmp_path / ".three.partial")
    together(workers, 2, made, tmp_path / "run")
    together(workers, 3, made, tmp_path / "three")
    one, other = (tmp_path / run / "model.safetensors" for run in ("unbroken", "run"))
    assert one.read_bytes() == other.read_bytes()
    assert metrics(tmp_path / "run") == metrics(tmp_path / "unbroken")
    losses = [[row["loss"] for row in metrics(tmp_path / run)] for run in ("unbroken", "three")]
    assert losses[0][:4] == losses[1][:4]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
    assert losses[0][-1] < losses[0][0] - 0.2


def test_other_rows_in_a_step_are_no_way_to_go_on(config: Make, tmp_path: Path) -> None:
    """The unfinished run is not given up for it."""
    made = config()  # two rows on one rank; it was begun with two ranks
    from cameleer.core.artifact import fingerprint_of
    from cameleer.model.load import model_fingerprint
    from cameleer.train.loop import train_stage

    inputs = {"model": model_fingerprint(Path(made.model)), "data": fingerprint_of(made.data)}
    begun = train_stage(made, tmp_path / "run", inputs, ranks=2)
    facts = {"rows": 4, "ranks": 2, "fingerprint": begun.fingerprint}
    write_json(begun.partial / "begun.json", {"fingerprint": begun.fingerprint})
    write_json(begun.partial / "scratch" / "rows.json", facts)
    with pytest.raises(UserError, match="set it to 4 to go on"):
        train(made, tmp_path / "run")
    assert (begun.partial / "scratch" / "rows.json").exists()
    goes_on = made.model_copy(update={"train_batch_rows": 4})
    assert train_stage(goes_on, tmp_path / "run", inputs).fingerprint == begun.fingerprint


@pytest.mark.slow
def test_more_ranks_than_packs_by_torchrun(config: Make, tmp_path: Path) -> None:
    """One rank's mistake ends all, and is told once."""
    made = config(max_seq_length=256, train_batch_rows=1)
    write_json(tmp_path / "c.yaml", made.model_dump(mode="json"))  # JSON is YAML
    line = Launch(tmp_path / "c.yaml", [], tmp_path / "run", 1, 2).torchrun()
    words = [sys.executable, "-m", "torch.distributed.run", *shlex.split(line)[1:]]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.count("more ranks than packs") == 1
    assert "this is a bug" not in done.stderr
