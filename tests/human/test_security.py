"""What strangers and annotators who mean ill can try: each a test by its name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.testclient import TestClient

from cameleer.core.errors import UserError
from cameleer.human import serving, visit
from cameleer.human.accounts import accounts, disable, invite, session_of
from cameleer.human.app import PAGES
from cameleer.human.ratings import current_ratings
from cameleer.human.security import BODY_BYTES, HEADERS, Rates, read_public_url
from tests.human.site import (
    HERE,
    PASSWORD,
    Browser,
    Site,
    Tags,
    csrf_of,
    instances,
    require_inert,
    site,
    submission_of,
    task_of,
)

GETS = [page for page in PAGES if page.method == "GET"]
POSTS = [page for page in PAGES if page.method == "POST"]


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path / "c") as made:
        yield made


def filled(path: str) -> str:
    """A path with ids that name nothing."""
    return path.replace("{token}", "nobodys").replace("{rater:int}", "999")


def some_responses(open_site: Site, ann: Browser, boss: Browser) -> list[Any]:
    """Good pages, redirections, and every way to fail."""
    stranger = open_site.browser()
    return [
        *(stranger.get(filled(page.path)) for page in GETS),
        *(ann.get(filled(page.path)) for page in GETS),
        *(boss.get(filled(page.path)) for page in GETS),
        stranger.get("/static/app.css"),
        stranger.get("/static/nothing"),
        stranger.get("/nowhere"),
        stranger.delete("/login"),
        stranger.post("/login", data={"csrf": "wrong"}),
        stranger.post("/login", json={}),
        stranger.post("/login", data={"name": "x" * BODY_BYTES}),
        stranger.get("/login", headers={"Host": "evil.example"}),
    ]


def test_every_response_has_the_headers(open_site: Site, ann: Browser, boss: Browser) -> None:
    statuses = set()
    for response in some_responses(open_site, ann, boss):
        statuses.add(response.status_code)
        for name, value in HEADERS.items():
            if name != "Cache-Control" or not response.url.path.startswith("/static/app"):
                assert response.headers[name] == value, (name, response.url)
    assert statuses >= {200, 303, 400, 403, 404, 405, 413, 415}


def test_content_security_policy_allows_no_inline_script_and_no_other_site() -> None:
    rules = dict(
        rule.strip().split(" ", 1) for rule in HEADERS["Content-Security-Policy"].split(";")
    )
    assert rules.pop("default-src") == "'none'"
    assert rules.pop("frame-ancestors") == rules.pop("base-uri") == "'none'"
    assert set(rules.values()) == {"'self'"}


def test_pages_may_not_be_framed() -> None:
    assert HEADERS["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in HEADERS["Content-Security-Policy"]


def test_types_are_not_guessed_and_are_right(open_site: Site, ann: Browser) -> None:
    assert HEADERS["X-Content-Type-Options"] == "nosniff"
    assert ann.get("/rate").headers["Content-Type"] == "text/html; charset=utf-8"
    assert ann.get("/static/rate.js").headers["Content-Type"].startswith("text/javascript")
    assert ann.get("/static/app.css").headers["Content-Type"].startswith("text/css")


def test_other_sites_are_not_told_where_a_link_was_followed() -> None:
    assert HEADERS["Referrer-Policy"] == "same-origin"


def test_private_pages_are_not_kept_by_browsers(open_site: Site, ann: Browser) -> None:
    for path in ("/rate", "/guidelines", "/login"):
        assert ann.get(path).headers["Cache-Control"] == "no-store"
    versioned = re.search(r"/static/app.css\?v=\w+", ann.get("/rate").text)
    assert versioned
    assert "immutable" in ann.get(versioned[0]).headers["Cache-Control"]
    assert ann.get("/static/app.css?v=old").headers["Cache-Control"] == "no-cache"


def test_pages_hold_no_inline_script_and_fetch_nothing_elsewhere(
    open_site: Site, ann: Browser, boss: Browser
) -> None:
    for response in some_responses(open_site, ann, boss):
        if not response.headers.get("Content-Type", "").startswith("text/html"):
            continue
        require_inert(response.text)


def test_scripts_of_ours_reach_no_other_site() -> None:
    for name, (data, _) in serving.static_files().items():
        said = data.decode().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|\beval\(|innerHTML|document\.write", said), name


def test_session_cookie_flags(open_site: Site) -> None:
    open_site.rater("ann", password=PASSWORD)
    browser = open_site.browser()
    cookie = browser.fill("/login", {"name": "ann", "password": PASSWORD}).headers["set-cookie"]
    assert cookie.startswith(open_site.cookie)
    flags = {flag.strip().lower() for flag in cookie.split(";")[1:]}
    assert flags == {
        "httponly",
        "path=/",
        "samesite=strict",
    }  # nor an age: it ends with the browser


def test_session_cookie_is_secure_behind_https(tmp_path: Path) -> None:
    with site(tmp_path / "c", public_url="https://rate.example.org") as made:
        made.rater("ann", password=PASSWORD)
        browser = made.browser()
        cookie = browser.fill("/login", {"name": "ann", "password": PASSWORD}).headers["set-cookie"]
        assert cookie.startswith("__Host-")
        assert "; secure" in cookie.lower()
        assert browser.get("/rate").status_code == 200


def test_csrf_every_post_needs_the_token_of_its_page(
    open_site: Site, ann: Browser, boss: Browser
) -> None:
    assert len(POSTS) >= 7
    token = csrf_of(ann.get("/guidelines").text)
    for page in POSTS:
        browser = {"annotator": ann, "admin": boss}.get(page.who, ann)
        for given in ({"x": ""}, {"csrf": ""}, {"csrf": "x" * 43}, {"csrf": "é"}):
            assert browser.post(filled(page.path), data=given).status_code == 403, page.path
        assert boss.post(filled(page.path), data={"csrf": token}).status_code == 403, page.path


def test_csrf_login_and_invites_need_the_token_of_a_cookie(open_site: Site) -> None:
    open_site.rater("ann", password=PASSWORD)
    victim, attacker = open_site.browser(), open_site.browser()
    victim.get("/login")
    theirs = csrf_of(attacker.get("/login").text)
    fields = {"csrf": theirs, "name": "ann", "password": PASSWORD}
    assert victim.post("/login", data=fields).status_code == 403
    assert open_site.browser().post("/login", data=fields).status_code == 403
    assert attacker.post("/login", data=fields).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "https://127.0.0.1:8765"},
        {"Origin": "http://127.0.0.1:8765.evil.example"},
        {"Origin": HERE, "Sec-Fetch-Site": "cross-site"},
        {"Origin": HERE, "Sec-Fetch-Site": "same-site"},
    ],
)
def test_origin_every_post_must_come_from_our_pages(
    open_site: Site, ann: Browser, headers: dict[str, str]
) -> None:
    page = ann.get("/rate")
    ann.headers.update(headers)
    assert ann.rate(page).status_code == 403
    assert current_ratings(open_site.engine) == []


def test_origin_a_post_that_tells_none_is_refused(open_site: Site, ann: Browser) -> None:
    page = ann.get("/rate")
    del ann.headers["Origin"]
    assert ann.rate(page).status_code == 403


def test_origin_is_the_public_one_behind_a_proxy(tmp_path: Path) -> None:
    with site(tmp_path / "c", public_url="https://rate.example.org") as made:
        browser = made.browser(made.rater("ann"))
        page = browser.get("/rate", headers={"Host": "127.0.0.1:8765"})  # as a proxy may ask
        assert browser.rate(page).status_code == 303
        browser.headers["Origin"] = "http://rate.example.org"
        assert browser.rate().status_code == 403


def test_body_too_large_is_413_told_or_not(open_site: Site, ann: Browser) -> None:
    page = ann.get("/rate")
    assert ann.rate(page, comment="x" * BODY_BYTES).status_code == 413

    def untold() -> Iterator[bytes]:
        for _ in range(BODY_BYTES // 1000 + 1):
            yield b"a=" + b"x" * 998

    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert ann.post("/undo", content=untold(), headers=form).status_code == 413
    assert ann.rate(page, comment="x" * 5_000).status_code == 303


def test_comment_too_long_is_told(open_site: Site, ann: Browser) -> None:
    response = ann.rate(comment="x" * 5_001)
    assert response.status_code == 422
    assert "5,001 characters" in response.text


def test_other_kinds_of_bodies_are_415(open_site: Site, ann: Browser) -> None:
    assert ann.post("/undo", json={"csrf": "x"}).status_code == 415
    assert ann.post("/undo", files={"file": b"x"}).status_code == 415
    text = {"Content-Type": "text/plain"}
    assert ann.post("/undo", content=b"csrf=x", headers=text).status_code == 415


@pytest.mark.parametrize("body", [b"\xff\xfe", b"a=%ff", b"&".join([b"a=1"] * 100)])
def test_broken_forms_are_400(open_site: Site, ann: Browser, body: bytes) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert ann.post("/undo", content=body, headers=form).status_code == 400


def test_a_form_that_never_arrives_is_408(
    open_site: Site, ann: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cameleer.human.security.BODY_SECONDS", 0.05)
    headers = {
        "host": HERE[7:],
        "origin": HERE,
        "content-type": "application/x-www-form-urlencoded",
    }
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/undo"}
    scope["query_string"] = b""
    scope["headers"] = [(name.encode(), value.encode()) for name, value in headers.items()]
    sent: list[Any] = []

    async def never() -> Any:
        await anyio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    anyio.run(open_site.app, scope, never, send)
    assert sent[0]["status"] == 408


def test_login_rate_limit_is_429_and_says_when(open_site: Site) -> None:
    open_site.rater("ann", password=PASSWORD)
    browser = open_site.browser()
    wrong = {"name": "ann", "password": "wrong wrong wrong"}
    answers = [browser.fill("/login", wrong) for _ in range(11)]
    assert [one.status_code for one in answers] == [401] * 10 + [429]
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 15 * 60
    assert browser.fill("/login", {"name": "ann", "password": PASSWORD}).status_code == 429


def test_post_rate_limit_is_429_and_says_when(open_site: Site, ann: Browser, boss: Browser) -> None:
    page = ann.get("/guidelines")
    answers = [ann.fill("/undo", {}, page) for _ in range(100)]
    late = [one for one in answers if one.status_code == 429]
    assert 0 < len(late) <= 40  # 60 at once, some more in the meantime
    assert late[-1].headers["Retry-After"] == "1"
    assert boss.fill("/admin/accounts", {"name": "new"}).status_code == 200  # others may


def test_invites_are_not_guessed_without_end(
    open_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visit, "STRANGERS", (20, 0.5))
    browser = Site(open_site.campaign, open_site.engine).browser()
    page = browser.get("/login")
    fields = {"password": PASSWORD, "again": PASSWORD}
    answers = [browser.fill("/invite/x", fields, page).status_code for _ in range(30)]
    assert answers[:20] == [404] * 20
    assert 429 in answers[20:]


def test_rates_fill_again_and_forget_nobody_who_waits() -> None:
    time = [100.0]
    rates = Rates(burst=2, per_second=0.5, clock=lambda: time[0], keys=20)
    assert [rates.take("a") for _ in range(3)] == [0, 0, 2]
    time[0] += 1
    assert rates.wait("a") == 1
    time[0] += 1
    assert rates.take("a") == 0
    assert rates.wait("a") == 2
    for number in range(200):
        rates.take(f"other {number}")
    assert len(rates._buckets) <= 20


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "", "evil.example:8765", "[::1", "local host"],
)
def test_host_other_names_are_turned_away(open_site: Site, host: str) -> None:
    response = TestClient(open_site.app, base_url=HERE).get("/login", headers={"Host": host})
    assert response.status_code == 400


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8765", "localhost:8765", "[::1]:8765", "10.1.2.3", "LOCALHOST"]
)
def test_host_our_own_names_are_answered(open_site: Site, host: str) -> None:
    response = TestClient(open_site.app, base_url=HERE).get("/login", headers={"Host": host})
    assert response.status_code == 200


def test_roles_are_checked_on_the_server(open_site: Site, ann: Browser, boss: Browser) -> None:
    stranger = open_site.browser()
    for page in PAGES:
        path = filled(page.path)
        for browser, role in ((ann, "annotator"), (boss, "admin"), (stranger, "")):
            if page.who in ("anyone", role) or (page.who == "any account" and role):
                continue
            token = {
                "csrf": csrf_of(
                    (browser.get("/guidelines") if role else browser.get("/login")).text
                )
            }
            answer = browser.get(path) if page.method == "GET" else browser.post(path, data=token)
            if role:
                assert answer.status_code == 403, (role, page)
            elif path == "/admin/numbers":
                assert answer.status_code == 401
            else:
                assert (answer.status_code, answer.headers["location"]) == (303, "/login"), page


def test_a_role_in_a_form_or_cookie_makes_nobody_admin(open_site: Site, ann: Browser) -> None:
    ann.cookies.set("role", "admin")
    ann.fill("/undo", {"role": "admin"})
    assert ann.get("/admin?role=admin").status_code == 403
    assert [one.rater.role for one in accounts(open_site.engine)] == ["annotator"]


def test_strangers_scripts_get_401(open_site: Site) -> None:
    answer = open_site.browser().get("/rate", headers={"Accept": "application/json"})
    assert (answer.status_code, answer.json()) == (401, {"error": "You were signed out."})


def test_users_cannot_be_found_out_by_logging_in(open_site: Site) -> None:
    open_site.rater("ann", password=PASSWORD)
    gone = open_site.rater("bob", password=PASSWORD)
    disable(open_site.engine, gone.id)
    open_site.rater("cat")  # invited, without a password yet
    browser = open_site.browser()
    browser.get("/login")
    told = set()
    for name, password in (("ann", "wrong"), ("bob", PASSWORD), ("cat", ""), ("dan", "wrong")):
        answer = browser.fill("/login", {"name": name, "password": password})
        told.add((answer.status_code, answer.text.replace(f'value="{name}"', "")))
    assert len(told) == 1


def test_users_cannot_be_found_out_by_invites(open_site: Site) -> None:
    rater = open_site.rater("ann")
    old = invite(open_site.engine, rater.id)
    invite(open_site.engine, rater.id)
    browser = open_site.browser()
    used, never = browser.get(f"/invite/{old}"), browser.get("/invite/never-was")
    assert used.status_code == never.status_code == 404
    assert used.text == never.text


def test_forged_ids_are_404(open_site: Site, ann: Browser, boss: Browser) -> None:
    page = ann.get("/rate")
    for token in ("1", "nobodys", "%00", "' OR 1=1 --", "..%2fadmin", "é", "x" * 500):
        fields = {"submission": submission_of(page.text)}
        assert ann.fill(f"/rate/{token}", fields, page).status_code == 404, token
        assert ann.get(f"/practice/{token}").status_code == 404, token
        assert ann.get(f"/invite/{token}").status_code == 404, token
    for path in ("/admin/accounts/999/invite", "/admin/accounts/999/disable"):
        assert boss.fill(path, {}).status_code == 404
    assert boss.fill("/admin/accounts/x/disable", {}).status_code == 404


def test_someone_elses_item_is_404_and_stays_theirs(open_site: Site, ann: Browser) -> None:
    other = open_site.browser(open_site.rater("bob"))
    page, theirs = other.get("/rate"), ann.get("/rate")
    fields = {"submission": submission_of(page.text), "first_acceptable": "yes"}
    fields |= {"second_acceptable": "yes", "preference": "0"}
    forged = other.fill(f"/rate/{task_of(theirs.text)}", fields, page)
    never = other.fill("/rate/never", fields, page)
    assert forged.status_code == never.status_code == 404
    assert forged.text == never.text
    assert current_ratings(open_site.engine) == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"])
def test_other_methods_are_405(open_site: Site, ann: Browser, method: str) -> None:
    for page in PAGES:
        assert ann.request(method, filled(page.path)).status_code in (404, 405)
    assert ann.request(method, "/rate").status_code == 405
    assert ann.request(method, "/static/app.css").status_code == 405


def test_what_changes_something_cannot_be_had_by_get(open_site: Site, ann: Browser) -> None:
    ann.rate()
    for path in ("/undo", "/logout"):
        assert ann.get(path).status_code == 405
    assert len(current_ratings(open_site.engine)) == 1
    assert ann.get("/rate").status_code == 200


def test_logging_out_ends_the_session_on_the_server(open_site: Site, ann: Browser) -> None:
    token = ann.cookies[open_site.cookie]
    answer = ann.fill("/logout", {})
    assert answer.headers["location"] == "/login"
    assert "max-age=0" in answer.headers["set-cookie"].lower()
    assert session_of(open_site.engine, token) is None
    thief = open_site.browser()
    thief.cookies.set(open_site.cookie, token)
    assert thief.get("/rate").headers["location"] == "/login"


def test_logging_in_takes_a_new_token(open_site: Site) -> None:
    """A token that an attacker had put into the browser is of no use to him afterwards."""
    open_site.rater("ann", password=PASSWORD)
    evil = open_site.rater("eve")
    browser = open_site.browser(evil)
    planted = browser.cookies[open_site.cookie]
    browser.fill("/login", {"name": "ann", "password": PASSWORD})
    given = [one.value for one in browser.cookies.jar if one.name == open_site.cookie]
    assert len(set(given)) == 2  # beside the one that was planted
    assert session_of(open_site.engine, planted) is None


def test_who_is_disabled_is_out_at_once(open_site: Site, ann: Browser, boss: Browser) -> None:
    assert ann.get("/rate").status_code == 200
    rater = accounts(open_site.engine)[0].rater
    boss.fill(f"/admin/accounts/{rater.id}/disable", {})
    assert ann.get("/rate").headers["location"] == "/login"


def test_admins_cannot_lock_themselves_out(open_site: Site, boss: Browser) -> None:
    own = next(one.rater.id for one in accounts(open_site.engine) if one.rater.name == "boss")
    assert boss.fill(f"/admin/accounts/{own}/disable", {}).status_code == 422
    assert boss.get("/admin/accounts").status_code == 200


def test_sql_in_what_is_typed_is_text(open_site: Site, ann: Browser, boss: Browser) -> None:
    evil = "'); DROP TABLE ratings; --"
    assert ann.rate(comment=evil).status_code == 303
    assert [one.rating.comment for one in current_ratings(open_site.engine)] == [evil]
    stranger = open_site.browser()
    assert stranger.fill("/login", {"name": "' OR '1'='1", "password": evil}).status_code == 401
    assert boss.fill("/admin/accounts", {"name": evil}).status_code == 422


def test_scripts_in_texts_are_text_on_every_page(tmp_path: Path) -> None:
    evil = "</textarea><script>alert(1)</script><img src=x onerror=alert(1)>"
    items = [replace(one, prompt=evil, completion_a=evil) for one in instances(2)]
    with site(tmp_path / "c", items, name=evil[:60], guidelines=evil) as made:
        ann, boss = made.browser(made.rater("ann")), made.browser(made.rater("boss", "admin"))
        pages = [ann.get("/rate"), ann.rate(comment=evil, preference="9"), ann.get("/guidelines")]
        ann.rate(comment=evil)
        stranger = made.browser()
        pages += [boss.get("/admin"), boss.get("/admin/accounts"), stranger.get("/login")]
        pages += [boss.fill("/admin/accounts", {"name": evil})]
        pages += [stranger.fill("/login", {"name": evil, "password": "x"})]
        for page in pages:
            assert page.status_code in (200, 401, 422)
            for tag, attributes in Tags(page.text).tags:
                assert tag != "img"
                assert tag != "script" or attributes.get("src")


@pytest.mark.parametrize(
    "name", ["../app.py", "..%2fapp.py", "%2e%2e/app.py", "app.css%00", "/etc/passwd"]
)
def test_static_holds_its_files_and_no_others(open_site: Site, name: str) -> None:
    assert open_site.browser().get(f"/static/{name}").status_code == 404


def test_a_bug_of_ours_tells_nothing(
    open_site: Site, ann: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("the secret of gpt-zebra")

    monkeypatch.setattr("cameleer.human.pages.next_task", broken)
    answer = ann.get("/rate")
    assert answer.status_code == 500
    assert "zebra" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers.items() >= {k.lower(): v for k, v in HEADERS.items()}.items()


def test_the_export_is_for_admins(open_site: Site, ann: Browser, boss: Browser) -> None:
    ann.rate()
    assert ann.get("/admin/export").status_code == 403
    assert open_site.browser().get("/admin/export").status_code == 303
    assert boss.get("/admin/export").status_code == 200


def test_an_invite_serves_once(open_site: Site) -> None:
    token = invite(open_site.engine, open_site.rater("ann").id)
    fields = {"password": PASSWORD, "again": PASSWORD}
    first, second = open_site.browser(), open_site.browser()
    page, late = first.get(f"/invite/{token}"), second.get(f"/invite/{token}")
    assert first.fill(f"/invite/{token}", fields, page).status_code == 303
    assert second.fill(f"/invite/{token}", fields, late).status_code == 404


@pytest.mark.parametrize(
    "url", ["rate.example.org", "ftp://x", "https://", "https://x/path", "javascript:x"]
)
def test_a_public_url_that_is_none_is_told(url: str) -> None:
    with pytest.raises(UserError, match="public-url"):
        read_public_url(url)
