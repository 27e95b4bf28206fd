"""The database of a campaign: its tables, how it is opened, and one writer at a time.

SQLite in the campaign's folder, or PostgreSQL by URL; the tables are the same. SQL is only ever
made here and beside here by SQLAlchemy, with bound parameters.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy import Column, Connection, Engine, ForeignKey, Index, MetaData, Table
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from cameleer.core.errors import UserError
from cameleer.human.campaign import Campaign

SCHEMA = "1"  # goes up when the tables change
FILE = "annotations.sqlite"
PATIENCE = 30.0  # seconds that a writer waits for the one before it
CONNECTIONS = 20  # at once, of one process; PostgreSQL takes a hundred
ADVISORY_LOCK = 0x63616D65  # names our writers' lock among those of a PostgreSQL database

metadata = MetaData()

facts = Table(
    "facts",
    metadata,
    Column("name", sql.String(64), primary_key=True),
    Column("value", sql.Text, nullable=False),
)
"""What the database is: `schema`, `campaign` (its fingerprint), `wanted` (ratings in all)."""

clocks = Table(
    "clocks",
    metadata,
    Column("boot", sql.String(64), primary_key=True),
    Column("ahead", sql.Double, nullable=False),
    Column("wall", sql.Double, nullable=False),
    Column("seen", sql.Double, nullable=False),
)
"""For each start of a machine how far campaign time is ahead of its steady clock, see `now`."""

raters = Table(
    "raters",
    metadata,
    Column("id", sql.Integer, primary_key=True),
    Column("name", sql.String(64), nullable=False),
    Column("folded", sql.String(200), nullable=False, unique=True),
    Column("role", sql.String(16), nullable=False),
    Column("password", sql.String(200)),
    Column("disabled", sql.Boolean, nullable=False),
)
"""Who may come in. folded: the name as it is told from others; password: Argon2's, or none yet."""

