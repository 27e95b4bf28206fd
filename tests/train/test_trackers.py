"""metrics.jsonl and trackers: the same numbers, each step once, killed or not; nothing uploaded."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.core.jsonl import read_jsonl
from cameleer.train import loop, trackers
from cameleer.train.config import TrainConfig
from cameleer.train.loop import train
from cameleer.train.trackers import MetricsLog, kept_up_to, numbers, require_libraries, run_name
from tests.killing import killed_at

Make = Callable[..., TrainConfig]

ROWS: list[dict[str, Any]] = [
    {
        "step": 0,
        "validation": {
            "loss": 3.0,
            "perplexity": 20.0,
            "low": 2.0,
            "supervised_tokens": 7,
            "sources": {"a": {"loss": 2.5, "perplexity": 12.0, "low": None}},
        },
    },
    *({"step": step, "loss": 1 / step, "loss/a": 2 / step, "tokens": step} for step in range(1, 8)),
]


def test_numbers_by_group() -> None:
    assert numbers(ROWS[0]) == {
        "validation/loss": 3.0,
        "validation/perplexity": 20.0,
        "validation/loss/a": 2.5,
        "validation/perplexity/a": 12.0,
    }
    assert numbers(ROWS[2]) == {"loss": 0.5, "loss/a": 1.0, "tokens": 2.0}


@pytest.mark.parametrize(("step", "kept"), [(0, []), (2, [0, 1, 2]), (9, list(range(8)))])
def test_what_is_kept_where_a_run_goes_on(tmp_path: Path, step: int, kept: list[int]) -> None:
    file = tmp_path / "metrics.jsonl"
    log = MetricsLog(tmp_path, 0, [], {})
    for row in ROWS:
        log.append(row)
    log.close()
    with file.open("a") as handle:
        handle.write('{"step": 8, "lo')
    assert [row["step"] for row in kept_up_to(file, step)] == kept
    assert [row["step"] for _, row in read_jsonl(file)] == kept


def test_names_of_trackers(config: Make) -> None:
    assert config(report_to="none").report_to == config(report_to=["none"]).report_to == []
    assert config(report_to="wandb").report_to == ["wandb"]
    assert config(report_to=["tensorboard", "mlflow"]).report_to == ["tensorboard", "mlflow"]
    with pytest.raises(ValueError, match="tensorboard"):
        config(report_to="tensorbored")
    assert config(report_to="wandb").deciding() == config().deciding()


def test_what_is_not_installed_is_said_at_once(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"wandb cannot be imported.*\(pip install wandb\)"):
        train(config(report_to="wandb"), tmp_path / "run")


class Broken:
    """A tracker whose server is gone: from the beginning, or from a step on."""

    last = -1

    def __init__(self, *_: Any, begins: bool, had: list[int]) -> None:
        if not begins:
            raise ConnectionError("no such host\nand much more")
        self.had = had

    def log(self, step: int, _: Any) -> None:
        if step == 3:
            raise ConnectionError("server is gone\nand much more")
        self.had.append(step)

    def close(self) -> None:
        self.had.append(-1)


def test_a_tracker_that_cannot_be_reached(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(trackers.TRACKERS, "tensorboard", partial(Broken, begins=False, had=[]))
    with pytest.raises(UserError, match=r"tensorboard cannot be begun: no such host \(mend"):
        train(config(report_to="tensorboard"), tmp_path / "run")


def test_a_tracker_that_fails_does_not_end_the_run(
    config: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    had: list[int] = []
    monkeypatch.setitem(trackers.TRACKERS, "tensorboard", partial(Broken, begins=True, had=had))
    folder = train(config(report_to="tensorboard", max_steps=5), tmp_path / "run")
    assert len(list(read_jsonl(folder / "metrics.jsonl"))) == 5
    assert had == [1, 2]
    said = capsys.readouterr().err
    assert said.count("tensorboard fails and gets no more numbers") == 1
    assert "metrics.jsonl has all: server is gone\n" in said


def test_a_run_is_called_by_its_folder() -> None:
    assert run_name(Path("runs/.dolly.partial/trackers")) == "dolly"


# ---- tensorboard, really


def test_tensorboard(config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed once, with steps that are taken again: each stands in the event files once."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    made = config(report_to="tensorboard", save_steps=4, validation_fraction=0.1)
    with killed_at(loop.Run, "one_step", lambda _, step, *__: step == 6):
        train(made, tmp_path / "run")
    folder = train(made, tmp_path / "run")
    found = accumulator.EventAccumulator(
        str(folder / "trackers" / "tensorboard"), purge_orphaned_data=False
    ).Reload()
    for _, row in read_jsonl(folder / "metrics.jsonl"):
        for name, value in numbers(row).items():
            events = [event.value for event in found.Scalars(name) if event.step == row["step"]]
            assert events == pytest.approx([value], rel=1e-6), (name, row["step"])
    assert [event.step for event in found.Scalars("loss")] == list(range(1, 13))
    assert [event.step for event in found.Scalars("validation/loss/a")] == [0, 12]


# ---- the others, as far as we use them


class Runs:
    """What a tracker's store would hold: values by step, of the one run."""

    def __init__(self) -> None:
        self.held: dict[int, dict[str, float]] = {}
        self.told: list[int] = []
        self.asked: dict[str, Any] = {}
        self.closed = 0

    def log(self, values: dict[str, float], step: int) -> None:
        self.told.append(step)
        self.held[step] = values

    def finish(self) -> None:
        self.closed += 1


