"""`cameleer annotate new` and `account`: numbers and next steps, passwords, links, mistakes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from sqlalchemy import Engine

from cameleer.cli import main
from cameleer.cli.campaigns import EXTRA
from cameleer.human import accounts
from cameleer.human.accounts import check_password, redeem
from cameleer.human.campaign import Campaign
from cameleer.human.database import open_database

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CAMELEER_DATABASE", raising=False)
    monkeypatch.setattr(accounts, "HASHER", PasswordHasher(1, 8, 1))
    for name in ("red", "blue", "green"):
        rows = [{"prompt": f"Say {n}.", "completion": f"{n} by {name}"} for n in range(4)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))

    def one(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main(["annotate", *arguments])
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return one


NEW = ("new", "colours", "--answers", "red=red.jsonl", "--answers", "blue=blue.jsonl")


@pytest.fixture
def made(run: Run) -> Run:
    assert run(*NEW)[0] == 0
    return run


def test_new_says_numbers_and_what_comes_next(run: Run) -> None:
    code, out, err = run(*NEW, "--overlap", "0.5")
    assert code == 0, err
    assert out.split() == ["A", "B", "comparisons", "red", "blue", "4"]
    assert "4 prompts, 4 comparisons, 6 ratings with an overlap of 0.5" in err
    assert "next: cameleer annotate account colours add NAME --admin" in err
    assert "then: cameleer annotate serve colours" in err


def test_new_as_json(run: Run) -> None:
    code, out, err = run(
        *NEW, "--answers", "green=green.jsonl", "--pairs", "red,blue", "--pairs", "red,green",
        "--items", "3", "--repeats", "0", "--target", "0.1", "--json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "folder": "colours",
        "items": 3,
        "pairs": [
            {"A": "red", "B": "blue", "comparisons": 3},
            {"A": "red", "B": "green", "comparisons": 3},
        ],
        "comparisons": 6,
        "expected_ratings": 8,
        "practice": 3,
        "repeats": 0,
        "counts": {},
    }
    assert Campaign.open(Path("colours")).settings.target == 0.1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("new", "c"), "there is nothing to compare (give --answers MODEL=FILE"),
        (("new", "c", "--answers", "red.jsonl"), "'red.jsonl' is not MODEL=FILE"),
        (("new", "c", "--answers", "red="), "'red=' is not MODEL=FILE"),
        ((*NEW, "--pairs", "red"), "'red' is not A,B"),
        ((*NEW, "--pairs", "red,teal"), "unknown model 'teal'"),
        (("new", "c", "--answers", "red=none.jsonl"), "none.jsonl: no such file"),
        ((*NEW, "--overlap", "2"), "field 'overlap'"),
        (("account", "none", "list"), "none: holds no campaign"),
        (("serve-not", "c"), "No such command"),
    ],
)
def test_mistakes_are_one_line(run: Run, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_an_account_with_a_password(made: Run) -> None:
    code, out, err = made("account", "colours", "add", "ada", stdin="four camels\n")
    assert (code, out) == (0, ""), err
    assert "ada can log in (annotator)" in err
    engine = open_database(Campaign.open(Path("colours")))
    assert check_password(engine, "ada", "four camels", "here").role == "annotator"
    for again in ((), ("--json",)):
        code, out, err = made("account", "colours", "add", "Ada", *again, stdin="five camels\n")
        assert (code, out) == (2, "")
        assert "there is an account 'ada' already" in err
    assert check_password(engine, "ada", "four camels", "here")
    engine.dispose()


def test_an_account_with_a_link(made: Run) -> None:
    url = ("--url", "https://rate.example.org/")
    code, out, err = made("account", "colours", "add", "root", "--admin", "--invite", *url)
    assert code == 0
    assert "root (admin) can come in once by this link, within 14 days" in err
    start, token = out.strip().rsplit("/", 1)
    assert start == "https://rate.example.org/invite"
    engine = open_database(Campaign.open(Path("colours")))
    assert redeem(engine, token, "four camels").role == "admin"
    code, out, _ = made("account", "colours", "add", "root", "--invite", "--json")
    told = json.loads(out)
    assert told["role"] == "admin"
    assert redeem(engine, told["link"].rsplit("/", 1)[1], "five camels").name == "root"
    engine.dispose()


def test_accounts_are_listed_and_disabled(made: Run) -> None:
    assert "there are no accounts" in made("account", "colours", "list")[2]
    made("account", "colours", "add", "ada", stdin="four camels\n")
    made("account", "colours", "add", "bob", "--invite")
    code, _, err = made("account", "colours", "disable", "ADA")
    assert code == 0
    assert "ada is logged out and cannot come in; their ratings stay" in err
    _, out, _ = made("account", "colours", "list", "--json")
    assert json.loads(out)["accounts"] == [
        {"name": "ada", "role": "annotator", "state": "disabled"},
        {"name": "bob", "role": "annotator", "state": "invited"},
    ]
    _, out, _ = made("account", "colours", "list")
    assert [line.split() for line in out.splitlines()] == [
        ["name", "role", "state"],
        ["ada", "annotator", "disabled"],
        ["bob", "annotator", "invited"],
    ]


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (("add",), "", "field 'name': is needed"),
        (("list", "ada"), "", "field 'name': is not needed"),
        (("add", "a b"), "four camels\n", "is not a name for an account"),
        (("add", "ada"), "", "there is no password on stdin"),
        (("add", "ada"), "short\n", "is too short or too long"),
        (("disable", "eve"), "", "there is no account 'eve'"),
        (("list", "--database", "mysql://me:secret@h/n"), "", "'mysql' is no database"),
        (("remove", "ada"), "", "'remove' is not one of"),
    ],
)
def test_mistakes_with_accounts_are_one_line(
    made: Run, arguments: tuple[str, ...], stdin: str, said: str
) -> None:
    code, out, err = made("account", "colours", *arguments, stdin=stdin)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert "secret" not in err


def test_an_annotator_is_not_made_an_admin_by_a_link(made: Run) -> None:
    made("account", "colours", "add", "bob", "--invite")
    code, _, err = made("account", "colours", "add", "bob", "--invite", "--admin")
    assert code == 2
    assert "'bob' is an annotator" in err


@pytest.mark.parametrize(
    "verb", [("account", "colours", "list"), ("serve", "colours"), ("export", "colours", "-o", "x")]
)
def test_what_is_not_installed_is_told(
    made: Run, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]
) -> None:
    there = {name: name for name in EXTRA if name != "sqlalchemy"}
    monkeypatch.setattr("cameleer.cli.campaigns.find_spec", there.get)
    code, out, err = made(*verb)
    assert (code, out) == (2, "")
    assert "sqlalchemy is not installed (pip install 'cameleer[annotate]')" in err
    assert err.count("\n") == 1


def test_the_database_may_be_named_in_the_environment(
    made: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def instead(campaign: Campaign, url: str | None) -> Engine:
        asked.append(url)
        return open_database(campaign)

    monkeypatch.setattr("cameleer.human.database.open_database", instead)
    monkeypatch.setenv("CAMELEER_DATABASE", "postgresql://me@host/name")
    assert made("account", "colours", "list")[0] == 0
    assert asked == ["postgresql://me@host/name"]