invites = Table(
    "invites",
    metadata,
    Column("token_hash", sql.String(64), primary_key=True),
    Column("rater", ForeignKey("raters.id"), nullable=False, index=True),
    Column("expires", sql.Double, nullable=False),
    Column("used", sql.Boolean, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", sql.String(64), primary_key=True),
    Column("rater", ForeignKey("raters.id"), nullable=False, index=True),
    Column("csrf", sql.String(64), nullable=False),
    Column("begun", sql.Double, nullable=False),
    Column("seen", sql.Double, nullable=False),
)
"""Who is logged in; times are campaign time. A session that is closed is deleted."""

attempts = Table(
    "attempts",
    metadata,
    Column("key", sql.String(64), primary_key=True),
    Column("made", sql.Integer, nullable=False),
    Column("until", sql.Double, nullable=False),
)
"""How many attempts to log in were made, by a hash of whose or whence; forgotten at `until`."""

tasks = Table(
    "tasks",
    metadata,
    Column("id", sql.Integer, primary_key=True),
    Column("token", sql.String(64), nullable=False, unique=True),
    Column("rater", ForeignKey("raters.id"), nullable=False),
    Column("instance", sql.Integer, nullable=False),
    Column("b_first", sql.Boolean, nullable=False),
    Column("kind", sql.String(16), nullable=False),
    Column("number", sql.Integer, nullable=False),
    Column("given", sql.Double, nullable=False),
    sql.UniqueConstraint("rater", "instance", "kind"),
    Index("tasks_by_instance", "instance", "kind"),
)
"""What was given to whom. number: counts a rater's tasks from 1; given: campaign time."""

ratings = Table(
    "ratings",
    metadata,
    Column("id", sql.Integer, primary_key=True),
    Column("task", ForeignKey("tasks.id"), nullable=False),
    Column("submission", sql.String(64), nullable=False),
    Column("state", sql.String(16), nullable=False),
    Column("first_acceptable", sql.Boolean),
    Column("second_acceptable", sql.Boolean),
    Column("preference", sql.Integer),
    Column("quality", sql.String(16), nullable=False),
    Column("comment", sql.Text, nullable=False),
    Column("seconds", sql.Double, nullable=False),
    Column("elapsed", sql.Double, nullable=False),
    Column("time", sql.String(32), nullable=False),
    sql.UniqueConstraint("task", "submission"),
    Index(
        "ratings_that_count",
        "task",
        unique=True,
        sqlite_where=sql.text("state = 'current'"),
        postgresql_where=sql.text("state = 'current'"),
    ),
)
"""Every rating ever made; rows are added, and only `state` changes: `current`, of which a task has
one at most, `superseded` by a newer one, or `undone`. seconds: told by the page, no more than
`elapsed`, the server's own; time: when, UTC, by the wall clock."""


class UnavailableError(UserError):
    """The database could not take this now, and took nothing of it: it is busy, full or gone."""


class Clock:
    """The machine's clocks. boot: names the start of the machine since which `steady` counts."""

    def __init__(self) -> None:
        self.boot = _boot()

    def wall(self) -> float:
        """Seconds since 1970 as people see them; may jump either way when the clock is set."""
        return time.time()

    def steady(self) -> float:
        """Seconds since the machine was started, asleep or not; never set, never back."""
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # no Linux: this process is all that can be told apart
        return uuid.uuid4().hex


def open_database(campaign: Campaign, url: str | None = None, clock: Clock | None = None) -> Engine:
    """The campaign's database, made where it is not there yet.

    url: `postgresql://user@host/name`; without it SQLite in the campaign's folder. Raises UserError
    where it cannot be reached, or holds another campaign or the tables of another version.
    """
    where = _url(campaign, url)
    options = {"clock": clock or Clock(), "writer": threading.Lock()}
    engine = _engine(where, options)
    with writing(engine) as connection:
        _check(connection, campaign, where.render_as_string(hide_password=True))
        metadata.create_all(connection)
        _state(connection, campaign)
        mark_clock(connection)
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes; there is one at a time in the whole database, others wait.

    It is committed to the disk at the end of the block; after any error nothing of it is kept.
    Raises UnavailableError where the wait is too long or the disk full.
    """
    writer = engine.get_execution_options()["writer"]
    # Threads of one process queue up here: SQLite's own way to wait is to sleep and look again.
    if not writer.acquire(timeout=PATIENCE):
        raise UnavailableError("the database is busy", hint=_AGAIN)
    try:
        with (
            _told(),
            engine.connect().execution_options(writes=True) as connection,
            connection.begin(),
        ):
            if engine.dialect.name == "postgresql":
                lock = sql.func.pg_advisory_xact_lock(ADVISORY_LOCK)
                connection.execute(sql.select(lock))
            yield connection
    finally:
        writer.release()


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads; it waits for nobody."""
    with _told(), engine.connect() as connection, connection.begin():
        yield connection


def now(connection: Connection) -> float:
    """Campaign time in seconds: what sessions, invites and times per item are measured by.

    It goes on by the machine's steady clock, so setting the wall clock moves nothing. Where the
    machine was started anew, or is another one, it goes on from where it was last marked by what
    the wall clock says has gone by since, never back.
    """
    clock: Clock = connection.get_execution_options()["clock"]
    found = connection.execute(sql.select(clocks).where(clocks.c.boot == clock.boot)).first()
    if found is not None:
        told = float(found.ahead) + clock.steady()
        if told > found.seen - 1:  # less only if this is the copy of a machine at an earlier time
            return told
    last = connection.execute(sql.select(clocks).order_by(clocks.c.seen.desc()).limit(1)).first()
    return float(last.seen + max(0.0, clock.wall() - last.wall)) if last else 0.0


def mark_clock(connection: Connection) -> float:
    """`now`, kept in a transaction of `writing`, so that it goes on from here after a restart."""
    clock: Clock = connection.get_execution_options()["clock"]
    told = now(connection)
    connection.execute(sql.delete(clocks).where(clocks.c.boot == clock.boot))
    ahead = told - clock.steady()
    row = {"boot": clock.boot, "ahead": ahead, "wall": clock.wall(), "seen": told}
    connection.execute(sql.insert(clocks).values(row))
    return told


def wall_time(connection: Connection) -> str:
    """When it is, UTC, by the wall clock, as records state it."""
    clock: Clock = connection.get_execution_options()["clock"]
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock.wall()))


_AGAIN = "nothing was written; try again in a moment"


@contextmanager
def _told() -> Iterator[None]:
    """What a database fails of, in our words."""
    try:
        yield
    except PoolTimeoutError:
        raise UnavailableError("the database is busy", hint=_AGAIN) from None
    except (DBAPIError, sqlite3.Error) as error:
        told = _in_our_words(error)
        if told is None:
            raise
        raise told from None


def _in_our_words(error: Exception) -> UserError | None:
    """What went wrong, where the database or its disk is the reason, and not a mistake of ours."""
    cause = getattr(error, "orig", None) or error
    said = str(cause).partition("\n")[0]
    state = getattr(cause, "sqlstate", None) or ""
    if "is full" in said or state == "53100":
        hint = "nothing was written; make room"
        return UnavailableError("the disk of the database is full", hint=hint)
    if "is locked" in said or state in ("55P03", "40001", "40P01"):
        return UnavailableError("the database is busy", hint=_AGAIN)
    lost = getattr(error, "connection_invalidated", False) or state[:2] in ("08", "28", "3D", "57")
    signs = ("connection", "readonly", "disk I/O", "unable to open", "not a database", "malformed")
    if lost or any(sign in said for sign in signs):
        hint = "nothing was written; check that it is there, then try again"
        return UnavailableError(f"the database cannot be used: {said}", hint=hint)
    return None


