"""How much memory a task is taken to hold, and how much a machine has left."""

from pathlib import Path
from typing import Any

import pytest

from cameleer.study.execute import memory
from cameleer.study.execute.memory import GIB, available, held_by, planned_memory
from cameleer.study.execute.tasks import Task
from cameleer.train.config import TrainConfig


def task(config: TrainConfig | None = None, computes: bool = True) -> Task:
    kind = "train" if config else "evaluate"
    return Task("a", kind, lambda: None, (), computes, weights=GIB, config=config)


def config(**changes: Any) -> TrainConfig:
    settings = {"model": "org/base", "data": "nowhere.jsonl", **changes}
    return TrainConfig.model_validate(settings)


def test_what_is_not_planned_is_told_by_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_plans", {})
    assert held_by(task(computes=False), on_gpu=False) < 0.5 * GIB
    assert held_by(task(), on_gpu=False) == held_by(task(), on_gpu=True) == 4 * GIB
    assert held_by(task(config()), on_gpu=True) == 4 * GIB
    offloaded = config(offload_optimizer=True)
    assert held_by(task(offloaded), on_gpu=True) == 11 * GIB


def test_trainings_are_planned_once_for_all_data_and_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[TrainConfig] = []

    def plan(function: Any, given: TrainConfig) -> float:
        assert function is planned_memory
        asked.append(given)
        return 5.0

    monkeypatch.setattr(memory, "_plans", {})
    monkeypatch.setattr(memory, "asked_apart", plan)
    for one in (config(), config(seed=2), config(data="other.jsonl"), config(max_seq_length=512)):
        assert held_by(task(one), on_gpu=False) == 5.0
    assert [one.max_seq_length for one in asked] == [2048, 512]


def test_a_training_that_cannot_be_planned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> float:
        raise RuntimeError("no shapes\nat all")

    monkeypatch.setattr(memory, "_plans", {})
    monkeypatch.setattr(memory, "asked_apart", fail)
    assert held_by(task(config()), on_gpu=False) == 11 * GIB
    assert "guessed from its weights, as training cannot be planned: no shapes\n" in (
        capsys.readouterr().err
    )


def test_the_planner_is_asked(random_model: Path) -> None:
    small = planned_memory(config(model=str(random_model), max_seq_length=256))
    large = planned_memory(config(model=str(random_model), max_seq_length=4096))
    assert 0.3 * GIB < small < large < 4 * GIB


def test_what_a_machine_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    facts.write_text("MemTotal: 99 kB\nMemAvailable:    2048 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", facts)
    monkeypatch.setattr(memory, "LIMITS", (limit,))
    assert available() == 2048 * 1024
    for said, left in (("max", 2048 * 1024), ("1000", 1000), ("99999999", 2048 * 1024)):
        limit.write_text(f"{said}\n")
        assert available() == left
