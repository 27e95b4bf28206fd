"""The page of a chat over a socket: turns, stops, blind votes, and who is turned away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest

from cameleer.chat.conversation import read_conversations
from cameleer.core.errors import UserError
from cameleer.results.judgements import read_judgements
from cameleer.talk.chat import Chat
from cameleer.talk.shared import LOST
from cameleer.talk.votes import Votes
from tests.human.site import require_inert
from tests.talk.speakers import NAMES, TOKEN, chat, page, speakers

ROOT = Path(__file__).resolve().parents[2]
View = dict[str, Any]


class Tab:
    """A tab on a chat's page, as a client that is no browser sees it."""

    def __init__(self, address: str) -> None:
        self.origin = address.removesuffix(f"/{TOKEN}/")
        self.http = httpx2.Client(base_url=address, timeout=60, trust_env=False)

    def post(self, what: str, **fields: object) -> tuple[int, str]:
        """The status, and what is said of an error."""
        form = "application/x-www-form-urlencoded;charset=UTF-8"
        headers = {"Origin": self.origin, "Content-Type": form}
        answer = self.http.post(what, content=urlencode(fields), headers=headers)
        return answer.status_code, answer.json().get("error", "")

    def until(self, seen: Callable[[View], bool] = lambda view: not view["busy"]) -> View:
        """What is shown, once it is so; all turns are in it."""
        with self.http.sse("events") as events:
            turns: list[View] = []
            for event in events:
                view: View = json.loads(event.data)
                turns = turns[: view["first"]] + view["turns"]
                if seen(view):
                    return view | {"turns": turns}
        raise AssertionError("the events have ended")

    def turn(self, text: str) -> View:
        """Send a message and wait for what comes of it."""
        assert self.post("send", text=text) == (200, "")
        return self.until()


@pytest.fixture
def open_chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Chat], Tab]]:
    opened = []
    monkeypatch.setattr(Votes, "b_first", lambda self, number: number % 2 == 1)

    def one(of: Chat) -> Tab:
        opened.append(page(of))
        return Tab(opened[-1].__enter__())

    yield one
    for each in opened:
        each.__exit__(None, None, None)


Open = Callable[[Chat], Tab]


def test_a_chat_goes_on_from_what_was_said(open_chat: Open) -> None:
    of = chat()
    tab = open_chat(of)
    assert tab.until()["turns"] == []
    tab.turn("One?")
    view = tab.turn("Two,\nthree?")
    assert [turn["answers"] for turn in view["turns"]] == [
        ["model 0 heard One?", "model 1 heard One?"],
        ["model 0 heard Two,\nthree?", "model 1 heard Two,\nthree?"],
    ]
    assert view["names"] == list(NAMES)
    assert speakers(of)[1].asked[-1].prompt == (
        "<|user|>\nOne?\n<|assistant|>\nmodel 1 heard One?\n<|user|>\nTwo,\nthree?\n<|assistant|>\n"
    )


def test_answers_are_seen_while_they_are_written(open_chat: Open) -> None:
    of = chat()
    for one in speakers(of):
        one.gate = threading.Event()
    tab = open_chat(of)
    tab.post("send", text="Hi")
    view = tab.until(lambda view: bool(view["turns"]) and all(view["turns"][0]["answers"]))
    assert (view["busy"], view["turns"][0]["answers"]) == (True, ["model", "model"])
    assert tab.post("send", text="And?")[0] == 409
    assert tab.post("new")[0] == 409
    for one in speakers(of):
        one.gate.set()
    assert tab.until()["turns"][0]["answers"] == ["model 0 heard Hi", "model 1 heard Hi"]


def test_settings_count_from_the_next_answer_on(open_chat: Open) -> None:
    of = chat(("one",))
    tab = open_chat(of)
    assert tab.post("set", system="Be brief.", temperature="0.25") == (200, "")
    view = tab.turn("Hi")
    assert (view["system"], view["temperature"]) == ("Be brief.", 0.25)
    [request] = speakers(of)[0].asked
    assert request.temperature == 0.25
    assert request.prompt.startswith("<|system|>\nBe brief.\n")
    for wrong in ("hot", "", "-1", "nan", "1e999"):
        assert tab.post("set", system="", temperature=wrong)[0] == 409
    assert tab.until()["system"] == "Be brief."


