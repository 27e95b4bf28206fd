"""The page of a chat in a real browser: from message to vote, by keys, in two tabs, on phones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cameleer.results.judgements import read_judgements
from cameleer.talk.chat import Chat
from cameleer.talk.votes import Votes
from tests.browser.conftest import DESK
from tests.browser.test_looks import CONTRAST
from tests.talk.speakers import NAMES, chat, page, speakers

pytestmark = pytest.mark.browser

NASTY = (
    "**Bold** <script>window.ran = 1</script> <img src='/x.png' onerror='window.ran = 2'>\n"
    "<a href='javascript:window.ran = 3'>here</a> ![](http://evil.example/x.png) \u202egnp\n\n"
    "```python\nprint('a very long line ' * 20)  # " + "x" * 300 + "\n```"
)


class Tab:
    """A tab with the page of a chat, and all that it asked of the network."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.set_default_timeout(30_000)
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        page.goto(address)
        page.wait_for_function("() => view !== null")

    def say(self, text: str) -> None:
        """Write a message, send it by Enter, and wait until it is answered."""
        before = self.count
        self.page.fill("#text", text)
        self.page.focus("#text")
        self.page.keyboard.press("Enter")
        self.page.wait_for_function("before => !view.busy && count(view) > before", arg=before)

    @property
    def count(self) -> int:
        return int(self.page.locator(".turn").count())

    def answers(self) -> list[str]:
        return list(self.page.locator(".turn:last-child pre.said").all_inner_texts())

    def heads(self) -> list[str]:
        return list(self.page.locator(".turn:last-child .card h2").all_inner_texts())

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)

    def told(self, text: str) -> None:
        """Wait until the page says so."""
        self.page.locator("#said", has_text=text).wait_for()


@pytest.fixture
def open_tab(chromium: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Tab]]:
    """Opens a tab on the page of a chat; of the same chat, another on the same page."""
    monkeypatch.setattr(Votes, "b_first", lambda self, number: number % 2 == 1)
    with ExitStack() as stack:
        served: list[tuple[Chat, str]] = []

        def one(of: Chat, **options: Any) -> Tab:
            if not served:
                served.append((of, stack.enter_context(page(of))))
            context = stack.enter_context(chromium.new_context(**{"viewport": DESK, **options}))
            return Tab(context.new_page(), served[0][1])

        yield one


Open = Callable[..., Tab]


def test_from_a_message_to_a_vote_by_keys_alone(open_tab: Open, tmp_path: Path) -> None:
    votes = tmp_path / "votes.jsonl"
    tab = open_tab(chat(votes=votes))
    tab.page.keyboard.type("Where is")
    tab.press("Shift+Enter")
    tab.page.keyboard.type("the camel? a b t x")  # letters that vote elsewhere
    tab.press("Enter")
    tab.told("which is better?")
    message = "Where is\nthe camel? a b t x"
    assert tab.answers() == [f"model 1 heard {message}", f"model 0 heard {message}"]
    assert tab.heads() == ["A", "B"]
    assert not any(name in tab.page.content() for name in NAMES)
    tab.press("b")
    tab.told("Kept.")
    [kept] = read_judgements(votes)
    assert (kept.preference, kept.b_first) == (1.0, True)
    assert tab.heads() == [f"A: {NAMES[1]}", f"B: {NAMES[0]}"]
    assert tab.page.locator(".card.won").count() == 1
    tab.page.click("#undo")
    tab.told("which is better?")
    assert read_judgements(votes) == []
    assert tab.heads() == ["A", "B"]
    tab.page.click("button[value=bad]")
    tab.told("Kept.")
    assert [one.acceptable for one in read_judgements(votes)] == [(False, False)]
    tab.page.click("#new")
    tab.page.wait_for_selector("#empty:not([hidden])")
    assert tab.page.evaluate("document.activeElement.id") == "text"
    tab.say("Again")
    assert tab.answers()[0] == "model 0 heard Again"
    assert tab.complaints == []


def test_enter_in_the_comment_votes_for_nobody(open_tab: Open, tmp_path: Path) -> None:
    votes = tmp_path / "votes.jsonl"
    tab = open_tab(chat(votes=votes))
    tab.say("Hi")
    tab.page.fill("[name=comment]", "shorter; a better tie")
    tab.press("Enter")
    assert tab.page.evaluate("document.activeElement.id") == "which"
    assert not votes.exists()
    tab.press("t")
    tab.told("Kept.")
    [kept] = read_judgements(votes)
    assert (kept.preference, kept.comment) == (1.5, "shorter; a better tie")


def test_keys_can_be_switched_off(open_tab: Open, tmp_path: Path) -> None:
    votes = tmp_path / "votes.jsonl"
    tab = open_tab(chat(votes=votes))
    tab.page.click("summary")
    tab.page.uncheck("#by-key")
    tab.page.reload()
    tab.page.wait_for_function("() => view !== null")
    tab.say("Hi")
    assert tab.page.evaluate("document.activeElement.id") == "which"
    for key in "abtx":
        tab.press(key)
    tab.say("More")
    assert not votes.exists()


