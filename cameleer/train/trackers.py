"""metrics.jsonl, and the same numbers for the trackers that `report_to` names.

What trackers write themselves lies in the checkpoint's folder, under `trackers`. Nothing leaves the
machine unless the user's environment says so: wandb is offline without WANDB_MODE, mlflow keeps a
file of its own without MLFLOW_TRACKING_URI, trackio is local without TRACKIO_SPACE_ID.

A run that goes on takes some steps again, with the same numbers: no tracker gets a step twice.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from cameleer.core.console import warn
from cameleer.core.errors import UserError
from cameleer.core.files import JsonlLog, write_jsonl
from cameleer.core.jsonl import read_jsonl

PROJECT = "cameleer"
LIBRARIES = {
    "tensorboard": "torch.utils.tensorboard",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "trackio": "trackio",
}
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}


class MetricsLog:
    """Appends rows to metrics.jsonl and hands their numbers to the trackers.

    rows: those that were there before, up to the step from which the run goes on.
    """

    def __init__(
        self, folder: Path, done: int, report_to: Sequence[str], settings: Mapping[str, Any]
    ) -> None:
        """done: steps taken; settings: what trackers show of the run's configuration."""
        file = folder / "metrics.jsonl"
        self.rows = kept_up_to(file, done)
        self.trackers = {name: _begun(name, folder / "trackers", settings) for name in report_to}
        self.last = {name: tracker.last for name, tracker in self.trackers.items()}
        for row in self.rows:
            self._tell(row)
        self.log = JsonlLog(file)

    def append(self, row: Mapping[str, Any]) -> None:
        """row: of one step, with its number as `step`, from 1; 0 for what was before the first."""
        self.log.append([row])
        self._tell(row)

    def _tell(self, row: Mapping[str, Any]) -> None:
        for name, tracker in list(self.trackers.items()):
            if row["step"] > self.last[name]:  # it has not had that
                self._with(name, partial(tracker.log, row["step"], numbers(row)))

    def _with(self, name: str, work: Callable[[], None]) -> None:
        """Do something with a tracker; if it fails, go on without it: a run is worth more."""
        try:
            work()
        except Exception as error:  # each library raises kinds of its own
            del self.trackers[name]
            warn(f"{name} fails and gets no more numbers, metrics.jsonl has all: {_reason(error)}")

    def sync(self) -> None:
        """Wait until what was appended is on the disk."""
        self.log.sync()

    def close(self) -> None:
        """Whatever happened: what was logged is kept."""
        self.log.close()
        for name, tracker in list(self.trackers.items()):
            self._with(name, tracker.close)


def _begun(name: str, home: Path, settings: Mapping[str, Any]) -> Tracker:
    try:
        return TRACKERS[name](home, settings)
    except Exception as error:
        raise UserError(
            f"{name} cannot be begun: {_reason(error)}",
            field="report_to",
            hint="mend its settings or its server, or leave it out: metrics.jsonl has the numbers",
        ) from None


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def kept_up_to(file: Path, step: int) -> list[dict[str, Any]]:
    """Rows of a log up to `step`, where a run goes on; later ones are cut off, they come again.

    A run that goes on from step 0 begins anew: nothing is kept.
    """
    if not file.exists():
        return []
    JsonlLog(file).close()  # cuts off a torn line
    rows = [row for _, row in read_jsonl(file) if step and row["step"] <= step]
    write_jsonl(file, rows)
    return rows


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """A row's numbers by names that trackers can show in groups: `loss`, `loss/SOURCE`,
    `validation/loss`, `validation/loss/SOURCE`."""
    flat = {key: float(value) for key, value in row.items() if isinstance(value, int | float)}
    tried = row.get("validation", {})
    for source, facts in {"": tried, **tried.get("sources", {})}.items():
        for key in ("loss", "perplexity"):
            if key in facts:
                flat["/".join(filter(None, ("validation", key, source)))] = facts[key]
    flat.pop("step", None)
    return flat