def wandb(runs: Runs) -> dict[str, ModuleType]:
    def init(**asked: Any) -> Any:
        runs.asked = asked
        online = asked["mode"] == "online"
        first = max(runs.held) + 1 if online and runs.held else 0
        return SimpleNamespace(starting_step=first, log=runs.log, finish=runs.finish)

    module: Any = ModuleType("wandb")
    module.init, module.Settings = init, dict
    return {"wandb": module}


def trackio(runs: Runs) -> dict[str, ModuleType]:
    def init(project: str, name: str, **asked: Any) -> Any:
        print("* Created new run")
        runs.asked = {"project": project, "name": name, **asked}
        return SimpleNamespace(log=runs.log, finish=runs.finish)

    class SQLiteStorage:
        @staticmethod
        def get_max_step_for_run(project: str, name: str) -> int | None:
            same = (project, name) == (runs.asked.get("project"), runs.asked.get("name"))
            return max(runs.held) if same else None

    module: Any = ModuleType("trackio")
    storage: Any = ModuleType("trackio.sqlite_storage")
    module.init, storage.SQLiteStorage = init, SQLiteStorage
    return {"trackio": module, "trackio.sqlite_storage": storage}


def mlflow(runs: Runs) -> dict[str, ModuleType]:
    class Client:
        def __init__(self, uri: str) -> None:
            runs.asked["uri"] = uri

        def get_experiment_by_name(self, name: str) -> Any:
            return SimpleNamespace(experiment_id=name) if "made" in runs.asked else None

        def create_experiment(self, name: str) -> str:
            return name

        def search_runs(self, experiments: list[str], query: str) -> list[Any]:
            assert experiments == ["cameleer"]
            made = runs.asked.get("made")
            return [made] if made and f"'{runs.asked['tags']['cameleer.run']}'" in query else []

        def create_run(self, _experiment: str, *, tags: dict[str, str], run_name: str) -> Any:
            runs.asked |= {"tags": tags, "name": run_name}
            runs.asked["made"] = SimpleNamespace(info=SimpleNamespace(run_id="r"))
            return runs.asked["made"]

        def get_metric_history(self, _run: str, key: str) -> list[Any]:
            return [SimpleNamespace(step=step) for step, row in runs.held.items() if key in row]

        def log_batch(self, _run: str, params: Any = (), metrics: Any = ()) -> None:
            runs.asked.setdefault("params", dict(params))
            if metrics:
                (step,) = {step for *_, step in metrics}
                runs.log({name: value for name, value, *_ in metrics}, step)

        def set_terminated(self, _run: str) -> None:
            runs.finish()

    module: Any = ModuleType("mlflow")
    entities: Any = ModuleType("mlflow.entities")
    module.MlflowClient = Client
    entities.Metric = entities.Param = lambda *given: given
    return {"mlflow": module, "mlflow.entities": entities}