# ---- votes


def test_names_are_hidden_until_the_vote_which_is_kept_at_once(
    open_chat: Open, tmp_path: Path
) -> None:
    votes = tmp_path / "votes.jsonl"
    tab = open_chat(chat(votes=votes))
    assert tab.post("vote", turn=0, vote="a")[0] == 409
    view = tab.turn("Hi")
    shown = tab.http.get("").text + json.dumps(view)
    assert not any(name in shown for name in NAMES)
    assert view["turns"][0]["answers"] == ["model 1 heard Hi", "model 0 heard Hi"]
    assert view["votable"]
    for wrong in ("c", "skip", ""):
        assert tab.post("vote", turn=1, vote=wrong)[0] == 409
    assert tab.post("vote", turn=2, vote="a")[0] == 409
    assert not votes.exists()
    assert tab.post("vote", turn=1, vote="a", comment=" it is\nshorter ") == (200, "")
    [kept] = read_judgements(votes)
    assert (kept.a, kept.b, kept.preference, kept.b_first) == (*NAMES, 2.0, True)
    assert (kept.who, kept.kind, kept.comment, kept.note) == ("me", "human", "it is shorter", "")
    [row] = [json.loads(line) for line in (tmp_path / "votes.chats.jsonl").open()]
    assert (row["item"], row["a"]["answer"]) == (kept.item, "model 0 heard Hi")
    view = tab.until()
    assert view["names"] == [NAMES[1], NAMES[0]]
    assert (view["votes"], view["votable"], view["turns"][0]["vote"]) == (1, False, "a")


def test_a_vote_counts_once_and_a_chat_has_one(open_chat: Open, tmp_path: Path) -> None:
    votes = tmp_path / "votes.jsonl"
    tab = open_chat(chat(votes=votes))
    tab.turn("Hi")
    assert tab.post("vote", turn=1, vote="tie")[0] == 200
    assert tab.post("vote", turn=1, vote="tie")[0] == 200  # its answer was lost on the way
    assert tab.post("vote", turn=1, vote="b")[0] == 409
    view = tab.turn("And?")
    assert (view["votable"], view["names"]) == (False, [NAMES[1], NAMES[0]])
    assert tab.post("vote", turn=2, vote="b")[0] == 409
    assert tab.post("new")[0] == 200
    view = tab.turn("Hi")
    assert (view["names"], view["turns"][0]["answers"][0]) == (None, "model 0 heard Hi")
    tab.post("vote", turn=1, vote="bad")
    found = read_judgements(votes)
    assert [(one.preference, one.acceptable[0]) for one in found] == [(1.5, None), (1.5, False)]
    assert len({one.item for one in found}) == 2


def test_the_last_vote_can_be_taken_back(open_chat: Open, tmp_path: Path) -> None:
    votes = tmp_path / "votes.jsonl"
    tab = open_chat(chat(votes=votes))
    assert tab.post("undo")[0] == 409
    tab.turn("Hi")
    tab.post("vote", turn=1, vote="a")
    assert tab.post("undo") == (200, "")
    assert read_judgements(votes) == []
    view = tab.until()
    assert (view["names"], view["votable"], view["undoable"]) == (None, True, False)
    tab.post("vote", turn=1, vote="b")
    [kept] = read_judgements(votes)
    assert (kept.preference, kept.note) == (1.0, "names seen")
    tab.turn("And?")
    assert tab.post("undo") == (200, "")
    view = tab.until()
    assert (view["votable"], [turn["vote"] for turn in view["turns"]]) == (False, ["", ""])
    assert tab.post("undo")[0] == 409


def test_two_tabs_show_one_chat(open_chat: Open, tmp_path: Path) -> None:
    tab = open_chat(chat(votes=tmp_path / "votes.jsonl"))
    other = Tab(str(tab.http.base_url))
    tab.turn("Hi")
    assert other.until()["turns"] == tab.until()["turns"]
    tab.post("vote", turn=1, vote="a")
    assert other.post("vote", turn=1, vote="b")[0] == 409
    other.post("new")
    other.turn("Hello")
    assert tab.post("vote", turn=1, vote="b")[0] == 200
    assert len(read_judgements(tmp_path / "votes.jsonl")) == 2


