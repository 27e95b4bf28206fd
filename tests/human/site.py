"""A small campaign, its app and a browser without scripts: what tests of the app share."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from starlette.testclient import TestClient

from cameleer.human.accounts import Rater, Role, add_rater, open_session
from cameleer.human.app import make_app
from cameleer.human.campaign import Campaign, Instance, Practice, Settings
from cameleer.human.database import open_database
from cameleer.human.security import Address

HERE = "http://127.0.0.1:8765"
MODELS = ("gpt-zebra", "camel-quagga")
PASSWORD = "correct horse battery"
GUIDELINES = "# How to rate\n\nRead **both** answers."


def instances(
    count: int = 4, models: Sequence[str] = MODELS, practice: bool = False
) -> list[Instance]:
    """Items of one pair; a practice item, where it is wanted, comes first."""
    a, b = models
    made = []
    if practice:
        good = Practice(True, False, (-2, -1), "The first sum is right: *6*.")
        made.append(Instance(0, "p", "3 + 5 - 2 = ?", a, b, "six", "seven", good))
    for number in range(count):
        prompt, yes, no = f"Prompt {number}?", f"yes, {number}", f"no, {number}"
        made.append(Instance(len(made), f"item/{number}", prompt, a, b, yes, no))
    return made


def campaign(folder: Path, items: list[Instance], **settings: Any) -> Campaign:
    """A campaign that holds these items; a name and guidelines where none are given."""
    given = {"name": "Spring round", "guidelines": GUIDELINES, "overlap": 0.0, **settings}
    folder.mkdir(parents=True, exist_ok=True)
    return Campaign(folder, Settings(**given), items, fingerprint="0" * 64)


@dataclass
class Site:
    """An app with its database."""

    campaign: Campaign
    engine: sql.Engine
    public_url: str | None = None

    def __post_init__(self) -> None:
        self.app = make_app(self.campaign, self.engine, public_url=self.public_url)

    @property
    def cookie(self) -> str:
        return Address("", self.public_url, str(self.campaign.folder.resolve())).cookie

    def rater(self, name: str, role: Role = "annotator", password: str | None = None) -> Rater:
        return add_rater(self.engine, name, role, password)

    def browser(self, rater: Rater | None = None) -> Browser:
        """A browser; logged in, if it is somebody's."""
        browser = Browser(self)
        if rater is not None:
            browser.cookies.set(self.cookie, open_session(self.engine, rater.id))
        return browser


@contextmanager
def site(
    folder: Path,
    items: list[Instance] | None = None,
    public_url: str | None = None,
    **settings: Any,
) -> Iterator[Site]:
    """An app over a new database in a folder."""
    made = campaign(folder, items if items is not None else instances(), **settings)
    engine = open_database(made)
    try:
        yield Site(made, engine, public_url)
    finally:
        engine.dispose()


class Browser(TestClient):
    """Goes to pages, reads their forms, and sends them as a browser would."""

    def __init__(self, of: Site) -> None:
        base = of.public_url or HERE
        super().__init__(
            of.app, base_url=base, follow_redirects=False, raise_server_exceptions=False
        )
        self.headers["Origin"] = base

    def fill(self, path: str, fields: dict[str, str], page: Any = None, **how: Any) -> Any:
        """Post a form with the token of `page`, else of the guidelines or the login page."""
        page = page or self.get("/guidelines")
        if page.status_code == 303:
            page = self.get("/login")
        return self.post(path, data={"csrf": csrf_of(page.text), **fields}, **how)

    def rate(self, page: Any = None, **changes: str) -> Any:
        """Send the rating page with all that is needed, or with changes."""
        page = page or self.get("/rate")
        fields = {
            "first_acceptable": "yes",
            "second_acceptable": "no",
            "preference": "-2",
            "quality": "good",
            "comment": "",
            "seconds": "3.5",
            "submission": submission_of(page.text),
            **changes,
        }
        return self.fill(f"/rate/{task_of(page.text)}", fields, page)


def csrf_of(page: str) -> str:
    return _value(page, r'name="csrf" value="([^"]+)"')


def submission_of(page: str) -> str:
    return _value(page, r'name="submission" value="([^"]+)"')


def task_of(page: str) -> str:
    return _value(page, r'data-task="([^"]+)"')


def _value(page: str, pattern: str) -> str:
    found = re.search(pattern, page)
    assert found, f"no {pattern} in the page"
    return found[1]


class Tags(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def require_inert(page: str) -> None:
    """Nothing of a page runs but scripts in files of its server, and nothing leads elsewhere."""
    for tag, attributes in Tags(page).tags:
        assert tag not in ("style", "iframe", "object", "embed", "base")
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        assert tag != "script" or (attributes["src"] or "").startswith("/static/")
        for name in ("src", "href", "action"):
            assert re.match(r"/(?!/)|#|[\w.-]+$", attributes.get(name) or "/"), (tag, attributes)
