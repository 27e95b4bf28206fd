"""The load and kill tests, small: they find what is wrong, and nothing is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("sqlalchemy")

from bench.annotate import _campaign, kill, load, wrong
from bench.annotators import Log, Sent
from cameleer.human.assignment import next_task
from cameleer.human.database import open_database
from cameleer.human.ratings import Rating, submit


def given(**changes: object) -> SimpleNamespace:
    asked = {"annotators": 4, "items": 5, "think": 0.0, "prompts": 30, "kills": 2}
    return SimpleNamespace(**asked | {"database": None, "seed": 1} | changes)


@pytest.mark.slow
def test_load_loses_nothing(tmp_path: Path) -> None:
    found = load(tmp_path, given())
    assert found["wrong"] == []
    assert found["confirmed"] == 20
    assert found["milliseconds"]["rating"]["n"] == 20


@pytest.mark.slow
def test_kills_lose_nothing(tmp_path: Path) -> None:
    found = kill(tmp_path, given(items=None))
    assert found["wrong"] == []
    assert found["kills"] == 2
    assert found["confirmed"] > 0


def test_what_is_lost_or_doubled_is_found(tmp_path: Path) -> None:
    campaign = _campaign(tmp_path / "campaign", given(), ["annotator000"])
    engine = open_database(campaign)
    log = Log()
    for n in range(8):
        task = next_task(engine, campaign, 1)
        assert task
        submit(engine, 1, task.token, Rating(True, True, 1, "good", "", 1.0), f"submission{n}")
        log.confirmed.append(Sent("annotator000", task.token, f"submission{n}", 1, 1))
    engine.dispose()
    assert wrong(campaign, None, log) == []
    kept = list(log.confirmed)
    log.confirmed = [*kept, replace(kept[0], token="another")]
    assert wrong(campaign, None, log) == ["1 confirmed ratings that are not in the database"]
    log.confirmed = kept[1:]
    assert wrong(campaign, None, log) == ["1 ratings in the database that were not confirmed"]
    log.confirmed = [replace(kept[0], preference=-1), *kept[1:]]
    assert len(wrong(campaign, None, log)) == 2
