"""Who may come in: passwords and invite links, sessions, and how often one may try.

Of passwords only Argon2 hashes are kept, of tokens only SHA-256 (they are random, and long).
Expiry goes by campaign time (`database.now`), which setting a clock does not move.
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
import threading
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sql
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, Engine, Row

from cameleer.core.errors import UserError
from cameleer.human.database import (
    attempts,
    invites,
    mark_clock,
    now,
    raters,
    reading,
    sessions,
    writing,
)

Role = Literal["annotator", "admin"]

HOUR, DAY = 3600.0, 86400.0
IDLE, AGE = 8 * HOUR, 7 * DAY  # after which a session ends: unused, and in any case
INVITE_AGE = 14 * DAY
TOUCH = 60.0  # seconds between notes that a session is in use: a write each
WINDOW = 15 * 60.0  # seconds after which attempts to log in are forgotten
MOST_OF_ONE, MOST_OF_NAME, MOST_OF_ADDRESS = 10, 50, 200  # attempts within it
LEAST_PASSWORD, MOST_PASSWORD = 8, 256  # characters
NAME = re.compile(r"[\w.@+-]{1,64}")

# Memory of 19 MiB, two passes (OWASP's first choice for small servers): some 20 ms of one core.
HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
AT_ONCE = threading.BoundedSemaphore(4)  # hashes at a time, so that logins leave memory for work


class LoginError(UserError):
    """Name and password do not fit, or the link is not valid; which of them is wrong is not told.

    wait: seconds until the next attempt may be made; 0 if at once.
    """

    def __init__(self, message: str, *, wait: float = 0.0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.wait = wait


@dataclass(frozen=True)
class Rater:
    """A person with an account."""

    id: int
    name: str
    role: Role


@dataclass(frozen=True)
class Account:
    """A rater as the list of accounts shows it; state: `active`, `invited` or `disabled`."""

    rater: Rater
    state: Literal["active", "invited", "disabled"]


@dataclass(frozen=True)
class Session:
    """Somebody who is logged in; csrf: what every form of theirs must carry."""

    rater: Rater
    csrf: str


def add_rater(
    engine: Engine, name: str, role: Role = "annotator", password: str | None = None
) -> Rater:
    """Make an account; without a password it can only be entered by an invite link.

    Names differ by more than case. Raises UserError for a name that is taken or not fit to be one,
    and for a password that is too short.
    """
    name = check_name(name)
    hashed = hash_password(password) if password is not None else None
    row = {"name": name, "folded": _folded(name), "role": role, "password": hashed}
    with writing(engine) as connection:
        if _named(connection, name):
            raise UserError(f"there is an account '{name}' already", field="name")
        made = connection.execute(sql.insert(raters).values(row | {"disabled": False}))
        return Rater(int(made.inserted_primary_key[0]), name, role)  # type: ignore[index]


def check_name(name: str) -> str:
    """The name as it is kept; UserError where it is not fit for an account."""
    name = unicodedata.normalize("NFC", name)
    if not NAME.fullmatch(name):
        hint = "1 to 64 letters, digits and . _ - @ +"
        raise UserError("is not a name for an account", field="name", hint=hint)
    return name


def rater_named(engine: Engine, name: str) -> Rater | None:
    """The account of that name, disabled or not."""
    with reading(engine) as connection:
        found = _named(connection, name)
    return _rater(found) if found else None


def accounts(engine: Engine) -> list[Account]:
    """All accounts by name."""
    with reading(engine) as connection:
        rows = connection.execute(sql.select(raters).order_by(raters.c.folded)).all()
    return [Account(_rater(row), _state(row)) for row in rows]


def disable(engine: Engine, rater: int) -> None:
    """Let a rater in no more: sessions and invites end now; what they said stays."""
    with writing(engine) as connection:
        connection.execute(sql.update(raters).where(raters.c.id == rater).values(disabled=True))
        connection.execute(sql.delete(sessions).where(sessions.c.rater == rater))
        connection.execute(sql.delete(invites).where(invites.c.rater == rater))


def invite(engine: Engine, rater: int) -> str:
    """A token that lets the rater in once, within 14 days; one given before ends.

    It serves a first visit, a password that was forgotten, and who was disabled: they may come
    again.
    """
    token = secrets.token_urlsafe(32)
    with writing(engine) as connection:
        connection.execute(sql.update(raters).where(raters.c.id == rater).values(disabled=False))
        connection.execute(sql.delete(invites).where(invites.c.rater == rater))
        row = {"token_hash": _hash(token), "rater": rater, "used": False}
        expires = now(connection) + INVITE_AGE
        connection.execute(sql.insert(invites).values(row | {"expires": expires}))
    return token


def invited(engine: Engine, token: str) -> Rater | None:
    """Whose invite it is, if it can be redeemed; to look at it does not use it up."""
    with reading(engine) as connection:
        found = _invite(connection, token)
    return _rater(found) if found else None


def redeem(engine: Engine, token: str, password: str | None = None) -> Rater:
    """Use an invite up; password: becomes the rater's. Raises LoginError where it is not valid."""
    hashed = hash_password(password) if password is not None else None
    with writing(engine) as connection:
        found = _invite(connection, token)
        if found is None:
            hint = "ask for a new one"
            raise LoginError("this link was used already, or has expired", hint=hint)
        used = sql.update(invites).where(invites.c.token_hash == _hash(token)).values(used=True)
        connection.execute(used)
        if hashed is not None:
            change = sql.update(raters).where(raters.c.id == found.id).values(password=hashed)
            connection.execute(change)
            # Who had the old password must not stay in by it.
            connection.execute(sql.delete(sessions).where(sessions.c.rater == found.id))
    return _rater(found)


