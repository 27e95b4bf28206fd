"""Killed with SIGKILL at moments of all kinds, and given again: the same bits as undisturbed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name as resolve
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.core.jsonl import read_jsonl
from cameleer.model.adapters import LoraSpec
from cameleer.train import loop
from cameleer.train.checkpoint import load_state, save_state
from cameleer.train.config import TrainConfig
from cameleer.train.loop import train
from cameleer.train.parallel import Ranks
from tests.killing import Killed, killed_at

Make = Callable[..., TrainConfig]
Metrics = Callable[[Path], list[dict[str, Any]]]

KINDS: dict[str, dict[str, Any]] = {
    "all weights": {},
    "all weights, bf16": {"precision": "bf16"},
    "LoRA": {"lora": LoraSpec(r=4, lora_dropout=0.1), "learning_rate": 1e-2},
}
STEPS = 30


def killed(workers: Any, config: TrainConfig, folder: Path, when: Callable[[Path], bool]) -> bool:
    """Train in a process of its own and kill it as soon as `when` holds of the partial folder.

    Returns whether it was killed; it may have been quicker.
    """
    process = workers.Process(target=train, args=(config, folder))
    process.start()
    partial, deadline = folder.with_name(f".{folder.name}.partial"), time.monotonic() + 240
    while process.is_alive() and not when(partial):
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    process.kill()
    process.join()
    assert process.exitcode in (0, -9)
    return bool(process.exitcode)


def steps_taken(count: int) -> Callable[[Path], bool]:
    def reached(partial: Path) -> bool:
        file = partial / "metrics.jsonl"
        return file.exists() and file.read_bytes().count(b"\n") >= count

    return reached


def there(name: str) -> Callable[[Path], bool]:
    return lambda partial: (partial / name).exists()


def after(seconds: float) -> Callable[[Path], bool]:
    given_up = time.monotonic() + seconds
    return lambda _: time.monotonic() > given_up


@pytest.mark.parametrize("kind", KINDS)
def test_killed_again_and_again(
    kind: str, workers: Any, config: Make, metrics: Metrics, tmp_path: Path
) -> None:
    changes = {"max_steps": STEPS, "num_train_epochs": 9, **KINDS[kind]}
    made = config().model_copy(update=changes)
    unbroken = train(made.model_copy(update={"save_steps": 7}), tmp_path / "unbroken")
    moments: list[Callable[[Path], bool] | None] = [
        None,  # at any time
        there("scratch/tokens"),
        there("scratch/states/new"),
        steps_taken(3),
        there("scratch/states/00000006"),
        steps_taken(10),
        None,
        steps_taken(17),
        there("scratch/states/new/optimizer.safetensors"),
        steps_taken(STEPS),
        there("model.safetensors"),
        there("manifest.json"),
    ]
    if kind != "all weights":  # these differ in what is saved, not in when
        moments = moments[1::2]
    folder, kills, draw = tmp_path / "killed", 0, random.Random(kind)
    for number, when in enumerate(moments):
        saving = made.model_copy(update={"save_steps": 1 + number % 3})
        kills += killed(workers, saving, folder, when or after(draw.uniform(0.2, 1.0)))
    assert kills >= len(moments) / 4  # a quick run is over before some of these moments
    train(made, folder)
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (folder / name).read_bytes() == (unbroken / name).read_bytes(), name
    assert metrics(folder) == metrics(unbroken)
    assert {path.name for path in folder.iterdir()} == {path.name for path in unbroken.iterdir()}


@pytest.mark.parametrize(
    "moment",
    ["save_file", "write_json", "write_json, second", "rename", "rmtree", "rmtree, second"],
)
def test_killed_while_the_state_is_saved(
    moment: str, config: Make, metrics: Metrics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the two states is whole whatever the moment; so is the result."""
    made = config(save_steps=2)
    unbroken = train(made, tmp_path / "unbroken")
    name, _, second = moment.partition(", ")
    calls = {"saves": 0, "others": 0}
    where = {"rename": "pathlib.Path.rename", "rmtree": "cameleer.train.checkpoint.shutil.rmtree"}
    what = where.get(name, f"cameleer.train.checkpoint.{name}")
    real_save, real = save_state, resolve(what)

    def fail(*given: Any, **more: Any) -> Any:
        calls["others"] += 1
        if calls["others"] == (2 if second else 1):
            raise Killed
        return real(*given, **more)

    def save(*given: Any) -> None:
        calls["saves"] += 1
        if calls["saves"] < 3:
            return real_save(*given)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(what, fail)
            real_save(*given)
        return None

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_state", save)
        with pytest.raises(Killed):
            train(made, tmp_path / "run")
    assert calls["others"] == (2 if second else 1)
    train(made, tmp_path / "run")
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("run", "unbroken")]
    assert weights[0] == weights[1]
    assert metrics(tmp_path / "run") == metrics(unbroken)


