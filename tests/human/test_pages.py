"""The pages as annotators and admins go through them, in a browser without scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cameleer.human.accounts import invite
from cameleer.human.pages import compare
from cameleer.human.ratings import Rating, current_ratings
from cameleer.human.serving import span
from cameleer.results.judgements import read_judgements
from tests.human.site import (
    HERE,
    MODELS,
    PASSWORD,
    Browser,
    Site,
    Tags,
    instances,
    site,
    submission_of,
    task_of,
)

SCRIPT = {"Accept": "application/json"}


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path / "c", instances(3, practice=True)) as made:
        yield made


def kept(open_site: Site) -> list[Rating]:
    """The ratings that count, practice aside."""
    return [one.rating for one in current_ratings(open_site.engine) if one.task.kind != "practice"]


def past_practice(browser: Browser) -> Browser:
    browser.rate()
    return browser


def test_from_invite_to_done(open_site: Site) -> None:
    token = invite(open_site.engine, open_site.rater("ann").id)
    browser = open_site.browser()
    page = browser.get(f"/invite/{token}")
    assert "Welcome, ann" in page.text
    entered = browser.fill(f"/invite/{token}", {"password": PASSWORD, "again": PASSWORD}, page)
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    assert browser.get("/").headers["location"] == "/guidelines"
    guidelines = browser.get("/guidelines")
    assert "Begin with practice" in guidelines.text
    assert "<strong>both</strong>" in guidelines.text
    practised = browser.rate()
    assert practised.headers["location"].startswith("/practice/")
    assert "3 + 5 - 2" in browser.get(practised.headers["location"]).text
    for number in range(3):
        page = browser.get("/rate")
        assert f"{number} rated by you" in page.text
        assert browser.rate(page, comment=f"comment {number}").headers["location"] == "/rate"
    assert browser.get("/rate").headers["location"] == "/done"
    assert "You gave 3 ratings" in browser.get("/done").text
    assert browser.get("/").headers["location"] == "/rate"
    assert [one.comment for one in kept(open_site)] == ["comment 0", "comment 1", "comment 2"]
    assert kept(open_site)[0].preference == -2
    assert kept(open_site)[0].first_acceptable is True
    assert kept(open_site)[0].second_acceptable is False


def test_a_password_logs_in_again(open_site: Site, ann: Browser) -> None:
    browser = open_site.browser()
    entered = browser.fill("/login", {"name": "ANN", "password": PASSWORD})
    assert entered.headers["location"] == "/"
    assert browser.get("/login").headers["location"] == "/"
    wrong = open_site.browser().fill("/login", {"name": "ann", "password": "wrong"})
    assert wrong.status_code == 401
    assert "Name and password do not fit." in wrong.text
    assert 'value="ann"' in wrong.text


def test_an_invite_with_two_passwords_is_told_and_not_used_up(open_site: Site) -> None:
    path = f"/invite/{invite(open_site.engine, open_site.rater('ann').id)}"
    browser = open_site.browser()
    page = browser.get(path)
    for password, again, said in ((PASSWORD, "other", "differ"), ("short", "short", "8 to 256")):
        answer = browser.fill(path, {"password": password, "again": again}, page)
        assert answer.status_code == 422
        assert said in answer.text
    fields = {"password": PASSWORD, "again": PASSWORD}
    assert browser.fill(path, fields, page).status_code == 303


def test_practice_tells_what_a_good_rating_is(open_site: Site, ann: Browser) -> None:
    page = ann.get("/rate")
    assert "Practice" in page.text
    assert "1 of 1" in page.text
    right_first = Tags(page.text).text.index("six") < Tags(page.text).text.index("seven")
    good = {"first_acceptable": "yes", "second_acceptable": "no", "preference": "-1"}
    if not right_first:
        good = {"first_acceptable": "no", "second_acceptable": "yes", "preference": "1"}
    told = ann.get(ann.rate(page, **good).headers["location"]).text
    assert "That is a good rating." in told
    assert "<em>6</em>" in told
    assert "differs" not in told
    wrong = {"first_acceptable": "yes", "second_acceptable": "yes", "preference": "0"}
    wrong["submission"] = "another-submission"
    told = ann.get(ann.rate(page, **wrong).headers["location"]).text
    assert "Not quite" in told
    assert told.count("differs") == 2
    assert kept(open_site) == []


@pytest.mark.parametrize("b_first", [False, True])
def test_comparing_with_a_good_rating_goes_by_the_order_shown(b_first: bool) -> None:
    practice = instances(0, practice=True)[0].practice  # A acceptable and better, B not
    assert practice is not None
    a, b = (False, True) if b_first else (True, False)
    for said, right in ((-2, True), (-1, True), (0, False), (1, False), (2, False)):
        shown = -said if b_first else said
        rows = compare(Rating(a, b, shown, "good", "", 1.0), practice, b_first)
        assert [one.right for one in rows] == [True, right, True]
    unsaid = compare(Rating(None, None, None, "too_hard", "", 1.0), practice, b_first)
    assert [one.right for one in unsaid] == [False, False, False]
    wanted = (
        "second, slightly or second, clearly" if b_first else "first, clearly or first, slightly"
    )
    assert unsaid[1].wanted == wanted


def test_double_submit_is_one_rating(open_site: Site, ann: Browser) -> None:
    page = past_practice(ann).get("/rate")
    assert ann.rate(page).status_code == 303
    assert ann.rate(page, preference="2").status_code == 303  # the same submission: the first holds
    assert [one.preference for one in kept(open_site)] == [-2]


def test_going_back_shows_what_is_to_be_rated_now(open_site: Site, ann: Browser) -> None:
    page = past_practice(ann).get("/rate")
    ann.rate(page)
    after = ann.get("/rate")
    assert task_of(after.text) != task_of(page.text)
    # A page that a browser kept all the same: sent anew, it mends that rating and no other.
    mended = ann.rate(page, preference="2", submission="another-submission")
    assert mended.headers["location"] == "/rate"
    assert [one.preference for one in kept(open_site)] == [2]
    assert task_of(ann.get("/rate").text) == task_of(after.text)


def test_two_tabs_show_the_same_item(open_site: Site, ann: Browser) -> None:
    first, second = ann.get("/rate"), ann.get("/rate")
    assert task_of(first.text) == task_of(second.text)
    assert submission_of(first.text) != submission_of(second.text)


def test_undo_brings_the_last_item_back(open_site: Site, ann: Browser) -> None:
    page = past_practice(ann).get("/rate")
    assert "Undo" not in Tags(page.text).text.split("Keys", 1)[0]
    ann.rate(page)
    assert ann.fill("/undo", {}).headers["location"] == "/rate"
    assert kept(open_site) == []
    assert task_of(ann.get("/rate").text) == task_of(page.text)
    ann.fill("/undo", {})  # nothing is left to undo, and nothing breaks
    assert task_of(ann.get("/rate").text) == task_of(page.text)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"first_acceptable": ""}, "Say whether the first answer is acceptable."),
        ({"second_acceptable": ""}, "Say whether the second answer is acceptable."),
        ({"preference": ""}, "Say which answer is better."),
        ({"preference": "3"}, "Preference is not one of"),
        ({"preference": "1e0"}, "Preference is not one of"),
        ({"first_acceptable": "maybe"}, "First acceptable is neither yes nor no."),
        ({"quality": "great"}, "Quality is not known."),
        ({"submission": "?"}, "Submission is not an id"),
    ],
)
def test_what_is_missing_or_wrong_is_told_and_the_rest_kept(
    open_site: Site, ann: Browser, changes: dict[str, str], said: str
) -> None:
    page = past_practice(ann).get("/rate")
    answer = ann.rate(page, comment="so far", **changes)
    assert answer.status_code == 422
    assert said in answer.text
    assert ">so far</textarea>" in answer.text
    assert answer.text.count(" checked") >= 3
    assert kept(open_site) == []


def test_an_item_that_cannot_be_judged_needs_no_answers(open_site: Site, ann: Browser) -> None:
    page = past_practice(ann).get("/rate")
    none = {"first_acceptable": "", "second_acceptable": "", "preference": ""}
    assert ann.rate(page, quality="invalid", **none).status_code == 303
    assert [(one.quality, one.preference) for one in kept(open_site)] == [("invalid", None)]


@pytest.mark.parametrize("seconds", ["", "-1", "nan", "inf", "1e400", "abc", "99999999"])
def test_time_that_cannot_be_true_is_the_servers(
    open_site: Site, ann: Browser, seconds: str
) -> None:
    page = past_practice(ann).get("/rate")
    assert ann.rate(page, seconds=seconds).status_code == 303
    assert 0 <= kept(open_site)[0].seconds < 60


def test_a_script_is_answered_in_json(open_site: Site, ann: Browser) -> None:
    page = past_practice(ann).get("/rate")
    ann.headers.update(SCRIPT)
    assert ann.rate(page, preference="").json() == {"error": "Say which answer is better."}
    saved = ann.rate(page)
    assert (saved.status_code, saved.json()) == (200, {"next": "/rate"})


def test_pause_and_return(open_site: Site, ann: Browser) -> None:
    page = past_practice(ann).get("/rate")
    assert 'href="/pause"' in page.text
    assert "Your ratings so far (0) are saved" in ann.get("/pause").text
    ann.fill("/logout", {})
    assert ann.get("/rate").headers["location"] == "/login"
    ann.fill("/login", {"name": "ann", "password": PASSWORD})
    assert task_of(ann.get("/rate").text) == task_of(page.text)


def test_who_is_not_done_is_sent_on(open_site: Site, ann: Browser) -> None:
    assert ann.get("/done").headers["location"] == "/rate"


def test_progress_counts_everybody(open_site: Site, ann: Browser) -> None:
    past_practice(ann).rate()
    other = past_practice(open_site.browser(open_site.rater("bob")))
    page = other.get("/rate").text
    assert "0 rated by you" in page
    assert "1 of 3 by all" in page


def test_both_ways_to_show_a_text_are_in_the_page(tmp_path: Path) -> None:
    long = "# long\n" * 10_000
    one = instances(1)[0]
    items = [replace(one, prompt="# a\n<b>", completion_a=long)]
    with site(tmp_path / "c", items) as made:
        page = made.browser(made.rater("ann")).get("/rate").text
        assert '<div class="rich"><h3 dir="auto">a</h3>' in page
        assert '<pre class="plain" dir="auto"># a\n&lt;b&gt;</pre>' in page
        assert "Long text, shown as it stands." in page
        assert page.count("# long") == 10_000


def test_an_empty_answer_is_seen_as_empty(tmp_path: Path) -> None:
    items = [replace(instances(1)[0], completion_b=" \n")]
    with site(tmp_path / "c", items) as made:
        assert made.browser(made.rater("ann")).get("/rate").text.count("(empty)") == 1


def test_the_dashboard_shows_pairs_people_and_acceptance(
    open_site: Site, ann: Browser, boss: Browser
) -> None:
    past_practice(ann).rate()
    assert boss.get("/").headers["location"] == "/admin"
    text = Tags(boss.get("/admin/numbers").text).text
    for name in (*MODELS, "ann"):
        assert name in text
    assert "<html" not in boss.get("/admin/numbers").text


def test_the_dashboard_of_a_new_campaign(open_site: Site, boss: Browser) -> None:
    page = boss.get("/admin")
    assert page.status_code == 200
    assert "Nothing yet." in page.text
    assert "Nobody yet." in page.text


def test_the_export_is_what_people_said(
    open_site: Site, ann: Browser, boss: Browser, tmp_path: Path
) -> None:
    past_practice(ann).rate(comment="שלום")
    got = boss.get("/admin/export")
    assert (
        got.headers["content-disposition"] == 'attachment; filename="Spring-round.judgements.jsonl"'
    )
    file = tmp_path / "judgements.jsonl"
    file.write_bytes(got.content)
    (one,) = read_judgements(file)
    assert (one.a, one.b, one.comment, one.kind) == (*MODELS, "שלום", "human")
    assert one.preference == (2.0 if one.b_first else 1.0)
    assert json.loads(got.text)["item"].startswith("item/")


def test_admins_make_accounts_and_links(open_site: Site, boss: Browser) -> None:
    made = boss.fill("/admin/accounts", {"name": "zoe", "role": "annotator"})
    link = Tags(made.text).text.split("http://", 1)[1].split()[0]
    assert f"http://{link}".startswith(f"{HERE}/invite/")
    stranger = open_site.browser()
    page = stranger.get("/" + link.split("/", 1)[1])
    assert "Welcome, zoe" in page.text
    assert "already" in boss.fill("/admin/accounts", {"name": "Zoe"}).text
    assert boss.fill("/admin/accounts", {"name": "", "role": "annotator"}).status_code == 422
    assert boss.fill("/admin/accounts", {"name": "y", "role": "owner"}).status_code == 422
    assert "disabled" not in Tags(boss.get("/admin/accounts").text).text.split("A new link")[0]


def test_lengths_of_time() -> None:
    said = [span(one) for one in (None, 0.4, 119, 120, 7199, 7200, 172800)]
    assert said == ["–", "0 s", "119 s", "2 min", "120 min", "2 h", "2 days"]
