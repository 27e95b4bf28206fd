"""Rating in a real browser: by keys alone, through reloads and lost connections, on a phone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cameleer.human.accounts import invite
from cameleer.human.database import sessions, writing
from cameleer.human.ratings import Rating, current_ratings
from tests.browser.conftest import PHONE, Tab
from tests.human.site import MODELS, PASSWORD, instances

pytestmark = pytest.mark.browser

Open = Callable[..., Tab]


def kept(tab: Tab) -> list[Rating]:
    rated = current_ratings(tab.site.engine)
    return [one.rating for one in rated if one.task.kind != "practice"]


def test_from_invite_to_done_by_keys_alone(open_tab: Open) -> None:
    tab = open_tab(instances(3, practice=True), role=None)
    page = tab.page
    token = invite(tab.site.engine, tab.site.rater("ann").id)
    tab.go(f"/invite/{token}")
    page.wait_for_selector("[name=password]:focus")  # it is where typing begins
    page.keyboard.type(PASSWORD)
    tab.press("Tab")
    page.keyboard.type(PASSWORD)
    tab.press("Enter")
    page.wait_for_url("**/guidelines")
    for _ in range(12):
        tab.press("Tab")
        if "Begin" in page.evaluate("document.activeElement.innerText"):
            break
    tab.press("Enter")
    page.wait_for_url("**/rate")
    assert "Practice" in page.inner_text(".progress")
    tab.press("q s 1 Enter")
    page.wait_for_selector("a.main:focus")
    tab.press("Enter")
    page.wait_for_url("**/rate")
    for number, keys in enumerate(("q s 2", "w a 5", "q a 3")):
        tab.press(keys)
        tab.press("n")
        page.keyboard.type(f"comment {number}")
        tab.rated("Escape Enter")
    page.wait_for_url("**/done")
    said = [(one.first_acceptable, one.second_acceptable, one.preference) for one in kept(tab)]
    assert said == [(True, False, -1), (False, True, 2), (True, True, 0)]
    assert [one.comment for one in kept(tab)] == ["comment 0", "comment 1", "comment 2"]
    assert tab.complaints == []


def test_what_is_missing_is_said_and_focused(open_tab: Open) -> None:
    tab = open_tab()
    tab.go("/rate")
    tab.press("q 1 Enter")
    assert tab.state == "Say whether the second answer is acceptable."
    assert tab.page.evaluate("document.activeElement.name") == "second_acceptable"
    assert kept(tab) == []
    tab.rated("x Enter")  # an invalid prompt needs no answers
    assert kept(tab)[0].quality == "invalid"


def test_undo_brings_back_the_item_and_what_was_chosen(open_tab: Open) -> None:
    tab = open_tab()
    tab.go("/rate")
    task = tab.task
    tab.rated("w a 4 Enter")
    assert tab.state == "Saved."
    tab.press("u")
    tab.page.wait_for_selector(f"#rating[data-task='{task}']")
    assert kept(tab) == []
    assert tab.chosen()["preference"] == "1"
    tab.rated("5 Enter")
    assert [one.preference for one in kept(tab)] == [2]
    assert [one.first_acceptable for one in kept(tab)] == [False]


def test_a_reload_loses_nothing(open_tab: Open) -> None:
    tab = open_tab()
    tab.go("/rate")
    tab.press("q 5 n")
    tab.page.keyboard.type("half a thought")
    before = tab.chosen()
    tab.page.reload()
    assert tab.chosen() == before
    assert before["comment"] == "half a thought"
    assert "Not saved yet" in tab.state
    tab.page.goto(tab.address + "/guidelines")
    tab.page.go_back()
    assert tab.chosen() == before
    tab.rated("s Enter")
    assert [(one.preference, one.comment) for one in kept(tab)] == [(2, "half a thought")]


def test_offline_is_said_and_sent_when_online_again(open_tab: Open) -> None:
    tab = open_tab()
    tab.go("/rate")
    tab.page.context.set_offline(True)
    tab.press("q s 1 Enter")
    tab.page.wait_for_selector("#said[data-kind=waiting]")
    assert "Not saved yet: the server cannot be reached." in tab.state
    assert kept(tab) == []
    tab.page.context.set_offline(False)
    tab.page.wait_for_selector("#said[data-kind=saved]")
    assert len(kept(tab)) == 1


def test_a_reload_while_offline_sends_it_afterwards(open_tab: Open) -> None:
    tab = open_tab()
    tab.page.on("dialog", lambda dialog: dialog.accept())  # "leave the page?"
    tab.go("/rate")
    task = tab.task
    tab.page.route("**/rate/*", lambda route: route.abort())
    tab.press("q s 1 Enter")
    tab.page.wait_for_selector("#said[data-kind=waiting]")
    tab.page.unroute("**/rate/*")
    tab.page.goto(tab.address + "/rate")
    tab.page.wait_for_selector("#said[data-kind=saved]")
    assert len(kept(tab)) == 1
    assert tab.task != task


def test_an_answer_that_is_lost_on_the_way_is_one_rating(open_tab: Open) -> None:
    tab = open_tab()
    tab.go("/rate")
    lost: list[int] = []

    def lose(route: Any) -> None:
        if lost:
            route.continue_()
            return
        lost.append(route.fetch().status)
        route.abort()

    tab.page.route("**/rate/*", lose)
    tab.press("q s 1 Enter")
    tab.page.wait_for_selector("#said[data-kind=saved]")
    assert lost == [200]
    assert len(kept(tab)) == 1


def test_enter_twice_is_one_rating(open_tab: Open) -> None:
    tab = open_tab()
    tab.go("/rate")
    tab.rated("q s 1 Enter Enter Enter")
    tab.page.wait_for_load_state()
    assert len(kept(tab)) == 1
    tab.page.go_back()
    tab.page.go_forward()
    assert len(kept(tab)) == 1


def test_who_is_signed_out_meanwhile_signs_in_and_it_is_sent(open_tab: Open) -> None:
    tab = open_tab(role=None)
    tab.site.rater("ann", password=PASSWORD)

    def log_in() -> None:
        tab.page.fill("[name=name]", "ann")
        tab.page.fill("[name=password]", PASSWORD)
        tab.press("Enter")
        tab.page.wait_for_function("() => location.pathname !== '/login'")

    tab.go("/login")
    log_in()
    tab.page.on("dialog", lambda dialog: dialog.accept())
    tab.go("/rate")
    tab.press("q s 1 n")
    tab.page.keyboard.type("kept")
    with writing(tab.site.engine) as connection:
        connection.execute(sessions.delete())
    tab.press("Control+Enter")
    tab.page.click("#said a")
    log_in()
    tab.go("/rate")
    tab.page.wait_for_selector("#said[data-kind=saved]")
    assert [one.comment for one in kept(tab)] == ["kept"]


def test_drafts_of_one_person_are_not_another_ones(open_tab: Open) -> None:
    tab = open_tab()
    tab.go("/rate")
    tab.press("q 5")
    other = open_tab()
    other.go("/rate")
    stored = tab.page.evaluate("JSON.stringify({...sessionStorage})")
    put = "all => Object.entries(JSON.parse(all)).forEach(([k, v]) => sessionStorage.setItem(k, v))"
    other.page.evaluate(put, stored)
    other.page.reload()
    assert other.chosen() == {"quality": "good", "comment": ""}


def test_time_counts_only_while_the_page_is_looked_at(open_tab: Open) -> None:
    tab = open_tab()
    tab.page.clock.install()
    tab.go("/rate")
    hide = (
        "hidden => {"
        " Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});"
        " document.dispatchEvent(new Event('visibilitychange')); }"
    )
    for seconds, hidden in ((4, False), (600, True), (3, False)):
        tab.page.evaluate(hide, hidden)
        tab.page.clock.fast_forward(seconds * 1000)
    tab.page.evaluate(hide, True)
    names = tab.page.evaluate("Object.values(sessionStorage)")
    (draft,) = (json.loads(one) for one in names if "seconds" in one)
    assert 7 <= draft["seconds"] < 9


def test_keys_can_be_switched_off(open_tab: Open) -> None:
    tab = open_tab()
    tab.go("/rate")
    assert tab.page.is_visible(".questions kbd")
    tab.press("?")
    assert tab.page.is_visible("#help")
    tab.press("q")  # not while the keys are shown
    tab.page.click("#by-key")
    tab.press("Escape")
    tab.press("q 1")
    assert tab.chosen() == {"quality": "good", "comment": ""}
    tab.page.reload()
    assert not tab.page.is_visible(".questions kbd")


def test_letters_are_found_on_other_keyboards(open_tab: Open) -> None:
    """A Russian layout types й where q is; the digits of a French one need Shift."""
    tab = open_tab()
    tab.go("/rate")
    for key, code in (("й", "KeyQ"), ("ы", "KeyS"), ("é", "Digit2")):
        tab.page.evaluate(
            "([key, code]) => document.body.dispatchEvent("
            "new KeyboardEvent('keydown', {key, code, bubbles: true, cancelable: true}))",
            [key, code],
        )
    assert tab.chosen() == {
        "first_acceptable": "yes",
        "second_acceptable": "no",
        "preference": "-1",
        "quality": "good",
        "comment": "",
    }


def test_keys_typed_into_the_comment_are_text(open_tab: Open) -> None:
    tab = open_tab()
    tab.go("/rate")
    tab.press("n")
    tab.page.keyboard.type("aqua 5?")
    assert tab.chosen() == {"quality": "good", "comment": "aqua 5?"}


def test_scripts_in_answers_do_nothing(open_tab: Open) -> None:
    evil = (
        "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
        "<iframe src='https://evil.example'></iframe>![i](https://evil.example/i.png)"
        "[link](javascript:window.hacked=1)<style>* { display: none }</style></div></main>"
    )
    items = [
        replace(one, prompt=evil, completion_a=evil, completion_b=evil) for one in instances(2)
    ]
    tab = open_tab(items)
    page = tab.go("/rate")
    tab.press("t t")
    page.wait_for_load_state("networkidle")
    assert page.evaluate("window.hacked") is None
    assert (
        page.locator(".answers script, .answers img, .answers iframe, .answers style").count() == 0
    )
    assert "<script>window.hacked = 1</script>" in page.inner_text(".answers")
    assert {url.split("/")[2] for url in tab.asked} == {tab.address.split("/")[2]}
    tab.rated()
    assert tab.complaints == []


def test_nothing_on_the_network_names_a_model(open_tab: Open) -> None:
    tab = open_tab()
    heard: list[str] = []

    def hear(route: Any) -> None:
        asked, answer = route.request, route.fetch()
        heard.append(f"{asked.url} {asked.all_headers()} {asked.post_data}")
        heard.append(f"{answer.url} {answer.headers} {answer.text()}")
        route.fulfill(response=answer)

    tab.page.route("**/*", hear)
    tab.go("/rate")
    tab.rated()
    tab.go("/guidelines")
    stored = tab.page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}])")
    said = " ".join([*heard, stored]).casefold()
    tab.page.unroute_all(behavior="wait")
    assert len(heard) > 12
    assert all(name not in said for name in (*MODELS, "item/"))


def test_a_reader_hears_what_is_asked(open_tab: Open) -> None:
    """Roles and names, as a screen reader tells them."""
    page = open_tab().go("/rate")
    for name in ("First answer acceptable?", "Second answer acceptable?"):
        group = page.get_by_role("group", name=name)
        assert group.get_by_role("radio").count() == 2
        assert group.get_by_role("radio", name="Yes", exact=True).count() == 1
    better = page.get_by_role("group", name="Which answer is better?").get_by_role("radio")
    assert better.count() == 5
    for name in ("Prompt", "First answer", "Second answer"):
        assert page.get_by_role("region", name=name, exact=True).count() == 1
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.get_by_role("textbox", name="Comment (optional)").count() == 1
    assert page.get_by_role("status").count() == 1
    assert page.get_by_role("button", name="Submit").count() == 1
    assert page.get_by_role("progressbar").get_attribute("aria-label")


def test_tab_goes_from_top_to_bottom(open_tab: Open) -> None:
    tab = open_tab()
    page = tab.go("/rate")
    seen = []
    for _ in range(14):
        tab.press("Tab")
        seen.append(
            page.evaluate("document.activeElement.name || document.activeElement.innerText")
        )
    wanted = ["Skip to the content", "Guidelines", "Pause", "first_acceptable"]
    wanted += ["second_acceptable", "preference", "quality", "comment"]
    places = [next(i for i, one in enumerate(seen) if name in one) for name in wanted]
    assert places == sorted(places)
    assert "Submit" in seen[places[-1] + 1]


def test_right_to_left_answers_run_so(open_tab: Open) -> None:
    first, second = "שלום עולם\n\nhello", "hello\n\nمرحبا"
    item = replace(instances(1)[0], completion_a=first, completion_b=second)
    page = open_tab([item]).go("/rate")
    found = page.evaluate(
        "[...document.querySelectorAll('.answers .rich p')]"
        ".map(one => [one.innerText, getComputedStyle(one).direction])"
    )
    assert sorted(found) == sorted(
        [["שלום עולם", "rtl"], ["hello", "ltr"], ["hello", "ltr"], ["مرحبا", "rtl"]]
    )


@pytest.mark.parametrize("width", [360, 390])
def test_on_a_phone_all_is_stacked_and_fits(open_tab: Open, width: int) -> None:
    table = "| " + " | ".join("abcdefghij") + " |\n|" + "---|" * 10 + "\n|" + " cell |" * 10
    wide = "```\n" + "x" * 300 + "\n```\n\n" + "y" * 300 + "\n\n" + table
    items = [replace(one, prompt=wide, completion_b=wide) for one in instances(2)]
    viewport = {**PHONE, "width": width}
    tab = open_tab(items, viewport=viewport, has_touch=True, is_mobile=True)
    page = tab.go("/rate")
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    boxes = [
        page.locator(one).bounding_box() for one in ("#prompt", "#first", "#second", "#rating")
    ]
    for above, below in pairwise(boxes):
        assert above["y"] + above["height"] <= below["y"] + 1
    heights = page.evaluate(
        "[...document.querySelectorAll('.choices span, #send')].map(one => one.offsetHeight)"
    )
    assert min(heights) >= 44  # wide enough for a finger
    for number in (1, 4):
        page.locator(".five label").nth(number).tap()
    page.locator("#asks-first_acceptable label").first.tap()
    page.locator("#asks-second_acceptable label").last.tap()
    page.tap("#send")
    page.wait_for_selector("#said[data-kind=saved]", state="attached")
    assert [one.preference for one in kept(tab)] == [2]


def test_without_scripts_it_works_too(open_tab: Open) -> None:
    tab = open_tab(java_script_enabled=False)
    page = tab.go("/rate")
    assert not page.is_visible(".questions kbd")
    page.check("[name=first_acceptable][value=yes]", force=True)
    page.check("[name=second_acceptable][value=no]", force=True)
    page.click("#send")
    page.wait_for_load_state()
    assert "Say which answer is better." in page.inner_text("#said")
    page.check("[name=preference][value='2']", force=True)
    page.click("#send")
    page.wait_for_load_state()
    assert "1 rated by you" in page.inner_text("header")
    assert [one.preference for one in kept(tab)] == [2]


def test_the_dashboard_refreshes_itself(open_tab: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cameleer.human.dashboard.STALE", 0.0)
    monkeypatch.setattr("cameleer.human.dashboard.SPARED", 0)
    admin = open_tab(role="admin")
    admin.page.clock.install()
    page = admin.go("/admin")
    assert "0 of 3" in page.inner_text("#numbers")
    rater = open_tab()
    rater.go("/rate")
    rater.rated()
    admin.page.clock.run_for(6_000)
    page.wait_for_function("() => document.querySelector('#numbers').innerText.includes('1 of 3')")
    assert MODELS[0] in page.inner_text("#numbers")
    with page.expect_download() as download:
        page.click("text=Export judgements")
    assert MODELS[0] in Path(download.value.path()).read_text()
    assert admin.complaints == []