class Tracker(Protocol):
    """What shows a run's numbers as it goes on.

    last: the last step that it has from an earlier process; -1 if none.
    """

    last: int

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Show the numbers of a step; steps come in order."""

    def close(self) -> None:
        """Write what is still held back."""


def require_libraries(report_to: Sequence[str]) -> None:
    """Raises UserError for a tracker whose library is not installed."""
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    for name in report_to:
        try:
            import_module(LIBRARIES[name])
        except ImportError as error:
            raise UserError(
                f"{name} cannot be imported: {error}",
                field="report_to",
                hint=f"pip install {name}",
            ) from None


class TensorBoard:
    """Event files, written anew from metrics.jsonl whenever the run goes on."""

    last = -1

    def __init__(self, home: Path, _settings: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(home / "tensorboard", ignore_errors=True)
        self.writer = SummaryWriter(str(home / "tensorboard"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class Wandb:
    """Offline (the default): written anew whenever the run goes on, to be sent by `wandb sync`."""

    def __init__(self, home: Path, settings: Mapping[str, Any]) -> None:
        wandb = import_module("wandb")
        mode = os.environ.get("WANDB_MODE", "offline")
        if mode == "offline":
            shutil.rmtree(home / "wandb", ignore_errors=True)
        home.mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run_name(home),
            id=identity(home),
            resume="allow",
            mode=mode,
            dir=str(home),
            config=dict(settings),
            settings=wandb.Settings(console="off"),
        )
        self.last = self.run.starting_step - 1

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


class Mlflow:
    """A run of the experiment MLFLOW_EXPERIMENT_NAME, found again by a tag."""

    def __init__(self, home: Path, settings: Mapping[str, Any]) -> None:
        mlflow, entities = import_module("mlflow"), import_module("mlflow.entities")
        home.mkdir(parents=True, exist_ok=True)
        own = f"sqlite:///{home.absolute() / 'mlflow.db'}"
        self.client = mlflow.MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", own))
        self.metric = entities.Metric
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self.client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self.client.create_experiment(name)
        tag = f"{PROJECT}.run"
        found = self.client.search_runs([experiment], f"tags.`{tag}` = '{identity(home)}'")
        if not found:
            tags = {tag: identity(home)}
            made = self.client.create_run(experiment, tags=tags, run_name=run_name(home))
            params = [entities.Param(key, str(value)) for key, value in settings.items()]
            self.client.log_batch(made.info.run_id, params=params)
            found = [made]
        self.id = found[0].info.run_id
        had = [self.client.get_metric_history(self.id, key) for key in ("loss", "validation/loss")]
        self.last = max((metric.step for history in had for metric in history), default=-1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        metrics = [
            self.metric(re.sub(r"[^\w\-./: ]", "_", name), value, now, step)  # all it allows
            for name, value in values.items()
        ]
        self.client.log_batch(self.id, metrics=metrics)

    def close(self) -> None:
        self.client.set_terminated(self.id)


class Trackio:
    """A run of the project TRACKIO_PROJECT in trackio's own folder, where its dashboard looks."""

    def __init__(self, home: Path, settings: Mapping[str, Any]) -> None:
        trackio, storage = import_module("trackio"), import_module("trackio.sqlite_storage")
        home.mkdir(parents=True, exist_ok=True)
        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        name = f"{run_name(home)}-{identity(home)}"
        last = storage.SQLiteStorage.get_max_step_for_run(project, name)
        self.last = -1 if last is None else last
        with redirect_stdout(sys.stderr):  # it greets; our stdout is for results
            self.run = trackio.init(project, name, resume="allow", config=dict(settings))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        with redirect_stdout(sys.stderr):
            self.run.finish()


TRACKERS: dict[str, Callable[[Path, Mapping[str, Any]], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "mlflow": Mlflow,
    "trackio": Trackio,
}


def run_name(home: Path) -> str:
    """What trackers call the run: its folder's name, which is `.NAME.partial` while it goes on."""
    return home.parent.name.removeprefix(".").removesuffix(".partial")


def identity(home: Path) -> str:
    """What tells the run from others of its name; the same when it goes on."""
    file = home / "id"
    if not file.exists():
        file.write_text(uuid4().hex[:12])
    return file.read_text()