def test_no_votes_where_none_are_asked_for(open_chat: Open) -> None:
    tab = open_chat(chat())
    view = tab.turn("Hi")
    assert (view["votable"], view["undoable"]) == (False, False)
    assert tab.post("vote", turn=1, vote="a")[0] == 409
    assert tab.post("undo")[0] == 409
    assert 'name="vote"' not in tab.http.get("").text


def test_a_chat_is_saved_as_conversations_once_its_names_are_told(
    open_chat: Open, tmp_path: Path
) -> None:
    tab = open_chat(chat())
    assert tab.http.get("chat.jsonl").status_code == 409  # nothing was said yet
    assert tab.turn("Hi")["savable"]
    found = tab.http.get("chat.jsonl")
    assert found.headers["content-disposition"] == 'attachment; filename="chat.jsonl"'
    path = tmp_path / "saved.jsonl"
    path.write_bytes(found.content)
    saved = list(read_conversations(path))
    assert [one.source for one in saved] == list(NAMES)
    assert [turn.content for turn in saved[1].messages] == ["Hi", "model 1 heard Hi"]

    blind = open_chat(chat(votes=tmp_path / "votes.jsonl"))
    assert not blind.turn("Hi")["savable"]
    assert "after a vote" in blind.http.get("chat.jsonl").json()["error"]
    assert blind.post("vote", turn=1, vote="a") == (200, "")
    assert blind.until()["savable"]
    assert len(blind.http.get("chat.jsonl").text.splitlines()) == 2


# ---- what goes wrong


def test_a_stop_keeps_what_was_said(open_chat: Open, tmp_path: Path) -> None:
    of = chat(votes=tmp_path / "votes.jsonl")
    speakers(of)[0].gate = threading.Event()
    tab = open_chat(of)
    tab.post("send", text="Hi")
    tab.until(lambda view: view["turns"][0]["answers"] == ["model 1 heard Hi", "model"])
    assert tab.post("stop") == (200, "")
    view = tab.until()
    [turn] = view["turns"]
    assert (turn["answers"], turn["notes"]) == (["model 1 heard Hi", "model"], [[], ["stopped"]])
    assert not view["votable"]
    assert [side.talk.messages[-1].content for side in of.sides] == ["model", "model 1 heard Hi"]
    speakers(of)[0].gate.set()
    assert tab.turn("Again")["votable"]


def test_a_stop_before_anything_is_said_gives_the_message_back(open_chat: Open) -> None:
    of = chat(("one",), say=lambda prompt: " late")
    speakers(of)[0].gate = threading.Event()
    tab = open_chat(of)
    tab.post("send", text="Hi")
    tab.post("stop")
    view = tab.until()
    assert (view["turns"], view["unsent"]) == ([], "Hi")
    assert "no part of the chat" in view["failed"]
    assert of.sides[0].talk.messages == []


@pytest.mark.parametrize(
    ("error", "said"), [(UserError("the server is gone"), "the server is gone."), (OSError(), LOST)]
)
def test_an_error_ends_the_turn_and_not_the_chat(
    open_chat: Open, error: Exception, said: str
) -> None:
    """The other model is stopped; the message is given back."""
    of = chat()
    one, other = speakers(of)

    def fail(prompt: str) -> str:
        raise error

    one.gate, other.say = threading.Event(), fail
    tab = open_chat(of)
    view = tab.turn("Hi")
    assert (view["failed"], view["unsent"], view["turns"]) == (said, "Hi", [])
    assert [side.talk.messages for side in of.sides] == [[], []]
    one.gate, other.say = None, lambda prompt: "fine"
    view = tab.turn("Hi")
    assert (view["failed"], view["turns"][0]["answers"]) == ("", ["model 0 heard Hi", "fine"])


def test_characters_that_cannot_be_seen_are_signs(open_chat: Open) -> None:
    """An answer that hides something, or holds half a character, is shown and sent all the same."""
    tab = open_chat(chat(("one",), say=lambda prompt: "a\u202eb\x1b[31m\ud83d <b>c"))
    [turn] = tab.turn("Hi\x1b")["turns"]
    assert turn["text"] == "Hi⟨ESC⟩"
    assert turn["answers"] == ["a⟨U+202E⟩b⟨ESC⟩[31m⟨U+D83D⟩ <b>c"]