def test_what_a_model_writes_is_text(open_tab: Open, screenshots: Path) -> None:
    """Nothing in it runs, is fetched, or runs over the edge of a phone."""
    phone = {"viewport": {"width": 360, "height": 780}, "has_touch": True, "is_mobile": True}
    tab = open_tab(chat(say=lambda prompt: NASTY), **phone)
    tab.say(NASTY)
    shown = NASTY.replace("\u202e", "⟨U+202E⟩")
    assert tab.answers() == [shown, shown]
    assert tab.page.evaluate("window.ran ?? 0") == 0
    assert tab.page.locator("#turns :is(script, img, a, strong)").count() == 0
    own = tab.page.evaluate("location.origin")
    assert all(url.startswith(own) and not url.endswith("x.png") for url in tab.asked)
    assert tab.page.evaluate("document.scrollingElement.scrollWidth") <= 360
    assert tab.complaints == []
    tab.page.screenshot(path=screenshots / "chat-nasty-phone.png", full_page=True)


def test_answers_grow_and_can_be_stopped(open_tab: Open) -> None:
    of = chat(("one",))
    speakers(of)[0].gate = threading.Event()
    tab = open_tab(of)
    tab.page.fill("#text", "Hi")
    tab.page.click("#send")
    tab.page.locator("pre.said", has_text="model").wait_for()
    assert tab.page.get_attribute(".answers", "aria-busy") == "true"
    assert tab.page.get_attribute(".answers", "aria-live") == "polite"
    assert tab.heads() == ["one"]
    tab.page.click("#stop")
    tab.page.wait_for_function("() => !view.busy")
    assert tab.answers() == ["model"]
    assert tab.page.inner_text(".card .hint") == "stopped"
    assert tab.page.get_attribute(".answers", "aria-busy") == "false"


def test_a_chat_is_saved(open_tab: Open, screenshots: Path) -> None:
    tab = open_tab(chat())
    assert not tab.page.is_visible("#save")
    tab.say("Hello")
    with tab.page.expect_download() as download:
        tab.page.click("#save")
    assert download.value.suggested_filename == "chat.jsonl"
    assert len(Path(download.value.path()).read_text().splitlines()) == 2
    assert tab.complaints == []
    tab.page.screenshot(path=screenshots / "chat-saved.png")


def test_settings_are_told_to_every_tab(open_tab: Open) -> None:
    of = chat()
    tab, other = open_tab(of), open_tab(of)
    for one in (tab, other):
        one.page.click("summary")
    tab.page.fill("[name=system]", "Be brief.")
    tab.page.fill("[name=temperature]", "hot")
    tab.page.click("#settings button")
    tab.told("'hot' is no temperature")
    tab.page.fill("[name=temperature]", "0")
    tab.page.click("#settings button")
    tab.told("Set, from the next answer on.")
    other.page.wait_for_function(
        "() => document.querySelector('[name=system]').value === 'Be brief.'"
    )
    other.say("Hi")
    assert speakers(of)[1].asked[0].temperature == 0
    assert "Be brief." in speakers(of)[1].asked[0].prompt


def test_two_tabs_show_one_chat_and_keep_one_vote(open_tab: Open, tmp_path: Path) -> None:
    votes = tmp_path / "votes.jsonl"
    of = chat(votes=votes)
    tab, other = open_tab(of), open_tab(of)
    other.page.fill("#text", "half a message")
    tab.say("Hi")
    other.page.locator("#votes").wait_for()
    assert other.answers() == tab.answers()
    tab.press("a")
    tab.told("Kept.")
    other.page.locator("#votes").wait_for(state="hidden")
    assert other.page.input_value("#text") == "half a message"
    tab.page.reload()
    tab.page.wait_for_function("() => view !== null")
    assert tab.heads() == other.heads() == [f"A: {NAMES[1]}", f"B: {NAMES[0]}"]
    assert len(read_judgements(votes)) == 1


def test_a_server_that_is_gone_is_told_and_nothing_typed_is_lost(
    open_tab: Open, tmp_path: Path
) -> None:
    votes = tmp_path / "votes.jsonl"
    tab = open_tab(chat(votes=votes))
    tab.say("Hi")
    tab.page.context.set_offline(True)
    tab.page.focus("#which")
    tab.press("a")
    tab.told("Not kept. The server cannot be reached. Vote again.")
    tab.page.fill("#text", "a long message")
    tab.press("Enter")
    tab.page.wait_for_function("() => document.getElementById('text').value === 'a long message'")
    tab.told("cannot be reached")
    assert not votes.exists()
    tab.page.context.set_offline(False)
    tab.page.focus("#which")
    tab.press("a")
    tab.page.wait_for_function("() => view.votes === 1")
    assert len(read_judgements(votes)) == 1


@pytest.mark.parametrize(("width", "dark"), [(360, True), (1280, False)], ids=["phone", "desk"])
def test_it_is_fit_to_be_read(
    open_tab: Open, tmp_path: Path, screenshots: Path, width: int, dark: bool
) -> None:
    size = {"width": width, "height": 800}
    of = chat(votes=tmp_path / "votes.jsonl", say=lambda prompt: "A camel is an animal. " * 30)
    tab = open_tab(of, viewport=size, color_scheme="dark" if dark else "light")
    poor, wide = {}, {}

    def look(name: str) -> None:
        kind = f"{width}-{'dark' if dark else 'light'}"
        tab.page.screenshot(path=screenshots / f"chat-{name}-{kind}.png")
        poor[name] = tab.page.evaluate(CONTRAST)
        wide[name] = tab.page.evaluate("document.scrollingElement.scrollWidth") > width

    look("new")
    tab.say("What is a camel?")
    look("votable")
    tab.page.focus("#which")
    tab.press("x")
    tab.told("Kept.")
    tab.page.click("summary")
    look("voted")
    assert not any(poor.values()), poor
    assert not any(wide.values()), wide