def _url(campaign: Campaign, url: str | None) -> URL:
    if url is None:
        return URL.create("sqlite", database=str(campaign.folder / FILE))
    hint = "write it as postgresql://user@host/name"
    try:
        where = make_url(url)
    except (ArgumentError, ValueError):
        raise UserError("is no URL of a database", field="database", hint=hint) from None
    if where.drivername in ("postgresql", "postgres"):
        where = where.set(drivername="postgresql+psycopg")
    if where.drivername != "postgresql+psycopg":
        kind = where.drivername
        raise UserError(f"'{kind}' is no database that is known", field="database", hint=hint)
    return where


def _engine(where: URL, options: dict[str, Any]) -> Engine:
    shared: dict[str, Any] = {
        "execution_options": options,
        "pool_size": CONNECTIONS,
        "max_overflow": 0,
        "pool_timeout": PATIENCE,
        "hide_parameters": True,  # comments and hashes do not belong into a traceback
    }
    if where.drivername == "sqlite":
        return _sqlite(where, shared)
    wait = f"-c lock_timeout={int(PATIENCE * 1000)}"
    try:
        return sql.create_engine(
            where,
            **shared,
            pool_pre_ping=True,
            connect_args={"options": wait, "connect_timeout": 10},
        )
    except (ImportError, NoSuchModuleError):
        hint = "pip install 'cameleer[postgresql]'"
        raise UserError("PostgreSQL needs psycopg", field="database", hint=hint) from None


def _sqlite(where: URL, shared: dict[str, Any]) -> Engine:
    """WAL, so that readers wait for nobody; FULL, so that what is confirmed outlives a power
    cut."""
    path = Path(str(where.database))
    try:  # it holds hashes of passwords, and what people said
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise UserError(
            f"cannot be written: {reason}", file=path, hint="check the rights"
        ) from None
    _use_wal(path)
    engine = sql.create_engine(where, **shared, connect_args={"timeout": PATIENCE})

    @sql.event.listens_for(engine, "connect")
    def connected(raw: Any, _: Any) -> None:
        raw.isolation_level = None  # transactions are begun below, not by Python's module
        raw.execute("PRAGMA synchronous=FULL")
        raw.execute("PRAGMA foreign_keys=ON")

    @sql.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _use_wal(path: Path) -> None:
    """Set the journal's mode, which stays with the file.

    To change it SQLite needs the file for itself, and does not wait for it: we do.
    """
    given_up = time.monotonic() + PATIENCE
    while True:
        try:
            with closing(sqlite3.connect(path, timeout=PATIENCE)) as raw:
                mode = raw.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            break
        except sqlite3.Error as error:
            if "locked" not in str(error) or time.monotonic() > given_up:
                raise (_in_our_words(error) or error) from None
            time.sleep(0.05)
    if mode != "wal":
        hint = "is it on a network disk? keep the campaign on a local one, or use PostgreSQL"
        raise UserError("SQLite cannot keep its log beside this file", file=path, hint=hint)


def _check(connection: Connection, campaign: Campaign, where: str) -> None:
    """Raise UserError unless the database is empty, or this campaign's and of our version."""
    tables = sql.inspect(connection).get_table_names()
    if not tables:
        return
    hint = "each campaign has a database of its own"
    if facts.name not in tables:
        raise UserError(f"the database {where} holds tables of something else", hint=hint)
    held = {row.name: row.value for row in connection.execute(sql.select(facts))}
    if held["schema"] != SCHEMA:
        other = f"has tables of version {held['schema']}, this is version {SCHEMA}"
        hint = "use the version of cameleer that made it"
        raise UserError(f"the database {where} {other}", hint=hint)
    if held["campaign"] != campaign.fingerprint:
        raise UserError(f"the database {where} holds another campaign's ratings", hint=hint)


def _state(connection: Connection, campaign: Campaign) -> None:
    """Write down what the database is; how many ratings are wanted follows the settings."""
    wanted = str(campaign.expected_ratings)
    ours = {"schema": SCHEMA, "campaign": campaign.fingerprint, "wanted": wanted}
    connection.execute(sql.delete(facts))
    connection.execute(
        sql.insert(facts), [{"name": name, "value": value} for name, value in ours.items()]
    )