def test_an_empty_message_is_not_sent(open_chat: Open) -> None:
    tab = open_chat(chat())
    assert tab.post("send", text="")[0] == tab.post("send", text="  \n ")[0] == 409
    assert tab.until()["turns"] == []


# ---- who is turned away


def test_pages_hold_no_inline_script_and_reach_no_other_site(open_chat: Open) -> None:
    tab = open_chat(chat())
    answer = tab.http.get("")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Frame-Options"] == "DENY"
    require_inert(answer.text)


def test_without_the_token_there_is_nothing(open_chat: Open) -> None:
    tab = open_chat(chat())
    own = {"Origin": tab.origin}
    for path in ("", "events", "send", "vote", "nonsense"):
        for token in ("x", TOKEN[:-1], "", "%00", "ä"):
            method = "GET" if path in ("", "events") else "POST"
            answer = tab.http.request(method, f"{tab.origin}/{token}/{path}", headers=own)
            assert answer.status_code in (404, 405)
            assert TOKEN not in answer.text
    assert tab.http.get(f"{tab.origin}/").status_code == 404


def test_another_host_is_turned_away(open_chat: Open) -> None:
    tab = open_chat(chat())
    for host in ("evil.example", "evil.example:80", "", "127.0.0.1.evil.example"):
        own = {"Host": host, "Origin": f"http://{host}"}
        for method, path in (("GET", ""), ("GET", "events"), ("POST", "send")):
            assert tab.http.request(method, path, headers=own).status_code == 400


def test_what_another_page_posts_is_not_taken(open_chat: Open) -> None:
    tab = open_chat(chat())
    for headers in (
        {},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": tab.origin, "Sec-Fetch-Site": "cross-site"},
    ):
        answer = tab.http.post("send", data={"text": "Hi"}, headers=headers)
        assert answer.status_code == 403
    assert tab.until()["turns"] == []


def test_posts_have_limits(open_chat: Open) -> None:
    tab = open_chat(chat(("one",)))
    assert tab.post("send", text="x" * 2**21)[0] == 413
    own = {"Origin": tab.origin}
    assert tab.http.post("send", json={"text": "Hi"}, headers=own).status_code == 415
    assert tab.post("nonsense")[0] == 404
    assert tab.http.get("send").status_code == 405
    assert tab.turn("x" * 2**17)["turns"][0]["text"] == "x" * 2**17


# ---- a process of its own


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Tab]]:
    code = """
import sys
from pathlib import Path
from cameleer.human.serving import bind, serve
from cameleer.talk.page import page_app
from cameleer.talk.shared import SharedChat
from tests.talk.speakers import TOKEN, chat
shared = SharedChat(chat(votes=Path(sys.argv[1])))
with bind("127.0.0.1", 0) as listening:
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/{TOKEN}/", flush=True)
    serve(page_app(shared, TOKEN), listening, shared.end)
print("ended", flush=True)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(tmp_path / "votes.jsonl")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stdout is not None
        try:
            yield running, Tab(running.stdout.readline().strip())
        finally:
            running.kill()


def test_a_killed_server_loses_no_vote(
    process: tuple[subprocess.Popen[str], Tab], tmp_path: Path
) -> None:
    running, tab = process
    tab.turn("Hi")
    assert tab.post("vote", turn=1, vote="b")[0] == 200
    running.kill()
    running.wait(60)
    [kept] = read_judgements(tmp_path / "votes.jsonl")
    again = Votes(tmp_path / "votes.jsonl", *NAMES, who="me", seed=1)
    again.add("1.1", "a", b_first=False, seconds=1.0, said={})
    assert read_judgements(again.path)[0] == kept


def test_ctrl_c_ends_it_though_a_tab_is_open(process: tuple[subprocess.Popen[str], Tab]) -> None:
    """Well before the patience of a server for what is under way has ended."""
    running, tab = process
    with tab.http.sse("events") as events:
        next(iter(events))
        running.send_signal(signal.SIGINT)
        assert running.wait(8) == 0