def test_steps_are_not_taken_again(
    config: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What was saved is not redone, and the log has each step once, a torn line or not."""
    made = config(save_steps=5)
    taken: list[int] = []
    real = loop.Run.one_step

    def one_step(run: Any, step: int, *given: Any) -> dict[str, Any]:
        if step == 8 and len(taken) < 9:
            raise Killed
        taken.append(step)
        return real(run, step, *given)

    monkeypatch.setattr(loop.Run, "one_step", one_step)
    with pytest.raises(Killed):
        train(made, tmp_path / "run")
    log = tmp_path / ".run.partial" / "metrics.jsonl"
    with log.open("a") as handle:
        handle.write('{"step": 9, "lo')
    taken_before = list(taken)
    taken += [-1]
    train(made, tmp_path / "run")
    assert taken_before == [0, 1, 2, 3, 4, 5, 6, 7]
    assert taken[9:] == [5, 6, 7, 8, 9, 10, 11]
    rows = [row["step"] for _, row in read_jsonl(tmp_path / "run" / "metrics.jsonl")]
    assert rows == list(range(1, 13))
    assert "resuming after step 5 of 12" in capsys.readouterr().err


def test_the_state_is_saved_by_the_clock_too(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    monkeypatch.setattr(loop, "save_state", lambda *given: saved.append(given[2]["step"]))
    train(config(save_minutes=1e-9), tmp_path / "a")
    assert saved == list(range(1, 12))  # the last step is followed by the checkpoint
    saved.clear()
    train(config(save_minutes=60.0), tmp_path / "b")
    assert saved == []


@pytest.fixture
def begun(config: Make, tmp_path: Path) -> Callable[..., Path]:
    """Begins a run that is killed as it saves its checkpoint; returns its folder."""

    def begin(**changes: Any) -> Path:
        with killed_at(loop, "save_checkpoint", lambda *_: True):
            train(config(**changes), tmp_path / "run")
        return tmp_path / "run"

    return begin


def test_other_settings_do_not_go_on_from_a_killed_run(
    config: Make, metrics: Metrics, tmp_path: Path, begun: Callable[..., Path]
) -> None:
    wanted = train(config(seed=7), tmp_path / "wanted")
    assert metrics(train(config(seed=7), begun())) == metrics(wanted)


def test_other_settings_do_not_throw_a_state_away(
    config: Make, metrics: Metrics, tmp_path: Path, begun: Callable[..., Path]
) -> None:
    """A forgotten override must not cost the days that a run took."""
    folder = begun(save_steps=5, learning_rate=2e-3)
    with pytest.raises(UserError, match=r"unfinished run of 10 steps .*\(learning_rate, seed\)"):
        train(config(seed=7), folder)
    wanted = train(config(learning_rate=2e-3), tmp_path / "wanted")
    assert metrics(train(config(learning_rate=2e-3), folder)) == metrics(wanted)


def test_a_run_goes_on_with_smaller_micro_batches(
    config: Make, metrics: Metrics, tmp_path: Path, begun: Callable[..., Path]
) -> None:
    """As someone does whose run ran out of memory after many steps."""
    halves = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1}
    folder = begun(save_steps=5, **halves)
    rows = metrics(train(config(), folder))
    wanted = metrics(train(config(**halves), tmp_path / "wanted"))
    assert rows[:10] == wanted[:10]
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in wanted], 1e-5)
    by_paper = config(loss_reduction="paper", **halves).deciding()
    assert by_paper["per_device_train_batch_size"] == 2  # there it decides the loss


def test_a_run_that_broke_stays_broken_until_the_cause_is_mended(
    config: Make, tmp_path: Path
) -> None:
    bad = config(learning_rate=1e30, max_grad_norm=None, save_steps=1)
    says = []
    for _ in range(2):
        with pytest.raises(UserError, match="not a number at step") as caught:
            train(bad, tmp_path / "run")
        says.append(str(caught.value))
    assert says[0] == says[1]
    train(bad.model_copy(update={"max_grad_norm": 1.0, "learning_rate": 1e-3}), tmp_path / "new")


def test_no_state_is_no_state(tmp_path: Path) -> None:
    nothing: Any = None
    assert load_state(tmp_path, nothing, Ranks()) is None
    (tmp_path / "states" / "new").mkdir(parents=True)
    (tmp_path / "states" / "new" / "optimizer.safetensors").write_bytes(b"half")
    assert load_state(tmp_path, nothing, Ranks()) is None
