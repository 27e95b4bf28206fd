"""A server on the loopback address that speaks OpenAI's API, and fails in the ways a test asks."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from tests.loopback import LocalServer, QuietHandler, running

Body = dict[str, Any]
Act = Callable[["Handler", Body], None]
Rule = Callable[[str, Body], Body]


def chat(*texts: str | None, finish: str | None = "stop", **fields: Any) -> Body:
    """A chat completion of these texts."""
    choices = [
        {"index": n, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
        for n, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 10, "completion_tokens": 3 * len(texts)}
    return {"model": "served", "choices": choices, "usage": usage, **fields}


def completion(*texts: str, finish: str | None = "stop", logprobs: Any = None) -> Body:
    """A completion of these texts."""
    choices = [
        {"index": n, "text": text, "finish_reason": finish, "logprobs": logprobs}
        for n, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 10, "completion_tokens": 3 * len(texts)}
    return {"model": "served", "choices": choices, "usage": usage}


def echo(endpoint: str, body: Body) -> Body:
    """Says what it was asked, `n` times."""
    number = body.get("n", 1)
    if endpoint == "/v1/completions":
        return completion(*[f"heard {body['prompt']}"] * number)
    return chat(*[f"heard {body['messages'][-1]['content']}"] * number)


class ApiServer(LocalServer):
    """rule: what is answered; acts: what is done instead for the next requests, in order."""

    def __init__(self) -> None:
        super().__init__(Handler)
        self.rule: Rule = echo
        self.acts: deque[Act | None] = deque()
        self.asked: list[tuple[float, str, Body]] = []
        self.headers: list[dict[str, str]] = []
        self.delay = 0.0
        self.flying = self.most = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"{self.address}/v1"

    def bodies(self) -> list[Body]:
        return [body for _, _, body in self.asked]


class Handler(QuietHandler):
    server: ApiServer

    def do_POST(self) -> None:  # noqa: N802 (its name in http.server)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append((time.monotonic(), self.path, body))
            self.server.headers.append({k.lower(): v for k, v in self.headers.items()})
            act = self.server.acts.popleft() if self.server.acts else None
            self.server.flying += 1
            self.server.most = max(self.server.most, self.server.flying)
        try:
            time.sleep(self.server.delay)
            if act is None:
                self.send(self.server.rule(self.path, body))
            else:
                act(self, body)
        finally:
            with self.server.lock:
                self.server.flying -= 1

    def send(
        self, payload: Any, status: int = 200, headers: dict[str, str] | None = None, cut: int = 0
    ) -> None:
        """JSON, or text as it is; cut: bytes that never come."""
        text = payload if isinstance(payload, str) else json.dumps(payload)
        data = text.encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) - cut])
        if cut:
            self.close_connection = True


def refuse(status: int, message: str = "", **headers: str) -> Act:
    """An error as the API has it; an underscore in a header's name is a hyphen."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, _: handler.send({"error": {"message": message}}, status, named)


def say(payload: Any) -> Act:
    """This, whatever was asked."""
    return lambda handler, _: handler.send(payload)


def truncated(handler: Handler, body: Body) -> None:
    """The connection ends before the answer does."""
    handler.send(handler.server.rule(handler.path, body), cut=20)


def reset(handler: Handler, body: Body) -> None:
    """The connection is reset."""
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.close_connection = True
    handler.connection.close()


def stall(seconds: float) -> Act:
    """Nothing, for so long."""

    def act(handler: Handler, body: Body) -> None:
        time.sleep(seconds)
        handler.close_connection = True

    return act


def drip(handler: Handler, body: Body) -> None:
    """A byte now and then: never still for long, and never done."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(40):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)
    handler.close_connection = True


def event(told: Any) -> bytes:
    """An event of a stream: JSON, or text as it is."""
    return f"data: {told if isinstance(told, str) else json.dumps(told)}\n\n".encode()


def piece(text: str | None = None, finish: str | None = None) -> bytes:
    """The event of a chat's stream that adds a text, or ends it."""
    delta = {} if text is None else {"content": text}
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


ENDED = piece(finish="stop")
USED = event({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 3}})
DONE = event("[DONE]")


def stream(*chunks: bytes, pause: float = 0.0, cut: bool = False) -> Act:
    """These bytes, one chunk each, with a pause before each; cut: it breaks off then."""

    def act(handler: Handler, body: Body) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for chunk in chunks if cut else (*chunks, b""):
            time.sleep(pause)
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            handler.wfile.flush()
        handler.close_connection = cut

    return act


def api_server() -> AbstractContextManager[ApiServer]:
    """A running server; it ends with the block."""
    return running(ApiServer())
