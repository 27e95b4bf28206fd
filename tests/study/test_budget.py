"""Budgets: what they may say, a study that is refused, one that stops on its way and goes on."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.artifact import Stage
from cameleer.core.errors import UserError
from cameleer.core.files import write_json
from cameleer.study.budget import Budget, Cost, shown
from cameleer.study.execute.apart import Job
from cameleer.study.execute.guard import Guard
from cameleer.study.execute.tasks import Task, tasks_of
from cameleer.study.plan.planned import StudyPlan
from cameleer.study.plan.spent import took
from cameleer.study.run import run_study
from cameleer.study.status import grid_of
from cameleer.study.study import load_study
from cameleer.train.hardware import HARDWARE
from tests.engines.api_server import ApiServer, api_server, refuse

Declare = Callable[..., Path]


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (
            {"hour": 1},
            r"study\.yaml:\d+: field 'budget\.hour': is not known .did you mean 'hours'",
        ),
        ({"hours": -1}, r"study\.yaml:\d+: field 'budget\.hours'"),
        ({}, r"study\.yaml:\d+: field 'budget': is empty: give hours"),
        ({"hours": 8, "gpu_hours": 4}, r"field 'budget': gpu_hours \(4\) is below hours \(8\)"),
        ({"requests": 2.5}, r"field 'budget\.requests'"),
    ],
)
def test_a_mistaken_budget_is_told_at_its_line(
    budget: dict[str, Any], said: str, declare: Declare
) -> None:
    with pytest.raises(UserError, match=said):
        load_study(declare(budget=budget))


def test_what_is_over() -> None:
    budget = Budget(hours=2, dollars=5)
    cost = Cost(hours=3, gpu_hours=24, dollars=4.5, requests=9)
    assert list(budget.over(cost)) == [("hours", 2, 1)]
    assert list(budget.over(cost * 2)) == [("hours", 2, 4), ("dollars", 5, 4)]
    assert cost + cost == cost * 2
    assert Cost(1, 9, 0, 5).at_least(Cost(2, 3, 0, 7)) == Cost(2, 9, 0, 7)
    assert [shown("dollars", 0.004), shown("requests", 1200), shown("gpu_hours", 3.14159)] == [
        "$0.004",
        "1,200 requests",
        "3.14 GPU-hours",
    ]


@pytest.fixture(autouse=True)
def known_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans for a processor whose speed is written down, not measured."""
    monkeypatch.setattr("cameleer.study.plan.planned.hardware_named", lambda _: HARDWARE["cpu"])


def finish(stage: Stage, seconds: float) -> None:
    """Leave what a stage that took so long leaves."""
    stage.run(lambda _: {})
    manifest = json.loads((stage.folder / "manifest.json").read_text())
    write_json(stage.folder / "manifest.json", manifest | {"seconds": seconds})


def test_a_study_beyond_its_budget_is_not_begun(declare: Declare, tmp_path: Path) -> None:
    file, folder = declare(budget={"hours": 1e-6, "price_per_gpu_hour": 2}), tmp_path / "out"
    said = r"study\.yaml: field 'budget\.hours': the study would take .* hours, 1e-06 hours are"
    with pytest.raises(UserError, match=said) as caught:
        run_study(load_study(file), folder, file)
    assert "allow more, or plan less" in str(caught.value)
    assert not (folder / "train").exists()
    facts = StudyPlan(grid_of(load_study(file), folder)).facts()
    (over,) = facts["budget"]["exceeded"]
    assert over["field"] == "hours"
    assert over["by"] == pytest.approx(facts["total"]["hours"] - 1e-6, rel=0.1)
    assert facts["total"]["dollars"] == pytest.approx(2 * facts["total"]["gpu_hours"], rel=0.1)


def test_a_study_stops_between_stages_and_goes_on_with_more(
    declare: Declare, tmp_path: Path
) -> None:
    def begun(hours: float) -> tuple[Guard, dict[str, Task]]:
        study = load_study(declare(budget={"hours": hours}))
        grid = grid_of(study, tmp_path / "out")
        guard = Guard(grid)
        return guard, {task.name: task for task in guard.over(tasks_of(grid))}

    _, tasks = begun(1.0)
    assert list(tasks)[:2] == ["evaluate random", "train random--cot--s42"]
    assert tasks["evaluate random"].job()
    assert tasks["train random--cot--s42"].job()
    assert tasks["train random--code--s42"].job()  # and has no room yet: it will be asked again
    grid = grid_of(load_study(declare()), tmp_path / "out")
    stage = grid.works[1].train
    assert stage is not None
    finish(stage, 2 * 3600)  # it took longer than all was planned to
    assert took(stage).seconds == 7200
    assert tasks["train random--cot--s42"].job() is None
    with pytest.raises(UserError, match=r"field 'budget\.hours': train random--code--s42 makes"):
        tasks["train random--code--s42"].job()
    with pytest.raises(UserError, match="the study would take 2 hours, 1 hours are allowed"):
        begun(1.0)  # what is done counts on
    _, tasks = begun(3.0)
    assert tasks["train random--code--s42"].job()
    for stage in (stage for work in grid.works for stage in work.stages()):
        if not stage.done():
            finish(stage, 3600)
    begun(1.0)  # nothing is left to take more


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with api_server() as running:
        yield running


def test_a_server_is_not_asked_beyond_the_budget(
    declare: Declare, server: ApiServer, tmp_path: Path
) -> None:
    engine = {"engine": "openai", "cache": str(tmp_path / "cache"), "wait": 0.01, "concurrency": 1}
    reference = {"name": "parrot", "model": f"openai:parrot@{server.url}", "engine": engine}
    changes = {"references": [reference], "benchmarks": ["gsm:cot"], "base_format": "chat"}
    file = declare(**changes, budget={"requests": 9})
    with pytest.raises(UserError, match=r"budget\.requests': the study would take 10 requests, 9"):
        Guard(grid_of(load_study(file), tmp_path / "out"), file)

    def job_of(requests: int) -> Job:
        study = load_study(declare(**changes, budget={"requests": requests}))
        grid = grid_of(study, tmp_path / "out")
        tasks = {task.name: task for task in Guard(grid).over(tasks_of(grid))}
        job = tasks["evaluate parrot"].job()
        assert job is not None
        return job

    server.acts.extend([refuse(500), refuse(500)])
    job = job_of(10)
    assert job.given[0].chosen.options.max_requests == 10
    with pytest.raises(UserError, match=r"field 'budget\.requests': .*10 requests of max_requests"):
        job.function(*job.given)
    assert len(server.asked) == 10  # two of them for nothing
    job = job_of(12)
    assert job.given[0].chosen.options.max_requests == 4  # eight are answered, and cost no more
    job.function(*job.given)
    assert len(server.asked) == 12
