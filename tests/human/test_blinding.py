"""Blinding: nothing that an annotator's browser gets tells which model wrote what."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cameleer.human.ratings import task_of as stored_task
from tests.human.site import MODELS, Browser, Site, Tags, instances, site, task_of

RANDOM = re.compile(r'(name="csrf" value|name="submission" value|data-task|action)="[^"]*"')


def everything(response: Any) -> str:
    """What went over the wire: the status, the headers with cookies, the body."""
    headers = "\n".join(f"{name}: {value}" for name, value in response.headers.multi_items())
    return f"{response.status_code}\n{response.url}\n{headers}\n{response.text}"


def walk(browser: Browser, ratings: int) -> Iterator[Any]:
    """All pages of an annotator who rates so many items; each response."""
    for path in ("/", "/login", "/guidelines", "/pause", "/done", "/nowhere", "/admin"):
        yield browser.get(path)
    for name in ("app.css", "rate.js", "early.js", "board.js", "icon.svg"):
        yield browser.get(f"/static/{name}")
    for _ in range(ratings):
        page = browser.get("/rate")
        if page.status_code == 303:
            break
        yield page
        yield browser.rate(page, preference="9")
        saved = browser.rate(page)
        yield saved
        yield browser.get(saved.headers["location"])
    yield browser.fill("/undo", {})
    yield browser.get("/rate")


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path / "c", instances(6, practice=True)) as made:
        yield made


def test_no_response_names_a_model(open_site: Site) -> None:
    browser = open_site.browser(open_site.rater("ann"))
    responses = list(walk(browser, 8))
    assert len(responses) > 30
    for response in responses:
        said = everything(response).casefold()
        for name in MODELS:
            assert name not in said, response.url


def test_no_response_names_an_item(open_site: Site) -> None:
    """The key of an item could be looked up where the models' answers are published."""
    browser = open_site.browser(open_site.rater("ann"))
    assert all("item/" not in everything(response) for response in walk(browser, 8))


def test_pages_do_not_depend_on_the_models_names(tmp_path: Path) -> None:
    """Two campaigns that differ in the names alone, the one's A being the other's B by name, send
    the same bytes, but for what is random."""
    seen = []
    for models in (MODELS, MODELS[::-1]):
        with site(tmp_path / models[0], instances(6, models)) as one:
            browser = one.browser(one.rater("ann"))
            pages = [browser.get("/guidelines")]
            for _ in range(6):
                pages.append(browser.get("/rate"))
                browser.rate(pages[-1])
            seen.append([RANDOM.sub(r"\1", page.text) for page in pages])
            lengths = [len(page.content) for page in pages[2:]]  # the first has no undo
            assert len(set(lengths)) == 1  # whichever answer stands first
    assert seen[0] == seen[1]


def test_order_is_the_tasks_and_stays(open_site: Site) -> None:
    rater = open_site.rater("ann")
    browser = open_site.browser(rater)
    for _ in range(7):
        page = browser.get("/rate")
        task = stored_task(open_site.engine, rater.id, task_of(page.text))
        one = open_site.campaign.instances[task.instance]
        answers = [one.completion_a, one.completion_b]
        first, second = reversed(answers) if task.b_first else answers
        text = Tags(page.text).text
        assert text.index(first) < text.index("Second answer") < text.index(second)
        again = browser.get("/rate")
        assert Tags(again.text).text == text
        browser.rate(page)


def test_a_campaign_named_after_its_models_hides_its_name(tmp_path: Path) -> None:
    name = f"{MODELS[0].upper()} against others"
    with site(tmp_path / "c", instances(2), name=name) as made:
        rater, admin = made.rater("ann"), made.rater("boss", "admin")
        page = made.browser(rater).get("/rate").text
        assert MODELS[0] not in page.casefold()
        assert "Human evaluation" in page
        assert name in made.browser(admin).get("/admin").text


def test_admins_who_know_do_not_rate(open_site: Site) -> None:
    admin = open_site.browser(open_site.rater("boss", "admin"))
    assert admin.get("/rate").status_code == 403


def test_a_hidden_repeat_looks_like_any_other(tmp_path: Path) -> None:
    with site(tmp_path / "c", instances(30), repeats=2) as made:
        rater = made.rater("ann")
        browser = made.browser(rater)
        kinds, shapes = [], set()
        while (page := browser.get("/rate")).status_code == 200:
            kinds.append(stored_task(made.engine, rater.id, task_of(page.text)).kind)
            shape = re.sub(r"\d+", "0", RANDOM.sub(r"\1", page.text))
            shape = shape.replace("yes, 0", "").replace("no, 0", "")
            shapes.add(shape)
            browser.rate(page)
        assert kinds.count("repeat") == 2
        assert len(shapes) <= 2  # the first page has nothing to undo