def hash_password(password: str) -> str:
    """Argon2id of a password; UserError where it is too short or too long."""
    if not LEAST_PASSWORD <= len(password) <= MOST_PASSWORD:
        fit = f"{LEAST_PASSWORD} to {MOST_PASSWORD} characters"
        raise UserError("is too short or too long", field="password", hint=fit)
    with AT_ONCE:
        return HASHER.hash(_encoded(password))


def check_password(engine: Engine, name: str, password: str, address: str) -> Rater:
    """The rater of that name and password.

    address: whence the attempt comes. Attempts are counted in the database before the password is
    looked at: 10 in a quarter of an hour of one name from one address, 50 of one name, 200 from one
    address. Raises LoginError; its `wait` says how long after too many.
    """
    name = unicodedata.normalize("NFC", name)[:MOST_PASSWORD]
    pair = _key("pair", _folded(name), address)
    limits = {
        pair: MOST_OF_ONE,
        _key("name", _folded(name)): MOST_OF_NAME,
        _key("address", address): MOST_OF_ADDRESS,
    }
    with writing(engine) as connection:
        _count(connection, limits)
        found = _named(connection, name)
    known = found is not None and found.password is not None and not found.disabled
    fits = _fits(found.password if known and found else _nobodys(), password)
    if found is None or not known or not fits:
        raise LoginError("name and password do not fit")
    with writing(engine) as connection:  # only failures count in the end
        connection.execute(sql.delete(attempts).where(attempts.c.key == pair))
        others = attempts.c.key.in_(limits)
        back = sql.update(attempts).where(others, attempts.c.made > 0)
        connection.execute(back.values(made=attempts.c.made - 1))
    return _rater(found)


def open_session(engine: Engine, rater: int, before: str | None = None) -> str:
    """Log a rater in; returns the session's token, for a cookie.

    before: the token that the browser came with, whose session ends: one that somebody else had
    put there is of no use to them.
    """
    token = secrets.token_urlsafe(32)
    with writing(engine) as connection:
        time = mark_clock(connection)
        ended = sql.or_(sessions.c.seen < time - IDLE, sessions.c.begun < time - AGE)
        if before is not None:
            ended = sql.or_(ended, sessions.c.token_hash == _hash(before))
        connection.execute(sql.delete(sessions).where(ended))
        row = {"token_hash": _hash(token), "rater": rater, "csrf": secrets.token_urlsafe(32)}
        connection.execute(sql.insert(sessions).values(row | {"begun": time, "seen": time}))
    return token


