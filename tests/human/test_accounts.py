"""Accounts: what is kept of secrets, who comes in, for how long, and how often one may try."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sql
from argon2 import PasswordHasher
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from cameleer.core.errors import UserError
from cameleer.human import accounts
from cameleer.human.accounts import (
    AGE,
    IDLE,
    INVITE_AGE,
    WINDOW,
    LoginError,
    Rater,
    add_rater,
    check_password,
    close_session,
    disable,
    invite,
    invited,
    open_session,
    rater_named,
    redeem,
    session_of,
)
from cameleer.human.database import attempts, metadata, open_database, reading
from tests.human.conftest import BOTH, HandClock, small_campaign

PASSWORD = "four camels in a row"
HERE = "192.0.2.7"


@pytest.fixture
def ada(engine: Engine) -> Rater:
    return add_rater(engine, "ada", password=PASSWORD)


def held(engine: Engine) -> str:
    """Everything that the database holds, as text."""
    with reading(engine) as connection:
        tables = [connection.execute(sql.select(one)).all() for one in metadata.sorted_tables]
    return repr(tables)


@BOTH
def test_a_name_and_its_password_fit(engine: Engine, ada: Rater) -> None:
    assert ada == Rater(ada.id, "ada", "annotator")
    for name in ("ada", "ADA", "Ada"):
        assert check_password(engine, name, PASSWORD, HERE) == ada


@BOTH
@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ada", PASSWORD + " "),
        ("ada", PASSWORD.upper()),
        ("ada", ""),
        ("ada", "x" * 100_000),
        ("ada", "\ud800 broken"),
        ("ada", PASSWORD + "\0"),
        ("nobody", PASSWORD),
        ("", PASSWORD),
        ("ada' --", PASSWORD),
        ("a\0da", PASSWORD),
        ("\ud800", PASSWORD),
        ("a" * 100_000, PASSWORD),
    ],
)
def test_others_do_not_and_all_are_told_the_same(
    engine: Engine, ada: Rater, name: str, password: str
) -> None:
    with pytest.raises(LoginError) as error:
        check_password(engine, name, password, HERE)
    assert str(error.value) == "name and password do not fit"
    assert error.value.wait == 0


def test_who_has_no_password_yet_does_not_come_in_without_one(engine: Engine) -> None:
    add_rater(engine, "eve")
    for password in ("", "None", "null"):
        with pytest.raises(LoginError):
            check_password(engine, "eve", password, HERE)


def test_an_unknown_name_costs_as_much_as_a_wrong_password(
    engine: Engine, ada: Rater, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    class Told(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
            looked.append(str(hash))
            return bool(super().verify(hash, password))

    monkeypatch.setattr(accounts, "HASHER", Told(1, 8, 1))
    for name in ("ada", "nobody"):
        with pytest.raises(LoginError):
            check_password(engine, name, "wrong password", HERE)
    assert len(looked) == 2


@BOTH
def test_secrets_are_kept_as_hashes_only(engine: Engine, ada: Rater) -> None:
    session, link = open_session(engine, ada.id), invite(engine, ada.id)
    with pytest.raises(LoginError):
        check_password(engine, "ada", "a wrong password", HERE)
    kept = held(engine)
    assert "$argon2id$" in kept
    for secret in (PASSWORD, session, link, "a wrong password", HERE):
        assert secret not in kept


def test_passwords_are_hashed_as_slowly_as_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert accounts.hash_password(PASSWORD).startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert accounts.hash_password(PASSWORD) != accounts.hash_password(PASSWORD)  # salted


@pytest.mark.parametrize("password", ["", "short", "x" * 257])
def test_a_password_has_a_length(engine: Engine, password: str) -> None:
    with pytest.raises(UserError, match="8 to 256 characters"):
        add_rater(engine, "eve", password=password)
    assert rater_named(engine, "eve") is None


@pytest.mark.parametrize("name", ["", " ", "a b", "a/b", "<b>", "x" * 65, "a\0b", "a\nb", "\ud800"])
def test_a_name_is_a_name(engine: Engine, name: str) -> None:
    with pytest.raises(UserError, match="is not a name"):
        add_rater(engine, name)


def test_names_differ_by_more_than_case(engine: Engine) -> None:
    add_rater(engine, "Zoë")
    for same in ("zoë", "ZOË", "Zoe\u0308", "ＺＯË"):
        with pytest.raises(UserError, match="already"):
            add_rater(engine, same)
    add_rater(engine, "Zoe")
    assert [one.rater.name for one in accounts.accounts(engine)] == ["Zoe", "Zoë"]


@BOTH
def test_the_list_of_accounts(engine: Engine, ada: Rater) -> None:
    add_rater(engine, "root", "admin", PASSWORD)
    add_rater(engine, "eve")
    disable(engine, add_rater(engine, "bob").id)
    told = [(one.rater.name, one.rater.role, one.state) for one in accounts.accounts(engine)]
    assert told == [
        ("ada", "annotator", "active"),
        ("bob", "annotator", "disabled"),
        ("eve", "annotator", "invited"),
        ("root", "admin", "active"),
    ]


# Sessions


@BOTH
def test_a_session_is_its_raters(engine: Engine, ada: Rater) -> None:
    root = add_rater(engine, "root", "admin")
    one, other = open_session(engine, ada.id), open_session(engine, root.id)
    mine, theirs = session_of(engine, one), session_of(engine, other)
    assert mine is not None
    assert theirs is not None
    assert (mine.rater, theirs.rater) == (ada, root)
    assert len({one, other, mine.csrf, theirs.csrf}) == 4
    assert min(len(one), len(mine.csrf)) >= 43  # 256 bits


@BOTH
@pytest.mark.parametrize("token", ["", "x" * 43, "' OR 1=1 --", "\0", "\ud800", "x" * 100_000])
def test_an_unknown_token_is_nobodys(engine: Engine, ada: Rater, token: str) -> None:
    open_session(engine, ada.id)
    assert session_of(engine, token) is None
    assert invited(engine, token) is None
    close_session(engine, token)


def test_what_is_kept_of_a_token_opens_nothing(engine: Engine, ada: Rater) -> None:
    open_session(engine, ada.id)
    with reading(engine) as connection:
        kept = connection.execute(sql.select(metadata.tables["sessions"].c.token_hash)).scalar_one()
    assert session_of(engine, kept) is None


def test_logging_out_ends_one_session(engine: Engine, ada: Rater) -> None:
    here, there = open_session(engine, ada.id), open_session(engine, ada.id)
    close_session(engine, here)
    assert session_of(engine, here) is None
    assert session_of(engine, there) is not None


@BOTH
def test_logging_in_ends_the_session_that_the_browser_came_with(engine: Engine, ada: Rater) -> None:
    before = open_session(engine, ada.id)
    after = open_session(engine, ada.id, before)
    assert before != after
    assert session_of(engine, before) is None
    assert session_of(engine, after) is not None


def test_a_session_ends_when_it_is_not_used(engine: Engine, ada: Rater, clock: HandClock) -> None:
    token = open_session(engine, ada.id)
    for _ in range(5):
        clock.pass_by(IDLE - 120)
        assert session_of(engine, token) is not None
    clock.pass_by(IDLE + 1)
    assert session_of(engine, token) is None


def test_a_session_ends_however_much_it_is_used(
    engine: Engine, ada: Rater, clock: HandClock
) -> None:
    token, steps = open_session(engine, ada.id), 0
    while session_of(engine, token) is not None:
        clock.pass_by(6 * 3600)
        steps += 1
    assert steps == AGE / (6 * 3600) + 1


@BOTH
def test_sessions_that_ended_are_cleared_away(engine: Engine, ada: Rater, clock: HandClock) -> None:
    for _ in range(3):
        open_session(engine, ada.id)
    clock.pass_by(IDLE + 1)
    open_session(engine, ada.id)
    with reading(engine) as connection:
        count = sql.select(sql.func.count()).select_from(metadata.tables["sessions"])
        assert connection.execute(count).scalar_one() == 1


@BOTH
def test_who_is_disabled_is_out_at_once(engine: Engine, ada: Rater) -> None:
    token, link = open_session(engine, ada.id), invite(engine, ada.id)
    disable(engine, ada.id)
    assert session_of(engine, token) is None
    assert invited(engine, link) is None
    with pytest.raises(LoginError):
        check_password(engine, "ada", PASSWORD, HERE)
    assert redeem(engine, invite(engine, ada.id), PASSWORD) == ada
    assert check_password(engine, "ada", PASSWORD, HERE) == ada


# Clocks


@pytest.mark.parametrize("jump", [-20, 20])
def test_a_clock_set_by_years_logs_nobody_out_and_nobody_in_for_ever(
    engine: Engine, ada: Rater, clock: HandClock, jump: int
) -> None:
    token, link = open_session(engine, ada.id), invite(engine, ada.id)
    clock.set_by(jump * 365.25 * 86400)
    assert session_of(engine, token) is not None
    assert invited(engine, link) == ada
    later = open_session(engine, ada.id)
    clock.pass_by(IDLE + 1)
    assert session_of(engine, token) is None
    assert session_of(engine, later) is None
    clock.pass_by(INVITE_AGE)
    assert invited(engine, link) is None


@BOTH
def test_time_goes_on_while_the_machine_is_off(
    opened: Callable[[], Engine], clock: HandClock
) -> None:
    engine = opened()
    token = open_session(engine, add_rater(engine, "ada").id)
    clock.restart(off=3600)
    assert session_of(opened(), token) is not None
    clock.restart(off=IDLE + 60)
    assert session_of(opened(), token) is None


def test_a_restart_with_the_clock_set_back_logs_nobody_in_for_ever(
    opened: Callable[[], Engine], clock: HandClock
) -> None:
    engine = opened()
    token = open_session(engine, add_rater(engine, "ada").id)
    clock.restart(off=-10 * 365 * 86400)
    engine = opened()
    assert session_of(engine, token) is not None
    clock.pass_by(IDLE + 1)
    assert session_of(engine, token) is None


happenings = st.lists(
    st.tuples(st.sampled_from(["pass", "set", "restart", "use"]), st.integers(-(10**9), 10**9)),
    max_size=12,
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(happenings=happenings)
def test_whatever_clocks_do_a_session_that_is_unused_for_too_long_ends(
    happenings: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    clock = HandClock()
    campaign = small_campaign(tmp_path_factory.mktemp("clocks"))
    engine = open_database(campaign, clock=clock)
    token = open_session(engine, add_rater(engine, "ada").id)
    unused, restarted = 0.0, False  # seconds by a clock that is never set
    for what, amount in happenings:
        if what == "pass":
            clock.pass_by(abs(amount) % 20_000)
            unused += abs(amount) % 20_000
        elif what == "set":
            clock.set_by(amount)
        elif what == "restart":
            clock.restart(off=amount)
            restarted = True
            engine = open_database(campaign, clock=clock)
        else:
            there = session_of(engine, token) is not None
            if not restarted:  # else the wall clock is all that there is to go by
                assert there == (unused <= IDLE) or IDLE - 60 <= unused <= IDLE + 60
            if not there:
                break
            unused = min(unused, 60.0)  # uses closer than a minute are not noted
    clock.pass_by(IDLE + 1)
    assert session_of(engine, token) is None
    engine.dispose()


# Invites


@BOTH
def test_an_invite_lets_in_once(engine: Engine) -> None:
    eve = add_rater(engine, "eve")
    token = invite(engine, eve.id)
    assert invited(engine, token) == eve
    assert invited(engine, token) == eve  # to look at it, as a mail filter does, is no use
    assert redeem(engine, token, PASSWORD) == eve
    assert check_password(engine, "eve", PASSWORD, HERE) == eve
    with pytest.raises(LoginError, match="used already, or has expired"):
        redeem(engine, token, "another password")
    assert invited(engine, token) is None
    assert check_password(engine, "eve", PASSWORD, HERE) == eve


def test_a_password_that_is_too_short_leaves_the_invite_as_it_was(engine: Engine) -> None:
    token = invite(engine, add_rater(engine, "eve").id)
    with pytest.raises(UserError, match="too short"):
        redeem(engine, token, "short")
    assert invited(engine, token) is not None


def test_an_invite_expires(engine: Engine, clock: HandClock) -> None:
    token = invite(engine, add_rater(engine, "eve").id)
    clock.pass_by(INVITE_AGE - 1)
    assert invited(engine, token) is not None
    clock.pass_by(2)
    assert invited(engine, token) is None
    with pytest.raises(LoginError):
        redeem(engine, token)


def test_a_new_invite_ends_the_one_before(engine: Engine) -> None:
    eve = add_rater(engine, "eve")
    old, new = invite(engine, eve.id), invite(engine, eve.id)
    assert invited(engine, old) is None
    assert invited(engine, new) == eve


def test_a_new_password_ends_sessions_under_the_old_one(engine: Engine, ada: Rater) -> None:
    token = open_session(engine, ada.id)
    redeem(engine, invite(engine, ada.id), "a new password")
    assert session_of(engine, token) is None
    with pytest.raises(LoginError):
        check_password(engine, "ada", PASSWORD, HERE)


@BOTH
def test_of_many_who_redeem_at_once_one_comes_in(engine: Engine) -> None:
    token = invite(engine, add_rater(engine, "eve").id)
    came_in: list[Rater] = []
    start = threading.Barrier(6)

    def come() -> None:
        start.wait()
        with suppress(LoginError):
            came_in.append(redeem(engine, token, PASSWORD))

    threads = [threading.Thread(target=come) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(came_in) == 1


# Too many attempts


def tries(engine: Engine, name: str, address: str, count: int) -> list[float]:
    """The `wait` of each of so many wrong attempts."""
    waits = []
    for _ in range(count):
        with pytest.raises(LoginError) as error:
            check_password(engine, name, "a wrong password", address)
        waits.append(error.value.wait)
    return waits


@BOTH
def test_too_many_attempts_are_stopped_for_all_processes_and_for_a_while(
    opened: Callable[[], Engine], clock: HandClock
) -> None:
    one, other = opened(), opened()
    ada = add_rater(one, "ada", password=PASSWORD)
    assert tries(one, "ada", HERE, 5) + tries(other, "Ada", HERE, 5) == [0.0] * 10
    for engine in (one, other):
        with pytest.raises(LoginError, match=r"too many attempts \(try again in 15 min\)") as e:
            check_password(engine, "ada", PASSWORD, HERE)
        assert e.value.wait == pytest.approx(WINDOW)
    assert check_password(one, "ada", PASSWORD, "192.0.2.8") == ada  # Ada herself, at home
    clock.pass_by(WINDOW - 1)
    assert tries(one, "ada", HERE, 1) == [pytest.approx(1)]
    clock.pass_by(2)
    assert check_password(one, "ada", PASSWORD, HERE) == ada


def test_who_gets_it_right_starts_anew(engine: Engine, ada: Rater) -> None:
    for _ in range(3):
        assert tries(engine, "ada", HERE, 9) == [0.0] * 9
        assert check_password(engine, "ada", PASSWORD, HERE) == ada


@BOTH
def test_a_whole_class_may_log_in_from_one_address(
    engine: Engine, ada: Rater, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "MOST_OF_ADDRESS", 3)
    monkeypatch.setattr(accounts, "MOST_OF_NAME", 3)
    for _ in range(8):
        assert check_password(engine, "ada", PASSWORD, HERE) == ada


def test_a_name_is_not_guessed_from_many_addresses(
    engine: Engine, ada: Rater, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "MOST_OF_NAME", 12)
    waits = [tries(engine, "ada", f"192.0.2.{n}", 1)[0] for n in range(14)]
    assert [wait > 0 for wait in waits] == [False] * 12 + [True] * 2


def test_an_address_does_not_try_many_names(
    engine: Engine, ada: Rater, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "MOST_OF_ADDRESS", 12)
    waits = [tries(engine, f"name{n}", HERE, 1)[0] for n in range(14)]
    assert [wait > 0 for wait in waits] == [False] * 12 + [True] * 2
    assert check_password(engine, "ada", PASSWORD, "192.0.2.8") == ada


def test_attempts_are_forgotten(engine: Engine, ada: Rater, clock: HandClock) -> None:
    tries(engine, "ada", HERE, 3)
    tries(engine, "nobody", "192.0.2.8", 1)
    clock.pass_by(WINDOW + 1)
    check_password(engine, "ada", PASSWORD, "192.0.2.9")
    with reading(engine) as connection:
        assert sum(row.made for row in connection.execute(sql.select(attempts))) == 0


def test_the_file_is_for_its_owner_only(campaign: object, tmp_path: Path) -> None:
    open_database(campaign).dispose()  # type: ignore[arg-type]
    assert (tmp_path / "annotations.sqlite").stat().st_mode & 0o077 == 0
