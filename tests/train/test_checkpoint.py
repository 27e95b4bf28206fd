"""States to resume from: damaged ones are passed over, a full disk loses nothing."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cameleer.core.errors import UserError
from cameleer.train import checkpoint, loop
from cameleer.train.config import TrainConfig
from cameleer.train.loop import train
from tests.killing import killed_at

Make = Callable[..., TrainConfig]
Metrics = Callable[[Path], list[dict[str, Any]]]


@pytest.fixture
def begun(config: Make, tmp_path: Path) -> Path:
    """The states' folder of a run that was killed after step 7, with states after 4 and 6."""
    with killed_at(loop.Run, "one_step", lambda _, step, *__: step == 7):
        train(config(save_steps=2), tmp_path / "run")
    return tmp_path / ".run.partial" / "scratch" / "states"


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


def cut_to(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


DAMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "flipped": ("optimizer.safetensors", flip),
    "cut": ("optimizer.safetensors", cut),
    "missing": ("optimizer.safetensors", Path.unlink),
    "progress": ("progress.json", cut),
    "checksums": ("checksums.json", lambda file: cut_to(file, 9)),
}


def test_the_two_newest_states_are_kept(begun: Path) -> None:
    assert sorted(path.name for path in begun.iterdir()) == ["00000004", "00000006"]
    newest = begun / "00000006"
    assert json.loads((newest / "progress.json").read_text())["step"] == 6


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_passed_over(
    damage: str,
    begun: Path,
    config: Make,
    metrics: Metrics,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, harm = DAMAGES[damage]
    harm(begun / "00000006" / name)
    train(config(save_steps=2), tmp_path / "run")
    said = capsys.readouterr().err
    assert "the state after step 6 is damaged" in said
    assert "resuming after step 4 of 12" in said
    unbroken = train(config(), tmp_path / "unbroken")
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("run", "unbroken")]
    assert weights[0] == weights[1]
    assert metrics(tmp_path / "run") == metrics(unbroken)


def test_no_whole_state_is_no_silent_beginning(begun: Path, config: Make, tmp_path: Path) -> None:
    for step in ("00000004", "00000006"):
        cut(begun / step / "optimizer.safetensors")
    with pytest.raises(UserError, match=r"no state to resume from is whole \(delete .*partial"):
        train(config(save_steps=2), tmp_path / "run")
    assert begun.exists()


def test_a_full_disk_keeps_the_state_before(
    config: Make,
    metrics: Metrics,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from safetensors.torch import save_file as real

    calls = []

    def full(state: Any, file: Path) -> None:
        calls.append(file)
        if len(calls) == 2:
            file.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(state, file)

    monkeypatch.setattr(checkpoint, "save_file", full)
    folder = train(config(save_steps=4), tmp_path / "run")
    said = capsys.readouterr().err
    assert "the state after step 8 is not saved (the disk is full); training goes on" in said
    assert json.loads((folder / "manifest.json").read_text())["outcome"]["states_not_saved"] == 1
    assert len(metrics(folder)) == 12


def test_a_disk_too_full_for_the_checkpoint(
    config: Make, metrics: Metrics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, *_: Any) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", full)
        with pytest.raises(UserError, match="the disk is full: the checkpoint cannot be written"):
            train(config(save_steps=4), tmp_path / "run")
    partial = tmp_path / ".run.partial"
    assert not (partial / "model.safetensors").exists()
    states = partial / "scratch" / "states"
    assert sorted(path.name for path in states.iterdir()) == ["00000008", "00000012"]
    train(config(save_steps=4), tmp_path / "run")
    unbroken = train(config(), tmp_path / "unbroken")
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("run", "unbroken")]
    assert weights[0] == weights[1]
    assert metrics(tmp_path / "run") == metrics(unbroken)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_out_of_memory_says_what_to_set(
    error: RuntimeError,
    config: Make,
    metrics: Metrics,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from cameleer.train.loss import supervised_loss as real

    calls = []

    def most(*given: Any) -> Any:
        calls.append(1)
        if len(calls) > 9:
            raise error
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "supervised_loss", most)
        with pytest.raises(UserError, match=r"out of memory at step 5.*256 tokens.*plan") as said:
            train(config(), tmp_path / "run")
    assert said.value.field == "per_device_train_batch_size"
    states = tmp_path / ".run.partial" / "scratch" / "states"
    assert [path.name for path in states.iterdir()] == ["00000004"]  # nothing is lost
    train(config(gradient_checkpointing=True), tmp_path / "run")
    unbroken = train(config(), tmp_path / "unbroken")
    assert metrics(tmp_path / "run") == metrics(unbroken)


def test_out_of_memory_in_the_midst_of_an_update(
    config: Make, metrics: Metrics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the weights have taken the step up: the state before it is gone, none is saved."""
    real = torch.optim.AdamW.step
    calls = []

    def step(self: Any, *given: Any) -> Any:
        calls.append(1)
        found = real(self, *given)
        if len(calls) > 4:
            raise MemoryError
        return found

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", step)
        with pytest.raises(UserError, match="out of memory at step"):
            train(config(save_steps=3), tmp_path / "run")
    states = tmp_path / ".run.partial" / "scratch" / "states"
    assert [path.name for path in states.iterdir()] == ["00000003"]
    unbroken = train(config(), tmp_path / "unbroken")
    assert metrics(train(config(), tmp_path / "run")) == metrics(unbroken)


def test_other_errors_are_not_taken_for_want_of_memory(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(loop, "supervised_loss", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        train(config(), tmp_path / "run")