def session_of(engine: Engine, token: str) -> Session | None:
    """The session of a token; None where it is unknown, closed or expired, or the rater disabled.

    A session ends when it was not used for 8 hours, and after 7 days in any case.
    """
    query = (
        sql.select(sessions, raters)
        .set_label_style(sql.LABEL_STYLE_TABLENAME_PLUS_COL)
        .join(raters, raters.c.id == sessions.c.rater)
        .where(sessions.c.token_hash == _hash(token), ~raters.c.disabled)
    )
    with reading(engine) as connection:
        found = connection.execute(query).first()
        if found is None:
            return None
        time = now(connection)
    if time - found.sessions_seen > IDLE or time - found.sessions_begun > AGE:
        return None
    if time - found.sessions_seen > TOUCH:
        _touch(engine, token)
    rater = Rater(found.raters_id, found.raters_name, found.raters_role)
    return Session(rater, found.sessions_csrf)


def close_session(engine: Engine, token: str) -> None:
    """Log out; a token that is unknown is none any more either."""
    with writing(engine) as connection:
        connection.execute(sql.delete(sessions).where(sessions.c.token_hash == _hash(token)))


def _touch(engine: Engine, token: str) -> None:
    with writing(engine) as connection:
        seen = mark_clock(connection)
        own = sessions.c.token_hash == _hash(token)
        connection.execute(sql.update(sessions).where(own).values(seen=seen))


def _count(connection: Connection, limits: dict[str, int]) -> None:
    """Count an attempt under each key; LoginError where one has too many."""
    time = now(connection)
    connection.execute(sql.delete(attempts).where(attempts.c.until <= time))
    rows = connection.execute(sql.select(attempts).where(attempts.c.key.in_(limits))).all()
    held = {row.key: row for row in rows}
    full = [row.until - time for key, row in held.items() if row.made >= limits[key]]
    if full:
        hint = f"try again in {math.ceil(max(full) / 60)} min"
        raise LoginError("too many attempts", wait=max(full), hint=hint)
    for key in limits:
        if key in held:
            more = sql.update(attempts).where(attempts.c.key == key)
            connection.execute(more.values(made=attempts.c.made + 1))
        else:
            row = {"key": key, "made": 1, "until": time + WINDOW}
            connection.execute(sql.insert(attempts).values(row))


def _invite(connection: Connection, token: str) -> Row[Any] | None:
    """The rater of an invite that is valid now."""
    return connection.execute(
        sql.select(raters)
        .join(invites, invites.c.rater == raters.c.id)
        .where(
            invites.c.token_hash == _hash(token),
            ~invites.c.used,
            invites.c.expires > now(connection),
            ~raters.c.disabled,
        )
    ).first()


def _named(connection: Connection, name: str) -> Row[Any] | None:
    name = unicodedata.normalize("NFC", name)
    if not NAME.fullmatch(name):
        return None
    return connection.execute(sql.select(raters).where(raters.c.folded == _folded(name))).first()


def _fits(hashed: str, password: str) -> bool:
    try:
        with AT_ONCE:
            return HASHER.verify(hashed, _encoded(password[: MOST_PASSWORD + 1]))
    except (VerificationError, InvalidHashError):
        return False


_nobody: list[str] = []


def _nobodys() -> str:
    """The hash of a password that nobody has: to try it takes as long as to try another."""
    if not _nobody:
        _nobody.append(HASHER.hash(secrets.token_bytes(32)))
    return _nobody[0]


def _rater(row: Row[Any]) -> Rater:
    return Rater(row.id, row.name, row.role)


def _state(row: Row[Any]) -> Literal["active", "invited", "disabled"]:
    if row.disabled:
        return "disabled"
    return "active" if row.password else "invited"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _hash(token: str) -> str:
    return hashlib.sha256(_encoded(token)).hexdigest()


def _key(*parts: str) -> str:
    """Names and addresses are not kept, nor is how long they are."""
    return _hash("\0".join(parts))