FAKES = {"wandb": wandb, "trackio": trackio, "mlflow": mlflow}


@pytest.mark.parametrize("name", FAKES)
def test_each_step_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run is killed after step 5 and goes on from step 3; what was lost meanwhile is made up."""
    runs, folder = Runs(), tmp_path / ".dolly.partial"
    folder.mkdir()
    for module, fake in FAKES[name](runs).items():
        monkeypatch.setitem(sys.modules, module, fake)
    for variable in ("WANDB_MODE", "WANDB_PROJECT", "MLFLOW_TRACKING_URI", "TRACKIO_PROJECT"):
        monkeypatch.delenv(variable, raising=False)
    if name == "wandb":
        monkeypatch.setenv("WANDB_MODE", "online")
    log = MetricsLog(folder, 0, [name], {"learning_rate": 1e-5})
    for row in ROWS[:6]:
        log.append(row)
    lost = runs.held.pop(5)
    log = MetricsLog(folder, 3, [name], {"learning_rate": 1e-5})
    for row in ROWS[4:]:
        log.append(row)
    log.close()
    assert runs.told == [0, 1, 2, 3, 4, 5, 5, 6, 7]
    assert runs.held[5] == lost == numbers(ROWS[5])
    assert [runs.held[row["step"]] for row in ROWS] == [numbers(row) for row in ROWS]
    assert runs.asked["name"].startswith("dolly")
    assert runs.closed == 1
    assert capsys.readouterr().out == ""  # stdout is for results


def test_wandb_stays_offline_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs()
    monkeypatch.setitem(sys.modules, "wandb", wandb(runs)["wandb"])
    monkeypatch.delenv("WANDB_MODE", raising=False)
    (tmp_path / "trackers" / "wandb").mkdir(parents=True)
    (tmp_path / "trackers" / "wandb" / "old").write_text("")
    for _ in range(2):
        log = MetricsLog(tmp_path, 7, ["wandb"], {})
        for row in ROWS:
            log.append(row)
        log.close()
    assert runs.asked["mode"] == "offline"
    assert runs.asked["dir"] == str(tmp_path / "trackers")
    assert not (tmp_path / "trackers" / "wandb").exists()  # the old one went, the fake writes none
    assert runs.told[-8:] == list(range(8))


def test_mlflow_keeps_its_own_file_unless_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs()
    for module, fake in mlflow(runs).items():
        monkeypatch.setitem(sys.modules, module, fake)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    MetricsLog(tmp_path, 0, ["mlflow"], {"seed": 42}).append({"step": 1, "loss/a (b)": 2.0})
    assert runs.asked["uri"] == f"sqlite:///{tmp_path / 'trackers' / 'mlflow.db'}"
    assert runs.asked["params"] == {"seed": "42"}
    assert runs.held[1] == {"loss/a _b_": 2.0}  # it allows no other marks
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    MetricsLog(tmp_path, 0, ["mlflow"], {})
    assert runs.asked["uri"] == "http://127.0.0.1:1"


def test_no_tracker_phones_home(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_DISABLE_TELEMETRY", "WANDB_ERROR_REPORTING"):
        monkeypatch.delenv(name, raising=False)
    require_libraries([])
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "true")  # the user's own wish
    require_libraries([])
    assert os.environ["WANDB_ERROR_REPORTING"] == "true"
    assert importlib.import_module("cameleer.train.trackers").TRACKERS.keys() == {
        "tensorboard", *FAKES
    }  # fmt: skip
