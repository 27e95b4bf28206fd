"""Web servers on the loopback address; one serves files properly, or badly as a test tells it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

Act = Callable[["Handler"], None]


class LocalServer(ThreadingHTTPServer):
    """A server of this machine alone, at any free port, in threads that end with the test."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, handler: type[QuietHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class QuietHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr."""


Server = TypeVar("Server", bound=LocalServer)


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """A server at work; it ends with the block."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Loopback(LocalServer):
    """files: what is served by path; acts: what is done instead for the next GETs, in order."""

    def __init__(self) -> None:
        super().__init__(Handler)
        self.files: dict[str, bytes] = {}
        self.headers: dict[str, str] = {"ETag": '"one"'}
        self.acts: deque[Act] = deque()
        self.redirects: dict[str, tuple[str, dict[str, str]]] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.sent = 0

    def gets(self) -> list[dict[str, str]]:
        """The headers of every GET, their names in lower case."""
        return [headers for method, _, headers in self.asked if method == "GET"]


class Handler(QuietHandler):
    server: Loopback

    def do_HEAD(self) -> None:
        self.note()
        self.serve()

    def do_GET(self) -> None:
        self.note()
        act = self.server.acts.popleft() if self.server.acts else Handler.serve
        act(self)

    def note(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append((self.command, self.path, headers))

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
            self.server.sent += len(body)

    def serve(self, ranges: bool = True, cut: int | None = None, claim: int | None = None) -> None:
        """The file, or what is asked of it; cut: bytes before hanging up; claim: its length."""
        if found := self.server.redirects.get(self.path):
            target, headers = found
            return self.answer(302, {"Location": target, "Content-Length": "0", **headers})
        whole = self.server.files.get(self.path)
        if whole is None:
            return self.answer(404, {"Content-Length": "0"})
        headers, status, body = dict(self.server.headers), 200, whole
        asked, version = self.headers.get("Range"), self.headers.get("If-Range")
        if (
            ranges
            and asked
            and version in (None, headers.get("ETag"), headers.get("Last-Modified"))
        ):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(whole):
                return self.answer(
                    416, {"Content-Range": f"bytes */{len(whole)}", "Content-Length": "0"}
                )
            status, body = 206, whole[start:]
            headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        headers["Content-Length"] = str(len(body) if claim is None else claim)
        self.close_connection = True
        return self.answer(status, headers, body[:cut])


def serve(**how: Any) -> Act:
    """Serve as `Handler.serve` does with these arguments."""
    return lambda handler: handler.serve(**how)


def refuse(status: int, **headers: str) -> Act:
    """Answer with a status and nothing else; an underscore in a header's name is a hyphen."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.answer(status, {"Content-Length": "0", **named})


def hang_up(handler: Handler) -> None:
    """Close the connection without a word."""
    handler.close_connection = True
    handler.connection.close()


def slowly(seconds: float, pieces: int) -> Act:
    """Serve in so many pieces, with a pause before each."""

    def act(handler: Handler) -> None:
        body = handler.server.files[handler.path]
        step = -(-len(body) // pieces)
        handler.answer(200, {**handler.server.headers, "Content-Length": str(len(body))})
        for start in range(0, len(body), step):
            time.sleep(seconds)
            handler.wfile.write(body[start : start + step])
            handler.server.sent += len(body[start : start + step])

    return act


def loopback() -> AbstractContextManager[Loopback]:
    """A running server of files; it ends with the block."""
    return running(Loopback())
