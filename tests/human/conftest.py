"""What tests of human evaluation share: a small campaign, its database on SQLite and PostgreSQL, a
clock that can be set, and hashes of passwords that cost nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from sqlalchemy import Engine

from cameleer.human import accounts
from cameleer.human.campaign import Campaign, Instance, Practice, Settings
from cameleer.human.database import Clock, open_database
from tests.human.site import PASSWORD, Browser, Site
from tests.private_postgres import emptied, postgres_server

NUMBERS = itertools.count()


class HandClock(Clock):
    """Goes only when it is told to."""

    def __init__(self) -> None:
        self.boot, self.time, self.up = "first start", 1_800_000_000.0, 100.0

    def wall(self) -> float:
        return self.time

    def steady(self) -> float:
        return self.up

    def pass_by(self, seconds: float) -> None:
        """Time goes by."""
        self.time, self.up = self.time + seconds, self.up + seconds

    def set_by(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self.time += seconds

    def restart(self, off: float = 0.0) -> None:
        """The machine is started anew after `off` seconds."""
        self.boot, self.time, self.up = f"start {next(NUMBERS)}", self.time + off, 5.0


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "HASHER", PasswordHasher(1, 8, 1))


def small_campaign(folder: Path, items: int = 6) -> Campaign:
    """Two pairs of models on `items` prompts, and one practice item at the end."""
    pairs = [("red", "blue"), ("red", "green")]
    rows = [
        Instance(0, f"items/{n}", f"Say {n}.", a, b, f"{n} of {a}", f"{n} of {b}")
        for n in range(items)
        for a, b in pairs
    ]
    good = Practice(True, False, (-2, -1), "The first one counts right.")
    rows.append(Instance(0, "practice/0", "1 + 1?", "", "", "2", "3", good))
    numbered = [Instance(**{**one.__dict__, "index": n}) for n, one in enumerate(rows)]
    settings = Settings(name="colours", guidelines="# Be fair", overlap=0.5)
    return Campaign(folder, settings, numbered, "ab" * 32)


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return small_campaign(tmp_path)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A PostgreSQL server; skips the test where there is none."""
    with postgres_server() as url:
        yield url


BOTH = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
"""Runs a test on either database; without it on SQLite, for the statements are the same."""


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str | None:
    """Where the database is: None is SQLite in the campaign's folder."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return None
    return emptied(request.getfixturevalue("server"))


@pytest.fixture
def opened(campaign: Campaign, url: str | None, clock: HandClock) -> Iterator[Callable[[], Engine]]:
    """Opens the database as one more process would."""
    engines: list[Engine] = []

    def one() -> Engine:
        engines.append(open_database(campaign, url, clock))
        return engines[-1]

    yield one
    for engine in engines:
        engine.dispose()


@pytest.fixture
def engine(opened: Callable[[], Engine]) -> Engine:
    return opened()


@pytest.fixture
def ann(open_site: Site) -> Browser:
    """Somebody who is to rate, logged in at the site of the test's file."""
    return open_site.browser(open_site.rater("ann", password=PASSWORD))


@pytest.fixture
def boss(open_site: Site) -> Browser:
    """An admin of the same site."""
    return open_site.browser(open_site.rater("boss", "admin"))
