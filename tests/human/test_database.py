"""The database under faults: killed writers, two at once, locked, full, gone, another's."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from sqlalchemy import Engine

from cameleer.core.errors import UserError
from cameleer.human import database
from cameleer.human.accounts import add_rater
from cameleer.human.campaign import Campaign
from cameleer.human.database import (
    UnavailableError,
    facts,
    open_database,
    ratings,
    reading,
    tasks,
    writing,
)
from cameleer.human.ratings import Rating, add_task, current_ratings, submit
from tests.human.conftest import BOTH, small_campaign
from tests.private_postgres import emptied

ROOT = Path(__file__).resolve().parents[2]
GOOD = Rating(True, False, -2, "good", "", 1.0)


def rate(engine: Engine, rater: int, instance: int, comment: str = "") -> None:
    with writing(engine) as connection:
        task = add_task(connection, rater, instance, False, "rating")
    rating = Rating(True, False, -2, "good", comment, 1.0)
    submit(engine, rater, task.token, rating, f"form-{rater}-{instance}")


def together(works: list[Callable[[], None]]) -> None:
    """Do all at once, each in a thread; the first mistake of any is raised."""
    failed: list[BaseException] = []
    start = threading.Barrier(len(works))

    def one(work: Callable[[], None]) -> None:
        try:
            start.wait()
            work()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


@BOTH
def test_killed_writers_lose_nothing_that_was_confirmed(tmp_path: Path, url: str | None) -> None:
    rounds = 12
    script = [sys.executable, "-m", "tests.human.killed_writers"]
    command = [*script, str(tmp_path), url or "", str(rounds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["killed"] == rounds
    engine = open_database(small_campaign(tmp_path, 60), url)
    with reading(engine) as connection:
        rows = connection.execute(sql.select(ratings, tasks.c.rater).join(tasks)).all()
    kept = {(row.rater, row.submission) for row in rows}
    assert len(said["confirmed"]) > rounds
    assert {tuple(one) for one in said["confirmed"]} <= kept
    assert all(row.comment == row.submission for row in rows)
    states: dict[int, list[str]] = {}
    for row in rows:
        states.setdefault(row.task, []).append(row.state)
    assert all(one.count("current") <= 1 for one in states.values())
    assert all("current" in one or "undone" in one for one in states.values())
    if url is None:
        with closing(sqlite3.connect(tmp_path / "annotations.sqlite")) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    rate(engine, add_rater(engine, "after").id, 0)
    engine.dispose()


@BOTH
def test_many_writers_at_once(opened: Callable[[], Engine]) -> None:
    """Threads of two servers; each waits for the others and nothing is lost."""
    engines = opened(), opened()
    ids = [add_rater(engines[0], f"rater{n}").id for n in range(8)]

    def work(number: int) -> None:
        for instance in range(6):
            rate(engines[number % 2], ids[number], instance)

    together([lambda number=number: work(number) for number in range(8)])  # type: ignore[misc]
    found = {(one.task.rater, one.task.instance) for one in current_ratings(engines[0])}
    assert found == {(rater, instance) for rater in ids for instance in range(6)}


@BOTH
def test_a_form_sent_twice_at_once_is_one_rating(opened: Callable[[], Engine]) -> None:
    engines = opened(), opened()
    rater = add_rater(engines[0], "ada").id
    with writing(engines[0]) as connection:
        task = add_task(connection, rater, 0, False, "rating")

    def send(engine: Engine) -> None:
        submit(engine, rater, task.token, GOOD, "same-form")

    together([lambda engine=engine: send(engine) for engine in engines * 4])  # type: ignore[misc]
    with reading(engines[0]) as connection:
        assert connection.execute(sql.select(sql.func.count(ratings.c.id))).scalar_one() == 1


@BOTH
def test_forms_of_one_task_at_once_leave_one_that_counts(opened: Callable[[], Engine]) -> None:
    engines = opened(), opened()
    rater = add_rater(engines[0], "ada").id
    with writing(engines[0]) as connection:
        task = add_task(connection, rater, 0, False, "rating")

    def send(number: int) -> None:
        submit(engines[number % 2], rater, task.token, GOOD, f"form-number-{number}")

    together([lambda number=number: send(number) for number in range(8)])  # type: ignore[misc]
    with reading(engines[0]) as connection:
        states = connection.execute(sql.select(ratings.c.state)).scalars().all()
    assert sorted(states) == ["current"] + ["superseded"] * 7


@BOTH
def test_databases_opened_at_once_for_the_first_time(campaign: Campaign, url: str | None) -> None:
    engines: list[Engine] = []
    together([lambda: engines.append(open_database(campaign, url))] * 6)
    with reading(engines[0]) as connection:
        names = connection.execute(sql.select(facts.c.name).order_by(facts.c.name)).scalars().all()
    assert names == ["campaign", "schema", "wanted"]
    for engine in engines:
        engine.dispose()


@BOTH
def test_an_error_takes_back_the_whole_transaction(engine: Engine) -> None:
    rater = add_rater(engine, "ada").id

    def half() -> None:
        with writing(engine) as connection:
            add_task(connection, rater, 0, False, "rating")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    with reading(engine) as connection:
        assert connection.execute(sql.select(tasks)).all() == []
    rate(engine, rater, 0)


@contextmanager
def locked(engine: Engine) -> Iterator[None]:
    """Another process has the database to write; it writes nothing."""
    url = engine.url
    if engine.dialect.name == "sqlite":
        with closing(sqlite3.connect(str(url.database), isolation_level=None)) as raw:
            raw.execute("BEGIN IMMEDIATE")
            yield
            raw.execute("ROLLBACK")
        return
    import psycopg

    where = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(where) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [database.ADVISORY_LOCK])
        yield
        connection.rollback()


@BOTH
def test_a_writer_waits_while_it_is_locked(engine: Engine) -> None:
    rater, waited = add_rater(engine, "ada").id, list[float]()

    def work() -> None:
        start = time.monotonic()
        rate(engine, rater, 0)
        waited.append(time.monotonic() - start)

    with locked(engine):
        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.4)
        assert current_ratings(engine) == []  # and readers do not wait
    thread.join()
    assert waited[0] >= 0.35
    assert len(current_ratings(engine)) == 1


@BOTH
def test_a_writer_that_waits_too_long_is_told(
    opened: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.2)
    engine = opened()
    rater = add_rater(engine, "ada").id
    with locked(engine), pytest.raises(UnavailableError, match=r"busy \(nothing was written"):
        rate(engine, rater, 0)
    with writing(engine), pytest.raises(UnavailableError, match="busy"):
        rate(engine, rater, 0)  # within the same process
    rate(engine, rater, 0)
    assert len(current_ratings(engine)) == 1


def test_a_full_disk_is_told_and_takes_nothing_with_it(campaign: Campaign) -> None:
    engine = open_database(campaign)
    rater, most = add_rater(engine, "ada").id, [0]

    @sql.event.listens_for(engine, "begin")
    def limit(connection: Any) -> None:
        if most[0]:
            connection.exec_driver_sql(f"PRAGMA max_page_count={most[0]}")

    with reading(engine) as connection:
        most[0] = connection.exec_driver_sql("PRAGMA page_count").scalar_one() + 4

    def fill() -> None:
        for instance in range(12):
            rate(engine, rater, instance, "x" * 5000)

    with pytest.raises(UnavailableError, match=r"disk of the database is full \(.*make room"):
        fill()
    done = len(current_ratings(engine))
    assert 1 <= done < 12
    most[0] += 100
    with reading(engine) as connection:
        open_ones = connection.execute(sql.select(sql.func.count(tasks.c.id))).scalar_one()
    rate(engine, rater, open_ones, "x" * 5000)
    assert len(current_ratings(engine)) == done + 1
    engine.dispose()


@BOTH
def test_a_database_is_one_campaigns(campaign: Campaign, opened: Callable[[], Engine]) -> None:
    opened()
    object.__setattr__(campaign, "fingerprint", "cd" * 32)
    with pytest.raises(UserError, match="holds another campaign's ratings"):
        opened()


@BOTH
def test_tables_of_another_version_are_not_touched(opened: Callable[[], Engine]) -> None:
    with writing(opened()) as connection:
        connection.execute(sql.update(facts).where(facts.c.name == "schema").values(value="7"))
    with pytest.raises(UserError, match="has tables of version 7, this is version 1"):
        opened()


def test_a_database_of_something_else_is_not_touched(campaign: Campaign) -> None:
    path = campaign.folder / database.FILE
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE sessions (id)")
        raw.commit()
    with pytest.raises(UserError, match="holds tables of something else"):
        open_database(campaign)
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT name FROM sqlite_master").fetchall() == [("sessions",)]


def test_a_file_that_is_no_database_is_told(campaign: Campaign) -> None:
    (campaign.folder / database.FILE).write_bytes(b"not a database at all" * 100)
    with pytest.raises(UserError, match="not a database"):
        open_database(campaign)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told(campaign: Campaign) -> None:
    campaign.folder.chmod(0o500)
    with pytest.raises(UserError, match="cannot be written"):
        open_database(campaign)


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written: no such file"):
        open_database(small_campaign(tmp_path / "gone"))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "is no URL"),
        ("camels", "is no URL"),
        ("mysql://me:secret@host/name", "'mysql' is no database"),
        ("postgresql+psycopg2://me:secret@host/name", "is no database"),
        ("sqlite:////etc/passwd", "'sqlite' is no database"),
    ],
)
def test_other_urls_are_mistakes(campaign: Campaign, url: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        open_database(campaign, url)
    assert "secret" not in str(error.value)


def test_a_server_that_is_not_there_is_told_without_the_password(campaign: Campaign) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(UnavailableError, match="cannot be used") as error:
        open_database(campaign, "postgresql://me:secret@127.0.0.1:1/name")
    assert "secret" not in str(error.value)


def test_postgresql_without_its_driver_says_what_to_install(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError, match=r"pip install 'cameleer\[postgresql\]'"):
        open_database(campaign, "postgresql://me@host/name")


def test_connections_that_the_server_ended_are_replaced(campaign: Campaign, server: str) -> None:
    import psycopg

    engine = open_database(campaign, emptied(server))
    rater = add_rater(engine, "ada").id
    with psycopg.connect(server) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        )
    rate(engine, rater, 0)
    assert len(current_ratings(engine)) == 1
    engine.dispose()


def test_the_clock_of_the_machine_counts_on() -> None:
    clock = database.Clock()
    first = clock.steady()
    assert clock.steady() >= first > 0
    assert clock.boot == database.Clock().boot  # processes of one machine agree
    assert abs(clock.wall() - time.time()) < 5


def test_it_starts_without_torch() -> None:
    names = "accounts", "campaign", "database", "ratings"
    code = ";".join(f"import cameleer.human.{name}" for name in names)
    done = subprocess.run(
        [sys.executable, "-c", f"{code};import sys;print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
