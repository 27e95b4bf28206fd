"""How pages for people are served: a socket, a server, templates with the files that they name."""

from __future__ import annotations

import hashlib
import signal
import socket
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import uvicorn
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from cameleer.core.errors import UserError
from cameleer.core.page import page_template
from cameleer.human.text import plain, shown

TEMPLATES, STATIC = Path(__file__).parent / "templates", Path(__file__).parent / "static"
YEAR = 365 * 86400
STOP_SECONDS = 10  # that requests under way get when the server is stopped
KINDS = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
NOT_FOUND = "There is no such page."


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes any that is free. UserError where none can be."""
    hint = "give another --host or --port"
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=2048)
        # Of sockets made so asyncio does not know that they are TCP, and each page waits 40 ms.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot listen at {host}:{port}: {reason}", hint=hint) from None


class _Server(uvicorn.Server):
    """Says that it ends before it waits for what is under way."""

    ending: Callable[[], None] = staticmethod(lambda: None)

    def handle_exit(self, sig: int, frame: Any) -> None:
        self.ending()
        super().handle_exit(sig, frame)


def serve(app: ASGIApp, listening: socket.socket, ending: Callable[[], None] | None = None) -> None:
    """Serve until the process is interrupted or told to end; what is under way is finished.

    ending: is called then, to end what would go on for ever.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # its paths would hold tokens
        server_header=False,
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    server = _Server(config)
    if ending is not None:
        server.ending = ending

    def told_to_end(*_: Any) -> None:
        raise KeyboardInterrupt

    # The server repeats a signal for its caller once it has stopped: SIGTERM is then no death.
    before = signal.signal(signal.SIGTERM, told_to_end)
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


# ---- templates and the files that they name


@cache
def static_files() -> dict[str, tuple[bytes, str]]:
    """The files that pages refer to, with the version by which browsers keep them."""
    files = sorted(STATIC.iterdir())
    return {
        one.name: (data := one.read_bytes(), hashlib.sha256(data).hexdigest()[:12]) for one in files
    }


def static_route() -> Route:
    """Where the files of static/ are; kept by browsers as long as of the version asked for."""

    async def endpoint(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in static_files():
            raise HTTPException(404, NOT_FOUND)
        data, version = static_files()[name]
        same = request.query_params.get("v") == version
        kept = f"public, max-age={YEAR}, immutable" if same else "no-cache"
        kind = KINDS[name.rpartition(".")[2]]
        return Response(data, media_type=kind, headers={"Cache-Control": kept})

    return Route("/static/{name}", endpoint, methods=["GET"])


def filled(name: str, /, **values: Any) -> str:
    """A page of templates/ with these values."""
    page: str = _template(name).render(values)
    return page


@cache
def _template(name: str) -> Any:
    """A template, with the filters that it may use, and `static` for the addresses of files."""
    found = page_template(TEMPLATES / f"{name}.html.jinja", shown=shown, plain=plain, span=span)
    found.environment.globals["static"] = _static
    return found


def _static(name: str) -> str:
    return f"/static/{name}?v={static_files()[name][1]}"


def span(seconds: float | None) -> str:
    """A length of time as people say it."""
    if seconds is None:
        return "–"
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
