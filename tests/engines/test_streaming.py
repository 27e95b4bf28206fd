"""Answers of servers heard while they are written, and streams that go wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cameleer.core.errors import UserError
from cameleer.engines.openai import OpenAIEngine, Options, make
from cameleer.engines.streaming import STREAMED
from cameleer.engines.talk import STOPPED, Sampling, Talk
from tests.engines.api_server import (
    DONE,
    ENDED,
    USED,
    Act,
    ApiServer,
    api_server,
    event,
    piece,
    refuse,
    stream,
    truncated,
)

Open = Callable[..., Talk]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with api_server() as running:
        yield running


@pytest.fixture
def opened(server: ApiServer, tmp_path: Path) -> Iterator[Open]:
    """A chat with the server, which is quick to ask again."""
    made: list[OpenAIEngine] = []

    def one(**options: object) -> Talk:
        given = {"cache": tmp_path, "wait": 0.01, "tries": 3, "timeout": 20.0, **options}
        made.append(make(f"served@{server.url}", Options.model_validate(given), {}))
        return Talk(made[-1], None, Sampling(temperature=0.0, max_new_tokens=8))

    yield one
    for engine in made:
        engine.close()


def test_an_answer_is_heard_while_it_is_written(server: ApiServer, opened: Open) -> None:
    server.acts.append(stream(piece(""), piece("A "), piece("camel."), ENDED, USED, DONE))
    chat, heard = opened(), list[str]()
    spoken = chat.ask("What?", heard.append)
    assert [one for one in dict.fromkeys(heard) if one] == ["A ", "A camel."]
    assert (spoken.text, spoken.finish) == ("A camel.", "stop")
    assert (spoken.prompt_tokens, spoken.new_tokens) == (10, 3)
    assert STREAMED.items() <= server.bodies()[0].items()


def test_it_is_heard_before_it_has_ended(server: ApiServer, opened: Open) -> None:
    """The server goes on only when the beginning was heard."""
    begun = threading.Event()

    def act(handler: object, body: object) -> None:
        stream(piece("A "), cut=True)(handler, body)  # type: ignore[arg-type]
        assert begun.wait(20)
        rest = piece("camel.") + ENDED + DONE
        handler.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest))  # type: ignore[attr-defined]

    server.acts.append(act)
    spoken = opened().ask("What?", lambda written: begun.set() if written else None)
    assert (spoken.text, len(server.asked)) == ("A camel.", 1)


def test_it_is_kept_as_an_answer_that_came_whole(server: ApiServer, opened: Open) -> None:
    """Heard or not, it is the same request: whoever asks again gets it from the disk."""
    server.acts.append(stream(piece("A camel."), ENDED, DONE))
    assert opened().ask("What?").text == "A camel."
    again = opened()
    again.streams = False
    assert again.ask("What?").text == "A camel."
    assert len(server.asked) == 1


def test_characters_lines_and_events_may_be_cut_anywhere(server: ApiServer, opened: Open) -> None:
    said = "Ein Höcker – 駱駝\u2028und\x85 weiter \U0001f42a"
    whole = b": a comment\r\n\r\n" + piece(said).replace(b"\n", b"\r\n") + ENDED + DONE
    plain = event('{"choices": [{"text": "%s"}]}' % said) + ENDED + DONE  # noqa: UP031
    for sent in (whole, plain):
        server.acts.append(stream(*(sent[at : at + 1] for at in range(len(sent)))))
        heard: list[str] = []
        assert opened(cache=None).ask(f"What? {len(sent)}", heard.append).text == said
        assert all(said.startswith(one) for one in heard)


def test_slow_pieces_are_waited_for_one_by_one(server: ApiServer, opened: Open) -> None:
    """Of a stream `timeout` is the time between two pieces."""
    slow = [piece(f"{number} ") for number in range(6)]
    server.acts.append(stream(*slow, ENDED, DONE, pause=0.4))
    assert opened(timeout=2.0, tries=1).ask("What?").text == "0 1 2 3 4 5 "


BEGUN = piece("A cam")
BROKEN: dict[str, tuple[Act, str]] = {
    "breaks off": (stream(BEGUN, cut=True), "incomplete chunked read"),
    "ends without an end": (stream(BEGUN), "has no end: it was cut off"),
    "broken JSON": (stream(BEGUN, event('{"choices": [')), "broken JSON"),
    "no object": (stream(BEGUN, event("[1]")), "broken JSON"),
    "no choice": (stream(BEGUN, event({"choices": [3]})), "broken JSON"),
    "no text": (stream(event({"choices": [{"delta": {"content": 5}}]})), "broken JSON"),
    "no delta": (stream(event({"choices": [{"delta": None}]})), "broken JSON"),
    "an error": (stream(BEGUN, event({"error": {"message": "full up"}})), "says: full up"),
    "an error's event": (
        stream(BEGUN, b"event: error\n" + event({"message": "full up"})),
        "says: full up",
    ),
    "silence": (stream(BEGUN, DONE, pause=2.5), "no answer within 1.5 s"),
    "nothing": (stream(), "no end"),
    "not a stream, and cut": (truncated, "peer closed"),
    "refused": (refuse(503, "later"), "503"),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_what_goes_wrong_is_tried_again_then_told(
    server: ApiServer, opened: Open, broken: tuple[Act, str], capsys: pytest.CaptureFixture[str]
) -> None:
    act, said = broken
    good = stream(piece("A camel."), ENDED, USED, DONE)
    server.acts.extend([act, good, act, act])
    chat = opened(timeout=1.5 if "within" in said else 20.0, tries=2)
    assert chat.ask("What?").text == "A camel."
    assert "asking again" in capsys.readouterr().err
    kept = list(chat.messages)
    with pytest.raises(UserError, match=said):
        chat.ask("And a llama?")
    assert chat.messages == kept


def test_a_server_that_answers_whole_or_takes_no_streams(
    server: ApiServer, opened: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    chat, heard = opened(), list[str]()
    assert chat.ask("What?", heard.append).text == "heard What?"
    assert set(heard) == {""}
    server.acts.append(refuse(422, "unknown field stream_options"))
    assert chat.ask("And?").text == "heard And?"
    assert "takes no streams: unknown field stream_options" in capsys.readouterr().err
    chat.ask("So?")
    assert ["stream" in body for body in server.bodies()] == [True, True, False, False]


def test_what_is_no_answer_of_the_model_is_refused(server: ApiServer, opened: Open) -> None:
    """No text and no tokens: see `empty`."""
    server.acts.extend([stream(ENDED, DONE)] * 3)
    with pytest.raises(UserError, match="answer is empty"):
        opened().ask("What?")


def test_a_server_that_comes_back_is_asked_again(server: ApiServer, opened: Open) -> None:
    """However often it was given up: the chat goes on."""
    chat = opened(tries=1)
    server.acts.extend([refuse(503)] * 4 + [refuse(401)])
    for said in ("503", "503", "503", "503", "401"):
        with pytest.raises(UserError, match=said):
            chat.ask("What?")
    assert chat.ask("What?").text == "heard What?"


def test_ctrl_c_keeps_what_was_said_and_hangs_up(server: ApiServer, opened: Open) -> None:
    """The server meets a closed connection, so it need not write on; it is asked no more."""
    hung_up = threading.Event()

    def act(handler: object, body: object) -> None:
        stream(piece("A cam"), cut=True)(handler, body)  # type: ignore[arg-type]
        try:
            for _ in range(400):
                time.sleep(0.05)
                handler.wfile.write(b"2\r\n:\n\r\n")  # type: ignore[attr-defined]
        except OSError:
            hung_up.set()

    def stop(written: str) -> None:
        if written:
            raise KeyboardInterrupt

    server.acts.append(act)
    chat = opened(price_in=1.0, price_out=1.0)
    spoken = chat.ask("What?", stop)
    assert (spoken.text, spoken.finish) == ("A cam", STOPPED)
    assert hung_up.wait(20)
    assert chat.engine.server.spent > 0  # type: ignore[attr-defined]
    assert chat.ask("And?").text == "heard And?"
    assert [one["content"] for one in server.bodies()[-1]["messages"]] == ["What?", "A cam", "And?"]


def test_ctrl_c_before_anything_is_said(server: ApiServer, opened: Open) -> None:
    """A listener is told now and then though nothing comes, so it can end a long wait."""
    server.acts.append(stream(DONE, pause=60))
    beats = iter(range(3))

    def stop(written: str) -> None:
        if next(beats) == 2:
            raise KeyboardInterrupt

    chat = opened(timeout=300.0)
    assert chat.ask("What?", stop).finish == STOPPED
    assert chat.messages == []
